"""PCM, WAV, Ogg Opus and MP3 framing as byte arithmetic: how long audio is, and whether it is whole. No decoding.

Layouts: WAVE from Microsoft's "Multiple Channel Audio Data and WAVE Files"; Ogg from RFC 3533, Opus in it from
RFC 7845; MP3 frame headers from ISO/IEC 11172-3 and 13818-3, ID3v2 from id3.org, Xing/Info/LAME as LAME writes them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from cosyclient.errors import ConfigurationError, DecodeError

MEDIA_TYPES: Final = {"wav": "audio/wav", "pcm": "audio/pcm", "mp3": "audio/mpeg", "opus": "audio/ogg"}

_OGG_PAGE: Final = struct.Struct("<5xBq12xB")
# A streaming writer does not know its sizes yet and leaves one of these; the byte count is then the truth.
_UNKNOWN_SIZES: Final = (0, 0xFFFFFFFF)
_PCM, _FLOAT, _EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
# Four bytes each at least: raw samples begin with any two or three of them often enough to be taken for a file.
_MAGIC: Final = {b"RIFF": "wav", b"OggS": "ogg", b"ID3\x03": "mp3", b"ID3\x04": "mp3", b"fLaC": "flac"}


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """Tell what audio says of itself; ``duration`` in seconds is ``None`` where its bytes do not tell."""

    sample_rate: int
    channels: int
    duration: float | None


@dataclass(frozen=True, slots=True)
class WavInfo:
    """Hold the samples of a WAV file, signed 16-bit little-endian with channels interleaved, and their shape."""

    samples: bytes
    sample_rate: int
    channels: int

    @property
    def duration(self) -> float:
        """Return the seconds of sound."""
        return len(self.samples) / (2 * self.channels * self.sample_rate)

    def __repr__(self) -> str:
        return f"<WavInfo {self.duration:.3f} s at {self.sample_rate} Hz, {self.channels} channel(s)>"


class _Layout(NamedTuple):
    """Say of what kind the samples of a WAV file are, and where in it they lie."""

    tag: int
    channels: int
    sample_rate: int
    block_bytes: int
    bits: int
    start: int = 0
    end: int = 0


def check(format: str, data: bytes, sample_rate: int, channels: int = 1) -> AudioInfo:
    """Return what *data* says of itself if it is whole audio of that *format*; *sample_rate* and *channels* fill gaps.

    Raises `DecodeError`, retryable where another try may bring what this one lacked (empty, cut off, noise) and not
    where the service plainly sent another format.
    """
    if not data:
        raise DecodeError(f"audio: empty {format}", retryable=True)
    if format == "wav":
        layout = _walk_wav(data)
        if layout.start == layout.end:
            raise DecodeError("audio: empty wav", retryable=True)
        seconds = (layout.end - layout.start) / (layout.block_bytes * layout.sample_rate)
        return AudioInfo(layout.sample_rate, layout.channels, seconds)
    if format == "pcm":
        if other := _MAGIC.get(data[:4]):
            raise DecodeError(f"audio: asked for pcm, got {other}")
        block = 2 * channels
        if len(data) % block:
            raise DecodeError(f"audio: pcm of {len(data)} bytes ends inside a frame of {block}", retryable=True)
        return AudioInfo(sample_rate, channels, len(data) / (block * sample_rate))
    if format == "opus":
        return _walk_opus(data, sample_rate)
    if format == "mp3":
        return _walk_mp3(data)
    raise DecodeError(f"audio: format {format!r} is not one of {', '.join(MEDIA_TYPES)}")


def duration(format: str, data: bytes, sample_rate: int, channels: int = 1) -> float | None:
    """Return the seconds of sound in *data*, or ``None`` where its bytes do not tell."""
    try:
        return check(format, data, sample_rate, channels).duration
    except DecodeError:
        return None


def parse_wav(data: bytes) -> WavInfo:
    """Return the samples of a 16-bit PCM WAV file; `DecodeError` says what else it is, or what is missing of it."""
    layout = _walk_wav(data)
    if layout.tag != _PCM or layout.bits != 16:
        kind = {_PCM: "PCM", _FLOAT: "float"}.get(layout.tag, f"format 0x{layout.tag:04X}")
        raise DecodeError(f"audio: WAV holds {layout.bits}-bit {kind} samples; only 16-bit PCM is supported")
    return WavInfo(bytes(data[layout.start : layout.end]), layout.sample_rate, layout.channels)


def wav_bytes(samples: bytes, sample_rate: int, channels: int = 1) -> bytes:
    """Return *samples* (signed 16-bit little-endian) as a WAV file: the canonical 44 bytes, then every sample."""
    block = 2 * channels
    if len(samples) % block:
        raise DecodeError(f"audio: {len(samples)} bytes of samples end inside a frame of {block}")
    if len(samples) > 0xFFFFFFFF - 36:
        raise ConfigurationError(f"samples: {len(samples)} bytes, a WAV file holds at most 4 GiB; make several")
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + len(samples), b"WAVE"),
        *(b"fmt ", 16, _PCM, channels, sample_rate, sample_rate * block, block, 16),
        *(b"data", len(samples)),
    )
    return b"".join((header, samples))


def _not(format: str, data: bytes) -> DecodeError:
    other = _MAGIC.get(data[:4]) or ("mp3" if _frame(data, 0) else None)
    return DecodeError(f"audio: asked for {format}, got {other or 'unknown bytes'}", retryable=other is None)


def _cut(format: str, rest: str) -> DecodeError:
    return DecodeError(f"audio: truncated {format}, {rest}", retryable=True)


def _walk_wav(data: bytes) -> _Layout:
    if not data.startswith(b"RIFF"):
        raise _not("wav", data)
    if len(data) >= 12 and data[8:12] != b"WAVE":
        raise DecodeError("audio: asked for wav, got another RIFF file")
    end = len(data)
    fmt: _Layout | None = None
    position = 12
    while position + 8 <= end:
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"fmt " and size >= 16 and position + size <= end:
            fmt = _fmt(data, position, size)
        elif name == b"data":
            if fmt is None:
                raise DecodeError("audio: WAV has no usable fmt chunk before its samples")
            riff_size = struct.unpack_from("<I", data, 4)[0]
            # A data size of 0 in a file whose outer size is right is an empty sound, not a streaming header.
            streaming = size in _UNKNOWN_SIZES and not (size == 0 and riff_size == end - 8)
            there = end - position
            if not streaming and size > there:
                raise _cut("wav", f"{size} bytes of samples announced, {there} there")
            length = there if streaming else size
            length -= length % fmt.block_bytes
            return fmt._replace(start=position, end=position + length)
        position += size + (size & 1)
    raise _cut("wav", f"{end} bytes end before the samples begin")


def _fmt(data: bytes, position: int, size: int) -> _Layout:
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", data, position)
    if tag == _EXTENSIBLE and size >= 40:
        # The sub-format GUID begins with the plain format tag.
        (tag,) = struct.unpack_from("<H", data, position + 24)
    if not (channels and rate and bits) or block != channels * ((bits + 7) // 8):
        raise DecodeError(f"audio: WAV claims {channels} channel(s), {rate} Hz, {bits} bits, {block} bytes a frame")
    return _Layout(tag, channels, rate, block, bits)


def _walk_opus(data: bytes, sample_rate: int) -> AudioInfo:
    """Walk the pages; granule positions count 48 kHz samples, the first ``pre-skip`` of which are not played."""
    if not data.startswith(b"OggS"):
        raise _not("opus", data)
    end = len(data)
    channels, pre_skip, granule, ticks, position, last_flags = 0, 0, 0, 0, 0, 0
    while position < end:
        if data[position : position + 4] != b"OggS":
            raise DecodeError(f"audio: no Ogg page at byte {position} of {end}", retryable=True)
        if position + 27 > end:
            raise _cut("opus", f"{end} bytes end inside a page header")
        last_flags, stamp, segments = _OGG_PAGE.unpack_from(data, position)
        table = position + 27
        body = table + segments
        position = body + sum(data[table:body])
        if position > end:
            raise _cut("opus", f"a page ends at byte {position}, {end} there")
        if last_flags & 0x02:  # beginning of a logical stream; files may be chained
            if data[body : body + 8] != b"OpusHead" or position - body < 19:
                raise DecodeError("audio: asked for opus, got another codec in Ogg")
            ticks += max(0, granule - pre_skip)
            channels, pre_skip, input_rate = struct.unpack_from("<BHI", data, body + 9)
            sample_rate = input_rate or sample_rate  # playback is at 48 kHz; this is what was encoded
            granule = 0
        elif stamp > 0:
            granule = stamp
    # RFC 7845 lets players cope with streams that lack the end-of-stream mark. Here a finished file is owed, and a
    # file cut between two pages shows itself in nothing else.
    if not last_flags & 0x04:
        raise _cut("opus", "the last page is not marked as the end of the stream")
    ticks += max(0, granule - pre_skip)
    if not ticks or not channels:
        raise DecodeError("audio: empty opus", retryable=True)
    return AudioInfo(sample_rate, channels, ticks / 48000)


# kbit/s by bitrate index, layer III: MPEG 1, then MPEG 2 and 2.5. Index 0 is "free format", 15 is forbidden.
_KBITS: Final = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_MP3_RATES: Final = (44100, 48000, 32000)
_SYNC_SEARCH_BYTES: Final = 4096


class _Frame(NamedTuple):
    """Hold one MP3 frame header; ``size`` is 0 in free format, where it is not announced."""

    size: int
    sample_rate: int
    channels: int
    samples: int


def _frame(data: bytes, position: int) -> _Frame | None:
    return _header(data[position : position + 4])


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


def _walk_mp3(data: bytes) -> AudioInfo:
    start = _first_frame(data)
    if start >= len(data):
        raise _cut("mp3", f"its ID3 tag takes {start} bytes, {len(data)} there")
    first = _frame(data, start)
    if first is None:
        raise _not("mp3", data)
    if not first.size:
        return AudioInfo(first.sample_rate, first.channels, None)
    four, size, end = data[start : start + 4], first.size, len(data)
    # At a constant rate one header begins every frame, and all of them are seen at once.
    whole = (end - start) // size
    count = whole - 1 if whole > 1 and _constant(data, start, size, whole) else 0
    position = start + count * size
    while True:
        position += size
        if position > end:
            raise _cut("mp3", f"a frame ends at byte {position}, {end} there")
        count += 1
        if (head := data[position : position + 4]) == four:
            continue
        following = _header(head)
        # What follows the last frame (an ID3v1 or APE tag) is none, or not of this stream.
        if following is None or following.sample_rate != first.sample_rate or not following.size:
            break
        four, size = head, following.size
    announced, skipped = _info_frame(data, start, first)
    if announced is not None:
        count -= 1  # the frame that carries the announcement is silent and not counted in it
        if announced > count:
            raise _cut("mp3", f"{announced} frames announced, {count} there")
    samples = count * first.samples - skipped
    if samples <= 0:
        raise DecodeError("audio: empty mp3", retryable=True)
    return AudioInfo(first.sample_rate, first.channels, samples / first.sample_rate)


def _constant(data: bytes, start: int, size: int, count: int) -> bool:
    """Return whether *count* frames of *size* bytes from *start* on begin alike."""
    end = start + count * size
    return all(data[place:end:size] == data[place : place + 1] * count for place in range(start, start + 4))


def _first_frame(data: bytes) -> int:
    start = 0
    if data.startswith(b"ID3") and len(data) >= 10:
        size = data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9]
        start = 10 + size + (10 if data[5] & 0x10 else 0)
    for position in range(start, min(len(data), start + _SYNC_SEARCH_BYTES)):
        frame = _frame(data, position) if data[position] == 0xFF else None
        # Two headers in a row: one alone turns up in noise every few thousand bytes.
        if frame and (not frame.size or position + frame.size >= len(data) or _frame(data, position + frame.size)):
            return position
    return start


def _info_frame(data: bytes, start: int, frame: _Frame) -> tuple[int | None, int]:
    """Return the frames announced by a Xing or Info header, and the samples LAME says are delay and padding."""
    side = (32 if frame.channels == 2 else 17) if frame.samples == 1152 else (17 if frame.channels == 2 else 9)
    at = start + 4 + side
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
