"""Streams of samples while they arrive: bare, or as WAV files one after the other, of known or unknown length.

Whatever kind of samples the files hold, signed 16-bit ones come out. Headers are read by `cosyclient.audio.wav`, at
most 64 KiB of each; besides, only an incomplete frame and bytes that may begin a header are buffered.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from cosyclient.audio.base import MAGIC_BYTES
from cosyclient.audio.format import PcmFormat
from cosyclient.audio.wav import is_wav, next_file, parse_header
from cosyclient.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cosyclient.audio.wav import SampleFormat, WavHeader


class WavStripper:
    """Removes the headers of consecutive WAV files that arrive in pieces, and converts their samples to 16 bits.

    Call `feed` with each piece and then `finish`, exhausting both. ``sample_format`` is set with the first header.
    """

    def __init__(self) -> None:
        self.sample_format: SampleFormat | None = None
        self._buffer = bytearray()
        # Bytes of samples still to come in the current file: None before its header is complete, -1 if it states none.
        self._left: int | None = None
        # Whether the samples of a file are over and the next header has not been found.
        self._between_files = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the samples complete with *piece*; raises `DecodeError` if it is no WAV file, or the files differ."""
        self._buffer += piece
        while True:
            if self._between_files:
                # Chunks behind the samples, such as LIST, are dropped.
                at = next_file(self._buffer, 0)
                del self._buffer[: at if at >= 0 else max(0, len(self._buffer) - MAGIC_BYTES + 1)]
                if at < 0:
                    return
                self._between_files = False
            elif self._left is None:
                found = parse_header(self._buffer, growing=True)
                if found is None:
                    return
                self._begin(found)
            else:
                samples, at_end = self._take_frames()
                if samples and self.sample_format is not None:
                    yield self.sample_format.to_s16(samples)
                if not at_end:
                    return

    def finish(self) -> Iterator[bytes]:
        """Yield the last samples; raises `DecodeError` if the last file is truncated."""
        if self._between_files:
            return
        if self._left is None:
            there = len(self._buffer)
            raise DecodeError(f"audio: truncated wav, {there} bytes end before the samples begin", retryable=True)
        if self._left > 0:
            missing = self._left - len(self._buffer)
            raise DecodeError(f"audio: truncated wav, {missing} bytes of its samples are missing", retryable=True)
        assert self.sample_format is not None  # noqa: S101 - a header was read
        if whole := bytes(
            self._buffer[: len(self._buffer) // self.sample_format.block_bytes * self.sample_format.block_bytes]
        ):
            yield self.sample_format.to_s16(whole)

    def _begin(self, found: WavHeader) -> None:
        if self.sample_format is None:
            self.sample_format = found.sample_format
        elif self.sample_format != found.sample_format:
            raise DecodeError("audio: the stream changes its rate or its samples in the middle", endpoint_fault=False)
        self._left = -1 if found.samples_bytes is None else found.samples_bytes
        del self._buffer[: found.samples_start]

    def _take_frames(self) -> tuple[bytes, bool]:
        """Remove and return the whole frames buffered, and whether the file ends with them."""
        assert self.sample_format is not None  # noqa: S101 - a header was read
        assert self._left is not None  # noqa: S101
        block, there = self.sample_format.block_bytes, len(self._buffer)
        if self._left >= 0:
            at_end = there >= self._left
            end = self._left if at_end else there
        else:
            at = next_file(self._buffer, 0)
            at_end = at >= 0
            # The start of the next file's header may be at the end of the buffer.
            header_start = self._buffer.find(b"R", max(0, there - MAGIC_BYTES + 1))
            end = at if at_end else header_start if header_start >= 0 else there
        whole = end - end % block
        samples = bytes(self._buffer[:whole])
        if at_end:
            # An incomplete frame at the end of a file is dropped.
            del self._buffer[:end]
            self._left, self._between_files = None, True
        else:
            del self._buffer[:whole]
            if self._left > 0:
                self._left -= whole
        return samples, at_end


def strip_headers(pieces: Iterable[bytes], announced: PcmFormat) -> Iterator[PcmFormat | bytes]:
    """Yield the format of a stream and then its samples, without WAV headers; nothing for a stream without a byte.

    *announced* is the format of bare samples; a WAV header overrides it. Raises `DecodeError` like `WavStripper`.
    """
    source = iter(pieces)
    start = b""
    while len(start) < MAGIC_BYTES and (piece := next(source, None)) is not None:
        start += piece
    if not is_wav(start):
        if start:
            yield announced
            yield start
            yield from source
        return
    stripper, started = WavStripper(), False
    for samples in _strip(stripper, chain((start,), source)):
        if not started and stripper.sample_format is not None:
            started = True
            yield PcmFormat(stripper.sample_format.sample_rate, stripper.sample_format.channels)
        yield samples


def collect_pcm(pieces: Iterable[PcmFormat | bytes], announced: PcmFormat) -> tuple[PcmFormat, bytes]:
    """Return the format among *pieces*, or *announced* if there is none, and all samples joined."""
    pcm_format, data = announced, []
    for piece in pieces:
        if isinstance(piece, PcmFormat):
            pcm_format = piece
        else:
            data.append(piece)
    return pcm_format, b"".join(data)


def _strip(stripper: WavStripper, pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from stripper.feed(piece)
    yield from stripper.finish()
