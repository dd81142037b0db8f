"""The slots of a pool: never more than its limit, released once each, and every wait for one ends."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import pytest

from cosyclient.clock import SystemClock
from cosyclient.testing import FakeClock
from cosyclient.transports.pooled_connection import PooledConnection
from cosyclient.transports.slots import ConnectionSlots, Slot
from cosyclient.transports.sockets import Aborted

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.clock import Clock

TIMEOUT = 30.0
"""Seconds after which a test gives up; none needs them."""


class Connection(PooledConnection):
    """A connection that is only its state."""

    is_closed = False

    def __init__(self, *, expired: bool = False) -> None:
        super().__init__(cast("Any", None), FakeClock(), lambda: 1.0)
        self.opened = 1
        self._expired = expired

    def expired(self, now: float, idle_limit: float) -> bool:
        return self._expired

    def close(self) -> None:
        self.is_closed = True


def slots_of(limit: int, clock: Clock | None = None) -> ConnectionSlots[Connection]:
    return ConnectionSlots(limit, clock or FakeClock(), 60.0)


def acquired(slots: ConnectionSlots[Connection], connection: Connection | None = None) -> Slot[Connection]:
    """Return a slot, with *connection* in it if it came without one."""
    slot: Slot[Connection] = Slot()
    slots.acquire(slot, 0.0)
    if connection is not None and slot.connection is None:
        slots.mark_in_use(slot, connection)
    return slot


def counts(slots: ConnectionSlots[Connection]) -> tuple[int, int, int]:
    stats = slots.stats()
    return stats.in_use, stats.idle, stats.opened


def test_the_connection_used_last_is_reused_first() -> None:
    slots, connections = slots_of(2), [Connection(), Connection()]
    held = [acquired(slots, connection) for connection in connections]
    assert counts(slots) == (2, 0, 2)
    for slot in held:
        slots.release(slot, reusable=True)
    assert counts(slots) == (0, 2, 2)
    assert [acquired(slots).connection for _ in connections] == connections[::-1]


@pytest.mark.parametrize("reusable", [True, False])
def test_a_second_release_does_nothing(reusable: bool) -> None:
    """Nor does the release of a slot that was never acquired; above all, neither frees another's slot."""
    slots = slots_of(2)
    slot, other, never = acquired(slots, Connection()), acquired(slots, Connection()), Slot[Connection]()
    for _ in range(3):
        slots.release(slot, reusable=reusable)
        slots.release(never, reusable=reusable)
        assert counts(slots) == (1, int(reusable), 2)
    again = acquired(slots)
    slots.release(slot, reusable=reusable)
    assert counts(slots)[0] == 2
    for each in (again, other):
        slots.release(each, reusable=reusable)
    assert counts(slots)[0] == 0


def test_a_connection_that_cannot_be_reused_is_closed_and_counted() -> None:
    slots, connection = slots_of(1), Connection()
    slots.release(acquired(slots, connection), reusable=False)
    assert connection.is_closed
    assert counts(slots) == (0, 0, 1)
    closed = Connection()
    slot = acquired(slots, closed)
    closed.close()
    slots.release(slot, reusable=True)
    assert counts(slots) == (0, 0, 2)


def test_a_release_notes_when_the_connection_became_idle() -> None:
    clock, connection = FakeClock(), Connection()
    slots = slots_of(1, clock)
    slot = acquired(slots, connection)
    clock.advance(7.0)
    slots.release(slot, reusable=True)
    assert connection.idle_since == clock.now()


def test_an_expired_idle_connection_is_closed_at_the_next_release() -> None:
    slots, old = slots_of(2), Connection(expired=True)
    first, second = acquired(slots, old), acquired(slots, Connection())
    slots.release(first, reusable=True)
    slots.release(second, reusable=True)
    assert old.is_closed
    assert counts(slots) == (0, 1, 2)


def test_a_wait_for_a_slot_ends_with_its_timeout() -> None:
    clock = FakeClock()
    slots = slots_of(1, clock)
    acquired(slots)
    slot: Slot[Connection] = Slot()
    with pytest.raises(queue.Empty):
        slots.acquire(slot, 5.0)
    assert clock.now() == 1005.0
    assert not slot.held
    slots.release(slot, reusable=False)
    assert counts(slots)[0] == 1


@pytest.mark.parametrize("end", ["release", "close"])
def test_a_waiting_thread_is_woken(end: str) -> None:
    class MeddlingClock(FakeClock):
        def wait(self, gate: threading.Lock, seconds: float) -> bool:
            meddle()
            return super().wait(gate, seconds)

    clock = MeddlingClock()
    slots = slots_of(1, clock)
    held = acquired(slots, Connection())
    meddle: Callable[[], object] = slots.close
    if end == "close":
        with pytest.raises(queue.Empty):
            slots.acquire(Slot(), 5.0)
    else:
        meddle = lambda: slots.release(held, reusable=True)  # noqa: E731
        slot: Slot[Connection] = Slot()
        slots.acquire(slot, 5.0)
        assert slot.held
    assert clock.now() == 1000.0
    assert not slots._gates


def test_closing_closes_what_is_idle_and_aborts_what_is_in_use() -> None:
    """A thread that has acquired a slot, but not marked it in use yet, gets `Aborted` then."""
    slots = slots_of(3)
    idle, in_use = Connection(), Connection()
    released, held = acquired(slots, idle), acquired(slots, in_use)
    late = acquired(slots)
    slots.release(released, reusable=True)
    slots.close()
    assert (idle.is_closed, idle.aborted) == (True, False)
    assert (in_use.is_closed, in_use.aborted) == (False, True)
    with pytest.raises(Aborted):
        slots.mark_in_use(late, Connection())
    with pytest.raises(queue.Empty):
        acquired(slots)
    for slot in (held, late):
        slots.release(slot, reusable=True)
    assert in_use.is_closed
    assert counts(slots)[:2] == (0, 0)


def test_an_idle_connection_taken_out_to_be_closed_needs_no_slot() -> None:
    """As urllib3's finalizer does; it stays counted as opened."""
    slots, connection = slots_of(1), Connection()
    assert slots.pop_idle() is None
    slots.release(acquired(slots, connection), reusable=True)
    assert slots.pop_idle() is connection
    assert counts(slots) == (0, 0, 1)


def test_a_slot_left_by_a_finalizer_is_released_by_the_next_thread() -> None:
    slots, connection = slots_of(1), Connection()
    slots.dropped.append(acquired(slots, connection))
    slot = acquired(slots)
    assert connection.is_closed
    assert slot.connection is None
    assert not slots.dropped


def test_many_threads_never_hold_more_than_the_limit_and_release_all() -> None:
    slots = slots_of(3, SystemClock())
    held, most, lock = 0, 0, threading.Lock()

    def one(number: int) -> None:
        nonlocal held, most
        for turn in range(100):
            slot: Slot[Connection] = Slot()
            try:
                slots.acquire(slot, TIMEOUT if turn % 3 else 0.0001)
            except queue.Empty:
                continue
            else:
                if slot.connection is None:
                    slots.mark_in_use(slot, Connection())
                with lock:
                    held += 1
                    most = max(most, held)
                with lock:
                    held -= 1
            finally:
                slots.release(slot, reusable=bool((turn + number) % 4))
                slots.release(slot, reusable=False)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(one, range(16)))
    assert most <= 3
    assert counts(slots)[0] == 0
    assert [acquired(slots).held for _ in range(3)] == [True] * 3
