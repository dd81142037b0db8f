"""Behaviours of services that misbehave on purpose; `benchmarks.harness.hostile` runs them.

with hostile(drips_body(interval=0.01)) as service:
    client = ...(service.url)
    ...
assert service.seen == 1
"""

from __future__ import annotations

import gzip
import socket
import zlib

from benchmarks.harness.hostile import Behaviour, HostileService, Received, ServedConnection, hostile, reply, unanswered

__all__ = ["Behaviour", "HostileService", "Received", "ServedConnection", "hostile", "reply", "unanswered"]


def chunked(*pieces: bytes, headers: tuple[str, ...] = ()) -> bytes:
    """Return the bytes of a whole, correct reply with chunked content."""
    lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers]
    content = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"0\r\n\r\n"


def answers(data: bytes | None = None, *, times: int = 1 << 30) -> Behaviour:
    """Answer every request with the bytes *data*, *times* times, then close."""

    def behave(connection: ServedConnection) -> None:
        for _ in range(times):
            if connection.request() is None:
                return
            connection.send(reply() if data is None else data)

    return behave


def echoes(delay: float = 0.0) -> Behaviour:
    """Answer every request with the value of its ``X-Tag`` header and its own body."""

    def behave(connection: ServedConnection) -> None:
        while (received := connection.request()) is not None:
            connection.pause(delay)
            connection.send(reply(received.headers.get("x-tag", "").encode() + b"|" + received.body))

    return behave


def never_answers() -> Behaviour:
    """Accept and read, but answer nothing; to a client with TLS this is a stalled handshake."""
    return ServedConnection.until_closed


def never_reads() -> Behaviour:
    """Accept and never read, so that a large request fills every buffer."""

    def behave(connection: ServedConnection) -> None:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.service.stopping.wait()

    return behave


def drips_head(interval: float = 0.01) -> Behaviour:
    """Send an endless head byte by byte."""

    def behave(connection: ServedConnection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            connection.drip(b"x", interval)

    return behave


def drips_chunk_size(interval: float = 0.01) -> Behaviour:
    """Begin chunked content with a size line that does not end, byte by byte."""

    def behave(connection: ServedConnection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
        while True:
            connection.drip(b"x", interval)

    return behave


def drips_body(interval: float = 0.01, length: int = 1 << 20) -> Behaviour:
    """Promise *length* bytes of content and send them one by one."""

    def behave(connection: ServedConnection) -> None:
        connection.request()
        connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode())
        connection.drip(b"x" * length, interval)

    return behave


def hangs_after(data: bytes) -> Behaviour:
    """Answer with *data*, then send nothing until the client closes."""

    def behave(connection: ServedConnection) -> None:
        connection.request()
        connection.send(data)
        connection.until_closed()

    return behave


def cuts_after(data: bytes) -> Behaviour:
    """Answer the first request of each connection with *data*, then close in good order."""
    return answers(data, times=1)


def resets_after(data: bytes = b"") -> Behaviour:
    """Answer with *data*, wait until the client has read it, then reset the connection."""

    def behave(connection: ServedConnection) -> None:
        connection.request()
        if data:
            connection.send(data)
            connection.pause(0.05)
        connection.reset()

    return behave


def goes_stale(data: bytes | None = None) -> Behaviour:
    """Answer once per connection as if it stayed open, and close it without notice."""
    return answers(data, times=1)


def refuses_stale() -> Behaviour:
    """Answer one request per connection, then reset it upon the second."""

    def behave(connection: ServedConnection) -> None:
        connection.request()
        connection.send(reply())
        connection.request()
        connection.reset()

    return behave


CUT_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 10
CUT_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
CUT_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nhello"
CUT_HEAD = b"HTTP/1.1 200 OK\r\nContent-Le"
GARBAGE = b"\x16\x03\x01\x00\xff this is not HTTP \x00\r\n\r\n"


def noise(size_bytes: int = 10 << 20) -> Behaviour:
    """Answer with *size_bytes* of noise that is not HTTP."""

    def behave(connection: ServedConnection) -> None:
        connection.request()
        block = bytes(range(1, 10)) * 7281
        for _ in range(size_bytes // len(block) + 1):
            connection.send(block)
        connection.until_closed()

    return behave


def bomb(size_bytes: int = 1 << 30) -> Behaviour:
    """Answer with gzip content that unfolds to *size_bytes* of zeros; the compressed form streams."""

    def behave(connection: ServedConnection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n")
        deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
        block = bytes(1 << 20)
        for _ in range(size_bytes // len(block)):
            connection.send(deflate.compress(block))
        connection.send(deflate.flush())

    return behave


def gzipped(body: bytes) -> bytes:
    """Return a whole, correct reply whose content is gzipped."""
    return reply(gzip.compress(body), headers=("Content-Encoding: gzip",))
