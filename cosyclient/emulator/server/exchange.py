"""Read one request and send its reply, through ASGI or directly to the socket."""

from __future__ import annotations

import asyncio
import gzip
import http
import socket
import struct
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from cosyclient.emulator.core.problems import too_large
from cosyclient.emulator.server.negotiation import accepts_gzip

if TYPE_CHECKING:
    from cosyclient.emulator.core.counters import CounterState
    from cosyclient.emulator.core.problems import Problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

CONNECTION = "cosyclient.connection"
_GZIP_FROM = 256
_CLOSING = 5.0
_CHUNK_BYTES = 1 << 20


class Connection(Protocol):
    """What the server knows of the connection that a request came on."""

    transport: asyncio.Transport
    refused: bool


class Exchange:
    """Answer one request, and count what goes in and out."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, counters: CounterState, *, gzip: bool) -> None:
        self._receive = receive
        self._send = send
        self._counters = counters
        self._headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text
        self._gzip = gzip and accepts_gzip(self.header("accept-encoding"))
        self.connection: Connection = scope["extensions"][CONNECTION]
        client = scope.get("client")
        self.address: str = client[0] if client else ""
        self.id = _request_id(self.header("x-request-id"))
        self.headers: Headers = [(b"x-request-id", self.id.encode())]
        """Headers that every reply to this request carries."""

    def __repr__(self) -> str:
        return f"<Exchange {self.id} from {self.address}>"

    def header(self, name: str) -> str:
        """Return a request header, or nothing."""
        return self._headers.get(name, "")

    async def body(self, most_bytes: int) -> bytes:
        """Read the request's body without decoding it; 413 as soon as it is known to be too large."""
        if int(self.header("content-length") or 0) > most_bytes:
            raise too_large(most_bytes)
        chunks, length = [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the client disconnected while sending")
            chunk = message.get("body", b"")
            chunks.append(chunk)
            length += len(chunk)
            self._counters.bytes_in += len(chunk)
            if length > most_bytes:
                raise too_large(most_bytes)
            if not message.get("more_body"):
                return b"".join(chunks)

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem document."""
        headers = [*problem.headers(), (b"content-language", b"en")]
        body = problem.document(f"urn:cosyvoice:request:{self.id}")
        await self.reply(problem.status, "application/problem+json", body, headers)

    async def reply(self, status: int, media_type: str, body: bytes, headers: Headers | None = None) -> None:
        """Send a whole reply."""
        await self.reply_pieces(status, media_type, [body], headers)

    async def reply_pieces(
        self, status: int, media_type: str, pieces: Sequence[bytes], headers: Headers | None = None
    ) -> None:
        """Send a whole reply whose body comes in pieces; JSON is compressed when both sides want it."""
        head = [(b"content-type", media_type.encode()), *self.headers, *(headers or [])]
        length = sum(map(len, pieces))
        if self._gzip and media_type.endswith("json") and length >= _GZIP_FROM:
            # On a thread: compressing megabytes of base64 would block the event loop.
            pieces = [await asyncio.to_thread(gzip.compress, b"".join(pieces), 1)]
            length = len(pieces[0])
            head += [(b"content-encoding", b"gzip"), (b"vary", b"accept-encoding")]
        head.append((b"content-length", b"%d" % length))
        await self.start(status, head)
        for chunk in _chunks(pieces):
            await self.write(chunk)
        await self.write(b"", last=True)

    async def start(self, status: int, head: Headers) -> None:
        """Send the status and headers."""
        self._counters.replies[status] += 1
        await self._send({"type": "http.response.start", "status": status, "headers": head})

    async def write(self, chunk: bytes, *, last: bool = False) -> None:
        """Send a piece of the body."""
        self._counters.bytes_out += len(chunk)
        await self._send({"type": "http.response.body", "body": chunk, "more_body": not last})

    async def wait_for_disconnect(self, seconds: float | None) -> bool:
        """Wait at most *seconds* for the client to disconnect, and return whether it did; call it after `body`."""
        try:
            async with asyncio.timeout(seconds):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return False
        return True

    # The methods below write to the connection directly, which cannot serve another request afterwards.

    def write_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._counters.bytes_out += len(data)
        self.connection.transport.write(data)

    def raw_head(self, status: int, head: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return a status line and headers as bytes, and count the reply."""
        self._counters.replies[status] += 1
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}".encode()]
        lines += [name + b": " + value for name, value in [*head, *self.headers]]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    async def close_connection(self) -> None:
        """Send what is written, then close the connection."""
        self.connection.transport.close()
        await self.wait_for_disconnect(_CLOSING)

    async def reset(self) -> None:
        """Close the connection with a TCP reset."""
        reset(self.connection.transport)
        await self.wait_for_disconnect(_CLOSING)


def reset(transport: asyncio.Transport) -> None:
    """Close a connection so that the peer sees a TCP reset."""
    # A linger time of zero makes the kernel send RST instead of FIN.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _chunks(pieces: Sequence[bytes]) -> Iterator[bytes]:
    """Join pieces into few large chunks, but not so large that each needs fresh memory from the system.

    The last chunk is never small: a small one behind a large one waits 40 ms for a delayed acknowledgement.
    """
    left = sum(map(len, pieces))
    start = size = 0
    for end, piece in enumerate(pieces, 1):
        size += len(piece)
        if size >= _CHUNK_BYTES and left - size >= _CHUNK_BYTES:
            yield b"".join(pieces[start:end])
            left -= size
            start, size = end, 0
    yield b"".join(pieces[start:])


def _request_id(given: str) -> str:
    fit = 0 < len(given) <= 200 and given.isascii() and given.isprintable()
    return given if fit else str(uuid.uuid4())
