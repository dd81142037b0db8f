"""Streams of samples, bare or in WAV files, made the 16-bit ones that callers are owed."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from cosyclient.audio.base import MAGIC_BYTES
from cosyclient.audio.wav import is_wav, next_file, read_header
from cosyclient.errors import DecodeError, TransportError
from cosyclient.protocols.base import PcmFormat

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cosyclient.audio.wav import SampleFormat, WavHeader
    from cosyclient.wire import WireReply


def explain_early_end(chunks: Iterable[bytes], hint: str) -> Iterator[bytes]:
    """Yield *chunks*; with a *hint*, an end before the first is not held against the endpoint that promised them.

    Servers that send their heads before they look at the request end so for whatever is wrong with it, and say
    nothing: *hint* says what it may be.
    """
    begun = False
    try:
        for chunk in chunks:
            begun = begun or bool(chunk)
            yield chunk
    except TransportError as error:
        if hint and not begun and type(error) is TransportError:
            error.args = (f"{error}; {hint}",)
            error.endpoint_fault = False
        raise


class PeekedReply:
    """Offer a reply whose first bytes, ``opening``, have been looked at; it is read as the reply is."""

    def __init__(self, reply: WireReply, *, hint: str = "") -> None:
        self.status = reply.status
        self.headers: Mapping[str, str] = reply.headers
        self._reply = reply
        self._chunks = explain_early_end(reply.chunks(), hint)
        self.opening = b""
        while len(self.opening) < MAGIC_BYTES and (chunk := next(self._chunks, None)) is not None:
            self.opening += chunk

    def chunks(self) -> Iterator[bytes]:
        """Yield the content from its beginning."""
        yield self.opening
        yield from self._chunks

    def close(self) -> None:
        """Let go of the reply."""
        self._reply.close()

    def __repr__(self) -> str:
        return f"<Begun {self._reply!r}>"


class WavStripper:
    """Take WAV files that come one after the other in pieces, and give their samples as signed 16-bit ones.

    Give it the pieces in turn, then `end`; ``kind`` is known from the first header on.
    """

    def __init__(self) -> None:
        self.sample_format: SampleFormat | None = None
        self._held = bytearray()
        # What is at hand: a header (None), or samples and how many bytes of them are to come (-1: nobody knows).
        self._left: int | None = None
        self._between = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the samples that are there with *piece*; raises `DecodeError` for files that differ or are none."""
        self._held += piece
        while True:
            if self._between:
                # What follows the samples of a file, such as a LIST chunk, is none.
                at = next_file(self._held, 0)
                del self._held[: at if at >= 0 else max(0, len(self._held) - MAGIC_BYTES + 1)]
                if at < 0:
                    return
                self._between = False
            elif self._left is None:
                found = read_header(self._held, growing=True)
                if found is None:
                    return
                self._begin(found)
            else:
                samples, over = self._take()
                if samples and self.sample_format is not None:
                    yield self.sample_format.to_s16(samples)
                if not over:
                    return

    def finish(self) -> Iterator[bytes]:
        """Yield the last samples; raises `DecodeError` if a file is cut short."""
        if self._between:
            return
        if self._left is None:
            there = len(self._held)
            raise DecodeError(f"audio: truncated wav, {there} bytes end before the samples begin", retryable=True)
        if self._left > 0:
            missing = self._left - len(self._held)
            raise DecodeError(f"audio: truncated wav, {missing} bytes of its samples are missing", retryable=True)
        assert self.sample_format is not None  # noqa: S101 - a header was read
        if whole := bytes(
            self._held[: len(self._held) // self.sample_format.block_bytes * self.sample_format.block_bytes]
        ):
            yield self.sample_format.to_s16(whole)

    def _begin(self, found: WavHeader) -> None:
        if self.sample_format is None:
            self.sample_format = found.sample_format
        elif self.sample_format != found.sample_format:
            raise DecodeError("audio: the stream changes its rate or its samples in the middle", endpoint_fault=False)
        self._left = -1 if found.samples_bytes is None else found.samples_bytes
        del self._held[: found.samples_start]

    def _take(self) -> tuple[bytes, bool]:
        """Return the whole frames at hand, and whether the file is over."""
        assert self.sample_format is not None  # noqa: S101 - a header was read
        assert self._left is not None  # noqa: S101
        block, there = self.sample_format.block_bytes, len(self._held)
        if self._left >= 0:
            over = there >= self._left
            end = self._left if over else there
        else:
            at = next_file(self._held, 0)
            over = at >= 0
            # A header may have begun at the end of what is there.
            begun = self._held.find(b"R", max(0, there - MAGIC_BYTES + 1))
            end = at if over else begun if begun >= 0 else there
        whole = end - end % block
        samples = bytes(self._held[:whole])
        if over:
            # Half a frame at the end of a file is nothing.
            del self._held[:end]
            self._left, self._between = None, True
        else:
            del self._held[:whole]
            if self._left > 0:
                self._left -= whole
        return samples, over


def strip_headers(pieces: Iterable[bytes], said: PcmFormat) -> Iterator[PcmFormat | bytes]:
    """Yield the head of a stream and then its samples; WAV headers are taken off, and believed more than *said*.

    Nothing is yielded of a stream without a byte.
    """
    source = iter(pieces)
    begun = b""
    while len(begun) < MAGIC_BYTES and (piece := next(source, None)) is not None:
        begun += piece
    if not is_wav(begun):
        if begun:
            yield said
            yield begun
            yield from source
        return
    files, head = WavStripper(), None
    for samples in _unwrapped(files, chain((begun,), source)):
        if head is None and files.sample_format is not None:
            head = PcmFormat(files.sample_format.sample_rate, files.sample_format.channels)
            yield head
        yield samples


def collect_pcm(pieces: Iterable[PcmFormat | bytes], said: PcmFormat) -> tuple[PcmFormat, bytes]:
    """Return what the samples among *pieces* are, *said* where no head tells, and all of them."""
    head, data = said, []
    for piece in pieces:
        if isinstance(piece, PcmFormat):
            head = piece
        else:
            data.append(piece)
    return head, b"".join(data)


def _unwrapped(files: WavStripper, pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from files.feed(piece)
    yield from files.finish()
