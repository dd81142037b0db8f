"""`HttpTransport` over fakes: what it builds, translates, hides and closes."""

from __future__ import annotations

import gzip
import http.client
import logging
import zlib
from typing import TYPE_CHECKING

import httpx
import pytest
import respx

from cosyclient.clock import Deadline
from cosyclient.errors import (
    ClientClosed,
    DeadlineExceeded,
    DecodeError,
    TransportError,
)
from cosyclient.testing import FakeClock
from cosyclient.transports.base import PoolStats
from cosyclient.transports.http.transport import HttpTransport
from cosyclient.transports.http.urllib3_transport import Urllib3Transport
from tests.support.hostile import answers, hostile
from tests.transports.wire import ask, made, request, sent, settings, whole

if TYPE_CHECKING:
    from collections.abc import Iterator


URL = "http://cosy.test/api"


def test_a_mock_transport_works_as_transport() -> None:
    """Users test their code this way; content and headers are all there."""

    def handler(asked: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"path": asked.url.path, "body": asked.content.decode()})

    transport = made(URL, httpx.MockTransport(handler))
    assert ask(transport, request(b"hello")) == (200, b'{"path":"/api/v1/speech","body":"hello"}')
    assert transport.stats() == PoolStats()


def test_a_base_url_may_name_the_version_or_not() -> None:
    """The path contains it once."""
    for base_url, path in (
        ("http://cosy.test", "/v1/speech"),
        ("http://cosy.test/v1", "/v1/speech"),
        ("http://cosy.test/v1/", "/v1/speech"),
        ("http://cosy.test/proxy/v1", "/proxy/v1/speech"),
        ("http://cosy.test/dev1", "/dev1/v1/speech"),
    ):
        transport = made(base_url, httpx.MockTransport(lambda asked: httpx.Response(200, text=asked.url.path)))
        assert ask(transport, request(b"")) == (200, path.encode())


def test_a_respx_router_works_as_transport() -> None:
    """Through httpx.MockTransport; respx's own patching would not reach a transport without httpcore."""
    router = respx.MockRouter(assert_all_called=True)
    route = router.post("http://cosy.test/api/v1/speech", headers={"Authorization": "Bearer s3cret-key"}).mock(
        side_effect=[httpx.Response(429, headers={"Retry-After": "1"}), httpx.Response(200, content=b"audio")]
    )
    transport = made(URL, httpx.MockTransport(router.handler))
    answer = sent(transport)
    assert (answer.status, answer.headers["Retry-After"], whole(answer)) == (429, "1", b"")
    assert ask(transport) == (200, b"audio")
    assert route.call_count == 2


@pytest.mark.parametrize(
    ("base", "path", "expected"),
    [
        ("http://cosy.test", "/v1/x", "http://cosy.test/v1/x"),
        ("http://cosy.test/", "v1/x", "http://cosy.test/v1/x"),
        ("http://cosy.test/a/b/", "/v1/x?y=%2F&z", "http://cosy.test/a/b/v1/x?y=%2F&z"),
        ("https://[::1]:8443/a", "/v1/x", "https://[::1]:8443/a/v1/x"),
    ],
)
def test_paths_are_joined_to_the_base(base: str, path: str, expected: str) -> None:
    """With and without slashes."""
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200)

    ask(made(base, httpx.MockTransport(handler)), request(path=path))
    assert str(asked[0].url) == expected
    assert asked[0].headers["host"] == httpx.URL(expected).netloc.decode()


def test_no_credentials_without_a_key_and_none_in_reprs() -> None:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200)

    ask(made(URL, httpx.MockTransport(handler), api_key=None))
    assert "authorization" not in asked[0].headers
    transport = made(URL)
    assert repr(transport) == f"<HttpTransport {URL}, <Urllib3Transport 0 in use, 0 idle of 8, 0 opened>>"
    transport.close()
    assert repr(transport) == f"<HttpTransport {URL}, closed>"


def test_cookies_are_neither_kept_nor_sent() -> None:
    """One caller's session must not reach the next."""
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, headers={"Set-Cookie": "who=me; Path=/"})

    transport = made(URL, httpx.MockTransport(handler))
    ask(transport)
    ask(transport)
    assert all("cookie" not in each.headers for each in asked)


def test_closing_closes_the_transport_that_was_given() -> None:
    """As httpx.Client does."""
    closed: list[str] = []

    class Mine(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200)

        def close(self) -> None:
            closed.append("closed")

    transport = made(URL, Mine())
    transport.close()
    transport.close()
    assert closed == ["closed"]
    with pytest.raises(ClientClosed):
        ask(transport)


def test_the_pool_is_sized_by_the_configuration() -> None:
    """Connections by Little's Law."""
    transport = made(URL, connections=7)
    assert isinstance(transport._transport, Urllib3Transport)
    assert transport.stats() == PoolStats(limit=7)
    transport.close()


