"""`Urllib3Transport` by itself: any httpx client can use it, and no slot of its pool is lost."""

from __future__ import annotations

import gc
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trustme

from cosyclient.clock import Cancellation, Deadline, SystemClock
from cosyclient.transports import sockets as sockets
from cosyclient.transports.errors import TransportClosed
from cosyclient.transports.http.connection import Connection
from cosyclient.transports.http.response import RawReply
from cosyclient.transports.http.urllib3_transport import ResponseStream, Urllib3Transport
from tests.support.hostile import (
    CUT_HEAD,
    CUT_LENGTH,
    GARBAGE,
    ServedConnection,
    answers,
    chunked,
    cuts_after,
    echoes,
    hangs_after,
    hostile,
    never_answers,
    reply,
    resets_after,
    unanswered,
)
from tests.support.waiting import eventually
from tests.transports.wire import httpx_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def transport() -> Iterator[Urllib3Transport]:
    """A transport of four connections, closed after the test."""
    with Urllib3Transport(connections=4) as made:
        yield made


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that nothing trusts."""
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server context with that authority's certificate for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


def test_any_httpx_client_can_use_it(transport: Urllib3Transport) -> None:
    """Streamed or not, with content of any kind."""

    def content() -> Iterator[bytes]:
        yield from (b"in ", b"pieces")

    with hostile(answers(chunked(b"he", b"llo"))) as service:
        front = httpx_client(transport)
        assert front.get(service.url).text == "hello"
        assert front.post(service.url, json={"a": 1}).http_version == "HTTP/1.1"
        assert front.head(f"{service.url}/?q=1").status_code == 200
        with front.stream("POST", service.url, content=content(), headers={"Content-Length": "9"}) as streamed:
            assert b"".join(streamed.iter_raw()) == b"hello"
        assert service.requests[-1].body == b"in pieces"


def test_a_reply_in_two_writes_is_acknowledged_without_delay(transport: Urllib3Transport) -> None:
    """Servers with Nagle's algorithm, such as Python's own, wait for that before the second: 40 ms a call."""

    def acknowledges() -> bool:
        ((pool,),) = (transport._pools.values(),)
        ((slot,),) = (pool.slots._in_use,)
        assert slot.connection is not None
        assert slot.connection.socket is not None
        return bool(slot.connection.socket.raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK))

    def behave(connection: ServedConnection) -> None:
        while connection.request() is not None:
            # The client sets it once the request is sent, which may have come by then.
            eventually(acknowledges, "an acknowledgement without delay")
            connection.send(reply())

    with hostile(behave) as service, httpx.Client(transport=transport) as client:
        for _ in range(40):
            client.get(service.url).raise_for_status()


def test_its_repr_shows_the_pool(transport: Urllib3Transport) -> None:
    with hostile(answers()) as service:
        front = httpx_client(transport)
        assert repr(transport) == "<Urllib3Transport 0 in use, 0 idle of 4, 0 opened>"
        with front.stream("GET", service.url):
            assert repr(transport) == "<Urllib3Transport 1 in use, 0 idle of 4, 1 opened>"
            front.get(service.url)
            assert repr(transport) == "<Urllib3Transport 1 in use, 1 idle of 4, 2 opened>"
        assert repr(transport) == "<Urllib3Transport 0 in use, 1 idle of 4, 2 opened>"
        transport.close()
        assert repr(transport) == "<Urllib3Transport closed, 2 opened>"


def test_a_connection_cancelled_with_its_last_byte_is_not_used_again(transport: Urllib3Transport) -> None:
    """The next request on it would fail as cancelled, too."""
    with hostile(answers(reply(b"hello"))) as service:
        cancellation = Cancellation()
        response = transport.handle_request(
            httpx.Request("GET", service.url, extensions={"cancellation": cancellation, "timeout": {"read": 30.0}})
        )
        content = response.stream
        assert isinstance(content, ResponseStream)
        read = content.reply.read_at_once

        def last_byte(seconds: float) -> bytes:
            data = read(seconds)
            cancellation.cancel()
            return data

        content.reply.read_at_once = last_byte  # type: ignore[method-assign]
        assert response.read() == b"hello"
        assert transport.stats().in_use == 0
        assert httpx_client(transport).get(service.url).text == "hello"
        assert transport.stats().opened == 2


def test_a_reply_without_content_releases_its_slot_at_once(transport: Urllib3Transport) -> None:
    with hostile(answers(reply(b""))) as service, httpx_client(transport).stream("GET", service.url):
        assert transport.stats().in_use == 0


def test_a_reply_releases_its_slot_with_its_last_byte(transport: Urllib3Transport) -> None:
    """The next request does not wait for this one's caller."""
    with hostile(answers(reply(b"hello"))) as service, httpx_client(transport).stream("GET", service.url) as streamed:
        pieces = streamed.iter_raw()
        assert next(pieces) == b"hello"
        assert transport.stats().in_use == 0


