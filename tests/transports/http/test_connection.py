"""Requests as bytes, and how they are written to the socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from cosyclient.testing import FakeClock
from cosyclient.transports.dialer import Dialer
from cosyclient.transports.http.connection import Connection
from cosyclient.transports.http.head import encode_request
from cosyclient.transports.http.urllib3_transport import Urllib3Transport
from cosyclient.transports.resolver import Resolver
from tests.support.hostile import answers, hostile

if TYPE_CHECKING:
    from collections.abc import Iterator

DIALER = Dialer("x.test", 80, tls=None, resolver=Resolver(FakeClock()))


class Sink:
    """Pass for a socket that takes everything."""

    def __init__(self) -> None:
        self.sent: list[bytes | memoryview] = []

    def sendall(self, data: bytes | memoryview) -> None:
        self.sent.append(data)

    def acknowledge_at_once(self) -> None:
        pass


def sent(request: httpx.Request) -> list[bytes]:
    return list(map(bytes, views(request)))


def views(request: httpx.Request) -> list[Any]:
    connection = Connection("x.test", 80, dialer=DIALER, clock=FakeClock(), lifetime=lambda: 1.0)
    sink: Any = Sink()
    connection.socket = sink
    connection.write_request(encode_request(request))
    return list(sink.sent)


def test_head_and_body_are_sent_in_one_write() -> None:
    """One packet wakes the server once."""
    request = httpx.Request("POST", "http://x.test:8080/a%20b?q=1", content=b"body", headers={"X-A": "1"})
    (data,) = sent(request)
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /a%20b?q=1 HTTP/1.1"
    assert {b"Host: x.test:8080", b"X-A: 1", b"Content-Length: 4"} <= set(head.split(b"\r\n"))
    assert body == b"body"


def test_a_large_body_is_not_copied() -> None:
    """It is sent as a view of the object that was passed."""
    body = b"x" * (1 << 20)
    data = views(httpx.Request("POST", "http://x.test/", content=body))
    assert len(data) == 2
    assert data[1].obj is body


def test_missing_host_and_length_are_added() -> None:
    """A request built from parts lacks what httpx adds otherwise."""
    (data,) = sent(httpx.Request("POST", "http://x.test/", stream=httpx.ByteStream(b"abc")))
    assert data == b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 3\r\n\r\nabc"


def test_an_iterator_is_sent_in_chunks() -> None:
    """Its length is not known, whether httpx has put that into the head or not."""

    def content() -> Iterator[bytes]:
        yield from (b"hello", b"", b"world")

    class Stream(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            return content()

    for request in (
        httpx.Request("POST", "http://x.test/", content=content()),
        httpx.Request("POST", "http://x.test/", stream=Stream()),
    ):
        head, _, body = b"".join(sent(request)).partition(b"\r\n\r\n")
        assert head.lower().count(b"transfer-encoding: chunked") == 1
        assert body == b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        httpx.Request("GET", "http://x.test/", headers={"X": "a\r\nSmuggled: 1"}),
        httpx.Request("GET", "http://x.test/", headers={"X": "a\nSmuggled: 1"}),
        httpx.Request("GET", "http://x.test/", headers={"X": "a\rSmuggled: 1"}),
        httpx.Request("GET", "http://x.test/", headers={"X\r\nY": "1"}),
        httpx.Request("GET /", "http://x.test/"),
    ],
)
def test_nothing_is_smuggled_into_the_head(request_: httpx.Request) -> None:
    """A line end in a value would begin another header; the next request shows no trace of it."""
    with hostile(answers()) as service, Urllib3Transport() as transport:
        url = httpx.URL(service.url)
        for _ in range(2):
            request_.url = url
            with pytest.raises(httpx.LocalProtocolError):
                transport.handle_request(request_)
            transport.handle_request(httpx.Request("GET", url)).read()
        assert [received.line for received in service.requests] == ["GET / HTTP/1.1"] * 2
        assert transport.stats().in_use == 0


def test_asynchronous_content_is_refused() -> None:
    """A synchronous transport cannot wait for it."""

    class Stream(httpx.AsyncByteStream):
        pass

    with Urllib3Transport() as transport, pytest.raises(httpx.LocalProtocolError):
        transport.handle_request(httpx.Request("POST", "http://x.test/", stream=Stream()))
