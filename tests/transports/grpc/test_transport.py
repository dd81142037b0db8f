"""GrpcTransport over real sockets: what it carries, bounds, calls off, counts and closes."""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from cosyclient.clock import Cancellation
from cosyclient.config import ClientConfig, TimeoutConfig, WireConfig
from cosyclient.errors import (
    AttemptTimeout,
    ClientClosed,
    ConnectFailed,
    DeadlineExceeded,
    DecodeError,
    NotFound,
    ServiceFault,
    Throttled,
    TooLarge,
    TransportError,
)
from cosyclient.transports.base import PoolStats
from cosyclient.transports.grpc import transport as grpc_channel
from tests.support.hostile import hostile
from tests.transports.grpc_wire import PATIENCE, Script, ask, made, sent, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosyclient.transports.grpc.transport import GrpcTransport
    from tests.support.hostile import Visit


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[str, Script]]:
    """Serve one script to all."""
    with serving() as found:
        yield found


@pytest.fixture
def script(service: tuple[str, Script]) -> Script:
    """Return the script."""
    return service[1]


@pytest.fixture
def transport(service: tuple[str, Script]) -> Iterator[GrpcTransport]:
    """Return a transport of its own."""
    made_here = made(service[0])
    yield made_here
    made_here.close()


def test_messages_go_and_come_with_their_metadata(transport: GrpcTransport, script: Script) -> None:
    """Key, headers and deadline reach the service; its metadata is looked up without regard to case."""
    reply = sent(transport, "Echo", b"\0hello", seconds=60.0, X_Request_Id="key-1")
    assert (reply.status, reply.headers["X-Request-Id"], reply.headers.get("x-none")) == (200, "r-1", None)
    assert "x-bin" not in reply.headers
    assert list(reply.chunks()) == [b"\0hello"]
    assert script.requests[-1] == b"\0hello"
    metadata = script.metadata[-1]
    assert (metadata["authorization"], metadata["x_request_id"]) == ("Bearer s3cret-key", "key-1")
    assert metadata["user-agent"].startswith("cosyclient/")
    assert 30.0 < (script.timeouts[-1] or 0.0) <= 61.0  # gRPC rounds up what it sends
    assert "s3cret" not in repr(transport)


def test_calls_share_a_connection_and_are_counted(transport: GrpcTransport, script: Script) -> None:
    """However many there are, up to what a connection carries."""
    assert transport.stats() == PoolStats(limit=1)
    replies = [sent(transport, "Part") for _ in range(5)]
    assert transport.stats() == PoolStats(in_use=1, opened=1, limit=1, streams=5)
    assert repr(transport).endswith("5 calls on 1 of 1 connections>")
    for reply in replies:
        reply.close()
        reply.close()
    for _ in replies:
        assert script.left.acquire(timeout=PATIENCE)
    assert transport.stats() == PoolStats(idle=1, opened=1, limit=1)


