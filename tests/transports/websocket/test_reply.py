"""The replies of a WebSocket: audio out, text in, and how a session ends."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from cosyclient.clock import Cancellation
from cosyclient.config import ClientConfig, WireConfig
from cosyclient.errors import (
    AttemptTimeout,
    ConnectFailed,
    CosyError,
    DecodeError,
    ServiceFault,
    TransportError,
)
from tests.support.hostile import answers, hostile, reply
from tests.transports.websocket_wire import (
    Peer,
    answers_each,
    audio_of,
    drops,
    duplex,
    made,
    sends,
    session_request,
    start,
    websocket_service,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.hostile import ServedConnection


def test_what_the_session_answers_is_sent() -> None:
    """While the reading thread waits for more."""

    def behave(peer: Peer) -> None:
        peer.receive()
        peer.send("answer back")
        assert peer.receive() == "back"
        peer.send(b"audio", "done")
        peer.connection.until_closed()

    with hostile(websocket_service(behave)) as service:
        assert audio_of(made(service)) == b"audio"


def test_text_is_sent_while_another_thread_reads() -> None:
    """All of it arrives, in order."""

    def behave(peer: Peer) -> None:
        while (text := peer.receive()) != "finish":
            peer.send(str(text).encode())
        peer.send("done")
        peer.connection.until_closed()

    with hostile(websocket_service(behave)) as service, ThreadPoolExecutor(1) as threads:
        session_reply = duplex(start(made(service), session_request(texts=("0,",))))
        reading = threads.submit(lambda: b"".join(session_reply.chunks()))
        for number in range(1, 500):
            session_reply.send_text(f"{number},")
            session_reply.flush()
        session_reply.end_text()
        session_reply.flush()
        assert reading.result(30) == b"".join(b"%d," % number for number in range(500))


def test_both_sides_may_send_more_than_fits_between_them() -> None:
    """A client that could not read while it writes would wait for a service that waits for it."""
    block = "x" * 100_000

    def behave(peer: Peer) -> None:
        while (text := peer.receive()) != "finish":
            peer.send(str(text).encode() * 4)
        peer.send("done")
        peer.connection.until_closed()

    with hostile(websocket_service(behave)) as service, ThreadPoolExecutor(1) as threads:
        session_reply = duplex(start(made(service), session_request(texts=tuple([block] * 20))))

        def send() -> None:
            for _ in range(20):
                session_reply.send_text(block)
                session_reply.flush()
            session_reply.end_text()
            session_reply.flush()

        sending = threads.submit(send)
        assert sum(map(len, session_reply.chunks())) == 40 * 4 * len(block)
        sending.result(30)


@pytest.mark.parametrize("status", ["301 Moved", "401 No", "403 No", "404 No", "429 Slow", "500 Oops", "503 Busy"])
def test_a_refused_handshake_is_a_reply(status: str) -> None:
    """With its headers and its body, which the protocol decodes."""
    with hostile(answers(reply(b"no", status=status, headers=("Retry-After: 3",)))) as service:
        transport = made(service)
        session_reply = start(transport)
        assert (str(session_reply.status), session_reply.headers["retry-after"]) == (status[:3], "3")
        assert b"".join(session_reply.chunks()) == b"no"
        session_reply.close()
        assert transport.stats().in_use == 0
        assert service.wait_for(lambda seen: seen.open == 0)


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "203 Changed", "204 No"])
def test_a_handshake_answered_with_success_over_http_is_an_error(status: str) -> None:
    """Its body is the page of a portal or of another server; decoded like a session's audio it would be noise."""
    with hostile(answers(reply(b"<html>welcome</html>", status=status))) as service:
        transport = made(service)
        with pytest.raises(DecodeError, match=f"HTTP {status[:3]}: the handshake was answered without a WebSocket"):
            start(transport)
        assert transport.stats().in_use == 0


@pytest.mark.parametrize(
    "behaviour",
    [
        drops(),
        drops(b"some"),
        drops(b"some", reset=True),
        sends(b"some", close=1000),
        sends(b"some", close=1011),
    ],
    ids=["at once", "after audio", "reset", "closed normally", "closed with an error"],
)
def test_a_session_cut_short_is_a_transport_error(behaviour: Callable[[ServedConnection], None]) -> None:
    """Never the end of the audio."""
    with hostile(behaviour) as service:
        transport = made(service)
        with pytest.raises(TransportError) as caught:
            audio_of(transport)
        assert not isinstance(caught.value, (ConnectFailed, AttemptTimeout))
        assert (caught.value.sent, caught.value.retryable, caught.value.endpoint_fault) == (True, True, True)
        assert transport.stats().in_use == transport.stats().idle == 0


