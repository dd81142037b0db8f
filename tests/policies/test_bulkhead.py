"""Permits one thread at a time: what is granted, refused, resized, interrupted; threads meet in tests/concurrency."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from cosyclient.clock import Deadline
from cosyclient.errors import BulkheadFull, ClientClosed, QueueFull
from cosyclient.policies.bulkhead import Bulkhead
from cosyclient.testing import FakeClock

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable


def make(limit: int = 3, clock: FakeClock | None = None) -> Bulkhead:
    return Bulkhead(limit, clock or FakeClock(), name="in flight", full=BulkheadFull)


class MeddlingClock(FakeClock):
    """Do something to the bulkhead while a caller waits: the lock is free then, as in a real wait."""

    def __init__(self) -> None:
        super().__init__()
        self.meddle: Callable[[], None] = lambda: None

    def wait(self, condition: threading.Condition, seconds: float) -> bool:
        self.slept.append(seconds)
        meddle, self.meddle = self.meddle, lambda: None
        condition.release()
        try:
            meddle()
        finally:
            condition.acquire()
        self.advance(seconds)
        return False


def test_permits_are_counted() -> None:
    bulkhead = make(3)
    deadline = Deadline.after(FakeClock(), 1.0)
    bulkhead.acquire(deadline)
    bulkhead.acquire(deadline, 2)
    assert (bulkhead.in_use, bulkhead.limit, bulkhead.waiting, bulkhead.peak) == (3, 3, 0, 3)
    bulkhead.release(3)
    assert (bulkhead.in_use, bulkhead.peak) == (0, 3)


def test_free_permits_are_granted_even_at_the_deadline() -> None:
    clock = FakeClock()
    make(1, clock).acquire(Deadline.after(clock, -1.0))
    assert clock.slept == []


def test_full_is_refused_exactly_at_the_deadline() -> None:
    clock = FakeClock(now=10.0)
    bulkhead = make(1, clock)
    bulkhead.acquire(Deadline.after(clock, 5.0))
    with pytest.raises(BulkheadFull, match=r"in flight: no permit came free in time \(1 of 1 in use, 1 waiting\)"):
        bulkhead.acquire(Deadline.after(clock, 5.0))
    assert clock.now() == 15.0
    assert (bulkhead.in_use, bulkhead.waiting) == (1, 0)


def test_full_error_is_the_one_asked_for() -> None:
    clock = FakeClock()
    places = Bulkhead(1, clock, name="queue", full=QueueFull)
    assert places.try_acquire()
    with pytest.raises(QueueFull, match="queue"):
        places.acquire(Deadline.after(clock, 0.0))


def test_more_than_there_are_is_refused_at_once() -> None:
    clock = FakeClock(now=10.0)
    bulkhead = make(3, clock)
    with pytest.raises(BulkheadFull, match="4 permits wanted at once, but there are only 3"):
        bulkhead.acquire(Deadline.after(clock, 5.0), 4)
    assert clock.now() == 10.0


@pytest.mark.parametrize("count", [0, -1])
def test_senseless_counts_are_refused(count: int) -> None:
    bulkhead = make()
    deadline = Deadline.after(FakeClock(), 1.0)
    with pytest.raises(ValueError, match="at least 1"):
        bulkhead.acquire(deadline, count)
    for action in (bulkhead.try_acquire, bulkhead.release, bulkhead.resize):
        with pytest.raises(ValueError, match="at least 1"):
            action(count)
    with pytest.raises(ValueError, match="at least 1"):
        make(count)
    assert bulkhead.in_use == 0


def test_try_acquire_does_not_wait() -> None:
    bulkhead = make(2)
    assert bulkhead.try_acquire(2)
    assert not bulkhead.try_acquire()
    bulkhead.release()
    assert not bulkhead.try_acquire(2)
    assert bulkhead.try_acquire()


def test_releasing_more_than_taken_is_a_mistake() -> None:
    bulkhead = make(3)
    assert bulkhead.try_acquire()
    with pytest.raises(RuntimeError, match="2 permits released, but only 1 are out"):
        bulkhead.release(2)
    assert bulkhead.in_use == 1


def test_nobody_overtakes_whoever_waits() -> None:
    clock = MeddlingClock()
    bulkhead = make(3, clock)
    assert bulkhead.try_acquire(2)
    seen: list[bool] = []
    clock.meddle = lambda: seen.append(bulkhead.try_acquire(1))  # one is free, but somebody waits for two
    with pytest.raises(BulkheadFull):
        bulkhead.acquire(Deadline.after(clock, 1.0), 2)
    assert seen == [False]
    assert bulkhead.try_acquire(1)


def test_permit_that_comes_free_meanwhile_is_taken() -> None:
    clock = MeddlingClock()
    bulkhead = make(1, clock)
    assert bulkhead.try_acquire()
    clock.meddle = bulkhead.release
    bulkhead.acquire(Deadline.after(clock, 1.0))
    assert (bulkhead.in_use, bulkhead.waiting, bulkhead.peak) == (1, 0, 1)


def test_waking_for_nothing_waits_on() -> None:
    clock = MeddlingClock()
    bulkhead = make(1, clock)
    assert bulkhead.try_acquire()
    deadline = Deadline(clock.now() + 2 * 3600.0, clock)
    with pytest.raises(BulkheadFull):
        bulkhead.acquire(deadline)
    assert clock.slept == [3600.0, 3600.0]  # no wait is longer than an hour: locks refuse infinity


def test_no_deadline_waits_until_it_is_served() -> None:
    clock = MeddlingClock()
    bulkhead = make(1, clock)
    assert bulkhead.try_acquire()
    clock.meddle = bulkhead.release
    bulkhead.acquire(Deadline(math.inf, clock))
    assert bulkhead.in_use == 1


def test_growing_serves_those_in_line() -> None:
    clock = MeddlingClock()
    bulkhead = make(1, clock)
    assert bulkhead.try_acquire()
    clock.meddle = lambda: bulkhead.resize(2)
    bulkhead.acquire(Deadline.after(clock, 1.0))
    assert bulkhead.in_use == 2


def test_shrinking_takes_nothing_away() -> None:
    bulkhead = make(3)
    assert bulkhead.try_acquire(3)
    bulkhead.resize(1)
    assert (bulkhead.in_use, bulkhead.limit) == (3, 1)
    bulkhead.release(2)
    assert not bulkhead.try_acquire()
    bulkhead.release()
    assert bulkhead.try_acquire()


def test_waiter_that_no_longer_fits_is_refused_and_does_not_block_the_line() -> None:
    clock = MeddlingClock()
    bulkhead = make(3, clock)
    assert bulkhead.try_acquire(2)
    clock.meddle = lambda: bulkhead.resize(2)
    started = clock.now()
    with pytest.raises(BulkheadFull, match="3 permits wanted at once, but there are only 2"):
        bulkhead.acquire(Deadline.after(clock, 60.0), 3)
    assert bulkhead.waiting == 0
    assert clock.now() == started + 60.0  # the fake's wait always costs its span; a real one is notified


def test_closed_refuses_and_still_takes_permits_back() -> None:
    bulkhead = make(2)
    assert bulkhead.try_acquire()
    bulkhead.close()
    bulkhead.close()
    with pytest.raises(ClientClosed, match="in flight: closed"):
        bulkhead.acquire(Deadline.after(FakeClock(), 1.0))
    assert not bulkhead.try_acquire()
    bulkhead.release()
    assert bulkhead.in_use == 0


def test_closing_refuses_whoever_waits() -> None:
    clock = MeddlingClock()
    bulkhead = make(1, clock)
    assert bulkhead.try_acquire()
    clock.meddle = bulkhead.close
    with pytest.raises(ClientClosed):
        bulkhead.acquire(Deadline.after(clock, 1.0))
    assert (bulkhead.in_use, bulkhead.waiting) == (1, 0)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_interrupted_waiter_leaves_no_trace() -> None:
    clock = MeddlingClock()
    bulkhead = make(1, clock)
    assert bulkhead.try_acquire()
    clock.meddle = interrupt
    with pytest.raises(KeyboardInterrupt):
        bulkhead.acquire(Deadline.after(clock, 1.0))
    assert (bulkhead.in_use, bulkhead.waiting) == (1, 0)
    bulkhead.release()
    assert bulkhead.try_acquire()


def test_waiter_interrupted_after_it_was_served_gives_the_permit_back() -> None:
    clock = MeddlingClock()
    bulkhead = make(1, clock)
    assert bulkhead.try_acquire()

    def serve_and_interrupt() -> None:
        bulkhead.release()
        assert bulkhead.in_use == 1  # handed straight to the waiter
        raise KeyboardInterrupt

    clock.meddle = serve_and_interrupt
    with pytest.raises(KeyboardInterrupt):
        bulkhead.acquire(Deadline.after(clock, 1.0))
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)


def test_repr_reads_like_a_status_line() -> None:
    bulkhead = make(3)
    assert bulkhead.try_acquire(2)
    bulkhead.release()
    assert repr(bulkhead) == "<Bulkhead in flight: 1 of 3 in use, 0 waiting, peak 2>"
    bulkhead.close()
    assert repr(bulkhead) == "<Bulkhead in flight: 1 of 3 in use, 0 waiting, peak 2, closed>"
