"""Read one HTTP reply with http.client, and refuse what it would accept: truncation, hidden fields, two framings.

Used by `Connection`; the content goes to the caller through `ResponseStream`.
"""

from __future__ import annotations

import http.client
import re
from typing import Any, Final

from urllib3.exceptions import HeaderParsingError
from urllib3.util.response import assert_header_parsing

from cosyclient.transports.header_map import HeaderMap
from cosyclient.transports.http.head import parse_head

# What reading a reply may raise because of the wire.
READ_ERRORS: Final = (OSError, http.client.HTTPException)

_WITHOUT_CONTENT: Final = (http.client.NO_CONTENT, http.client.NOT_MODIFIED)
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_MAX_LINE_BYTES: Final = 65536
_MAX_FIELDS: Final = 100
"""The number of header fields that http.client accepts."""
_NO_FIELDS: Final = HeaderMap()


class RawReply(http.client.HTTPResponse):
    """Read one reply: `begin` for status and ``fields``, then `read1` until ``done``.

    Once ``done``, ``reusable`` says whether the connection may carry another request.
    """

    def __init__(self, connection: Any, method: str) -> None:
        # What http.client itself sets is set where it is needed, in `_read_any_head`.
        self.fp = connection.makefile("rb")
        self._connection = connection
        self._method = method
        self.done = False
        self.reusable = False
        self.plain_bytes: int | None = None
        """How many bytes of content there are, where that is known and they are not compressed."""
        self.fields: list[tuple[str, str]] = []
        """The header fields as they came, in Latin-1."""
        self.header_map = _NO_FIELDS

    def begin(self) -> None:
        """Read status and fields, and skip interim replies (1xx); raises one of `READ_ERRORS`."""
        if not self._read_plain_head():
            self._read_any_head()

    def _read_plain_head(self) -> bool:
        """Read a head that `parse_head` accepts, and return True; otherwise read nothing and return False.

        http.client parses heads with the e-mail package, which costs more than all the rest of a request.
        """
        head = parse_head(self.fp.peek())
        if head is None or self._method == "HEAD":
            return False
        size, status, reason, fields = head
        named = {name.lower(): value for name, value in fields}
        length, coding = named.get("content-length"), named.get("transfer-encoding")
        if (length is None) is (coding is None) or (coding is not None and coding != "chunked"):
            return False
        if not (length is None or _LENGTH.fullmatch(length)) or status in _WITHOUT_CONTENT:
            return False
        if len(named) != len(fields) or len(fields) > _MAX_FIELDS:
            return False
        self.fp.read(size)
        self.status, self.reason, self.fields = status, reason, fields
        self.header_map = HeaderMap.of_distinct(named)
        self.length = None if length is None else int(length)
        self.chunked, self.chunk_left, self.will_close = length is None, None, False
        self.reusable = "close" not in named.get("connection", "").lower()
        self.plain_bytes = None if "content-encoding" in named else self.length
        self.done = self.length == 0
        return True

    def _read_any_head(self) -> None:
        super().__init__(self._connection, method=self._method)
        super().begin()
        while self.status < http.client.OK:
            # http.client skips 100 but returns an early hint (103) as the reply.
            if self.status == http.client.SWITCHING_PROTOCOLS:
                raise http.client.HTTPException("the server switched protocols without being asked to")
            self.headers = self.msg = None  # type: ignore[assignment]
            super().begin()
        try:
            assert_header_parsing(self.headers)
        except HeaderParsingError as error:
            # Its message quotes the whole head, which may be megabytes.
            raise http.client.HTTPException(f"unreadable header fields: {str(error)[:200]}") from None
        # A folded value becomes one line, as in the e-mail package's newer policies.
        self.fields = [(name, "".join(value.splitlines())) for name, value in self.headers.items()]
        self.header_map = HeaderMap(self.fields)
        lengths = set(self.headers.get_all("content-length", ()))
        if len(lengths) > 1 or (lengths and not _LENGTH.fullmatch(next(iter(lengths)).strip())):
            raise http.client.HTTPException(f"contradictory or unreadable Content-Length: {sorted(lengths)!s:.100}")
        if len(self.headers.get_all("transfer-encoding", ())) != self.chunked:
            raise http.client.HTTPException("a transfer coding other than chunked")
        # Two framings at once suggest request smuggling (RFC 9112, 6.3): the reply is read, the connection not reused.
        self.reusable = not (self.will_close or (lengths and self.chunked))
        # http.client would close the connection after a reply that ends with it; only the pool closes connections.
        self.will_close = False
        self.done = self.length == 0

    def read1(self, n: int = -1) -> bytes:
        """Return what has come of the content, at most *n* bytes; waits only when nothing has, empty at its end."""
        try:
            piece = super().read1(n)
        except http.client.RemoteDisconnected:
            # Only content without a length ends with the connection.
            if self.chunked or self.length is not None:
                raise
            piece = b""
        if self.chunked and self.chunk_left is not None and self.chunk_left < 0:
            raise http.client.HTTPException("a chunk of negative size")
        self.done = not piece or self.length == 0
        return piece

    def read_at_once(self, seconds: float) -> bytes:
        """Return all of a content of `plain_bytes`, or what of it comes within *seconds*, maybe nothing.

        What had come is returned, too, when the connection breaks meanwhile; the next read raises the error.
        """
        assert self.length is not None  # noqa: S101 - the caller looked at `plain_bytes`
        piece: bytes = self.fp.read_at_once(self.length, seconds)  # type: ignore[attr-defined]
        self.length -= len(piece)
        self.done = not self.length
        return piece

    def _read_next_chunk_size(self) -> int:
        # http.client accepts whatever int() does, "+1_0" too. A proxy on the way may see another end of the reply, and
        # the rest would be read as the reply to another request.
        line = self.fp.readline(_MAX_LINE_BYTES)
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            raise http.client.HTTPException("a chunk of unreadable size")
        if not line.endswith(b"\r\n"):
            self.reusable = False
        return int(size[1], 16)

    def _safe_read(self, amt: int) -> bytes:
        # http.client calls this for the line end after a chunk, and does not check it.
        end: bytes = super()._safe_read(amt)  # type: ignore[misc]
        if end != b"\r\n":
            raise http.client.HTTPException("a chunk longer than its announced size")
        return end

    def isclosed(self) -> bool:
        """Return whether the reply is read to its end; called by http.client."""
        return self.done

    def close(self) -> None:
        """Do nothing: only the pool closes connections, and another thread may be reading from this one."""
