"""The messages of one call: its timeouts, its cancellation, its errors, and interrupts of its caller."""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from cosyclient.clock import Cancellation
from cosyclient.config import ClientConfig, WireConfig
from cosyclient.errors import (
    AttemptTimeout,
    DeadlineExceeded,
    DecodeError,
    NotFound,
    ServiceFault,
    TooLarge,
    TransportError,
)
from tests.support.hostile import hostile
from tests.support.interrupts import Interrupter
from tests.transports.grpc_wire import PATIENCE, Script, ask, made, sent

if TYPE_CHECKING:
    from cosyclient.transports.grpc.transport import GrpcTransport
    from tests.support.hostile import ServedConnection


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


def test_a_close_that_is_interrupted_is_completed_by_the_next(transport: GrpcTransport, script: Script) -> None:
    """Wherever the interrupt comes: the call ends at the service, and no longer counts."""
    at = 0
    interrupted = True
    while interrupted:
        reply = sent(transport, "Part")
        pieces = reply.chunks()
        assert next(pieces) == b"part"
        interrupter = Interrupter(at)
        with contextlib.suppress(KeyboardInterrupt):
            interrupter.run(reply.close)
        interrupted = bool(interrupter.where)
        reply.close()
        assert transport.stats().streams == 0, interrupter.where
        assert script.left.acquire(timeout=PATIENCE), interrupter.where
        at += 1
    assert at > 5


def test_a_reply_that_nobody_reads_or_closes_ends_with_its_deadline(transport: GrpcTransport) -> None:
    """An interrupt may lose it on its way to the caller; its thread does not wait for a reader then."""
    end = time.monotonic() + PATIENCE
    sent(transport, "Many", seconds=0.3)
    while transport.stats().streams and time.monotonic() < end:
        time.sleep(0.01)
    assert transport.stats().streams == 0


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
