"""Inspect MP3 without decoding: its duration, whether it is complete, whether it is silent.

Frame headers and side information as in ISO/IEC 11172-3 and 13818-3, tags as on id3.org, the Xing/Info frame as written
by LAME and libavformat.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import Final, NamedTuple

from cosyclient.audio.base import AudioInfo, sniff, truncated_error, wrong_format_error

# kbit/s by bitrate index, layer III: MPEG 1, then MPEG 2 and 2.5. Index 0 is "free format", 15 is forbidden.
_KBITS: Final = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_MP3_RATES: Final = (44100, 48000, 32000)
_SYNC_SEARCH_BYTES: Final = 4096
_ID3V1_BYTES: Final = 128
_MAX_SIDE_BYTES: Final = 32
# Fewer do not distinguish silence from the onset of a sound.
_MIN_SILENCE_FRAMES: Final = 10
_INFO: Final = re.compile(b"Xing|Info")


class _Frame(NamedTuple):
    """The header of one MP3 frame; ``size`` in bytes is 0 in free format, which does not state it."""

    size: int
    sample_rate: int
    channels: int
    samples: int


def frame_at(data: bytes, position: int) -> _Frame | None:
    """Return the frame header at *position*, or ``None`` if there is none."""
    return _parse_header(data[position : position + 4])


def detect_format(data: bytes) -> str | None:
    """Return the type of file that *data* begins: as `sniff` does, and ``mp3`` for frames without a tag."""
    return sniff(data) or ("mp3" if _starts_two_frames(data, 0) else None)


# A file has a handful of different headers, and each of its 40 frames a second is looked up.
@lru_cache(maxsize=1024)
def _parse_header(four: bytes) -> _Frame | None:
    if len(four) < 4:
        return None
    head = int.from_bytes(four, "big")
    version, layer, bitrate, rate = head >> 19 & 3, head >> 17 & 3, head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or layer != 1 or bitrate == 15 or rate == 3:
        return None
    mpeg1 = version == 3  # 2 is MPEG 2, 0 is MPEG 2.5
    sample_rate = _MP3_RATES[rate] >> (0 if mpeg1 else 1 if version == 2 else 2)
    samples = 1152 if mpeg1 else 576
    kbits = _KBITS[not mpeg1][bitrate]
    size = samples // 8 * kbits * 1000 // sample_rate + (head >> 9 & 1) if kbits else 0
    return _Frame(size, sample_rate, 1 if head >> 6 & 3 == 3 else 2, samples)


def inspect_mp3(data: bytes) -> AudioInfo:
    """Return the properties of *data*, of one file or several concatenated ones with tags between them."""
    position, seconds = 0, 0.0
    first: _Frame | None = None
    while first is None or data[position : position + 3] == b"ID3" or _starts_two_frames(data, position):
        start = _first_frame(data, position)
        if start > len(data) or (first is None and start == len(data)):
            raise truncated_error("mp3", f"its ID3 tag takes {start - position} bytes, {len(data) - position} there")
        frame = frame_at(data, start)
        if frame is None and first is None:
            raise wrong_format_error("mp3", detect_format(data))
        if first is not None and (frame is None or not frame.size):
            break  # a tag at the end, or bytes that only look like a frame
        assert frame is not None  # noqa: S101 - otherwise an error was raised above
        first = first or frame
        if not frame.size:
            return AudioInfo(frame.sample_rate, frame.channels, None)
        samples, position = _measure_frames(data, start, frame)
        seconds += max(0, samples) / frame.sample_rate
        if data[position : position + 3] == b"TAG":
            position += _ID3V1_BYTES
    return AudioInfo(first.sample_rate, first.channels, seconds)


def mp3_is_silence(data: bytes) -> bool:
    """Return whether no frame of *data* encodes a sound; speech shows in the first frames, so most files end there."""
    position, count = _first_frame(data, 0), 0
    while (frame := frame_at(data, position)) is not None and frame.size:
        if _coded_bits(data, position, frame):
            return False
        position += frame.size
        count += 1
    # What follows, such as a second file, may hold sound.
    return count >= _MIN_SILENCE_FRAMES and len(data) - position <= _ID3V1_BYTES


def _coded_bits(data: bytes, position: int, frame: _Frame) -> int:
    """Return the bits of scale factors and samples in a frame, the sum of its ``part2_3_length`` fields."""
    first, mono = frame.samples == 1152, frame.channels == 1
    at = position + 4 + (0 if data[position + 1] & 1 else 2)
    side = int.from_bytes(data[at : at + _MAX_SIDE_BYTES].ljust(_MAX_SIDE_BYTES, b"\0"), "big")
    # Bits before the first granule: main_data_begin, private bits and, in MPEG 1, scfsi.
    place = (9 + (5 if mono else 3) + 4 * frame.channels) if first else (9 if mono else 10)
    bits = 0
    for _ in range((2 if first else 1) * frame.channels):
        bits += side >> 8 * _MAX_SIDE_BYTES - place - 12 & 0xFFF
        place += 59 if first else 63
    return bits


def _measure_frames(data: bytes, start: int, first: _Frame) -> tuple[int, int]:
    """Return the number of samples in the consecutive frames from *start* on, and the position where they end."""
    four, size, end = data[start : start + 4], first.size, len(data)
    # At a constant bit rate all frames have the same header and are checked at once.
    whole = (end - start) // size
    count = whole - 1 if whole > 1 and _has_constant_header(data, start, size, whole) else 0
    position = start + count * size
    while True:
        position += size
        if position > end:
            raise truncated_error("mp3", f"a frame ends at byte {position}, {end} there")
        count += 1
        if (head := data[position : position + 4]) == four:
            continue
        following = _parse_header(head)
        # Behind the last frame is no header (an ID3v1 or APE tag), or that of another stream.
        if following is None or following.sample_rate != first.sample_rate or not following.size:
            break
        four, size = head, following.size
    announced, skipped = _info_frame(data, start, first)
    if announced is None:
        return count * first.samples, position
    count -= 1  # the Xing frame is silent and does not count itself
    if announced < count:
        # Further files without a tag between them, each with a Xing frame of its own.
        for found in _INFO.finditer(data, start + size, position):
            at = found.start() - 4 - _side_info_bytes(first)
            if frame_at(data, at) is not None:
                more, gap = _info_frame(data, at, first)
                announced, skipped, count = announced + (more or 0), skipped + gap, count - 1
    if announced > count:
        raise truncated_error("mp3", f"{announced} frames announced, {count} there")
    return count * first.samples - skipped, position


def _has_constant_header(data: bytes, start: int, size: int, count: int) -> bool:
    """Return whether *count* frames of *size* bytes from *start* on have the same header."""
    end = start + count * size
    return all(data[place:end:size] == data[place : place + 1] * count for place in range(start, start + 4))


def _first_frame(data: bytes, start: int) -> int:
    if data.startswith(b"ID3", start) and len(data) >= start + 10:
        head = data[start : start + 10]
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        start += 10 + size + (10 if head[5] & 0x10 else 0)
    for position in range(start, min(len(data), start + _SYNC_SEARCH_BYTES)):
        if data[position] == 0xFF and _starts_two_frames(data, position):
            return position
    return start


def _starts_two_frames(data: bytes, position: int) -> bool:
    """Return whether two frames begin at *position*; a single header occurs in noise every few thousand bytes."""
    frame = frame_at(data, position)
    if frame is None:
        return False
    following = position + frame.size
    return not frame.size or following >= len(data) or frame_at(data, following) is not None


def _info_frame(data: bytes, start: int, frame: _Frame) -> tuple[int | None, int]:
    """Return the number of frames stated by a Xing or Info header, and LAME's samples of delay and padding."""
    at = start + 4 + _side_info_bytes(frame)
    if data[at : at + 4] not in (b"Xing", b"Info") or at + 12 > len(data):
        return None, 0
    flags, frames = struct.unpack_from(">II", data, at + 4)
    if not flags & 1:
        return None, 0
    lame = at + 8 + 4 + (4 if flags & 2 else 0) + (100 if flags & 4 else 0) + (4 if flags & 8 else 0)
    if data[lame : lame + 4] not in (b"LAME", b"Lavc", b"Lavf") or lame + 24 > len(data):
        return frames, 0
    gap = int.from_bytes(data[lame + 21 : lame + 24], "big")
    return frames, (gap >> 12) + (gap & 0xFFF)


def _side_info_bytes(frame: _Frame) -> int:
    """Return the bytes of side information after the header."""
    return (32 if frame.channels == 2 else 17) if frame.samples == 1152 else (17 if frame.channels == 2 else 9)