def test_a_deadline_that_passes_between_pieces_ends_the_reply() -> None:
    """With any transport: it is checked at every piece."""
    clock = FakeClock()

    class Slow(httpx.SyncByteStream):
        closed = False

        def __iter__(self) -> Iterator[bytes]:
            for _ in range(10):
                clock.advance(1.0)
                yield b"x"

        def close(self) -> None:
            self.closed = True

    stream = Slow()
    transport = HttpTransport(
        settings(URL), clock=clock, transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=stream))
    )
    answer = transport.send(request(), deadline=Deadline.after(clock, 3.5), read_timeout=60.0)
    taken = []
    with pytest.raises(DeadlineExceeded):  # noqa: PT012
        for piece in answer.chunks():
            taken.append(piece)  # noqa: PERF402 - the pieces before the error count
    assert taken == [b"x"] * 3
    assert stream.closed


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", gzip.compress(b"[]," * 5_000_000)),
        ("gzip", gzip.compress(b"") * 1000),
        ("deflate", zlib.compress(bytes(20_000_000))),
        ("", bytes(20_000_000)),
    ],
    ids=["gzip", "empty members", "deflate", "plain"],
)
def test_the_deadline_is_checked_within_a_piece_too(coding: str, data: bytes) -> None:
    """A kilobyte on the wire may decompress to a megabyte, and a piece may be the whole reply."""

    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": coding}, stream=Raw(data))

    clock = Ticking()
    transport = HttpTransport(settings(URL), clock=clock, transport=httpx.MockTransport(handler))
    reply = transport.send(request(), deadline=Deadline.after(clock, 30.0), read_timeout=60.0)
    with pytest.raises(DeadlineExceeded) as caught:
        assert all(len(step) <= 256 << 10 for step in reply.chunks())
    assert caught.value.sent


class Ticking(FakeClock):
    """A clock that moves on by a second at each look."""

    def now(self) -> float:
        self.advance(1.0)
        return super().now()


class Raw(httpx.SyncByteStream):
    """Content that httpx does not decode."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self._data


def test_steps_are_granted_no_more_than_the_deadline_leaves() -> None:
    """An httpx transport gets it as the timeout of each operation."""
    clock = FakeClock()
    granted: list[dict[str, float]] = []

    def handler(asked: httpx.Request) -> httpx.Response:
        granted.append(asked.extensions["timeout"])
        return httpx.Response(200)

    transport = HttpTransport(settings(URL), clock=clock, transport=httpx.MockTransport(handler))
    for deadline, read_timeout in ((100.0, 20.0), (2.0, 20.0)):
        transport.send(request(), deadline=Deadline.after(clock, deadline), read_timeout=read_timeout).close()
    assert granted == [
        {"connect": 5.0, "read": 20.0, "write": 20.0, "pool": 100.0},
        {"connect": 2.0, "read": 2.0, "write": 2.0, "pool": 2.0},
    ]


def test_an_error_in_a_users_handler_is_not_translated() -> None:
    """An assertion reaches the user; so does one of the library's own errors."""

    def handler(_: httpx.Request) -> httpx.Response:
        raise problem

    for problem in (AssertionError("wrong body"), DecodeError("mine"), DeadlineExceeded("mine")):
        with pytest.raises(type(problem), match=str(problem)):
            ask(made(URL, httpx.MockTransport(handler)))


@pytest.mark.parametrize("own", [True, False], ids=["own pool", "httpx"])
def test_nothing_is_smuggled_into_the_head(own: bool) -> None:
    """A line end in a value would begin another field; the request is refused before anything is sent."""
    with hostile(answers()) as service:
        transport = made(service.url, None if own else httpx.HTTPTransport(trust_env=False))
        for value in ("a\r\nSmuggled: 1", "a\nSmuggled: 1", "a\0"):
            with pytest.raises(TransportError) as caught:
                ask(transport, request(X=value))
            assert (caught.value.sent, caught.value.retryable, caught.value.endpoint_fault) == (False, False, False)
        assert service.requests == []
        transport.close()


def test_a_subclass_of_the_pool_gets_every_request() -> None:
    """Its handle_request is called."""
    seen: list[str] = []

    class Mine(Urllib3Transport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(request.url.path)
            return super().handle_request(request)

    with hostile(answers()) as service:
        for given in (Mine(), Urllib3Transport()):
            transport = made(service.url, given)
            assert ask(transport) == (200, b"ok")
            transport.close()
    assert seen == ["/v1/speech"]


@pytest.mark.parametrize("own", [False, True])
def test_no_log_or_debug_output_contains_the_key(
    own: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even with all debugging on; httpx's own transport included."""
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 5)
    with caplog.at_level(logging.DEBUG), hostile(answers()) as service:
        transport = made(service.url, httpx.HTTPTransport() if own else None)
        assert ask(transport, request(b"private words", X_Secret="s3cret header")) == (200, b"ok")
        transport.close()
        assert service.requests[0].headers["authorization"] == "Bearer s3cret-key"
    output = "".join([f"{record.getMessage()} {vars(record)!r}" for record in caplog.records] + [*capfd.readouterr()])
    assert [leaked for leaked in ("s3cret", "private words") if leaked in output] == []
