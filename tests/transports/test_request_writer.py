"""Requests to bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from cosyclient.transports.request_writer import RequestWriter

if TYPE_CHECKING:
    from collections.abc import Iterator


def pieces(request: httpx.Request) -> list[bytes]:
    sent: list[bytes] = []
    RequestWriter(request).write(sent.append)
    return sent


def test_head_and_body_leave_in_one_write() -> None:
    """One packet wakes the server once."""
    request = httpx.Request("POST", "http://x.test:8080/a%20b?q=1", content=b"body", headers={"X-A": "1"})
    (sent,) = pieces(request)
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /a%20b?q=1 HTTP/1.1"
    assert {b"Host: x.test:8080", b"X-A: 1", b"Content-Length: 4"} <= set(head.split(b"\r\n"))
    assert body == b"body"


def test_a_large_body_is_not_copied() -> None:
    """It leaves as the object it came as."""
    body = b"x" * (1 << 20)
    sent = pieces(httpx.Request("POST", "http://x.test/", content=body))
    assert len(sent) == 2
    assert sent[1] is body


def test_missing_host_and_length_are_added() -> None:
    """A request built from parts lacks what httpx adds otherwise."""
    (sent,) = pieces(httpx.Request("POST", "http://x.test/", stream=httpx.ByteStream(b"abc")))
    assert sent == b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 3\r\n\r\nabc"


def test_an_iterator_is_sent_in_chunks_and_cannot_be_replayed() -> None:
    """Its length is not known, its bytes are gone once sent."""

    def content() -> Iterator[bytes]:
        yield from (b"hello", b"", b"world")

    request = httpx.Request("POST", "http://x.test/", content=content())
    writer = RequestWriter(request)
    sent: list[bytes] = []
    writer.write(sent.append)
    assert b"".join(sent).partition(b"\r\n\r\n")[2] == b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"
    assert not writer.replayable
    assert RequestWriter(httpx.Request("GET", "http://x.test/")).replayable


@pytest.mark.parametrize(
    "request_",
    [
        httpx.Request("GET", "http://x.test/", headers={"X": "a\r\nSmuggled: 1"}),
        httpx.Request("GET", "http://x.test/", headers={"X": "a\nSmuggled: 1"}),
        httpx.Request("GET", "http://x.test/", headers={"X\r\nY": "1"}),
        httpx.Request("GET", "http://x.test/", headers={"X": "a\0"}),
        httpx.Request("GET /", "http://x.test/"),
    ],
)
def test_nothing_is_smuggled_into_the_head(request_: httpx.Request) -> None:
    """A line end in a value would begin a header of somebody else's."""
    with pytest.raises(httpx.LocalProtocolError):
        RequestWriter(request_)
