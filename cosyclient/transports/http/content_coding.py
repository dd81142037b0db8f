"""Decompress a reply's content (gzip, deflate) while it arrives, in small steps, up to a limit."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Final

from cosyclient.errors import DecodeError, TransportError
from cosyclient.transports.reply_limit import ReplyLimit, too_large
from cosyclient.util.redaction import short_token

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP_BYTES: Final = 64 << 10
_MAX_PIECE_BYTES: Final = 256 << 10
"""Another transport than `Urllib3Transport`, which bounds its pieces, may yield a whole reply as one."""
_GZIP_WINDOW: Final = 31
_RAW_WINDOW: Final = -15
_ZLIB_HEADER_BYTES: Final = 2
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_IDENTITY: Final = frozenset({"", "identity"})


class ContentDecoder:
    """Decode content of one *coding* (gzip, deflate or none), at most *limit_bytes* of it after decompression.

    However well it is compressed, no more than `STEP_BYTES` of content exist at a time; what is not compressed is cut
    into pieces with *split* only. Bytes after the end of a gzip stream are ignored unless they begin another one.
    Raises `DecodeError` for an unknown coding, for invalid content and beyond the limit, and `TransportError` for
    content that ends too soon.
    """

    def __init__(self, coding: str, limit_bytes: int, *, split: bool = True) -> None:
        self._coding = coding.strip().lower()
        self._limit = ReplyLimit(limit_bytes)
        self._inflate: zlib._Decompress | None = None
        if self._coding in _GZIP:
            self._inflate = zlib.decompressobj(_GZIP_WINDOW)
        elif self._coding == "deflate":
            # With a zlib header or without: decode() looks at the first two bytes.
            self._inflate = zlib.decompressobj()
        elif self._coding not in _IDENTITY:
            raise DecodeError(
                f"the reply's content coding {short_token(coding, 40)!r} is unknown; gzip and deflate are understood"
            )
        self._split = split
        self._started = False
        self._pending = b""

    def check_length(self, length: str) -> None:
        """Refuse content whose *length*, a Content-Length, is beyond the limit, before any of it is read."""
        if _LENGTH.fullmatch(length) and int(length) > self._limit.limit_bytes:
            raise too_large(self._limit.limit_bytes)

    def decode(self, piece: bytes) -> Iterator[bytes]:
        """Yield the content of *piece* in small steps, some of them empty, so that the caller can look at the time."""
        if self._inflate is None:
            self._limit.add(len(piece))
            if not self._split or len(piece) <= _MAX_PIECE_BYTES:
                yield piece
                return
            for start in range(0, len(piece), _MAX_PIECE_BYTES):
                yield piece[start : start + _MAX_PIECE_BYTES]
            return
        if self._coding == "deflate" and not self._started:
            piece = self._pending = self._pending + piece
            if len(piece) < _ZLIB_HEADER_BYTES:
                return
            if int.from_bytes(piece[:2], "big") % 31 or piece[0] & 15 != zlib.DEFLATED:
                # Half of the servers that announce deflate send it without the zlib header.
                self._inflate = zlib.decompressobj(_RAW_WINDOW)
        while piece:
            self._started = True
            content = self._step(piece)
            self._limit.add(len(content))
            yield content
            piece = self._inflate.unconsumed_tail
            if self._inflate.eof:
                piece = self._inflate.unused_data
                if self._coding not in _GZIP or piece[:1] != b"\x1f":
                    return
                self._inflate = zlib.decompressobj(_GZIP_WINDOW)

    def finish(self) -> None:
        """Check that the compressed stream is complete; raises `TransportError`."""
        if self._inflate is not None and (self._started or self._pending) and not self._inflate.eof:
            raise TransportError(f"the reply ended within its {self._coding} stream")

    def _step(self, piece: bytes) -> bytes:
        assert self._inflate is not None  # noqa: S101 - decode() checked
        try:
            return self._inflate.decompress(piece, STEP_BYTES)
        except zlib.error as error:
            raise DecodeError(f"the reply's content is not valid {self._coding}: {error}") from error
