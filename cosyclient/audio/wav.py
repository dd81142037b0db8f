"""WAV files: one, or several one after the other, whole or with sizes that nobody knew when they were written.

Layouts from Microsoft's "Multiple Channel Audio Data and WAVE Files", RF64 from EBU Tech 3306.
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
_UNKNOWN: Final = 0xFFFFFFFF
# A streaming writer does not know its sizes yet and leaves 0 or something huge, such as 0xFFFFFFFF, 0x7FFFF000 or
# 2,000,000,000; the byte count is then the truth. No reply is as large as this (max_reply_bytes).
_HUGE: Final = 1 << 29
_MAX_HEADER_BYTES: Final = 65536


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


class SampleFormat(NamedTuple):
    """Say of what kind the samples of a WAV file are."""

    tag: int
    channels: int
    sample_rate: int
    block_bytes: int
    bits: int

    def to_s16(self, samples: bytes) -> bytes:
        """Return whole frames of *samples* as signed 16-bit ones."""
        return to_s16(self.tag, self.bits, samples)


class WavHeader(NamedTuple):
    """Say what a WAV header says and where its samples begin; ``size`` in bytes is ``None`` where it does not know."""

    sample_format: SampleFormat
    samples_start: int
    samples_bytes: int | None
    fmt: tuple[int, int]
    """Where the content of the chunk that says it begins and ends."""


class WavLayout(NamedTuple):
    """Say of what kind the samples of one or several WAV files are, and where they lie."""

    sample_format: SampleFormat
    spans: list[tuple[int, int]]
    fmt: tuple[int, int]
    states_length: bool
    """Whether every header knows how long its samples are."""
    is_accurate: bool
    """Whether there is one file, and its header says what is there."""

    @property
    def samples_bytes(self) -> int:
        """Return the bytes of samples."""
        return sum(end - start for start, end in self.spans)

    def samples(self, data: bytes) -> bytes:
        """Return the samples, of whatever kind they are."""
        return b"".join([data[start:end] for start, end in self.spans])


def is_wav(data: bytes | bytearray) -> bool:
    """Return whether *data* begins a WAV file; samples do not begin with its eight fixed bytes."""
    return data[:4] in (b"RIFF", b"RF64", b"BW64") and data[8:12] == b"WAVE"


def next_file(data: bytes | bytearray, start: int) -> int:
    """Return where the next WAV file begins in *data*, from *start* on, or -1."""
    while (start := data.find(b"RIFF", start)) >= 0:
        if data[start + 8 : start + 12] == b"WAVE":
            return start
        start += 4
    return -1


def read_header(data: bytes | bytearray, at: int = 0, *, growing: bool = False) -> WavHeader | None:
    """Return what the header at byte *at* of *data* says, or ``None`` where it ends before its samples begin.

    Of *data* that is *growing* the end is not known. Raises `DecodeError` where samples are of no known kind.
    """
    end, position = len(data), at + 12
    most = at + _MAX_HEADER_BYTES if growing else end
    kind, fmt, large = None, (0, 0), None
    while position + 8 <= min(end, most):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"data":
            if kind is None:
                raise DecodeError("audio: WAV has no usable fmt chunk before its samples")
            if size == _UNKNOWN and large is not None:
                size = large
            known = size if 0 < size < _HUGE else _known(data, at, position, size, growing=growing)
            return WavHeader(kind, position, known, fmt)
        if position + min(size, 16) > end:
            return None
        if name == b"fmt " and size >= 16 and position + min(size, 40) <= end:
            kind, fmt = _kind(bytes(data[position : position + min(size, 40)])), (position, position + size)
        elif name == b"ds64" and size >= 16:
            large = int.from_bytes(data[position + 8 : position + 16], "little")
        position += size + (size & 1)
    if growing and max(end, position) > most:
        raise DecodeError(f"audio: a WAV header of more than {_MAX_HEADER_BYTES} bytes")
    return None


def parse_layout(data: bytes) -> WavLayout:
    """Return where the samples of *data* are: a WAV file, or several that agree on what samples are.

    Raises `DecodeError` for anything else, and for a file that is shorter than its header says.
    """
    if not is_wav(data):
        if data[:4] == b"RIFF" and len(data) >= 12:
            raise DecodeError("audio: asked for wav, got another RIFF file", endpoint_fault=False)
        raise (
            truncated_error("wav", f"{len(data)} bytes")
            if data[:4] == b"RIFF"
            else wrong_format_error("wav", detect_format(data))
        )
    at, parts, sized = 0, [], True
    first: WavHeader | None = None
    while at >= 0:
        found = read_header(data, at)
        if found is None:
            raise truncated_error("wav", f"{len(data)} bytes end before the samples begin")
        if first is None:
            first = found
        elif found.sample_format != first.sample_format:
            raise DecodeError(
                f"audio: WAV files in one that differ, {_shown(first.sample_format)} and {_shown(found.sample_format)}",
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
        sized = sized and found.samples_bytes is not None
        parts.append((found.samples_start, found.samples_start + length - length % found.sample_format.block_bytes))
    assert first is not None  # noqa: S101 - the loop runs once at least
    end = parts[0][1]
    outer = 8 + int.from_bytes(data[4:8], "little")
    true = sized and len(parts) == 1 and (end <= outer <= len(data) + 1 or data[:4] != b"RIFF")
    return WavLayout(first.sample_format, parts, first.fmt, sized, true)


def parse_wav(data: bytes) -> WavInfo:
    """Return the samples of a WAV file as signed 16-bit ones; `DecodeError` says what else it is, or lacks."""
    layout = parse_layout(data)
    kind = layout.sample_format
    return WavInfo(kind.to_s16(layout.samples(data)), kind.sample_rate, kind.channels)


def wav_bytes(samples: bytes, sample_rate: int, channels: int = 1) -> bytes:
    """Return *samples* (signed 16-bit little-endian) as a WAV file: the canonical 44 bytes, then every sample.

    Raises `ConfigurationError` for a rate or number of channels that a file cannot have, and for samples of 4 GiB.
    """
    if not (0 < sample_rate <= 0xFFFFFFFF and 0 < channels <= 0x7FFF):
        raise ConfigurationError(f"samples: at {sample_rate} Hz with {channels} channel(s) they make no WAV file")
    block = 2 * channels
    if len(samples) % block:
        raise DecodeError(f"audio: {len(samples)} bytes of samples end inside a frame of {block}")
    return _file(struct.pack("<HHIIHH", PCM, channels, sample_rate, sample_rate * block & _UNKNOWN, block, 16), samples)


def with_accurate_header(data: bytes, layout: WavLayout) -> bytes:
    """Return *data* as one file whose header is true: as it is, or written anew around the same samples."""
    return data if layout.is_accurate else _file(data[slice(*layout.fmt)], layout.samples(data))


def _file(fmt: bytes, samples: bytes) -> bytes:
    around = 20 + len(fmt)
    if len(samples) > _UNKNOWN - around - 1:
        raise ConfigurationError(f"samples: {len(samples)} bytes, a WAV file holds at most 4 GiB; make several")
    pad = len(samples) & 1
    head = struct.pack("<4sI4s4sI", b"RIFF", around + len(samples) + pad, b"WAVE", b"fmt ", len(fmt))
    return b"".join((head, fmt, struct.pack("<4sI", b"data", len(samples)), samples, bytes(pad)))


def _known(data: bytes | bytearray, at: int, start: int, size: int, *, growing: bool) -> int | None:
    """Return *size* if it can be that of the samples that begin at *start*, or ``None`` if nobody knew it."""
    if size:
        return None if size >= _HUGE and (growing or size > len(data) - start) else size
    if growing:
        return None
    # A size of 0 in a file whose outer size is right is an empty sound, not a streaming header.
    outer = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    return 0 if outer == len(data) or (outer > start and data[outer : outer + 4] == b"RIFF") else None


# A service has one or two of these.
@lru_cache(maxsize=64)
def _kind(fmt: bytes) -> SampleFormat:
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == _EXTENSIBLE and len(fmt) >= 40:
        # The sub-format GUID begins with the plain format tag.
        (tag,) = struct.unpack_from("<H", fmt, 24)
    taken = (bits + 7) // 8 * 8
    if not (valid_channel_count(channels) and valid_sample_rate(rate) and bits) or block != channels * taken // 8:
        raise DecodeError(f"audio: WAV claims {channels} channel(s), {rate} Hz, {bits} bits, {block} bytes a frame")
    if (tag, taken) not in CONVERTIBLE:
        raise DecodeError(
            f"audio: WAV holds {bits}-bit samples of format 0x{tag:04X}; PCM, float and G.711 are supported",
            endpoint_fault=False,
        )
    # Samples of an odd width lie in the upper bits of whole bytes.
    return SampleFormat(tag, channels, rate, block, taken)


def _shown(kind: SampleFormat) -> str:
    return f"{kind.sample_rate} Hz with {kind.channels} channel(s) of {kind.bits} bits"
