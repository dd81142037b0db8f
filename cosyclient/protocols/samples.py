"""Streams of samples, bare or behind a WAV header whose sizes nobody knew when it was written."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from cosyclient import bounds
from cosyclient.errors import DecodeError
from cosyclient.protocols.base import StreamHead

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_UNKNOWN_SIZES: Final = (0, 0xFFFFFFFF)
_TELLING_BYTES: Final = 12
_MAX_HEADER_BYTES: Final = 65536
_PCM: Final = 1


class Opening:
    """Say what a WAV header says, and where its samples begin; ``size`` is ``None`` where it does not know."""

    __slots__ = ("head", "size", "start")

    def __init__(self, head: StreamHead, start: int, size: int | None) -> None:
        self.head = head
        self.start = start
        self.size = size


def is_wav(data: bytes | bytearray) -> bool:
    """Return whether *data* begins a WAV file; samples do not begin with its eight fixed bytes."""
    return data[:4] == b"RIFF" and data[8:12] == b"WAVE"


def wav_opening(data: bytes | bytearray) -> Opening | None:
    """Return what the header at the beginning of *data* says, or ``None`` while more of it is to come.

    Raises `DecodeError` where it is none of 16-bit PCM.
    """
    head: StreamHead | None = None
    position = _TELLING_BYTES
    while position + 8 <= min(len(data), _MAX_HEADER_BYTES):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"data":
            if head is None:
                raise DecodeError("audio: WAV has no usable fmt chunk before its samples")
            return Opening(head, position, None if size in _UNKNOWN_SIZES else size)
        if name == b"fmt ":
            if position + 16 > len(data):
                return None
            head = _fmt(data, position)
        position += size + (size & 1)
    if max(len(data), position) > _MAX_HEADER_BYTES:
        raise DecodeError(f"audio: a WAV header of more than {_MAX_HEADER_BYTES} bytes")
    return None


def plain(pieces: Iterable[bytes], said: StreamHead) -> Iterator[StreamHead | bytes]:
    """Yield the head of a stream and then its samples; a WAV header is taken off, and believed more than *said*."""
    source = iter(pieces)
    begun = bytearray()
    opening: Opening | None = None
    for piece in source:
        begun += piece
        if len(begun) < _TELLING_BYTES:
            continue
        if not is_wav(begun) or (opening := wav_opening(begun)) is not None:
            break
    if opening is None:
        if is_wav(begun):
            raise DecodeError(f"audio: truncated wav, {len(begun)} bytes end before the samples begin", retryable=True)
        yield said
        yield bytes(begun)
        yield from source
        return
    yield opening.head
    left = opening.size
    del begun[: opening.start]
    for piece in _after(bytes(begun), source):
        if left is None:
            yield piece
            continue
        # What follows the samples (a LIST chunk) is none.
        yield piece[:left]
        left = max(0, left - len(piece))
    if left:
        raise DecodeError(f"audio: truncated wav, {left} bytes of its samples are missing", retryable=True)


def _after(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _fmt(data: bytes | bytearray, position: int) -> StreamHead:
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, position)
    if tag != _PCM or bits != 16 or bounds.channels(channels) is None or bounds.sample_rate(rate) is None:
        raise DecodeError(f"audio: a stream of {bits}-bit samples of format {tag}; only 16-bit PCM is supported")
    return StreamHead(rate, channels)
