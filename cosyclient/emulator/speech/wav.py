"""Write the header of a WAV file of 16-bit mono samples, the only one that WAV files have here."""

from __future__ import annotations

import struct

HEADER_BYTES = 44
_UNKNOWN = struct.pack("<I", 0xFFFFFFFF)


def wav_header(pcm_bytes: int | None, sample_rate: int) -> bytes:
    """Return the 44 bytes before *pcm_bytes* of samples; None is a length that is not known yet."""
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + (pcm_bytes or 0), b"WAVE"),
        *(b"fmt ", 16, 1, 1, sample_rate, sample_rate * 2, 2, 16),
        *(b"data", pcm_bytes or 0),
    )
    return without_sizes(header) if pcm_bytes is None else header


def without_sizes(wav: bytes) -> bytes:
    """Return a WAV file with 0xFFFFFFFF for both sizes, as servers write it before they know them."""
    return wav[:4] + _UNKNOWN + wav[8:40] + _UNKNOWN + wav[HEADER_BYTES:]


def with_rate(wav: bytes, sample_rate: int) -> bytes:
    """Return a WAV file that claims *sample_rate*, whatever its samples have."""
    return wav[:24] + struct.pack("<II", sample_rate, 2 * sample_rate) + wav[32:]


def split_wav(audio: bytes) -> tuple[bytes, bytes]:
    """Return the header of a WAV file and its samples; audio of another format has no header."""
    header_bytes = HEADER_BYTES if audio[:4] == b"RIFF" else 0
    return audio[:header_bytes], audio[header_bytes:]
