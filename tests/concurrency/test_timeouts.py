"""Many timeouts in every phase; afterwards every connection slot of the client works.

Each text names the fault of its request, so that one pool meets all of them.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
import trustme

from cosyclient import (
    AdaptiveConfig,
    BreakerConfig,
    ClientConfig,
    CosyClient,
    CosyError,
    PacingConfig,
    QueueConfig,
    WireConfig,
)
from tests.support.hostile import ServedConnection, hostile, reply
from tests.support.service import item, text_in
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 200
"""Timeouts per phase; a thousand leave nothing either, but take half a minute more."""
SLOTS = 4
CALL_TIMEOUT = 0.02
IN_TIME = {"DeadlineExceeded", "BulkheadFull", "RateLimited"}
"""What a call may raise at its deadline: that it passed, or what it was waiting for."""
PATIENCE = 60.0


class Service:
    """Answer, unless a text begins with a fault: ``silent``, ``head``, ``body`` …; ``together`` waits for all slots."""

    def __init__(self) -> None:
        self.together = threading.Barrier(SLOTS, timeout=PATIENCE)
        self.free = threading.Event()

    def __call__(self, connection: ServedConnection) -> None:
        while (received := connection.request()) is not None:
            (text,) = json.loads(received.body)["texts"]
            body = json.dumps({"results": [item(0, text)]}).encode()
            answer = reply(body, headers=("Content-Type: application/json",))
            fault = text.split()[0]
            if fault in ("silent", "head", "body"):
                connection.send(answer[: {"silent": 0, "head": 20, "body": len(answer) - 10}[fault]])
                connection.until_closed()
                return
            if fault == "cut":
                connection.send(answer[:-10])
                return
            if fault == "drip":
                connection.drip(answer, 0.005)
            elif fault == "held":
                assert self.free.wait(PATIENCE)
            elif fault == "together":
                self.together.wait()
            if fault != "drip":
                connection.send(answer)


@contextmanager
def client(url: str, **wire: object) -> Iterator[CosyClient]:
    """Make a client of `SLOTS` connection slots, one text a request, whose breaker never opens."""
    config = ClientConfig(
        breaker=BreakerConfig(minimum_failures=1_000_000_000),
        pacing=PacingConfig(burst=100_000),
        queue=QueueConfig(max_pending=1000),
        wire=WireConfig(frames=False, **wire),  # type: ignore[arg-type]
        # All slots are needed at once, after any number of failures.
        adaptive=AdaptiveConfig(enabled=False),
    )
    with CosyClient(
        url, concurrency=SLOTS, max_batch=1, requests_per_second=1e6, timeout=PATIENCE, max_retries=0, config=config
    ) as made:
        yield made


def time_out(cosy: CosyClient, fault: str) -> Counter[str]:
    """Let `ROUNDS` calls time out, twice as many at once as there are slots; return how they ended."""

    def call(number: int) -> str:
        try:
            cosy.synthesize(f"{fault} {number}", timeout=CALL_TIMEOUT)
        except CosyError as error:
            return type(error).__name__
        return "speech"

    with ThreadPoolExecutor(2 * SLOTS) as threads:
        return Counter(threads.map(call, range(ROUNDS)))


def assert_usable(cosy: CosyClient) -> None:
    """Check that nothing is held, and that all slots are in use at one instant, each with its own reply."""
    eventually(lambda: _held(cosy) == (0, 0, 0, 0), "everything is released")
    for turn in range(3):
        texts = [f"together {turn} {n}" for n in range(SLOTS)]
        with ThreadPoolExecutor(SLOTS) as threads:
            assert [text_in(speech) for speech in threads.map(cosy.synthesize, texts)] == texts
    eventually(lambda: _held(cosy) == (0, 0, 0, 0), "everything is released again")


def _held(cosy: CosyClient) -> tuple[int, int, int, int]:
    stats = cosy.stats()
    return stats.pending, stats.queued, stats.in_flight, stats.pool.in_use


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Check that the threads after the test are those before."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("fault", ["silent", "head", "body", "drip"])
def test_timeouts_while_reading_leave_every_connection_slot_usable(fault: str) -> None:
    """No first byte, half a head, half a body, a slow body: each connection is closed, and none is used again."""
    with hostile(Service()) as service, client(service.url) as cosy:
        ends = time_out(cosy, fault)
        assert ends.total() == ROUNDS
        assert set(ends) <= IN_TIME
        assert len(service.requests) >= SLOTS
        assert_usable(cosy)


def test_truncated_replies_leave_every_connection_slot_usable() -> None:
    """Half a body is an error, never half a speech."""
    with hostile(Service()) as service, client(service.url) as cosy:
        ends = time_out(cosy, "cut")
        assert set(ends) <= {"TransportError", *IN_TIME}
        assert_usable(cosy)


def test_timeouts_while_waiting_for_a_slot_leave_every_connection_slot_usable() -> None:
    """All slots are held by long calls, which get their speech afterwards."""
    behaviour = Service()
    with hostile(behaviour) as service, client(service.url) as cosy:
        holders = [cosy.submit(f"held {n}") for n in range(SLOTS)]
        eventually(lambda: len(service.requests) == SLOTS, "all slots are in use")
        ends = time_out(cosy, "never sent")
        assert set(ends) <= IN_TIME
        assert len(service.requests) == SLOTS
        behaviour.free.set()
        assert [text_in(holder.result(PATIENCE)) for holder in holders] == [f"held {n}" for n in range(SLOTS)]
        assert_usable(cosy)


def test_timeouts_while_connecting_leave_every_connection_slot_usable() -> None:
    """The listener's queue is full and SYNs are dropped, until it accepts again."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        fillers = [stack.enter_context(socket.socket()) for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        cosy = stack.enter_context(client(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        assert set(time_out(cosy, "never connected")) <= IN_TIME
        for filler in fillers:
            filler.close()
        stack.enter_context(hostile(Service(), listener=listener))
        assert_usable(cosy)


def test_timeouts_in_the_handshake_leave_every_connection_slot_usable() -> None:
    """The service accepts connections without a TLS handshake, then recovers."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    recovered, behaviour = threading.Event(), Service()

    def refuse_handshakes(connection: ServedConnection) -> None:
        if not recovered.is_set():
            connection.until_closed()
            return
        with server.wrap_socket(connection.sock.dup(), server_side=True) as connection.sock:
            behaviour(connection)

    with hostile(refuse_handshakes) as service, client(f"https://127.0.0.1:{service.port}", verify=trusted) as cosy:
        assert set(time_out(cosy, "no handshake")) <= IN_TIME
        assert service.seen >= SLOTS
        recovered.set()
        assert_usable(cosy)


def test_timeouts_in_all_phases_by_turns_leave_every_connection_slot_usable() -> None:
    """One pool meets every fault, with calls that succeed between them."""
    with hostile(Service()) as service, client(service.url) as cosy:
        for fault in ("silent", "cut", "body", "head", "drip"):
            assert time_out(cosy, fault).total() == ROUNDS
            assert_usable(cosy)
