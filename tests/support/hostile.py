"""The cabinet of services that misbehave on purpose; what runs them is `benchmarks.harness.adversary`.

with hostile(drips_body(interval=0.01)) as service:
    client = ...(service.url)
    ...
assert service.seen == 1
"""

from __future__ import annotations

import gzip
import socket
import zlib

from benchmarks.harness.adversary import Behaviour, Hostile, Received, Visit, hostile, reply, unanswered

__all__ = ["Behaviour", "Hostile", "Received", "Visit", "hostile", "reply", "unanswered"]


def chunked(*pieces: bytes, headers: tuple[str, ...] = ()) -> bytes:
    """Return the bytes of a whole, honest reply with chunked content."""
    lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers]
    content = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"0\r\n\r\n"


def answers(data: bytes | None = None, *, times: int = 1 << 30) -> Behaviour:
    """Answer every request with the bytes *data*, *times* times, then close."""

    def behave(visit: Visit) -> None:
        for _ in range(times):
            if visit.request() is None:
                return
            visit.send(reply() if data is None else data)

    return behave


def echoes(delay: float = 0.0) -> Behaviour:
    """Answer every request with the value of its ``X-Tag`` header and its own body."""

    def behave(visit: Visit) -> None:
        while (received := visit.request()) is not None:
            visit.pause(delay)
            visit.send(reply(received.headers.get("x-tag", "").encode() + b"|" + received.body))

    return behave


def never_answers() -> Behaviour:
    """Accept, take what comes, say nothing; to a client that speaks TLS this is a stalled handshake."""
    return Visit.until_closed


def never_reads() -> Behaviour:
    """Accept and never read, so that a large request fills every buffer."""

    def behave(visit: Visit) -> None:
        visit.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        visit.service.stopping.wait()

    return behave


def drips_head(interval: float = 0.01) -> Behaviour:
    """Send an endless head byte by byte."""

    def behave(visit: Visit) -> None:
        visit.request()
        visit.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            visit.drip(b"x", interval)

    return behave


def drips_chunk_size(interval: float = 0.01) -> Behaviour:
    """Begin chunked content with a size line that does not end, byte by byte."""

    def behave(visit: Visit) -> None:
        visit.request()
        visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
        while True:
            visit.drip(b"x", interval)

    return behave


def drips_body(interval: float = 0.01, length: int = 1 << 20) -> Behaviour:
    """Promise *length* bytes of content and send them one by one."""

    def behave(visit: Visit) -> None:
        visit.request()
        visit.send(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode())
        visit.drip(b"x" * length, interval)

    return behave


def hangs_after(data: bytes) -> Behaviour:
    """Answer with *data*, then say nothing until the client closes."""

    def behave(visit: Visit) -> None:
        visit.request()
        visit.send(data)
        visit.until_closed()

    return behave


def cuts_after(data: bytes) -> Behaviour:
    """Answer the first request of each connection with *data*, then close in good order."""
    return answers(data, times=1)


def resets_after(data: bytes = b"") -> Behaviour:
    """Answer with *data*, wait until the client has read it, then reset the connection."""

    def behave(visit: Visit) -> None:
        visit.request()
        if data:
            visit.send(data)
            visit.pause(0.05)
        visit.reset()

    return behave


def goes_stale(data: bytes | None = None) -> Behaviour:
    """Answer once per connection as if it stayed open, and close it without a word."""
    return answers(data, times=1)


def refuses_stale() -> Behaviour:
    """Answer one request per connection, then reset it upon the second."""

    def behave(visit: Visit) -> None:
        visit.request()
        visit.send(reply())
        visit.request()
        visit.reset()

    return behave


CUT_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 10
CUT_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
CUT_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nhello"
CUT_HEAD = b"HTTP/1.1 200 OK\r\nContent-Le"
GARBAGE = b"\x16\x03\x01\x00\xff this is not HTTP \x00\r\n\r\n"


def noise(size_bytes: int = 10 << 20) -> Behaviour:
    """Answer with *size_bytes* of noise that is not HTTP."""

    def behave(visit: Visit) -> None:
        visit.request()
        block = bytes(range(1, 10)) * 7281
        for _ in range(size_bytes // len(block) + 1):
            visit.send(block)
        visit.until_closed()

    return behave


def bomb(size_bytes: int = 1 << 30) -> Behaviour:
    """Answer with gzip content that unfolds to *size_bytes* of zeros; the compressed form streams."""

    def behave(visit: Visit) -> None:
        visit.request()
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n")
        deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
        block = bytes(1 << 20)
        for _ in range(size_bytes // len(block)):
            visit.send(deflate.compress(block))
        visit.send(deflate.flush())

    return behave


def gzipped(body: bytes) -> bytes:
    """Return a whole, honest reply whose content is gzipped."""
    return reply(gzip.compress(body), headers=("Content-Encoding: gzip",))