def test_a_close_code_may_be_a_sessions_regular_end() -> None:
    """The session decides."""
    with hostile(sends(b"all", close=4000)) as service:
        transport = made(service)
        assert [audio_of(transport) for _ in range(2)] == [b"all"] * 2
        assert service.seen == 2


@pytest.mark.parametrize("pieces", [[b"x" * 100_001], [b"x" * 60_000] * 2], ids=["message", "sum"])
def test_a_reply_larger_than_the_limit_is_refused(pieces: list[bytes]) -> None:
    """One message, or the sum of all."""
    config = ClientConfig(wire=WireConfig(max_reply_bytes=100_000))
    with hostile(sends(*pieces, "done")) as service:
        with pytest.raises(DecodeError, match="larger than 100000 bytes") as caught:
            audio_of(made(service, config=config))
        assert not caught.value.retryable
        assert service.wait_for(lambda seen: seen.open == 0)


def test_an_error_of_the_session_closes_the_connection() -> None:
    """It is not used again."""
    with hostile(sends(b"x", "fail")) as service:
        transport = made(service)
        with pytest.raises(ServiceFault):
            audio_of(transport)
        assert service.wait_for(lambda seen: seen.open == 0)
        assert transport.stats().idle == 0


def test_the_read_timeout_starts_when_the_writer_has_ended_the_text() -> None:
    """While text may follow, the session's ``writer_timeout`` holds."""
    received = threading.Event()

    def behave(peer: Peer) -> None:
        while peer.receive() != "finish":
            pass
        received.set()
        peer.connection.until_closed()

    with hostile(websocket_service(behave)) as service, ThreadPoolExecutor(1) as threads:
        session_reply = duplex(start(made(service), session_request(writer_timeout=30.0), read_timeout=0.05))
        reading = threads.submit(lambda: b"".join(session_reply.chunks()))
        threading.Event().wait(0.3)
        assert not reading.done()
        session_reply.end_text()
        session_reply.flush()
        assert received.wait(30)
        assert isinstance(reading.exception(30), AttemptTimeout)


def test_a_cancellation_wakes_the_reader_and_the_service_sees_it() -> None:
    """Closing the connection is the only way to end a session at once."""
    with hostile(sends(b"x")) as service, ThreadPoolExecutor(1) as threads:
        transport, cancellation = made(service), Cancellation()
        session_reply = start(transport, cancellation=cancellation)
        pieces = session_reply.chunks()
        assert next(pieces) == b"x"
        waiting = threads.submit(next, pieces)
        cancellation.cancel()
        assert isinstance(waiting.exception(30), TransportError)
        assert service.wait_for(lambda seen: seen.open == 0)
        assert transport.stats().in_use == transport.stats().idle == 0
        with pytest.raises(TransportError, match="over"):
            duplex(session_reply).send_text("more")


def test_a_call_cancelled_while_it_connects_does_not_begin() -> None:
    """And releases its slot."""
    with hostile(answers_each(b"x")) as service:
        transport, cancellation = made(service), Cancellation()
        cancellation.cancel()
        with pytest.raises(CosyError):
            audio_of(transport, cancellation=cancellation)
        assert transport.stats().in_use == 0


def test_cancelling_a_finished_session_does_not_end_the_next() -> None:
    """By then the connection may carry another caller's session."""
    with hostile(answers_each(b"x")) as service:
        transport, cancellation = made(service), Cancellation()
        audio_of(transport, cancellation=cancellation)
        session_reply = start(transport)
        cancellation.cancel()
        assert b"".join(session_reply.chunks()) == b"x"
        assert service.seen == 1


def test_a_reply_dropped_unclosed_releases_its_slot() -> None:
    """When it is garbage collected."""
    with hostile(sends(b"x")) as service:
        transport = made(service, connections=1)
        for _ in range(3):
            start(transport)
            gc.collect()
        assert transport.stats().opened == 3


def test_reprs_show_the_state() -> None:
    """Of a reply, and of its transport."""
    with hostile(answers_each(b"x")) as service:
        transport = made(service, connections=2)
        session_reply = start(transport)
        assert repr(session_reply) == "<SessionReply open, 0 bytes of audio>"
        assert "1 in use, 0 idle of 2, 1 opened" in repr(transport)
        b"".join(session_reply.chunks())
        assert repr(session_reply) == "<SessionReply over, 1 bytes of audio>"
        transport.close()
        assert "closed" in repr(transport)
