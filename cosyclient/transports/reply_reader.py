"""Read HTTP/1.1 replies from bytes as they arrive: no socket in here, no clock, and nothing is guessed.

RFC 9112 as far as a client that sends one request at a time needs it. Written for its cost: urllib3 and http.client
spend most of a small request's time on parsing headers through the e-mail package.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE_BYTES: Final = 64 << 10
MAX_HEAD_BYTES: Final = 64 << 10
MAX_LINE_BYTES: Final = 8 << 10
_REFILL_BYTES: Final = 4 << 10

_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_LINE_END: Final = re.compile(rb"\r?\n")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: ([^\r\n]*))?")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\0\r\n]*?)[ \t]*")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_PREFIX: Final = b"HTTP/1."


class Malformed(Exception):
    """Tell that what came is not an HTTP/1.1 reply."""


class Truncated(Exception):
    """Tell that the connection ended before the reply did."""


class Inbox:
    """Keep what arrived on one connection and was not used yet."""

    __slots__ = ("_at", "_kept", "_receive")

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._kept = b""
        self._at = 0

    @property
    def empty(self) -> bool:
        """Return whether everything that arrived was used."""
        return self._at >= len(self._kept)

    def some(self, limit: int) -> bytes:
        """Return what is there, at most *limit* bytes, waiting only when nothing is; empty at the connection's end."""
        if self._at >= len(self._kept):
            return self._receive(limit)
        piece = self._kept[self._at : self._at + limit]
        self._at += len(piece)
        return piece

    def head(self) -> bytes:
        """Return everything up to the blank line that ends a reply's head."""
        data = bytearray(self._take() or self._receive(PIECE_BYTES))
        if not data:
            raise Truncated("the connection was closed without a reply")
        searched = 0
        while not (end := _HEAD_END.search(data, searched)):
            if not data.startswith(_PREFIX[: len(data)]):
                raise Malformed("the reply does not start with HTTP/1.")
            if len(data) > MAX_HEAD_BYTES:
                raise Malformed(f"the reply's head is larger than {MAX_HEAD_BYTES} bytes")
            searched = max(0, len(data) - 3)
            more = self._receive(_REFILL_BYTES)
            if not more:
                raise Truncated("the connection was closed within the reply's head")
            data += more
        self._kept, self._at = bytes(data), end.end()
        return self._kept[: end.start()]

    def line(self) -> bytes:
        """Return the next line with its end."""
        while True:
            end = self._kept.find(b"\n", self._at) + 1
            if end:
                line = self._kept[self._at : end]
                self._at = end
                return line
            kept = self._take()
            if len(kept) > MAX_LINE_BYTES:
                raise Malformed(f"a line of the chunked content is longer than {MAX_LINE_BYTES} bytes")
            more = self._receive(_REFILL_BYTES)
            if not more:
                raise Truncated("the connection was closed within the chunked content")
            self._kept = kept + more

    def _take(self) -> bytes:
        kept, self._kept, self._at = self._kept[self._at :], b"", 0
        return kept


class ReplyReader:
    """Read one reply: `begin` for status and headers, then `read` until ``done``."""

    __slots__ = ("_chunked", "_inbox", "_inside", "_left", "done", "headers", "keep_alive", "reason", "status")

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._chunked = False
        self._inside = False
        self._left: int | None = 0
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.keep_alive = False
        self.done = False

    def begin(self, method: str) -> None:
        """Read status and headers of the reply to *method*; interim replies (1xx) are passed over."""
        while True:
            lines = _LINE_END.split(self._inbox.head())
            start = _STATUS_LINE.fullmatch(lines[0])
            if start is None:
                raise Malformed(f"not a status line: {lines[0][:80]!r}")
            self.status = int(start[2])
            if self.status >= 200:
                break
            if self.status == 101:
                raise Malformed("the server switched protocols unasked")
        self.reason = start[3] or b""
        self.headers = _fields(lines)
        self._frame(method, persistent=start[1] != b"0")

    def _frame(self, method: str, *, persistent: bool) -> None:
        lengths: set[bytes] = set()
        codings: list[bytes] = []
        options: list[bytes] = []
        for name, value in self.headers:
            # Comparing lengths first spares lowering every name.
            if len(name) == 14 and name.lower() == b"content-length":
                lengths.update(part.strip() for part in value.split(b","))
            elif len(name) == 17 and name.lower() == b"transfer-encoding":
                codings += [part.strip().lower() for part in value.split(b",")]
            elif len(name) == 10 and name.lower() == b"connection":
                options += [part.strip().lower() for part in value.split(b",")]
        self.keep_alive = b"close" not in options and (persistent or b"keep-alive" in options)
        if method == "HEAD" or self.status in (204, 304):
            self.done = True
        elif codings:
            if codings != [b"chunked"]:
                raise Malformed(f"unknown transfer coding {b', '.join(codings)!r}")
            self._chunked = True
            # Both framings at once smells of smuggling (RFC 9112, 6.3): read it, but trust the connection no more.
            self.keep_alive = self.keep_alive and not lengths
        elif lengths:
            length = lengths.pop()
            if lengths or not _LENGTH.fullmatch(length):
                raise Malformed("contradictory or unreadable Content-Length")
            self._left = int(length)
            self.done = not self._left
        else:
            self._left = None
            self.keep_alive = False

    def read(self) -> bytes:
        """Return the next piece of the content, or nothing at its end; ``done`` is set as soon as the end is known."""
        if self._chunked and not self._left and not self.done:
            self._next_chunk()
        if self.done:
            return b""
        piece = self._inbox.some(PIECE_BYTES if self._left is None else min(self._left, PIECE_BYTES))
        if self._left is None:
            self.done = not piece
            return piece
        if not piece:
            raise Truncated(f"the connection was closed {self._left} bytes before the end of the content")
        self._left -= len(piece)
        self.done = not self._left and not self._chunked
        return piece

    def _next_chunk(self) -> None:
        # The line end after a chunk is read with the next size, so that no piece waits for it.
        if self._inside and self._inbox.line() not in (b"\r\n", b"\n"):
            raise Malformed("a chunk is longer than its size says")
        self._inside = True
        size = _CHUNK_SIZE.fullmatch(self._inbox.line())
        if size is None:
            raise Malformed("unreadable chunk size")
        self._left = int(size[1], 16)
        if not self._left:
            trailers = 0
            while (line := self._inbox.line()) not in (b"\r\n", b"\n"):
                trailers += len(line)
                if trailers > MAX_HEAD_BYTES:
                    raise Malformed(f"trailers larger than {MAX_HEAD_BYTES} bytes")
            self.done = True


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    fields: list[tuple[bytes, bytes]] = []
    for line in lines[1:]:
        if line[:1] in (b" ", b"\t") and fields:
            # An obsolete fold continues the value before it.
            name, value = fields[-1]
            fields[-1] = (name, value + b" " + line.strip(b" \t"))
            continue
        field = _FIELD.fullmatch(line)
        if field is None:
            raise Malformed(f"not a header field: {line[:80]!r}")
        fields.append((field[1], field[2]))
    return fields
