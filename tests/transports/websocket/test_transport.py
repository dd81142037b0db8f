"""The pool of WebSockets: addresses, reuse, failures and closing, over real connections."""

from __future__ import annotations

import contextlib
import gc
import os
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from cosyclient.config import ClientConfig, PoolConfig, WireConfig
from cosyclient.errors import (
    BulkheadFull,
    ClientClosed,
    ConnectFailed,
    CosyError,
    DeadlineExceeded,
    TransportError,
)
from cosyclient.transports.registry import transport_for
from cosyclient.transports.slots import Slot
from cosyclient.transports.websocket.transport import WebSocketTransport
from tests.support.hostile import answers, hostile, never_answers, reply
from tests.transports.websocket_wire import (
    SHORT_CONNECT,
    Peer,
    answers_each,
    audio_of,
    drops,
    made,
    sends,
    session_request,
    start,
    websocket_service,
)
from tests.transports.wire import CLOCK, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.transports.websocket.connection import WebSocket
    from tests.support.hostile import ServedConnection


def test_a_session_is_carried_with_path_headers_and_credentials() -> None:
    """The audio comes in the order it was sent."""
    with hostile(answers_each(b"one", b"", b"two")) as service:
        transport = made(service)
        session_reply = start(transport, session_request("/a/b?c=d"))
        assert (session_reply.status, list(session_reply.chunks())) == (200, [b"one", b"two"])
        headers: Any = service.requests[0].headers
        assert service.requests[0].path == "/a/b?c=d"
        assert (headers["Authorization"], headers["X-Tag"]) == ("Bearer s3cret-key", "t1")
        assert headers["User-Agent"].startswith("cosyclient/")
        assert headers["Host"] == f"127.0.0.1:{service.port}"
        assert "Sec-WebSocket-Extensions" not in headers
        transport.close()


@pytest.mark.parametrize("base", ["", "/mount", "/talk", "/mount/talk"])
def test_a_base_url_may_contain_the_path_already(base: str) -> None:
    """Some services document their whole address."""
    with hostile(answers_each(b"x")) as service:
        url = f"ws://127.0.0.1:{service.port}{base}"
        transport = transport_for("websocket", settings(url), clock=CLOCK)
        assert isinstance(transport, WebSocketTransport)
        assert audio_of(transport) == b"x"
        mount = "/mount" if "mount" in base else ""
        assert service.requests[0].path == f"{mount}/talk"
        transport.close()


def test_tls_certificates_are_verified() -> None:
    """An untrusted one is refused, and not retried."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    with hostile(answers_each(b"x" * 300_000, b"y"), tls=server) as service:
        transport = made(service, config=ClientConfig(wire=WireConfig(verify=trusted)))
        assert [len(audio_of(transport)) for _ in range(3)] == [300_001] * 3
        assert service.seen == 1
        transport.close()
        with pytest.raises(ConnectFailed, match="TLS certificate") as caught:
            audio_of(made(service))
        assert not caught.value.retryable


def test_a_connection_is_used_again_if_its_session_allows_it() -> None:
    """And only then, and for the same path only."""
    with hostile(answers_each(b"x")) as service:
        transport = made(service)
        for _ in range(5):
            assert audio_of(transport) == b"x"
        assert (service.seen, transport.stats().idle) == (1, 1)
        audio_of(transport, session_request("/other"))
        assert service.seen == 2
        audio_of(transport, session_request("/other", reusable=False))
        audio_of(transport, session_request("/other"))
        assert service.seen == 3
        transport.close()
        assert service.wait_for(lambda seen: seen.open == 0)


@pytest.mark.parametrize(
    ("session_idle_limit", "idle_limit", "seen"),
    [(0.0, 4.0, 3), (60.0, 0.0, 3), (60.0, 0.001, 1)],
    ids=["kept", "never", "longer"],
)
def test_a_connection_idles_as_long_as_its_session_allows(
    session_idle_limit: float, idle_limit: float, seen: int
) -> None:
    """An ``idle_limit`` of 0 in the configuration turns reuse off."""
    with hostile(answers_each(b"x")) as service:
        transport = made(service, config=ClientConfig(pool=PoolConfig(idle_limit=idle_limit)))
        for _ in range(3):
            audio_of(transport, session_request(idle_limit=session_idle_limit))
            threading.Event().wait(0.005)
        assert service.seen == seen
        transport.close()


def test_a_connection_is_not_used_beyond_its_age() -> None:
    """So that new addresses behind a name are found."""
    with hostile(answers_each(b"x")) as service:
        transport = made(service, config=ClientConfig(pool=PoolConfig(max_age=0.001)))
        for _ in range(3):
            audio_of(transport)
            threading.Event().wait(0.005)
        assert service.seen == 3
        transport.close()


@pytest.mark.parametrize("how", ["closed", "dropped", "unasked"])
def test_a_stale_connection_is_replaced_without_an_error(how: str) -> None:
    """Whether it was closed, lost, or an unrequested message has come."""

    def behave(peer: Peer) -> None:
        peer.receive()
        peer.send(b"x", "done")
        if how == "closed":
            peer.core.send_close(1000)
        if how == "unasked":
            peer.core.send_text(b"are you there?")
        peer.flush()
        if how != "dropped":
            peer.connection.until_closed()

    with hostile(websocket_service(behave)) as service:
        transport = made(service)
        for _ in range(3):
            assert audio_of(transport) == b"x"
            threading.Event().wait(0.05)
        assert service.seen == 3
        transport.close()


def test_a_connection_closed_by_the_service_just_before_its_use_is_retryable() -> None:
    """The retry policy decides."""

    def behave(peer: Peer) -> None:
        peer.receive()
        peer.send(b"x", "done")
        peer.receive()
        peer.connection.reset()

    with hostile(websocket_service(behave)) as service:
        transport = made(service)
        assert audio_of(transport) == b"x"
        with pytest.raises(TransportError) as caught:
            audio_of(transport)
        assert (caught.value.retryable, caught.value.sent) == (True, True)
        assert audio_of(transport) == b"x"
        transport.close()


def test_a_service_that_is_not_there_is_a_connect_failure() -> None:
    """The error names its address."""
    with hostile(answers_each(b"x")) as service:
        transport = made(service)
    with pytest.raises(ConnectFailed, match=f"{service.port}"):
        audio_of(transport)
    assert transport.stats().in_use == 0


def test_an_expired_deadline_sends_nothing() -> None:
    """Not even a connection is opened."""
    with hostile(answers_each(b"x")) as service:
        with pytest.raises(DeadlineExceeded) as caught:
            audio_of(made(service), deadline=0.0)
        assert (caught.value.sent, service.seen) == (False, 0)


def test_a_full_pool_is_not_the_endpoints_fault() -> None:
    """It is the client's own backpressure."""
    with hostile(sends(b"x")) as service:
        transport = made(service, connections=1)
        holder = start(transport)
        with pytest.raises(BulkheadFull) as caught:
            audio_of(transport, deadline=0.1)
        assert (caught.value.sent, caught.value.endpoint_fault) == (False, False)
        holder.close()
        assert transport.stats().in_use == 0


