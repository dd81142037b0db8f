"""The bulkhead on one thread: permits issued, rejected, resized, interrupted; tests/concurrency has many threads."""

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
    return Bulkhead(limit, clock or FakeClock(), name="in flight", full_error=BulkheadFull)


class MeddlingClock(FakeClock):
    """Do something to the bulkhead while a caller waits: the lock is free then, as in a real wait."""

    def __init__(self) -> None:
        super().__init__()
        self.meddle: Callable[[], object] = lambda: None

    def wait(self, gate: threading.Lock, seconds: float) -> bool:
        self.slept.append(seconds)
        meddle, self.meddle = self.meddle, lambda: None
        meddle()
        if gate.acquire(blocking=False):
            return True
        self.advance(seconds)
        return False


def test_permits_are_counted() -> None:
    bulkhead = make(3)
    deadline = Deadline.after(FakeClock(), 1.0)
    for holder in "abc":
        bulkhead.acquire(deadline, holder)
    assert (bulkhead.in_use, bulkhead.limit, bulkhead.waiting, bulkhead.peak) == (3, 3, 0, 3)
    for holder in "abc":
        bulkhead.release(holder)
    assert (bulkhead.in_use, bulkhead.peak) == (0, 3)


def test_a_permit_belongs_to_its_holder() -> None:
    """A release for another holder gives nothing back."""
    bulkhead = make(1)
    assert bulkhead.try_acquire("a")
    bulkhead.release("b")
    assert bulkhead.in_use == 1
    assert not bulkhead.try_acquire("b")
    bulkhead.release("a")
    assert bulkhead.try_acquire("b")


def test_free_permits_are_issued_even_at_the_deadline() -> None:
    clock = FakeClock()
    make(1, clock).acquire(Deadline.after(clock, -1.0), "a")
    assert clock.slept == []


def test_a_full_bulkhead_rejects_exactly_at_the_deadline() -> None:
    clock = FakeClock(now=10.0)
    bulkhead = make(1, clock)
    bulkhead.acquire(Deadline.after(clock, 5.0), "a")
    with pytest.raises(BulkheadFull, match=r"in flight: no permit came free in time \(1 of 1 in use, 1 waiting\)"):
        bulkhead.acquire(Deadline.after(clock, 5.0), "b")
    assert clock.now() == 15.0
    assert (bulkhead.in_use, bulkhead.waiting) == (1, 0)


def test_the_error_is_the_configured_one() -> None:
    clock = FakeClock()
    places = Bulkhead(1, clock, name="queue", full_error=QueueFull)
    assert places.try_acquire("a")
    with pytest.raises(QueueFull, match="queue"):
        places.acquire(Deadline.after(clock, 0.0), "b")


@pytest.mark.parametrize("limit", [0, -1])
def test_senseless_limits_are_refused(limit: int) -> None:
    bulkhead = make(1)
    with pytest.raises(ValueError, match="at least 1"):
        bulkhead.resize(limit)
    with pytest.raises(ValueError, match="at least 1"):
        make(limit)
    assert bulkhead.limit == 1
    assert bulkhead.try_acquire("a")


def test_try_acquire_does_not_wait() -> None:
    clock = FakeClock()
    bulkhead = make(2, clock)
    assert bulkhead.try_acquire("a")
    assert bulkhead.try_acquire("b")
    assert not bulkhead.try_acquire("c")
    bulkhead.release("a")
    assert bulkhead.try_acquire("c")
    assert not bulkhead.try_acquire("a")
    assert (clock.now(), clock.slept) == (1000.0, [])


def test_releasing_twice_does_nothing() -> None:
    """Nor does releasing what was never acquired: after an interrupt the caller cannot know."""
    bulkhead = make(3)
    assert bulkhead.try_acquire("a")
    assert bulkhead.try_acquire("b")
    bulkhead.release("never")
    for _ in range(3):
        bulkhead.release("a")
        assert bulkhead.in_use == 1
    bulkhead.release_all(["a", "never"])
    assert bulkhead.in_use == 1


def test_many_are_released_at_once() -> None:
    """Waiting callers get them, one each and in order; holders that have none are ignored."""
    clock = MeddlingClock()
    bulkhead = make(3, clock)
    holders = ["a", "b", "c"]
    assert all(bulkhead.try_acquire(holder) for holder in holders)
    clock.meddle = lambda: bulkhead.release_all([*holders, "never"])
    bulkhead.acquire(Deadline.after(clock, 1.0), "d")
    assert (bulkhead.in_use, bulkhead.waiting, bulkhead.peak) == (1, 0, 3)
    bulkhead.release_all(["d"])
    assert bulkhead.in_use == 0


def test_a_newcomer_does_not_overtake_a_waiting_caller() -> None:
    clock = MeddlingClock()
    bulkhead = make(2, clock)
    assert bulkhead.try_acquire("a")
    assert bulkhead.try_acquire("b")
    seen: list[tuple[bool, int]] = []

    def meddle() -> None:
        # The permit that becomes free is the waiter's; a caller that comes meanwhile gets none.
        bulkhead.release("a")
        seen.append((bulkhead.try_acquire("c"), bulkhead.waiting))

    clock.meddle = meddle
    bulkhead.acquire(Deadline.after(clock, 1.0), "d")
    assert seen == [(False, 0)]
    bulkhead.release("d")
    assert bulkhead.try_acquire("c")


