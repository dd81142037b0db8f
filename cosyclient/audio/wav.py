"""Read and write WAV files: single or concatenated ones, complete or written while their length was unknown.

Layout as in Microsoft's "Multiple Channel Audio Data and WAVE Files", RF64 as in EBU Tech 3306. The header of a file
that is still arriving is read up to 64 KiB.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from cosyclient.audio.base import truncated_error, wrong_format_error
from cosyclient.audio.mp3 import detect_format
from cosyclient.audio.pcm import CONVERTIBLE, PCM, to_s16
from cosyclient.errors import ConfigurationError, DecodeError
from cosyclient.util.numbers import valid_channel_count, valid_sample_rate

_EXTENSIBLE: Final = 0xFFFE
_UNKNOWN_SIZE: Final = 0xFFFFFFFF
# A streaming writer does not know the size yet and writes 0 or something huge, such as 0xFFFFFFFF, 0x7FFFF000 or
# 2,000,000,000; then the bytes that follow are counted. No reply is as large as this (max_reply_bytes).
_HUGE: Final = 1 << 29
_MAX_HEADER_BYTES: Final = 65536


@dataclass(frozen=True, slots=True)
class WavInfo:
    """The samples of a WAV file, signed 16-bit little-endian with channels interleaved, and their format."""

    samples: bytes
    sample_rate: int
    channels: int

    @property
    def duration(self) -> float:
        """Return the seconds of sound."""
        return len(self.samples) / (2 * self.channels * self.sample_rate)

    def __repr__(self) -> str:
        return f"<WavInfo {self.duration:.3f} s at {self.sample_rate} Hz, {self.channels} channel(s)>"


class SampleFormat(NamedTuple):
    """The format of the samples in a WAV file: format tag, channels, Hz, bytes of a frame, bits of a sample."""

    tag: int
    channels: int
    sample_rate: int
    block_bytes: int
    bits: int

    def to_s16(self, samples: bytes) -> bytes:
        """Return whole frames of *samples* as signed 16-bit ones."""
        return to_s16(self.tag, self.bits, samples)

    def __str__(self) -> str:
        return f"{self.sample_rate} Hz with {self.channels} channel(s) of {self.bits} bits"


class WavHeader(NamedTuple):
    """What a WAV header states; the samples begin at ``samples_start``, ``samples_bytes`` is ``None`` if not stated."""

    sample_format: SampleFormat
    samples_start: int
    samples_bytes: int | None
    fmt: tuple[int, int]
    """Start and end of the content of its ``fmt`` chunk."""


class WavLayout(NamedTuple):
    """The format of the samples in one or several concatenated WAV files, and where they are."""

    sample_format: SampleFormat
    spans: list[tuple[int, int]]
    fmt: tuple[int, int]
    states_length: bool
    """Whether every header states the length of its samples."""
    is_accurate: bool
    """Whether there is one file, and its header matches the bytes."""

    @property
    def samples_bytes(self) -> int:
        """Return the number of bytes of all samples."""
        return sum(end - start for start, end in self.spans)

    def samples(self, data: bytes) -> bytes:
        """Return the samples in *data*, unconverted."""
        return b"".join([data[start:end] for start, end in self.spans])


def is_wav(data: bytes | bytearray) -> bool:
    """Return whether *data* begins a WAV file, by eight fixed bytes that raw samples do not begin with."""
    return data[:4] in (b"RIFF", b"RF64", b"BW64") and data[8:12] == b"WAVE"


def next_file(data: bytes | bytearray, start: int) -> int:
    """Return the position of the next WAV file in *data* from *start* on, or -1."""
    while (start := data.find(b"RIFF", start)) >= 0:
        if data[start + 8 : start + 12] == b"WAVE":
            return start
        start += 4
    return -1


def parse_header(data: bytes | bytearray, at: int = 0, *, growing: bool = False) -> WavHeader | None:
    """Return the header at byte *at* of *data*, or ``None`` if *data* ends before its samples begin.

    *growing* says that more data may follow. Raises `DecodeError` for samples of an unsupported format.
    """
    end, position = len(data), at + 12
    limit = at + _MAX_HEADER_BYTES if growing else end
    sample_format, fmt, large = None, (0, 0), None
    while position + 8 <= min(end, limit):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"data":
            if sample_format is None:
                raise DecodeError("audio: WAV has no usable fmt chunk before its samples")
            if size == _UNKNOWN_SIZE and large is not None:
                size = large
            samples_bytes = size if 0 < size < _HUGE else _stated_size(data, at, position, size, growing=growing)
            return WavHeader(sample_format, position, samples_bytes, fmt)
        if position + min(size, 16) > end:
            return None
        if name == b"fmt " and size >= 16 and position + min(size, 40) <= end:
            sample_format = _parse_fmt(bytes(data[position : position + min(size, 40)]))
            fmt = (position, position + size)
        elif name == b"ds64" and size >= 16:
            large = int.from_bytes(data[position + 8 : position + 16], "little")
        position += size + (size & 1)
    if growing and max(end, position) > limit:
        raise DecodeError(f"audio: a WAV header of more than {_MAX_HEADER_BYTES} bytes")
    return None


def parse_layout(data: bytes) -> WavLayout:
    """Return the layout of *data*, a WAV file or several concatenated ones with the same sample format.

    Raises `DecodeError` for anything else, and for a file shorter than its header states.
    """
    if not is_wav(data):
        if data[:4] == b"RIFF" and len(data) >= 12:
            raise DecodeError("audio: asked for wav, got another RIFF file", endpoint_fault=False)
        if data[:4] == b"RIFF":
            raise truncated_error("wav", f"{len(data)} bytes")
        raise wrong_format_error("wav", detect_format(data))
    at, spans, states_length = 0, [], True
    first: WavHeader | None = None
    while at >= 0:
        found = parse_header(data, at)
        if found is None:
            raise truncated_error("wav", f"{len(data)} bytes end before the samples begin")
        if first is None:
            first = found
        elif found.sample_format != first.sample_format:
            raise DecodeError(
                f"audio: WAV files in one that differ, {first.sample_format} and {found.sample_format}",
                endpoint_fault=False,
            )
        there = len(data) - found.samples_start
        if found.samples_bytes is None:
            at = next_file(data, found.samples_start)
            length = (at if at >= 0 else len(data)) - found.samples_start
        elif found.samples_bytes > there:
            raise truncated_error("wav", f"{found.samples_bytes} bytes of samples announced, {there} there")
        else:
            length = found.samples_bytes
            at = next_file(data, found.samples_start + length) if there > length else -1
        states_length = states_length and found.samples_bytes is not None
        spans.append((found.samples_start, found.samples_start + length - length % found.sample_format.block_bytes))
    assert first is not None  # noqa: S101 - the loop runs at least once
    end = spans[0][1]
    outer = 8 + int.from_bytes(data[4:8], "little")
    is_accurate = states_length and len(spans) == 1 and (end <= outer <= len(data) + 1 or data[:4] != b"RIFF")
    return WavLayout(first.sample_format, spans, first.fmt, states_length, is_accurate)


_PLAIN: Final = struct.Struct("<4sI32sI")
PLAIN_HEADER_BYTES: Final = _PLAIN.size


def plain_format(data: bytes) -> SampleFormat | None:
    """Return the sample format of *data* if it is one complete file with the canonical header of 44 bytes.

    ``None`` is no fault: `parse_layout` decides. Raises its `DecodeError` for samples of an unsupported format.
    """
    if len(data) <= PLAIN_HEADER_BYTES:
        return None
    magic, outer, between, size = _PLAIN.unpack_from(data)
    if magic != b"RIFF" or not size == len(data) - PLAIN_HEADER_BYTES == outer - 36 < _HUGE:
        return None
    found = _parse_plain_fmt(between)
    return None if found is None or size % found.block_bytes else found


# A service sends one or two different ones.
@lru_cache(maxsize=64)
def _parse_plain_fmt(between: bytes) -> SampleFormat | None:
    plain = between.startswith(b"WAVEfmt \x10\0\0\0") and between.endswith(b"data")
    return _parse_fmt(between[12:28]) if plain else None


def parse_wav(data: bytes) -> WavInfo:
    """Return the samples of a WAV file as signed 16-bit ones; `DecodeError` if it is incomplete or no WAV file."""
    layout = parse_layout(data)
    sample_format = layout.sample_format
    return WavInfo(sample_format.to_s16(layout.samples(data)), sample_format.sample_rate, sample_format.channels)


def wav_bytes(samples: bytes, sample_rate: int, channels: int = 1) -> bytes:
    """Return *samples* (signed 16-bit little-endian) as a WAV file with the canonical header of 44 bytes.

    Raises `ConfigurationError` for a rate or a number of channels that a file cannot have, and for 4 GiB of samples;
    `DecodeError` for an incomplete frame.
    """
    if not (0 < sample_rate <= 0xFFFFFFFF and 0 < channels <= 0x7FFF):
        raise ConfigurationError(f"samples: at {sample_rate} Hz with {channels} channel(s) they make no WAV file")
    block = 2 * channels
    if len(samples) % block:
        raise DecodeError(f"audio: {len(samples)} bytes of samples end inside a frame of {block}")
    return _file(
        struct.pack("<HHIIHH", PCM, channels, sample_rate, sample_rate * block & _UNKNOWN_SIZE, block, 16), samples
    )


def with_accurate_header(data: bytes, layout: WavLayout) -> bytes:
    """Return *data* unchanged if its header is accurate, else one file with the same samples and an accurate header."""
    return data if layout.is_accurate else _file(data[slice(*layout.fmt)], layout.samples(data))


def _file(fmt: bytes, samples: bytes) -> bytes:
    around = 20 + len(fmt)
    if len(samples) > _UNKNOWN_SIZE - around - 1:
        raise ConfigurationError(f"samples: {len(samples)} bytes, a WAV file holds at most 4 GiB; make several")
    pad = len(samples) & 1
    head = struct.pack("<4sI4s4sI", b"RIFF", around + len(samples) + pad, b"WAVE", b"fmt ", len(fmt))
    return b"".join((head, fmt, struct.pack("<4sI", b"data", len(samples)), samples, bytes(pad)))


def _stated_size(data: bytes | bytearray, at: int, start: int, size: int, *, growing: bool) -> int | None:
    """Return *size* if it can be that of the samples at *start*, ``None`` if the writer did not know it."""
    if size:
        return None if size >= _HUGE and (growing or size > len(data) - start) else size
    if growing:
        return None
    # A size of 0 in a file whose outer size is right is empty audio, not a streaming header.
    outer = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    return 0 if outer == len(data) or (outer > start and data[outer : outer + 4] == b"RIFF") else None


# A service sends one or two different ones.
@lru_cache(maxsize=64)
def _parse_fmt(fmt: bytes) -> SampleFormat:
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == _EXTENSIBLE and len(fmt) >= 40:
        # The sub-format GUID begins with the format tag.
        (tag,) = struct.unpack_from("<H", fmt, 24)
    taken = (bits + 7) // 8 * 8
    if not (valid_channel_count(channels) and valid_sample_rate(rate) and bits) or block != channels * taken // 8:
        raise DecodeError(f"audio: WAV claims {channels} channel(s), {rate} Hz, {bits} bits, {block} bytes a frame")
    if (tag, taken) not in CONVERTIBLE:
        raise DecodeError(
            f"audio: WAV holds {bits}-bit samples of format 0x{tag:04X}; PCM, float and G.711 are supported",
            endpoint_fault=False,
        )
    # Samples of other widths are left-aligned in whole bytes.
    return SampleFormat(tag, channels, rate, block, taken)
