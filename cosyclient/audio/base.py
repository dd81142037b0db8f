"""Signatures of audio files, what is known of one, and the errors for bytes of another format.

Signatures as in the specifications named in the modules of the formats, and as in libmagic for the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cosyclient.errors import DecodeError

MEDIA_TYPES: Final = {"wav": "audio/wav", "pcm": "audio/pcm", "mp3": "audio/mpeg", "opus": "audio/ogg"}

# At least four bytes each: raw samples begin with two or three given bytes too often.
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
"""Bytes at the start of a file that are enough for `sniff`."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What the bytes of audio state; ``duration`` in seconds, ``None`` if they do not state it."""

    sample_rate: int
    channels: int
    duration: float | None


def sniff(data: bytes) -> str | None:
    """Return the type of file that *data* begins by its signature, or ``None``.

    MP3 frames without a tag, and raw samples, have no signature; `detect_format` recognises the former.
    """
    found = _MAGIC.get(bytes(data[:4]))
    if found in ("wav", "aiff") and len(data) >= MAGIC_BYTES:
        return found if data[8:12] in (b"WAVE", b"AIFF", b"AIFC") else None
    return found or ("mp4" if data[4:8] == b"ftyp" else None)


def wrong_format_error(format: str, other: str | None) -> DecodeError:
    """Return the error for the format *other* in place of *format*; retryable only if *other* is unknown (``None``)."""
    if other is None:
        hint = "; if they are samples without a header, ask for format='pcm'" if format == "wav" else ""
        return DecodeError(f"audio: asked for {format}, got unknown bytes{hint}", retryable=True)
    return DecodeError(f"audio: asked for {format}, got {other}", endpoint_fault=False)


def truncated_error(format: str, detail: str) -> DecodeError:
    """Return the error for a file whose end is missing; *detail* says where."""
    return DecodeError(f"audio: truncated {format}, {detail}", retryable=True)


def empty_error(format: str) -> DecodeError:
    """Return the error for audio without a sample."""
    return DecodeError(f"audio: empty {format}", retryable=True)
