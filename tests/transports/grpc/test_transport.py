"""`GrpcTransport` and `GrpcReply` over real connections: messages, timeouts, cancellation, counts and closing."""

from __future__ import annotations

import contextlib
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
from cosyclient.transports.grpc import transport as transport_module
from tests.support.hostile import hostile
from tests.transports.grpc_wire import PATIENCE, Script, ask, made, sent, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosyclient.transports.grpc.transport import GrpcTransport
    from tests.support.hostile import ServedConnection


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[str, Script]]:
    """Serve one script to all tests."""
    with serving() as found:
        yield found


@pytest.fixture
def script(service: tuple[str, Script]) -> Script:
    """Return the script."""
    return service[1]


@pytest.fixture
def transport(service: tuple[str, Script]) -> Iterator[GrpcTransport]:
    """Return a transport of its own."""
    own = made(service[0])
    yield own
    own.close()


def test_messages_are_carried_both_ways_with_their_metadata(transport: GrpcTransport, script: Script) -> None:
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
    """As many as one connection carries."""
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


def test_another_connection_is_made_when_all_are_full(
    service: tuple[str, Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more than the number of calls needs."""
    monkeypatch.setattr(transport_module, "STREAMS", 2)
    several = made(service[0], connections=5)
    replies = [sent(several, "Part") for _ in range(4)]
    assert several.stats() == PoolStats(in_use=2, opened=2, limit=3, streams=4)
    replies += [sent(several, "Part") for _ in range(4)]
    assert several.stats() == PoolStats(in_use=3, opened=3, limit=3, streams=8)
    several.close()


def test_a_deadline_ends_a_call_at_the_service_too(transport: GrpcTransport, script: Script) -> None:
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
def test_a_flood_of_frames_cannot_hold_a_call_beyond_its_deadline(kind: int) -> None:
    """However many the service sends, and whatever grpcio has to answer."""
    frame = bytes([0, 0, 8 if kind == 6 else 0, kind, 0, 0, 0, 0, 0]) + bytes(8 if kind == 6 else 0)

    def read_until_closed(connection: ServedConnection) -> None:
        with contextlib.suppress(OSError):
            connection.until_closed()

    def behave(connection: ServedConnection) -> None:
        connection.send(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        threading.Thread(target=read_until_closed, args=(connection,), daemon=True).start()
        end = time.monotonic() + 20.0
        while time.monotonic() < end:
            connection.send(frame * 4096)

    with hostile(behave) as flooding:
        transport = made(flooding.url.replace("http", "grpc", 1))
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            ask(transport, "Echo", seconds=0.5)
        assert time.monotonic() - began < 10.0
        transport.close()


def test_endless_messages_end_with_the_deadline(transport: GrpcTransport, script: Script) -> None:
    """Empty ones too: they count nothing towards the limit of bytes, and have come before the caller waits for them."""
    with pytest.raises(DeadlineExceeded):
        ask(transport, "Endless", seconds=0.5)
    assert script.left.acquire(timeout=PATIENCE)


def test_a_read_timeout_ends_a_call_before_its_deadline(transport: GrpcTransport, script: Script) -> None:
    """It counts anew from each message."""
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


def test_a_message_in_time_resets_the_read_timeout(transport: GrpcTransport, script: Script) -> None:
    """The time the caller takes between messages is not counted against the service."""
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
    """The exception that a signal handler raises."""


def test_nothing_is_sent_when_no_thread_can_be_started(
    transport: GrpcTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at a system's limit: the error says so, is retryable, and is not the endpoint's fault."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("_thread.start_new_thread", refuse)
        with pytest.raises(TransportError, match="no thread can be started") as caught:
            ask(transport, "Echo")
    assert (caught.value.sent, caught.value.retryable, caught.value.endpoint_fault) == (False, True, False)
    assert ask(transport, "Echo") == [b"hello"]


def test_an_interrupt_ends_no_call_but_the_interrupted_one(
    transport: GrpcTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it comes: grpcio itself would keep its locks, and every later call of the channel would hang."""
    # An interrupt during a finalizer, or a callback of the garbage collector, is only reported by the interpreter.
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


def test_closing_wakes_the_reading_thread(service: tuple[str, Script], script: Script) -> None:
    """With `ClientClosed`; afterwards nothing is sent."""
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


def test_a_garbage_collected_transport_closes_its_connections(service: tuple[str, Script]) -> None:
    """Nothing is kept for it."""
    before = len(transport_module._open)
    forgotten = made(service[0])
    assert ask(forgotten, "Echo") == [b"hello"]
    assert len(transport_module._open) == before + 1
    del forgotten
    gc.collect()
    assert len(transport_module._open) == before


def test_an_error_of_the_service_is_raised_by_the_messages(transport: GrpcTransport) -> None:
    """It is a reply: sending did not fail."""
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


def test_a_models_exception_is_not_retryable(transport: GrpcTransport) -> None:
    """As grpcio's server words it."""
    pieces = sent(transport, "Crash").chunks()
    assert next(pieces) == b"before"
    with pytest.raises(ServiceFault, match="Exception iterating responses: the model failed") as caught:
        next(pieces)
    assert (caught.value.retryable, caught.value.endpoint_fault) == (False, False)


def test_a_services_limit_of_concurrent_calls_is_a_throttle() -> None:
    """Its words tell it from a message that is too large."""
    with serving(most=2) as (url, _):
        limited = made(url)
        replies = [sent(limited, "Part") for _ in range(2)]
        with pytest.raises(Throttled, match="Concurrent RPC limit exceeded!") as caught:
            ask(limited, "Echo")
        assert (caught.value.retryable, caught.value.throttled, caught.value.endpoint_fault) == (True, True, False)
        for reply in replies:
            reply.close()
        limited.close()


def test_large_messages_pass_up_to_the_limit_of_a_reply(service: tuple[str, Script], transport: GrpcTransport) -> None:
    """grpcio's own limit of 4 MiB is lifted; ``wire.max_reply_bytes`` holds for one message and for all of them."""
    assert len(ask(transport, "Large")[0]) == 6 << 20
    for method, most in (("Large", 1 << 20), ("Many", 5000)):
        small = made(service[0], config=ClientConfig(wire=WireConfig(max_reply_bytes=most)))
        with pytest.raises(DecodeError, match=str(most)):
            ask(small, method)
        small.close()
    with pytest.raises(TooLarge) as caught:
        ask(transport, "Echo", bytes(5 << 20))
    assert not caught.value.retryable


def test_a_service_that_does_not_listen_is_a_connect_failure() -> None:
    """Nothing was sent then."""
    down = made("grpc://127.0.0.1:1", config=ClientConfig(timeouts=TimeoutConfig(connect=0.5)))
    with pytest.raises(ConnectFailed, match=r"^127\.0\.0\.1:1: ") as caught:
        ask(down, "Echo")
    assert (caught.value.sent, caught.value.retryable, caught.value.endpoint_fault) == (False, True, True)
    down.close()


def test_a_service_that_goes_away_ends_its_calls_with_a_transport_error() -> None:
    """As a broken connection does."""
    with serving() as (url, _):
        left = made(url)
        pieces = sent(left, "Part").chunks()
        assert next(pieces) == b"part"
    with pytest.raises(TransportError) as caught:
        next(pieces)
    assert (caught.value.sent, caught.value.retryable) == (True, True)
    left.close()


def test_metadata_that_cannot_be_sent_is_a_final_error() -> None:
    """A retry would fail alike."""
    with serving() as (url, _):
        transport = made(url)
        with pytest.raises(TransportError) as caught:
            ask(transport, "Echo", X_Bad="line\nbreak")
        assert (caught.value.sent, caught.value.retryable, caught.value.endpoint_fault) == (False, False, False)
        assert transport.stats().streams == 0
        transport.close()