def test_a_connection_with_unrequested_bytes_is_not_used_again(transport: Urllib3Transport) -> None:
    """They would be read as the reply to the next request."""
    with hostile(answers(reply(b"one") + reply(b"two"))) as service:
        for _ in range(3):
            assert httpx_client(transport).get(service.url).text == "one"
        assert service.seen == 3


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (cuts_after(b""), httpx.RemoteProtocolError),
        (cuts_after(CUT_HEAD), httpx.RemoteProtocolError),
        (cuts_after(CUT_LENGTH), httpx.RemoteProtocolError),
        (cuts_after(GARBAGE), httpx.RemoteProtocolError),
        (resets_after(CUT_LENGTH), httpx.ReadError),
        (hangs_after(b""), httpx.ReadTimeout),
        (hangs_after(CUT_LENGTH), httpx.ReadTimeout),
    ],
)
def test_raises_what_httpx_raises(
    transport: Urllib3Transport, behaviour: Callable[[ServedConnection], None], expected: type[Exception]
) -> None:
    """Code written for httpx's own transport keeps working."""
    with hostile(behaviour) as service:
        with pytest.raises(expected) as caught:
            httpx_client(transport, read=0.05 if expected is httpx.ReadTimeout else 30.0).get(service.url)
        assert isinstance(caught.value, httpx.TransportError)
        assert caught.value.request.url == service.url
        assert transport.stats().in_use == 0


def test_raises_what_httpx_raises_before_anything_is_sent(transport: Urllib3Transport) -> None:
    """While connecting, while waiting for a slot, and for an unsupported URL."""
    with unanswered() as port, pytest.raises(httpx.ConnectTimeout):
        httpx_client(transport, connect=0.05).get(f"http://127.0.0.1:{port}")
    with hostile(never_answers()) as service, pytest.raises(httpx.ConnectTimeout):
        httpx_client(transport, connect=0.05).get(f"https://127.0.0.1:{service.port}")
    with pytest.raises(httpx.ConnectError):
        httpx_client(transport).get(f"http://127.0.0.1:{service.port}")
    with pytest.raises(httpx.UnsupportedProtocol):
        transport.handle_request(httpx.Request("GET", "ftp://127.0.0.1/"))
    with hostile(hangs_after(CUT_LENGTH)) as service, Urllib3Transport(connections=1) as small:
        front = httpx_client(small, pool=0.05)
        with front.stream("GET", service.url), pytest.raises(httpx.PoolTimeout):
            front.get(service.url)
    assert transport.stats().in_use == 0
    transport.close()
    with pytest.raises(TransportClosed):
        httpx_client(transport).get(service.url)


def test_a_response_dropped_unclosed_releases_its_slot() -> None:
    """When it is garbage collected."""
    with hostile(answers(reply(b"x" * 1000))) as service, Urllib3Transport(connections=1) as transport:
        for _ in range(3):
            transport.handle_request(httpx.Request("GET", service.url))
            gc.collect()
        assert httpx_client(transport).get(service.url).status_code == 200
        assert transport.stats().in_use == 0


def test_closing_a_response_wakes_the_thread_that_reads_it() -> None:
    """Its socket is shut down, not closed: its file descriptor could belong to another connection by then."""
    with (
        hostile(hangs_after(CUT_LENGTH)) as service,
        Urllib3Transport() as transport,
        ThreadPoolExecutor(1) as threads,
        httpx_client(transport).stream("GET", service.url) as response,
    ):
        pieces = iter(response.stream)  # type: ignore[arg-type]
        next(pieces)
        waiting = threads.submit(next, pieces)
        while response.stream._stream._reader is None:  # type: ignore[union-attr]
            pass
        response.close()
        assert isinstance(waiting.exception(timeout=30), httpx.ReadError)
        assert transport.stats().in_use == 0
        assert service.wait_for(lambda seen: seen.open == 0)


def test_a_response_closed_just_after_a_read_releases_its_slot(transport: Urllib3Transport) -> None:
    """The reading thread holds a piece by then and may never ask for the next."""
    with hostile(hangs_after(CUT_LENGTH)) as service, ThreadPoolExecutor(1) as threads:
        content = transport.handle_request(httpx.Request("GET", service.url)).stream
        assert isinstance(content, ResponseStream)
        read = content.reply.read_at_once

        def read_then_closed(seconds: float) -> bytes:
            piece = read(seconds)
            threads.submit(content.close).result()
            return piece

        content.reply.read_at_once = read_then_closed  # type: ignore[method-assign]
        pieces = iter(content)
        assert next(pieces)
        assert transport.stats().in_use == 0
        with pytest.raises(httpx.ReadError, match="closed before its end"):
            next(pieces)