def test_closing_wakes_threads_that_read_connect_or_wait_for_a_slot() -> None:
    """They get `ClientClosed`."""
    with hostile(sends(b"x")) as service, hostile(never_answers()) as silent, ThreadPoolExecutor(8) as threads:
        reading, connecting = made(service, connections=2), made(silent, connections=2)
        waiting = [threads.submit(audio_of, transport) for transport in (reading, connecting) for _ in range(4)]
        assert service.wait_for(lambda seen: len(seen.requests) == 2)
        assert silent.wait_for(lambda seen: seen.seen == 2)
        reading.close()
        connecting.close()
        reading.close()
        assert {type(each.exception(timeout=30)) for each in waiting} == {ClientClosed}
        assert (reading.stats().in_use, connecting.stats().in_use) == (0, 0)
        with pytest.raises(ClientClosed):
            audio_of(reading)


def test_many_failures_leave_every_slot_free() -> None:
    """Failures in each phase, from many threads; then the pool works as if new."""
    behaviours: list[Callable[[ServedConnection], None]] = [
        drops(),
        drops(b"x", reset=True),
        sends(b"x", "fail"),
        sends(b"x"),
        sends(close=1011),
        answers(reply(b"no", status="503 Busy")),
        never_answers(),
        answers_each(b"x"),
    ]

    def behave(connection: ServedConnection) -> None:
        behaviours[connection.number % len(behaviours)](connection)

    with hostile(behave) as service:
        transport = made(service, connections=4, config=SHORT_CONNECT)

        def one(_: int) -> None:
            with contextlib.suppress(CosyError):
                audio_of(transport, session_request(reusable=False), read_timeout=0.02)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(one, range(200)))
        assert transport.stats().in_use == 0
        assert transport.stats().idle == 0
        held: list[Slot[WebSocket]] = [Slot() for _ in range(4)]
        for slot in held:
            transport.slots.acquire(slot, 0.0)
        assert [slot.connection for slot in held] == [None] * 4
        assert transport.stats().in_use == 4


def test_parent_and_child_of_a_fork_keep_connections_of_their_own() -> None:
    """The child drops the parent's sockets without a close frame, and opens its own."""
    with hostile(answers_each(b"x")) as service:
        holder = {"transport": made(service)}
        assert audio_of(holder["transport"]) == b"x"
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                try:
                    audio_of(holder["transport"])
                except RuntimeError:
                    holder["transport"] = made(service)
                    gc.collect()
                    code = 0 if audio_of(holder["transport"]) == b"x" else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert audio_of(holder["transport"]) == b"x"
        assert service.seen == 2
        holder["transport"].close()
