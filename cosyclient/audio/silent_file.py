"""Silence in every format, as bytes that any player takes: no encoder is needed for nothing."""

from __future__ import annotations

import math
import struct

from cosyclient.audio.mp3 import frame_at
from cosyclient.audio.wav import wav_bytes

# The version and sample rate of an MP3 header, with the lowest bit rate, for one channel.
_MP3_HEADS = {
    8000: b"\xff\xe3\x18\xc4",
    16000: b"\xff\xf3\x18\xc4",
    22050: b"\xff\xf3\x10\xc4",
    24000: b"\xff\xf3\x14\xc4",
    44100: b"\xff\xfb\x10\xc4",
    48000: b"\xff\xfb\x14\xc4",
}
_OPUS_RATE = 48000
_PRE_SKIP = 312
# 20 ms in which nothing is coded, RFC 6716.
_OPUS_PACKET, _OPUS_SAMPLES = b"\xf8\xff\xfe", 960
_SERIAL = 1


def silence(format: str, sample_rate: int, seconds: float) -> bytes:
    """Return *seconds* of silence (5 at most) at one of the rates in use, mono; mp3 lasts up to a frame longer."""
    if format in ("wav", "pcm"):
        samples = bytes(2 * round(seconds * sample_rate))
        return wav_bytes(samples, sample_rate) if format == "wav" else samples
    return _mp3(sample_rate, seconds) if format == "mp3" else _opus(sample_rate, seconds)


def _mp3(sample_rate: int, seconds: float) -> bytes:
    head = _MP3_HEADS[sample_rate]
    frame = frame_at(head, 0)
    assert frame is not None  # noqa: S101 - it is one of the table
    # Side information of zeros says that no bit of the frame codes anything.
    return head.ljust(frame.size, b"\0") * math.ceil(seconds * sample_rate / frame.samples)


def _opus(sample_rate: int, seconds: float) -> bytes:
    end = _PRE_SKIP + round(seconds * _OPUS_RATE)
    head = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, _PRE_SKIP, sample_rate, 0, 0)
    tags = b"OpusTags" + struct.pack("<I10sI", 10, b"cosyclient", 0)
    packets = [_OPUS_PACKET] * math.ceil(end / _OPUS_SAMPLES)
    return _page(2, 0, 0, [head]) + _page(0, 0, 1, [tags]) + _page(4, end, 2, packets)


def _page(flags: int, granule: int, number: int, packets: list[bytes]) -> bytes:
    """Return a page of Ogg; *packets* of at most 254 bytes each, and as many at most."""
    table = bytes(map(len, packets))
    page = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, _SERIAL, number, 0, len(table))
    page += table + b"".join(packets)
    return page[:22] + struct.pack("<I", _checksum(page)) + page[26:]


def _checksum(data: bytes) -> int:
    """Return the CRC of Ogg: 0x04C11DB7, neither reflected nor inverted."""
    found = 0
    for byte in data:
        found ^= byte << 24
        for _ in range(8):
            found = (found << 1 ^ (0x04C11DB7 if found & 0x80000000 else 0)) & 0xFFFFFFFF
    return found
