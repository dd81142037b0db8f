"""MP3, without decoding it: frame headers from ISO/IEC 11172-3 and 13818-3, tags from id3.org, Xing/Info from LAME."""

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
_SIDE_BYTES: Final = 32
# Fewer are not enough to tell silence from a sound that has just begun.
_TELLING_FRAMES: Final = 10
_INFO: Final = re.compile(b"Xing|Info")


class _Frame(NamedTuple):
    """Hold one MP3 frame header; ``size`` is 0 in free format, where it is not announced."""

    size: int
    sample_rate: int
    channels: int
    samples: int


def frame_at(data: bytes, position: int) -> _Frame | None:
    """Return the frame header at *position*, or ``None`` if there is none."""
    return _header(data[position : position + 4])


def detect_format(data: bytes) -> str | None:
    """Return what kind of file *data* begins, bare MP3 frames included, or ``None`` where it does not tell."""
    return sniff(data) or ("mp3" if _frames(data, 0) else None)


# A file has a handful of different headers, and every frame of it is looked at: 40 frames a second of audio.
@lru_cache(maxsize=1024)
def _header(four: bytes) -> _Frame | None:
    if len(four) < 4:
        return None
    head = int.from_bytes(four, "big")
    version, layer, bitrate, rate = head >> 19 & 3, head >> 17 & 3, head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or layer != 1 or bitrate == 15 or rate == 3:
        return None
    old = version == 3  # MPEG 1; 2 is MPEG 2, 0 is MPEG 2.5
    sample_rate = _MP3_RATES[rate] >> (0 if old else 1 if version == 2 else 2)
    samples = 1152 if old else 576
    kbits = _KBITS[not old][bitrate]
    size = samples // 8 * kbits * 1000 // sample_rate + (head >> 9 & 1) if kbits else 0
    return _Frame(size, sample_rate, 1 if head >> 6 & 3 == 3 else 2, samples)


def inspect_mp3(data: bytes) -> AudioInfo:
    """Return what the frames of *data* are together; files joined one after the other, tags between them, are one."""
    position, seconds = 0, 0.0
    first: _Frame | None = None
    while first is None or data[position : position + 3] == b"ID3" or _frames(data, position):
        start = _first_frame(data, position)
        if start > len(data) or (first is None and start == len(data)):
            raise truncated_error("mp3", f"its ID3 tag takes {start - position} bytes, {len(data) - position} there")
        frame = frame_at(data, start)
        if frame is None and first is None:
            raise wrong_format_error("mp3", detect_format(data))
        if first is not None and (frame is None or not frame.size):
            break  # a tag at the end of all, or what only looks like a frame
        assert frame is not None  # noqa: S101 - one of the two was raised
        first = first or frame
        if not frame.size:
            return AudioInfo(frame.sample_rate, frame.channels, None)
        samples, position = _stretch(data, start, frame)
        seconds += max(0, samples) / frame.sample_rate
        if data[position : position + 3] == b"TAG":
            position += _ID3V1_BYTES
    return AudioInfo(first.sample_rate, first.channels, seconds)


def mp3_is_silence(data: bytes) -> bool:
    """Return whether no frame of *data* codes anything; speech shows itself in its first frames."""
    position, count = _first_frame(data, 0), 0
    while (frame := frame_at(data, position)) is not None and frame.size:
        if _coded_bits(data, position, frame):
            return False
        position += frame.size
        count += 1
    # Where more follows, such as a second file, it may be heard.
    return count >= _TELLING_FRAMES and len(data) - position <= _ID3V1_BYTES


def _coded_bits(data: bytes, position: int, frame: _Frame) -> int:
    """Return the bits of scale factors and samples in a frame: the sum of its ``part2_3_length`` fields."""
    first, mono = frame.samples == 1152, frame.channels == 1
    at = position + 4 + (0 if data[position + 1] & 1 else 2)
    side = int.from_bytes(data[at : at + _SIDE_BYTES].ljust(_SIDE_BYTES, b"\0"), "big")
    # What precedes the first granule: main_data_begin, private bits and, in MPEG 1, scfsi.
    place = (9 + (5 if mono else 3) + 4 * frame.channels) if first else (9 if mono else 10)
    bits = 0
    for _ in range((2 if first else 1) * frame.channels):
        bits += side >> 8 * _SIDE_BYTES - place - 12 & 0xFFF
        place += 59 if first else 63
    return bits


def _stretch(data: bytes, start: int, first: _Frame) -> tuple[int, int]:
    """Return the samples in the frames that follow one another from *start* on, and where they end."""
    four, size, end = data[start : start + 4], first.size, len(data)
    # At a constant rate one header begins every frame, and all of them are seen at once.
    whole = (end - start) // size
    count = whole - 1 if whole > 1 and _constant(data, start, size, whole) else 0
    position = start + count * size
    while True:
        position += size
        if position > end:
            raise truncated_error("mp3", f"a frame ends at byte {position}, {end} there")
        count += 1
        if (head := data[position : position + 4]) == four:
            continue
        following = _header(head)
        # What follows the last frame (an ID3v1 or APE tag) is none, or not of this stream.
        if following is None or following.sample_rate != first.sample_rate or not following.size:
            break
        four, size = head, following.size
    announced, skipped = _info_frame(data, start, first)
    if announced is None:
        return count * first.samples, position
    count -= 1  # the frame that carries the announcement is silent and not counted in it
    if announced < count:
        # More files without a tag between them, each with an announcement of its own.
        for found in _INFO.finditer(data, start + size, position):
            at = found.start() - 4 - _side(first)
            if frame_at(data, at) is not None:
                more, gap = _info_frame(data, at, first)
                announced, skipped, count = announced + (more or 0), skipped + gap, count - 1
    if announced > count:
        raise truncated_error("mp3", f"{announced} frames announced, {count} there")
    return count * first.samples - skipped, position


def _constant(data: bytes, start: int, size: int, count: int) -> bool:
    """Return whether *count* frames of *size* bytes from *start* on begin alike."""
    end = start + count * size
    return all(data[place:end:size] == data[place : place + 1] * count for place in range(start, start + 4))


def _first_frame(data: bytes, start: int) -> int:
    if data.startswith(b"ID3", start) and len(data) >= start + 10:
        head = data[start : start + 10]
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        start += 10 + size + (10 if head[5] & 0x10 else 0)
    for position in range(start, min(len(data), start + _SYNC_SEARCH_BYTES)):
        if data[position] == 0xFF and _frames(data, position):
            return position
    return start


def _frames(data: bytes, position: int) -> bool:
    """Return whether two frames begin at *position*: one header alone turns up in noise every few thousand bytes."""
    frame = frame_at(data, position)
    if frame is None:
        return False
    following = position + frame.size
    return not frame.size or following >= len(data) or frame_at(data, following) is not None


def _info_frame(data: bytes, start: int, frame: _Frame) -> tuple[int | None, int]:
    """Return the frames announced by a Xing or Info header, and the samples LAME says are delay and padding."""
    at = start + 4 + _side(frame)
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


def _side(frame: _Frame) -> int:
    """Return the bytes of side information after the header."""
    return (32 if frame.channels == 2 else 17) if frame.samples == 1152 else (17 if frame.channels == 2 else 9)