def test_another_connection_is_made_when_one_is_full(
    service: tuple[str, Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more than the number of calls needs."""
    monkeypatch.setattr(grpc_channel, "STREAMS", 2)
    several = made(service[0], connections=5)
    replies = [sent(several, "Part") for _ in range(4)]
    assert several.stats() == PoolStats(in_use=2, opened=2, limit=3, streams=4)
    replies += [sent(several, "Part") for _ in range(4)]
    assert several.stats() == PoolStats(in_use=3, opened=3, limit=3, streams=8)
    several.close()


def test_a_deadline_ends_a_call_and_the_service_hears_of_it(transport: GrpcTransport, script: Script) -> None:
    """Before the first message and after it."""
    with pytest.raises(DeadlineExceeded) as caught:
        ask(transport, "Hang", seconds=0.2)
    assert caught.value.sent
    reply = sent(transport, "Part", seconds=0.4)
    with pytest.raises(DeadlineExceeded):
        list(reply.chunks())
    assert script.left.acquire(timeout=PATIENCE)
    assert script.left.acquire(timeout=PATIENCE)
    with pytest.raises(DeadlineExceeded):
        sent(transport, "Echo", seconds=0.0)


@pytest.mark.parametrize("kind", [4, 6], ids=["SETTINGS", "PING"])
def test_frames_of_no_use_keep_nobody_beyond_the_deadline(kind: int) -> None:
    """However many the service sends, and whatever grpcio has to answer."""
    frame = bytes([0, 0, 8 if kind == 6 else 0, kind, 0, 0, 0, 0, 0]) + bytes(8 if kind == 6 else 0)

    def behave(visit: Visit) -> None:
        visit.send(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        threading.Thread(target=visit.until_closed, daemon=True).start()
        end = time.monotonic() + 20.0
        while time.monotonic() < end:
            visit.send(frame * 4096)

    with hostile(behave) as flooding:
        transport = made(flooding.url.replace("http", "grpc", 1))
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            ask(transport, "Echo", seconds=0.5)
        assert time.monotonic() - began < 10.0
        transport.close()


def test_messages_come_to_an_end_with_the_deadline(transport: GrpcTransport, script: Script) -> None:
    """Empty ones too, which no limit of bytes ends and which are there before anybody waits for them."""
    with pytest.raises(DeadlineExceeded):
        ask(transport, "Endless", seconds=0.5)
    assert script.left.acquire(timeout=PATIENCE)


def test_a_gap_ends_a_call_long_before_its_deadline(transport: GrpcTransport, script: Script) -> None:
    """Each message is granted the read timeout anew."""
    with pytest.raises(AttemptTimeout) as caught:
        ask(transport, "Hang", read_timeout=0.1)
    assert (caught.value.sent, caught.value.retryable) == (True, True)
    pieces = sent(transport, "Part", read_timeout=1.0).chunks()
    assert next(pieces) == b"part"
    with pytest.raises(AttemptTimeout, match=r"nothing came within 1 s"):
        next(pieces)
    assert script.left.acquire(timeout=PATIENCE)
    assert script.left.acquire(timeout=PATIENCE)
    assert transport.stats().streams == 0


def test_a_message_in_time_resets_the_gap(transport: GrpcTransport, script: Script) -> None:
    """Whoever keeps sending is listened to: the listener's own time is none of the service's."""
    pieces = sent(transport, "Steps", read_timeout=PATIENCE).chunks()
    assert next(pieces) == b"first"
    for number in range(3):
        script.more.release()
        assert next(pieces) == b"%d" % number
    assert list(pieces) == []


def test_a_cancellation_ends_a_call_from_another_thread(transport: GrpcTransport, script: Script) -> None:
    """At once, and at the service too."""
    cancellation = Cancellation()
    while script.entered.acquire(blocking=False):
        pass

    def cancel() -> None:
        if script.entered.acquire(timeout=PATIENCE):
            cancellation.cancel()

    threading.Thread(target=cancel).start()
    with pytest.raises(TransportError):
        ask(transport, "Hang", cancellation=cancellation)
    assert script.left.acquire(timeout=PATIENCE)


class Interrupt(BaseException):
    """Be what a signal handler raises."""


def test_where_no_thread_is_to_be_had_nothing_is_sent(
    transport: GrpcTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at a system's limit: said as what it is, tried again, and not held against the service."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("_thread.start_new_thread", refuse)
        with pytest.raises(TransportError, match="no thread is to be had") as caught:
            ask(transport, "Echo")
    assert (caught.value.sent, caught.value.retryable, caught.value.endpoint_fault) == (False, True, False)
    assert ask(transport, "Echo") == [b"hello"]


def test_an_interrupt_spoils_no_call_but_the_callers(transport: GrpcTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it strikes: grpcio would keep its locks, and every later call of the channel wait for them for ever."""
    # One that strikes amid a finalizer, or amid what others have the collector call, is told by the interpreter only.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    main, chance, over = threading.get_ident(), random.Random(1), threading.Event()
    within, caught, end = False, 0, time.monotonic() + PATIENCE

    def ring(*_: object) -> None:
        if within:
            raise Interrupt

    def strike() -> None:
        while not over.wait(chance.uniform(0.0, 0.003)):
            signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, ring)
    striking = threading.Thread(target=strike)
    striking.start()
    try:
        while caught < 300 and time.monotonic() < end:
            try:
                within = True
                ask(transport, "Echo", seconds=2.0)
                within = False
            except Interrupt:
                within = False
                caught += 1
    finally:
        over.set()
        striking.join()
        signal.signal(signal.SIGUSR1, before)
    assert ask(transport, "Echo") == [b"hello"]
    while transport.stats().streams and time.monotonic() < end:
        time.sleep(0.01)
    assert (caught, transport.stats().streams) == (300, 0)


def test_closing_wakes_whoever_reads(service: tuple[str, Script], script: Script) -> None:
    """With the client's word for it; afterwards nothing is sent."""
    closing = made(service[0])
    pieces = sent(closing, "Part").chunks()
    assert next(pieces) == b"part"
    threading.Timer(0.05, closing.close).start()
    with pytest.raises(ClientClosed):
        next(pieces)
    closing.close()
    with pytest.raises(ClientClosed):
        ask(closing, "Echo")
    assert repr(closing).endswith("closed>")


def test_a_forgotten_transport_closes_its_connections(service: tuple[str, Script]) -> None:
    """Nothing is kept for it."""
    before = len(grpc_channel._open)
    forgotten = made(service[0])
    assert ask(forgotten, "Echo") == [b"hello"]
    assert len(grpc_channel._open) == before + 1
    del forgotten
    gc.collect()
    assert len(grpc_channel._open) == before


def test_what_the_service_says_no_with_comes_from_the_messages(transport: GrpcTransport) -> None:
    """A refusal is an answer: sending was no failure."""
    reply = sent(transport, "Fail", b"INTERNAL boom")
    with pytest.raises(ServiceFault, match="gRPC INTERNAL: boom") as caught:
        list(reply.chunks())
    assert (caught.value.code, caught.value.status, caught.value.sent) == ("INTERNAL", 500, True)
    pieces = sent(transport, "Fail", b"INTERNAL boom after").chunks()
    assert next(pieces) == b"before"
    with pytest.raises(ServiceFault):
        next(pieces)
    with pytest.raises(NotFound, match="Method not found!"):
        ask(transport, "Nothing")
    assert ask(transport, "Empty") == []


def test_a_models_exception_is_final(transport: GrpcTransport) -> None:
    """As grpcio's server words it."""
    pieces = sent(transport, "Crash").chunks()
    assert next(pieces) == b"before"
    with pytest.raises(ServiceFault, match="Exception iterating responses: the model failed") as caught:
        next(pieces)
    assert (caught.value.retryable, caught.value.endpoint_fault) == (False, False)


def test_the_service_itself_limits_calls_at_once() -> None:
    """What its sixth caller hears is a throttle, known by its words from a message too large."""
    with serving(most=2) as (url, _):
        limited = made(url)
        replies = [sent(limited, "Part") for _ in range(2)]
        with pytest.raises(Throttled, match="Concurrent RPC limit exceeded!") as caught:
            ask(limited, "Echo")
        assert (caught.value.retryable, caught.value.throttled, caught.value.endpoint_fault) == (True, True, False)
        for reply in replies:
            reply.close()
        limited.close()


def test_large_messages_pass_up_to_the_replys_limit(service: tuple[str, Script], transport: GrpcTransport) -> None:
    """grpcio's own limit of 4 MiB is lifted; ours holds for a message and for all of them."""
    assert len(ask(transport, "Large")[0]) == 6 << 20
    for method, most in (("Large", 1 << 20), ("Many", 5000)):
        small = made(service[0], config=ClientConfig(wire=WireConfig(max_reply_bytes=most)))
        with pytest.raises(DecodeError, match=str(most)):
            ask(small, method)
        small.close()
    with pytest.raises(TooLarge) as caught:
        ask(transport, "Echo", bytes(5 << 20))
    assert not caught.value.retryable


def test_nobody_there_is_a_failure_to_connect() -> None:
    """Nothing was sent then."""
    down = made("grpc://127.0.0.1:1", config=ClientConfig(timeouts=TimeoutConfig(connect=0.5)))
    with pytest.raises(ConnectFailed, match=r"^127\.0\.0\.1:1: ") as caught:
        ask(down, "Echo")
    assert (caught.value.sent, caught.value.retryable, caught.value.endpoint_fault) == (False, True, True)
    down.close()


def test_a_service_that_goes_away_breaks_its_calls_off() -> None:
    """As a connection does."""
    with serving() as (url, _):
        left = made(url)
        pieces = sent(left, "Part").chunks()
        assert next(pieces) == b"part"
    with pytest.raises(TransportError) as caught:
        next(pieces)
    assert (caught.value.sent, caught.value.retryable) == (True, True)
    left.close()


def test_metadata_that_cannot_be_sent_is_told() -> None:
    """It would not get any better."""
    with serving() as (url, _):
        transport = made(url)
        with pytest.raises(TransportError) as caught:
            ask(transport, "Echo", X_Bad="line\nbreak")
        assert (caught.value.sent, caught.value.retryable, caught.value.endpoint_fault) == (False, False, False)
        assert transport.stats().streams == 0
        transport.close()
