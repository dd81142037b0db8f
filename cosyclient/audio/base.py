"""What audio says of itself, and what is said of bytes that are none or another kind than was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cosyclient.errors import DecodeError

MEDIA_TYPES: Final = {"wav": "audio/wav", "pcm": "audio/pcm", "mp3": "audio/mpeg", "opus": "audio/ogg"}

# Four bytes each at least: raw samples begin with any two or three of them often enough to be taken for a file.
_MAGIC: Final = {
    b"RIFF": "wav",
    b"RF64": "wav",
    b"BW64": "wav",
    b"OggS": "ogg",
    b"ID3\x02": "mp3",
    b"ID3\x03": "mp3",
    b"ID3\x04": "mp3",
    b"fLaC": "flac",
    b"FORM": "aiff",
    b"\x1aE\xdf\xa3": "webm",
}
MAGIC_BYTES: Final = 12
"""So many bytes at the beginning tell what a file is."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """Tell what audio says of itself; ``duration`` in seconds is ``None`` where its bytes do not tell."""

    sample_rate: int
    channels: int
    duration: float | None


def sniff(data: bytes) -> str | None:
    """Return what kind of file the first bytes of *data* begin, or ``None`` where they do not tell.

    Bare MP3 frames and samples have nothing certain at their beginning.
    """
    found = _MAGIC.get(bytes(data[:4]))
    if found in ("wav", "aiff") and len(data) >= MAGIC_BYTES:
        return found if data[8:12] in (b"WAVE", b"AIFF", b"AIFC") else None
    return found or ("mp4" if data[4:8] == b"ftyp" else None)


def wrong_format_error(format: str, other: str | None) -> DecodeError:
    """Return the error of *other* where *format* was asked for: what is plainly another format will be so again."""
    if other is None:
        hint = "; if they are samples without a header, ask for format='pcm'" if format == "wav" else ""
        return DecodeError(f"audio: asked for {format}, got unknown bytes{hint}", retryable=True)
    return DecodeError(f"audio: asked for {format}, got {other}", endpoint_fault=False)


def truncated_error(format: str, rest: str) -> DecodeError:
    """Return the error of a file that has an end too few."""
    return DecodeError(f"audio: truncated {format}, {rest}", retryable=True)


def empty_error(format: str) -> DecodeError:
    """Return the error of audio without a sample in it."""
    return DecodeError(f"audio: empty {format}", retryable=True)
