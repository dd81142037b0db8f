"""Timeouts in every phase, many times over; afterwards every connection slot of the client works.

The service treats each request as its text names, so one pool meets every behaviour.
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
"""Time-outs a phase; a thousand leave nothing either, but take half a minute more."""
PLACES = 4
SPAN = 0.02
IN_TIME = {"DeadlineExceeded", "BulkheadFull", "RateLimited"}
"""What a call may raise at its deadline: that it passed, or what it was waiting for."""
PATIENCE = 60.0


class Service:
    """Speak, unless the text names a mood: ``silent``, ``head``, ``body``, ``cut`` …; ``together`` waits for all."""

    def __init__(self) -> None:
        self.together = threading.Barrier(PLACES, timeout=PATIENCE)
        self.free = threading.Event()

    def __call__(self, connection: ServedConnection) -> None:
        while (received := connection.request()) is not None:
            (text,) = json.loads(received.body)["texts"]
            body = json.dumps({"results": [item(0, text)]}).encode()
            answer = reply(body, headers=("Content-Type: application/json",))
            mood = text.split()[0]
            if mood in ("silent", "head", "body"):
                connection.send(answer[: {"silent": 0, "head": 20, "body": len(answer) - 10}[mood]])
                connection.until_closed()
                return
            if mood == "cut":
                connection.send(answer[:-10])
                return
            if mood == "drip":
                connection.drip(answer, 0.005)
            elif mood == "held":
                assert self.free.wait(PATIENCE)
            elif mood == "together":
                self.together.wait()
            if mood != "drip":
                connection.send(answer)


@contextmanager
def client(url: str, **wire: object) -> Iterator[CosyClient]:
    """Make a client of `PLACES` places, one text a request, whose breaker never opens."""
    config = ClientConfig(
        breaker=BreakerConfig(minimum_failures=1_000_000_000),
        pacing=PacingConfig(burst=100_000),
        queue=QueueConfig(max_pending=1000),
        wire=WireConfig(frames=False, **wire),  # type: ignore[arg-type]
        # All places are wanted at once, however badly the service fared before.
        adaptive=AdaptiveConfig(enabled=False),
    )
    with CosyClient(
        url, concurrency=PLACES, max_batch=1, requests_per_second=1e6, timeout=PATIENCE, max_retries=0, config=config
    ) as made:
        yield made


def poison(cosy: CosyClient, mood: str) -> Counter[str]:
    """Let `ROUNDS` calls time out, twice as many at once as there are places; return how they ended."""

    def call(number: int) -> str:
        try:
            cosy.synthesize(f"{mood} {number}", timeout=SPAN)
        except CosyError as error:
            return type(error).__name__
        return "speech"

    with ThreadPoolExecutor(2 * PLACES) as threads:
        return Counter(threads.map(call, range(ROUNDS)))


def assert_as_new(cosy: CosyClient) -> None:
    """Nothing is held, and all places are inside the service at one instant, each with its own answer."""
    eventually(lambda: _held(cosy) == (0, 0, 0, 0), "everything came back")
    for turn in range(3):
        texts = [f"together {turn} {n}" for n in range(PLACES)]
        with ThreadPoolExecutor(PLACES) as threads:
            assert [text_in(speech) for speech in threads.map(cosy.synthesize, texts)] == texts
    eventually(lambda: _held(cosy) == (0, 0, 0, 0), "everything came back again")


def _held(cosy: CosyClient) -> tuple[int, int, int, int]:
    stats = cosy.stats()
    return stats.pending, stats.queued, stats.in_flight, stats.pool.in_use


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Close, and the threads are those of before."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("mood", ["silent", "head", "body", "drip"])
def test_timeouts_while_reading_leave_every_connection_slot_usable(mood: str) -> None:
    """No first byte, half a head, half a body, a drip: each connection is closed, none is used again dirty."""
    with hostile(Service()) as service, client(service.url) as cosy:
        ends = poison(cosy, mood)
        assert ends.total() == ROUNDS
        assert set(ends) <= IN_TIME
        assert len(service.requests) >= PLACES
        assert_as_new(cosy)


def test_truncated_replies_leave_every_connection_slot_usable() -> None:
    """Half a body and the end: an error each, never half a speech."""
    with hostile(Service()) as service, client(service.url) as cosy:
        ends = poison(cosy, "cut")
        assert set(ends) <= {"TransportError", *IN_TIME}
        assert_as_new(cosy)


def test_timeouts_while_waiting_for_a_slot_leave_every_connection_slot_usable() -> None:
    """All places are held by calls that take long; those get their speech all the same."""
    behaviour = Service()
    with hostile(behaviour) as service, client(service.url) as cosy:
        holders = [cosy.submit(f"held {n}") for n in range(PLACES)]
        eventually(lambda: len(service.requests) == PLACES, "all places are taken")
        ends = poison(cosy, "never sent")
        assert set(ends) <= IN_TIME
        assert len(service.requests) == PLACES
        behaviour.free.set()
        assert [text_in(holder.result(PATIENCE)) for holder in holders] == [f"held {n}" for n in range(PLACES)]
        assert_as_new(cosy)


def test_timeouts_while_connecting_leave_every_connection_slot_usable() -> None:
    """The listener's queue is full and SYNs are dropped; when it is read again, so are we."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        fillers = [stack.enter_context(socket.socket()) for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        cosy = stack.enter_context(client(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        assert set(poison(cosy, "never connected")) <= IN_TIME
        for filler in fillers:
            filler.close()
        stack.enter_context(hostile(Service(), listener=listener))
        assert_as_new(cosy)


def test_timeouts_in_the_handshake_leave_every_connection_slot_usable() -> None:
    """The service accepts connections without a TLS handshake, then recovers."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    well, behaviour = threading.Event(), Service()

    def moody(connection: ServedConnection) -> None:
        if not well.is_set():
            connection.until_closed()
            return
        with server.wrap_socket(connection.sock.dup(), server_side=True) as connection.sock:
            behaviour(connection)

    with hostile(moody) as service, client(f"https://127.0.0.1:{service.port}", verify=trusted) as cosy:
        assert set(poison(cosy, "never shaken")) <= IN_TIME
        assert service.seen >= PLACES
        well.set()
        assert_as_new(cosy)


def test_timeouts_in_all_phases_by_turns_leave_every_connection_slot_usable() -> None:
    """One pool meets every mood, and between them speaks."""
    with hostile(Service()) as service, client(service.url) as cosy:
        for mood in ("silent", "cut", "body", "head", "drip"):
            assert poison(cosy, mood).total() == ROUNDS
            assert_as_new(cosy)
