"""The policies among many threads: limits hold, turns are kept, and nothing is lost. No clock is read."""

from __future__ import annotations

import queue
import random
import sys
import threading
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from cosyclient.clock import Deadline, SystemClock
from cosyclient.config import BreakerConfig, RetryConfig
from cosyclient.errors import BulkheadFull, CircuitOpen, ClientClosed, Rejected
from cosyclient.policies.breaker import Breaker, BreakerPermit
from cosyclient.policies.budget import RetryBudget
from cosyclient.policies.bulkhead import Bulkhead
from cosyclient.policies.ratelimit.limiter import RateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 30.0
"""Seconds after which a test fails; none needs them."""


class ThreadGroup:
    """Run *work(number)* in threads and keep what each returned or raised."""

    def __init__(self, size: int, work: Callable[[int], object]) -> None:
        self.results: list[object] = [None] * size
        self.errors: list[BaseException | None] = [None] * size
        self._work = work
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(size)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        try:
            self.results[number] = self._work(number)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.errors[number] = error

    def join(self) -> ThreadGroup:
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads), "a thread did not end"
        return self

    def finish(self) -> list[object]:
        """Wait for all and return their results; none may have raised."""
        self.join()
        assert [error for error in self.errors if error is not None] == []
        return self.results


class WatchedClock(SystemClock):
    """Signal that a thread is about to wait; a call of the bulkhead after that finds it in the queue."""

    def __init__(self) -> None:
        self.waiting = threading.Semaphore(0)

    def wait(self, gate: threading.Lock, seconds: float) -> bool:
        self.waiting.release()
        return super().wait(gate, seconds)

    def see(self, count: int) -> None:
        for _ in range(count):
            assert self.waiting.acquire(timeout=PATIENCE)