def test_a_response_closed_early_does_not_look_complete() -> None:
    """Nor does one that is read after it was closed."""
    with hostile(answers(reply(b"x" * 1000))) as service, Urllib3Transport() as transport:
        response = transport.handle_request(httpx.Request("GET", service.url))
        response.stream.close()  # type: ignore[union-attr]
        with pytest.raises(httpx.ReadError, match="closed before its end"):
            list(response.stream)  # type: ignore[arg-type]


def test_a_stream_that_cannot_be_replayed_is_not_sent_twice() -> None:
    """A stale connection may have taken part of it."""
    with hostile(answers(times=1)) as service, Urllib3Transport() as transport:
        front = httpx_client(transport)
        front.get(service.url)
        assert service.wait_for(lambda seen: seen.open == 0)
        # The end is noticed before anything is sent, so this is no replay.
        assert front.post(service.url, content=iter([b"a", b"b"])).status_code == 200
        assert service.seen == 2


@pytest.mark.parametrize("phase", ["connect", "write", "begin", "read"])
def test_an_interrupt_in_any_phase_releases_the_slot(monkeypatch: pytest.MonkeyPatch, phase: str) -> None:

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with hostile(answers(chunked(b"x"))) as service, Urllib3Transport(connections=1) as transport:
        with monkeypatch.context() as patch:
            where: tuple[object, str] = {
                "connect": (Connection, "connect"),
                "write": (sockets.DeadlineSocket, "sendall"),
                "begin": (sockets.DeadlineSocket, "recv_into"),
                "read": (RawReply, "read1"),
            }[phase]
            patch.setattr(*where, interrupt)
            with pytest.raises(KeyboardInterrupt):
                httpx_client(transport).get(service.url)
        assert transport.stats().in_use == 0
        assert httpx_client(transport).get(service.url).text == "x"


def test_an_unknown_authority_is_refused_by_default(server_tls: ssl.SSLContext) -> None:
    """Verification is on unless it is turned off."""
    with hostile(answers(), tls=server_tls) as service:
        with Urllib3Transport() as transport, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx_client(transport).get(service.url)
        with Urllib3Transport(verify=False) as transport:
            assert httpx_client(transport).get(service.url).text == "ok"


def test_a_ca_file_or_a_context_is_used(
    authority: trustme.CA, server_tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Host names are checked with either."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    own = ssl.create_default_context(cafile=str(path))
    with hostile(echoes(), tls=server_tls) as service:
        here = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", service.port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [here])
        for verify in (str(path), own):
            with Urllib3Transport(verify=verify) as transport:
                bodies = [
                    httpx_client(transport).post(service.url, content=b"x" * size).content for size in (1, 200_000)
                ]
                assert [len(body) for body in bodies] == [2, 200_001]
                assert transport.stats().opened == 1
                with pytest.raises(httpx.ConnectError, match="Hostname mismatch"):
                    httpx_client(transport).get("https://somebody-else.test")


def test_one_context_is_made_for_all_origins(monkeypatch: pytest.MonkeyPatch, server_tls: ssl.SSLContext) -> None:
    """It costs 30 ms, so it is made when it is first needed, and once."""
    made: list[ssl.SSLContext] = []

    def create(**_: Any) -> ssl.SSLContext:
        made.append(ssl._create_unverified_context())
        return made[-1]

    monkeypatch.setattr(httpx, "create_ssl_context", create)
    with (
        hostile(answers(), tls=server_tls) as one,
        hostile(answers(), tls=server_tls) as two,
        Urllib3Transport() as transport,
        ThreadPoolExecutor(8) as threads,
    ):
        assert not made
        list(threads.map(httpx_client(transport).get, [one.url, two.url] * 8))
        assert len(made) == 1


@pytest.mark.parametrize("orderly", [True, False])
def test_content_without_length_ends_only_with_a_tls_close(
    authority: trustme.CA, server_tls: ssl.SSLContext, tmp_path: Path, orderly: bool
) -> None:
    """With TLS a truncation can be told from an end (RFC 9112, 9.8)."""

    def behave(connection: ServedConnection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        if orderly:
            assert isinstance(connection.sock, ssl.SSLSocket)
            connection.sock.unwrap()

    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    with hostile(behave, tls=server_tls) as service, Urllib3Transport(verify=str(path)) as transport:
        if orderly:
            assert httpx_client(transport).get(service.url).text == "hello"
        else:
            with pytest.raises(httpx.ReadError):
                httpx_client(transport).get(service.url)


def test_tls_reads_and_writes_end_at_the_deadline(authority: trustme.CA, server_tls: ssl.SSLContext) -> None:
    """As those without TLS."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with hostile(hangs_after(CUT_LENGTH), tls=server_tls) as service, Urllib3Transport(verify=context) as transport:
        request = httpx.Request(
            "POST", service.url, content=b"x", extensions={"deadline": Deadline.after(SystemClock(), 0.3)}
        )
        with pytest.raises(httpx.ReadTimeout):
            transport.handle_request(request).read()
        assert service.wait_for(lambda seen: seen.open == 0)
