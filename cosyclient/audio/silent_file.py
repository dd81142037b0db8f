"""Silent files in every format, made without an encoder and accepted by any player.

MP3 frames without coded data (ISO/IEC 11172-3), Opus packets of silence (RFC 6716) in Ogg pages (RFC 3533, RFC 7845).
"""

from __future__ import annotations

import math
import struct

from cosyclient.audio.mp3 import frame_at
from cosyclient.audio.wav import wav_bytes

# MP3 headers by sample rate: mono, at the lowest bit rate.
_MP3_HEADERS = {
    8000: b"\xff\xe3\x18\xc4",
    16000: b"\xff\xf3\x18\xc4",
    22050: b"\xff\xf3\x10\xc4",
    24000: b"\xff\xf3\x14\xc4",
    44100: b"\xff\xfb\x10\xc4",
    48000: b"\xff\xfb\x14\xc4",
}
_OPUS_RATE = 48000
_PRE_SKIP = 312
# 20 ms of silence, and their samples at 48 kHz.
_OPUS_PACKET, _OPUS_SAMPLES = b"\xf8\xff\xfe", 960
_SERIAL = 1


def silence(format: str, sample_rate: int, seconds: float) -> bytes:
    """Return a mono file with *seconds* of silence, at most 5; mp3 is up to a frame longer.

    *sample_rate* is one of `cosyclient.models.SAMPLE_RATES`.
    """
    if format in ("wav", "pcm"):
        samples = bytes(2 * round(seconds * sample_rate))
        return wav_bytes(samples, sample_rate) if format == "wav" else samples
    return _mp3(sample_rate, seconds) if format == "mp3" else _opus(sample_rate, seconds)


def _mp3(sample_rate: int, seconds: float) -> bytes:
    head = _MP3_HEADERS[sample_rate]
    frame = frame_at(head, 0)
    assert frame is not None  # noqa: S101 - it is one of the table
    # Side information of zeros: no bit of the frame encodes anything.
    return head.ljust(frame.size, b"\0") * math.ceil(seconds * sample_rate / frame.samples)


def _opus(sample_rate: int, seconds: float) -> bytes:
    end = _PRE_SKIP + round(seconds * _OPUS_RATE)
    head = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, _PRE_SKIP, sample_rate, 0, 0)
    tags = b"OpusTags" + struct.pack("<I10sI", 10, b"cosyclient", 0)
    packets = [_OPUS_PACKET] * math.ceil(end / _OPUS_SAMPLES)
    return _page(2, 0, 0, [head]) + _page(0, 0, 1, [tags]) + _page(4, end, 2, packets)


def _page(flags: int, granule: int, number: int, packets: list[bytes]) -> bytes:
    """Return an Ogg page with at most 254 *packets* of at most 254 bytes each."""
    table = bytes(map(len, packets))
    page = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, _SERIAL, number, 0, len(table))
    page += table + b"".join(packets)
    return page[:22] + struct.pack("<I", _checksum(page)) + page[26:]


def _checksum(data: bytes) -> int:
    """Return the CRC-32 of Ogg: polynomial 0x04C11DB7, neither reflected nor inverted."""
    found = 0
    for byte in data:
        found ^= byte << 24
        for _ in range(8):
            found = (found << 1 ^ (0x04C11DB7 if found & 0x80000000 else 0)) & 0xFFFFFFFF
    return found
