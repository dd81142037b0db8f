"""Audio files for tests: WAV files by hand, tones as soundfile encodes them, Ogg pages."""

from __future__ import annotations

import io
import struct
from functools import cache
from typing import Any

import numpy as np
import soundfile

from cosyclient.audio.mp3 import frame_at


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """Return one RIFF chunk, padded to an even length; *size* lies about it."""
    return name + struct.pack("<I", len(content) if size is None else size) + content + b"\0" * (len(content) & 1)


def fmt(tag: int = 1, channels: int = 1, rate: int = 24000, bits: int = 16, block: int | None = None) -> bytes:
    """Return a fmt chunk."""
    block = channels * ((bits + 7) // 8) if block is None else block
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits))


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    """Return a WAV file of these chunks; *size* lies about the whole."""
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content) if size is None else size) + content


@cache
def encoded(format: str, rate: int = 24000, channels: int = 1, seconds: float = 1.37, **how: Any) -> bytes:
    """Return a tone as soundfile writes it."""
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)
    file = io.BytesIO()
    soundfile.write(file, np.stack([tone] * channels, 1), rate, format=format, **how)
    return file.getvalue()


def opus(rate: int = 24000, channels: int = 1, seconds: float = 1.37) -> bytes:
    """Return a tone as Ogg Opus."""
    return encoded("OGG", rate, channels, seconds, subtype="OPUS")


SAMPLES = struct.pack("<5h", 1, -2, 3, -4, 32767)


EXTENSIBLE = chunk(
    b"fmt ",
    struct.pack("<HHIIHHHHI", 0xFFFE, 1, 24000, 48000, 2, 16, 22, 16, 4)
    + bytes.fromhex("0100000000001000800000aa00389b71"),
)


def without_info(file: bytes) -> bytes:
    """Return an MP3 without its Xing frame, as a streaming encoder writes it."""
    first = frame_at(file, 0)
    assert first is not None
    return file[first.size :]


def bare_mp3(rate: int = 24000) -> bytes:
    """Return a tone as a streaming encoder writes it."""
    return without_info(encoded("MP3", rate))


def page(flags: int, granule: int, body: bytes) -> bytes:
    """Return one Ogg page."""
    table = bytes([255] * (len(body) // 255) + [len(body) % 255])
    return b"OggS" + struct.pack("<BBqIIIB", 0, flags, granule, 1, 0, 0, len(table)) + table + body


HEAD = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 312, 24000, 0, 0)