def test_a_permit_released_meanwhile_is_issued() -> None:
    clock = MeddlingClock()
    bulkhead = make(1, clock)
    assert bulkhead.try_acquire("a")
    clock.meddle = lambda: bulkhead.release("a")
    bulkhead.acquire(Deadline.after(clock, 1.0), "b")
    assert (bulkhead.in_use, bulkhead.waiting, bulkhead.peak) == (1, 0, 1)
    assert clock.now() == 1000.0


def test_a_spurious_wake_up_waits_on() -> None:
    clock = MeddlingClock()
    bulkhead = make(1, clock)
    assert bulkhead.try_acquire("a")
    deadline = Deadline(clock.now() + 2 * 3600.0, clock)
    with pytest.raises(BulkheadFull):
        bulkhead.acquire(deadline, "b")
    assert clock.slept == [3600.0, 3600.0]  # no wait is longer than an hour: locks refuse infinity


def test_without_a_deadline_it_waits_until_a_permit_is_free() -> None:
    clock = MeddlingClock()
    bulkhead = make(1, clock)
    assert bulkhead.try_acquire("a")
    clock.meddle = lambda: bulkhead.release("a")
    bulkhead.acquire(Deadline(math.inf, clock), "b")
    assert bulkhead.in_use == 1


def test_growing_issues_permits_to_waiting_callers() -> None:
    clock = MeddlingClock()
    bulkhead = make(1, clock)
    assert bulkhead.try_acquire("a")
    clock.meddle = lambda: bulkhead.resize(2)
    bulkhead.acquire(Deadline.after(clock, 1.0), "b")
    assert bulkhead.in_use == 2


def test_shrinking_revokes_no_permit() -> None:
    bulkhead = make(3)
    assert all(bulkhead.try_acquire(holder) for holder in "abc")
    bulkhead.resize(1)
    assert (bulkhead.in_use, bulkhead.limit) == (3, 1)
    bulkhead.release_all("ab")
    assert not bulkhead.try_acquire("d")
    bulkhead.release("c")
    assert bulkhead.try_acquire("d")


def test_shrinking_lets_callers_wait_until_few_enough_are_held() -> None:
    """Of three permits one is left: the first two that are released are not issued again."""
    clock = MeddlingClock()
    bulkhead = make(3, clock)
    assert all(bulkhead.try_acquire(holder) for holder in "abc")
    seen: list[tuple[int, int]] = []

    def meddle() -> None:
        bulkhead.resize(1)
        for holder in "abc":
            bulkhead.release(holder)
            seen.append((bulkhead.in_use, bulkhead.waiting))

    clock.meddle = meddle
    bulkhead.acquire(Deadline.after(clock, 60.0), "d")
    assert seen == [(2, 1), (1, 1), (1, 0)]


def test_a_closed_one_rejects_and_still_takes_permits_back() -> None:
    bulkhead = make(2)
    assert bulkhead.try_acquire("a")
    bulkhead.close()
    bulkhead.close()
    with pytest.raises(ClientClosed, match="in flight: closed"):
        bulkhead.acquire(Deadline.after(FakeClock(), 1.0), "b")
    assert not bulkhead.try_acquire("b")
    bulkhead.release("a")
    assert bulkhead.in_use == 0


def test_closing_rejects_waiting_callers() -> None:
    clock = MeddlingClock()
    bulkhead = make(1, clock)
    assert bulkhead.try_acquire("a")
    clock.meddle = bulkhead.close
    with pytest.raises(ClientClosed):
        bulkhead.acquire(Deadline.after(clock, 1.0), "b")
    assert (bulkhead.in_use, bulkhead.waiting) == (1, 0)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_an_interrupted_waiter_leaves_no_trace() -> None:
    clock = MeddlingClock()
    bulkhead = make(1, clock)
    assert bulkhead.try_acquire("a")
    clock.meddle = interrupt
    with pytest.raises(KeyboardInterrupt):
        bulkhead.acquire(Deadline.after(clock, 1.0), "b")
    assert (bulkhead.in_use, bulkhead.waiting) == (1, 0)
    bulkhead.release("a")
    assert bulkhead.try_acquire("b")


def test_a_waiter_interrupted_after_its_permit_was_issued_releases_it() -> None:
    clock = MeddlingClock()
    bulkhead = make(1, clock)
    assert bulkhead.try_acquire("a")

    def serve_and_interrupt() -> None:
        bulkhead.release("a")
        assert bulkhead.in_use == 1  # issued to the waiter already
        raise KeyboardInterrupt

    clock.meddle = serve_and_interrupt
    with pytest.raises(KeyboardInterrupt):
        bulkhead.acquire(Deadline.after(clock, 1.0), "b")
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)


def test_repr_reads_like_a_status_line() -> None:
    bulkhead = make(3)
    assert bulkhead.try_acquire("a")
    assert bulkhead.try_acquire("b")
    bulkhead.release("a")
    assert repr(bulkhead) == "<Bulkhead in flight: 1 of 3 in use, 0 waiting, peak 2>"
    bulkhead.close()
    assert repr(bulkhead) == "<Bulkhead in flight: 1 of 3 in use, 0 waiting, peak 2, closed>"