@pytest.fixture(autouse=True)
def _frequent_switches() -> Iterator[None]:
    """Switch threads a thousand times more often, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


# Bulkhead


def bulkhead_of(limit: int, clock: SystemClock | None = None) -> Bulkhead:
    return Bulkhead(limit, clock or SystemClock(), name="in flight", full_error=BulkheadFull)


def soon() -> Deadline:
    return Deadline.after(SystemClock(), PATIENCE)


def test_the_limit_is_reached_and_never_exceeded() -> None:
    bulkhead = bulkhead_of(8)
    inside = threading.Barrier(8)
    lock = threading.Lock()
    running = most = 0

    def work(number: int) -> None:
        nonlocal running, most
        bulkhead.acquire(soon(), number)
        try:
            with lock:
                running += 1
                most = max(most, running)
            inside.wait(PATIENCE)  # passes only if eight are inside together
            with lock:
                running -= 1
        finally:
            bulkhead.release(number)

    ThreadGroup(64, work).finish()
    assert most == bulkhead.peak == 8
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)


def test_first_come_is_first_served() -> None:
    clock = WatchedClock()
    bulkhead = bulkhead_of(1, clock)
    assert bulkhead.try_acquire("first")
    order: list[int] = []

    def work(number: int) -> None:
        bulkhead.acquire(soon(), number)
        order.append(number)
        bulkhead.release(number)

    groups = []
    for number in range(20):
        groups.append(ThreadGroup(1, lambda _, number=number: work(number)))  # type: ignore[misc]
        clock.see(1)
    bulkhead.release("first")
    for group in groups:
        group.finish()
    assert order == list(range(20))


def test_one_release_wakes_one() -> None:
    clock = WatchedClock()
    bulkhead = bulkhead_of(1, clock)
    assert bulkhead.try_acquire("first")
    served: queue.SimpleQueue[object] = queue.SimpleQueue()

    def work(number: int) -> None:
        bulkhead.acquire(soon(), number)
        served.put(number)

    group = ThreadGroup(10, work)
    clock.see(10)
    holder: object = "first"
    for left in range(9, -1, -1):
        bulkhead.release(holder)
        holder = served.get(timeout=PATIENCE)
        assert (bulkhead.waiting, bulkhead.in_use) == (left, 1)
    group.finish()
    assert not clock.waiting.acquire(blocking=False)  # no thread woke in vain and waited again


def test_a_waiter_that_gives_up_leaves_its_turn_to_the_next() -> None:
    clock = WatchedClock()
    bulkhead = bulkhead_of(1, clock)
    assert bulkhead.try_acquire("first")
    hasty = ThreadGroup(1, lambda _: bulkhead.acquire(Deadline.after(clock, 0.05), "hasty"))
    clock.see(1)
    patient = ThreadGroup(1, lambda _: bulkhead.acquire(soon(), "patient"))
    clock.see(1)
    assert isinstance(hasty.join().errors[0], BulkheadFull)
    assert (bulkhead.in_use, bulkhead.waiting) == (1, 1)
    bulkhead.release("first")
    patient.finish()
    assert (bulkhead.in_use, bulkhead.waiting) == (1, 0)


def test_a_waiter_that_gives_up_as_it_is_served_passes_the_permit_on() -> None:
    """The deadline and the permit come together: whichever wins, the permit is not lost and the queue moves on."""
    clock = WatchedClock()
    for _ in range(100):
        bulkhead = bulkhead_of(1, clock)
        assert bulkhead.try_acquire("first")
        hasty = ThreadGroup(1, lambda _, bulkhead=bulkhead: bulkhead.acquire(Deadline.after(clock, 0.001), "hasty"))  # type: ignore[misc]
        patient = ThreadGroup(1, lambda _, bulkhead=bulkhead: bulkhead.acquire(soon(), "patient"))  # type: ignore[misc]
        bulkhead.release("first")
        hasty.join()
        bulkhead.release("hasty")
        patient.finish()
        assert (bulkhead.in_use, bulkhead.waiting) == (1, 0)


def test_growing_wakes_as_many_as_fit() -> None:
    clock = WatchedClock()
    bulkhead = bulkhead_of(1, clock)
    assert bulkhead.try_acquire("first")
    served = threading.Semaphore(0)

    def work(number: int) -> None:
        bulkhead.acquire(soon(), number)
        served.release()

    group = ThreadGroup(5, work)
    clock.see(5)
    bulkhead.resize(4)
    for _ in range(3):
        assert served.acquire(timeout=PATIENCE)
    assert (bulkhead.in_use, bulkhead.waiting) == (4, 2)
    bulkhead.resize(6)
    group.finish()
    assert (bulkhead.in_use, bulkhead.waiting) == (6, 0)


def test_closing_wakes_all_waiters() -> None:
    clock = WatchedClock()
    bulkhead = bulkhead_of(1, clock)
    assert bulkhead.try_acquire("first")
    group = ThreadGroup(50, lambda number: bulkhead.acquire(Deadline(float("inf"), clock), number))
    clock.see(50)
    bulkhead.close()
    errors = group.join().errors
    assert all(isinstance(error, ClientClosed) for error in errors)
    assert len({id(error) for error in errors}) == 50  # one each: a shared one would collect all their tracebacks
    assert (bulkhead.in_use, bulkhead.waiting) == (1, 0)


def test_no_permit_is_lost_in_any_order() -> None:
    bulkhead = bulkhead_of(5)
    clock = SystemClock()

    def work(number: int) -> int:
        dice = random.Random(number)
        refused = 0
        for _ in range(300):
            holders = [(number, each) for each in range(dice.randint(1, 3))]
            try:
                for holder in holders:
                    # A thread that holds permits waits only shortly for more, as all threads may do so at once.
                    patience = PATIENCE if holder == holders[0] else 0.001
                    bulkhead.acquire(Deadline.after(clock, dice.choice([0.0, 0.0002, patience])), holder)
                assert bulkhead.in_use <= 7
                if dice.random() < 0.1:
                    bulkhead.resize(dice.randint(3, 7))
            except BulkheadFull:
                refused += 1
            finally:
                # Those that were refused hold nothing, and giving back again does nothing.
                bulkhead.release_all(holders)
                bulkhead.release(dice.choice(holders))
        return refused

    ThreadGroup(16, work).finish()
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)
    assert bulkhead.peak <= 7
    assert all(bulkhead.try_acquire(holder) for holder in range(bulkhead.limit))


# Breaker


def breaker_of(**knobs: float) -> Breaker:
    return Breaker(BreakerConfig(**knobs), name="tts-1", uniform=lambda low, high: (low + high) / 2)  # type: ignore[arg-type]


def open_at(breaker: Breaker, now: float) -> None:
    for _ in range(20):
        breaker.acquire(now).record_failure(now)
    assert breaker.state == "open"


def test_fifty_calls_are_in_flight_together() -> None:
    """Fifty calls of 0.2 s take 0.2 s, not 10 s: all fifty must be between acquiring and reporting at one instant."""
    breaker = breaker_of()
    inside = threading.Barrier(50)

    def call(_number: int) -> None:
        permit = breaker.acquire(0.0)
        inside.wait(PATIENCE)
        permit.record_success(0.2)

    ThreadGroup(50, call).finish()
    assert repr(breaker) == "<Breaker tts-1: closed, 0 of 50 failed>"


@pytest.mark.parametrize("probes", [1, 5, 17])
def test_exactly_the_configured_probes_of_a_hundred_calls_are_sent(probes: int) -> None:
    breaker = breaker_of(probes=probes)
    open_at(breaker, 0.0)
    start, may_report = threading.Barrier(100), threading.Event()
    decided = threading.Semaphore(0)

    def call(_number: int) -> bool:
        start.wait(PATIENCE)
        try:
            permit = breaker.acquire(30.0)
        except CircuitOpen:
            decided.release()
            return False
        decided.release()
        assert may_report.wait(PATIENCE)
        permit.record_success(31.0)
        return True

    group = ThreadGroup(100, call)
    for _ in range(100):  # the others are rejected while every probe is in flight: none waits for a probe
        assert decided.acquire(timeout=PATIENCE)
    assert breaker.state == "half-open"
    may_report.set()
    assert group.finish().count(True) == probes
    assert breaker.state == "closed"


def test_released_probes_are_sent_again_until_one_reports() -> None:
    breaker = breaker_of(probes=3)
    open_at(breaker, 0.0)
    lock = threading.Lock()
    out = most = 0

    def call(_number: int) -> None:
        nonlocal out, most
        for _ in range(200):
            try:
                permit = breaker.acquire(30.0)
            except CircuitOpen:
                continue
            with lock:
                out += 1
                most = max(most, out)
            with lock:
                out -= 1
            permit.release()

    ThreadGroup(20, call).finish()
    assert 1 <= most <= 3
    assert repr(breaker) == "<Breaker tts-1: half-open, 3 of 3 probes left, 0 failed>"


def test_stale_successes_do_not_close_it_and_stale_failures_do_not_keep_it_open() -> None:
    breaker = breaker_of()
    stragglers = [breaker.acquire(0.0) for _ in range(100)]
    # Calls in flight count as well: as many again must fail.
    for _ in range(80):
        breaker.acquire(0.0).record_failure(0.0)
    open_at(breaker, 0.0)

    def late(number: int) -> None:
        if number % 2:
            stragglers[number].record_success(20.0)
        else:
            stragglers[number].record_failure(20.0, 500.0)

    ThreadGroup(100, late).finish()
    with pytest.raises(CircuitOpen) as refusal:
        breaker.check(20.0)
    assert refusal.value.retry_after == 10.0


def test_one_permit_reported_by_many_threads_counts_once() -> None:
    breaker = breaker_of(minimum_failures=1000)
    for _ in range(20):
        permit = breaker.acquire(0.0)
        ThreadGroup(8, lambda number, permit=permit: _report(permit, number)).finish()  # type: ignore[misc]
    assert breaker._window.calls <= 20


def _report(permit: BreakerPermit, number: int) -> None:
    (lambda: permit.record_success(0.0), lambda: permit.record_failure(0.0), permit.release)[number % 3]()


def test_changes_are_reported_in_order_among_threads() -> None:
    changes: list[tuple[str, str]] = []
    breaker = Breaker(
        BreakerConfig(minimum_failures=3, open_for=0.001, probes=2),
        name="tts-1",
        on_change=lambda old, new: changes.append((old, new)),
    )

    def work(number: int) -> None:
        dice = random.Random(number)
        for step in range(500):
            now = step * 0.01
            try:
                permit = breaker.acquire(now)
            except CircuitOpen:
                continue
            try:
                if dice.random() < 0.5:
                    permit.record_failure(now)
                elif dice.random() < 0.9:
                    permit.record_success(now)
            finally:
                permit.release()

    ThreadGroup(12, work).finish()
    assert len(changes) > 3
    assert changes[0] == ("closed", "open")
    assert all(before[1] == after[0] for before, after in pairwise(changes))
    assert changes[-1][1] == breaker.state == breaker.circuit_breaker.current_state


# Budget and limiter


def test_the_budget_stays_in_its_bounds_and_adds_up() -> None:
    budget = RetryBudget(RetryConfig(budget=100))

    def work(number: int) -> None:
        dice = random.Random(number)
        for _ in range(2000):
            cost = budget.withdraw(throttled=dice.random() < 0.5)
            assert cost in (0, 5, 14)
            assert 0 <= budget.available <= 100
            if cost:
                budget.deposit(cost)

    ThreadGroup(10, work).finish()
    assert budget.available == 100


def test_each_token_is_withdrawn_once() -> None:
    budget = RetryBudget(RetryConfig(budget=500))
    taken = ThreadGroup(10, lambda _: sum(budget.withdraw(throttled=True) for _ in range(200))).finish()
    assert sum(taken) == 500  # type: ignore[arg-type]
    assert budget.available == 0


def test_the_pace_is_kept_among_threads() -> None:
    limiter = RateLimiter(rate=100.0, burst=10)

    def work(_number: int) -> list[float]:
        return [limiter.reserve(5.0).at for _ in range(50)]

    group = ThreadGroup(10, work)
    instants = sorted(at for result in group.finish() for at in result)  # type: ignore[attr-defined]
    assert instants == pytest.approx([5.0] * 10 + [5.0 + step * 0.01 for step in range(1, 491)])


def test_pauses_and_cancels_among_threads_keep_the_quota() -> None:
    limiter = RateLimiter(rate=1000.0, burst=5)

    def work(number: int) -> list[float]:
        dice = random.Random(number)
        instants = []
        for _ in range(200):
            roll = dice.random()
            if roll < 0.02:
                limiter.pause(5.0, dice.random() * 0.1)
            elif roll < 0.04:
                limiter.drain(5.0)
            try:
                reservation = limiter.reserve(5.0, max_wait=dice.choice([0.0, 10.0]))
            except Rejected:
                continue
            if roll > 0.9:
                limiter.cancel(reservation)
            else:
                instants.append(reservation.at)
        return instants

    group = ThreadGroup(10, work)
    instants = sorted(at for result in group.finish() for at in result)  # type: ignore[attr-defined]
    assert len(instants) > 100
    for first, start in enumerate(instants):
        for more, at in enumerate(instants[first:], start=1):
            assert more <= 1000.0 * (at - start) + 5 + 1e-6


def test_refusals_among_threads_slow_down_once_and_keep_the_quota() -> None:
    """Ten threads are refused for one burst; later reservations keep the pace, recovery included."""
    limiter = RateLimiter(rate=1000.0, burst=10)
    burst = [limiter.reserve(5.0) for _ in range(10)]
    verdicts: list[str] = []

    def work(number: int) -> list[float]:
        verdicts.append(limiter.record_throttled(5.0, burst[number], accepted=0))
        return [limiter.reserve(5.0 + 0.1 * step).at for step in range(100)]

    group = ThreadGroup(10, work)
    instants = sorted(at for result in group.finish() for at in result)  # type: ignore[attr-defined]
    assert sorted(verdicts) == ["known"] * 9 + ["slowed"]
    assert len(instants) == 1000
    for first, start in enumerate(instants):
        for more, at in enumerate(instants[first:], start=1):
            assert more <= 1000.0 * (at - start) + 10 + 1e-6
