"""Undo content codings while the content arrives, in small steps, up to a limit."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Final

from cosyclient.errors import DecodeError, TransportError
from cosyclient.util.redaction import short_token

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP_BYTES: Final = 64 << 10
_PLAIN_BYTES: Final = 256 << 10
"""What our own pool reads at once; another transport may hand out a whole reply as one piece."""
_GZIP_WINDOW: Final = 31
_RAW_WINDOW: Final = -15
_ZLIB_HEADER_BYTES: Final = 2
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_PLAIN: Final = frozenset({"", "identity"})


class ContentDecoder:
    """Decode content of one *coding* (gzip, deflate or none), at most *limit_bytes* of it after decompression.

    However small its compressed form, no more than `STEP_BYTES` of content exist at a time. Bytes after the end of a
    gzip stream are ignored unless they begin another one. Raises `DecodeError` for an unknown coding, for content
    that is not of its coding and beyond the limit, and `TransportError` for content that ends too soon.
    """

    def __init__(self, coding: str, limit_bytes: int) -> None:
        self._coding = coding.strip().lower()
        self._limit_bytes = limit_bytes
        self._taken_bytes = 0
        self._inflate: zlib._Decompress | None = None
        if self._coding in _GZIP:
            self._inflate = zlib.decompressobj(_GZIP_WINDOW)
        elif self._coding == "deflate":
            # Which of its two forms it is, the first two bytes tell.
            self._inflate = zlib.decompressobj()
        elif self._coding not in _PLAIN:
            raise DecodeError(
                f"the reply's content coding {short_token(coding, 40)!r} is unknown; gzip and deflate are understood"
            )
        self._begun = False
        self._held = b""

    def announce(self, length: str) -> None:
        """Refuse content whose announced *length*, a Content-Length, is beyond the limit, before any of it is read."""
        if _LENGTH.fullmatch(length) and int(length) > self._limit_bytes:
            raise self._too_large()

    def decode(self, piece: bytes) -> Iterator[bytes]:
        """Yield what *piece* decodes to in small steps, some of them empty: in each the time can be looked at."""
        if self._inflate is None:
            self._count(piece)
            if len(piece) <= _PLAIN_BYTES:
                yield piece
                return
            for start in range(0, len(piece), _PLAIN_BYTES):
                yield piece[start : start + _PLAIN_BYTES]
            return
        if self._coding == "deflate" and not self._begun:
            piece = self._held = self._held + piece
            if len(piece) < _ZLIB_HEADER_BYTES:
                return
            if int.from_bytes(piece[:2], "big") % 31 or piece[0] & 15 != zlib.DEFLATED:
                # Half of the servers that say deflate mean it without the zlib header around it.
                self._inflate = zlib.decompressobj(_RAW_WINDOW)
        while piece:
            self._begun = True
            content = self._step(piece)
            self._count(content)
            yield content
            piece = self._inflate.unconsumed_tail
            if self._inflate.eof:
                piece = self._inflate.unused_data
                if self._coding not in _GZIP or piece[:1] != b"\x1f":
                    return
                self._inflate = zlib.decompressobj(_GZIP_WINDOW)

    def finish(self) -> None:
        """Check that the content ended where its coding says so."""
        if self._inflate is not None and (self._begun or self._held) and not self._inflate.eof:
            raise TransportError(f"the reply ended within its {self._coding} stream")

    def _step(self, piece: bytes) -> bytes:
        assert self._inflate is not None  # noqa: S101 - decode() asked
        try:
            return self._inflate.decompress(piece, STEP_BYTES)
        except zlib.error as error:
            raise DecodeError(f"the reply's content is not valid {self._coding}: {error}") from error

    def _count(self, content: bytes) -> None:
        self._taken_bytes += len(content)
        if self._taken_bytes > self._limit_bytes:
            raise self._too_large()

    def _too_large(self) -> DecodeError:
        return DecodeError(f"reply larger than {self._limit_bytes} bytes (wire.max_reply_bytes)")
