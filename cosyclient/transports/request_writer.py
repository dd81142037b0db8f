"""Turn an httpx request into the bytes of an HTTP/1.1 request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Head and content leave in one write, hence usually in one packet, unless joining them would copy more than this.
_JOIN_BYTES: Final = 256 << 10


class RequestWriter:
    """Hold one request's bytes; ``replayable`` says whether they can be sent a second time."""

    __slots__ = ("_body", "_chunked", "_head", "method", "replayable")

    def __init__(self, request: httpx.Request) -> None:
        self.method = request.method
        raw = request.headers.raw
        names = {name.lower() for name, _ in raw}
        self._chunked = False
        self._body: bytes | Iterable[bytes]
        stream = request.stream
        if isinstance(stream, httpx.ByteStream):
            self._body = b"".join(stream)
            if self._body and b"content-length" not in names and b"transfer-encoding" not in names:
                raw = [*raw, (b"Content-Length", b"%d" % len(self._body))]
        elif isinstance(stream, httpx.SyncByteStream):
            self._body = stream
            if b"content-length" not in names and b"transfer-encoding" not in names:
                raw = [*raw, (b"Transfer-Encoding", b"chunked")]
                self._chunked = True
        else:
            raise httpx.LocalProtocolError("an asynchronous content cannot be sent by a synchronous transport")
        self._chunked = self._chunked or b"transfer-encoding" in names
        if b"host" not in names:
            raw = [(b"Host", request.url.netloc), *raw]
        self.replayable = isinstance(self._body, bytes)
        self._head = _head(request.method, request.url.raw_path, raw)

    def write(self, send: Callable[[bytes], None]) -> None:
        """Pass the request to *send*, in as few pieces as is sensible."""
        pieces = self._pieces()
        first = next(pieces, b"")
        if len(first) <= _JOIN_BYTES:
            send(self._head + first)
        else:
            send(self._head)
            send(first)
        for piece in pieces:
            send(piece)

    def _pieces(self) -> Iterator[bytes]:
        pieces = (self._body,) if isinstance(self._body, bytes) else self._body
        if not self._chunked:
            yield from pieces
            return
        for piece in pieces:
            if piece:
                yield b"%x\r\n%b\r\n" % (len(piece), piece)
        yield b"0\r\n\r\n"


def _head(method: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    if not _TOKEN.fullmatch(method):
        raise httpx.LocalProtocolError(f"not an HTTP method: {method!r}")
    head = b"%b %b HTTP/1.1\r\n%b\r\n" % (
        method.encode("ascii"),
        target,
        b"".join([b"%b: %b\r\n" % field for field in headers]),
    )
    # One line end per line and none smuggled in by a value; cheaper than looking at each field.
    lines = len(headers) + 2
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise httpx.LocalProtocolError("a header field contains a line end or a null byte")
    return head
