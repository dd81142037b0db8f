"""The chain in which waiting threads are woken: one after the other, and none is missed."""

from __future__ import annotations

import threading

import pytest

from cosyclient.clock import Deadline, SystemClock, closed_gate
from cosyclient.errors import CosyError
from cosyclient.pipeline.queue.pending import Waiter
from cosyclient.pipeline.queue.wakeups import WakeupChain
from cosyclient.testing import FakeClock

RESULT = CosyError("the result")


def blocked_waiters(count: int, clock: FakeClock) -> list[Waiter]:
    """Return resolved waiters in the state of blocked threads: the gate of each is closed."""
    waiters = [Waiter(Deadline.after(clock, 60.0)) for _ in range(count)]
    for waiter in waiters:
        waiter._gate = closed_gate()
        waiter.resolve(RESULT)
        assert waiter.needs_wakeup
    return waiters


def woken(waiters: list[Waiter]) -> list[int]:
    """Return the positions of the waiters whose gate is open."""
    return [
        position for position, waiter in enumerate(waiters) if waiter._gate is not None and not waiter._gate.locked()
    ]


def test_each_waiter_wakes_the_next() -> None:
    """One wake-up is under way at a time, whatever completes meanwhile."""
    clock = FakeClock()
    chain, first, second = WakeupChain(clock), blocked_waiters(2, clock), blocked_waiters(1, clock)
    chain.start(first)
    chain.start(second)
    assert (woken(first), woken(second)) == ([0], [])
    assert repr(chain) == "<WakeupChain 2 to wake, running>"
    chain.wake_next()
    assert (woken(first), woken(second)) == ([0, 1], [])
    chain.wake_next()
    assert (woken(first), woken(second)) == ([0, 1], [0])
    chain.wake_next()
    assert repr(chain) == "<WakeupChain 0 to wake, at rest>"


def test_a_slow_step_also_wakes_waiters_that_pass_nothing_on() -> None:
    """Beside a thread that computes without pause, each step costs one of its turns; seven more waiters share it."""
    clock = FakeClock()
    chain, waiters = WakeupChain(clock), blocked_waiters(20, clock)
    chain.start(waiters)
    clock.advance(0.006)
    chain.wake_next()
    assert woken(waiters) == list(range(9))
    assert [waiter.wakes_next for waiter in waiters[:9]] == [True] + 7 * [False] + [True]
    chain.wake_next()
    assert woken(waiters) == list(range(10))


def test_a_broken_chain_is_continued_by_the_next_completion() -> None:
    """A thread killed at the wrong moment passes nothing on; the others wait until the next completion at most."""
    clock = FakeClock()
    chain, lost, later = WakeupChain(clock), blocked_waiters(3, clock), blocked_waiters(1, clock)
    chain.start(lost)
    clock.advance(0.2)
    chain.start(later)
    assert woken(lost) == [0]
    clock.advance(0.1)
    chain.start(blocked_waiters(1, clock))
    assert woken(lost) == [0, 1]


def test_a_waiter_that_has_stopped_waiting_is_passed_over() -> None:
    """Its deadline came first: the turn goes to the next that still waits."""
    clock = FakeClock()
    chain, waiters = WakeupChain(clock), blocked_waiters(3, clock)
    waiters[0]._stopped_waiting = waiters[1]._stopped_waiting = True
    chain.start(waiters)
    assert woken(waiters) == [0, 1, 2]


@pytest.mark.parametrize("completions", [1, 7, 64])
def test_all_threads_return(completions: int) -> None:
    """Two hundred threads, some with a deadline that passes meanwhile: each returns a result or at its deadline."""
    clock, count = SystemClock(), 200
    chain, waiters = (
        WakeupChain(clock),
        [Waiter(Deadline.after(clock, 0.002 if n % 5 == 0 else 60.0)) for n in range(200)],
    )
    found: list[bool] = []
    ready = threading.Barrier(count + 1)

    def wait(waiter: Waiter) -> None:
        ready.wait(60.0)
        found.append(waiter.wait())

    threads = [threading.Thread(target=wait, args=(waiter,)) for waiter in waiters]
    for thread in threads:
        thread.start()
    ready.wait(60.0)
    for start in range(0, count, -(-count // completions)):
        done = waiters[start : start + -(-count // completions)]
        for waiter in done:
            waiter.resolve(RESULT)
        if blocked := [waiter for waiter in done if waiter.needs_wakeup]:
            chain.start(blocked)
    for thread in threads:
        thread.join(60.0)
    assert not any(thread.is_alive() for thread in threads)
    assert len(found) == count
    assert found.count(True) >= count * 4 // 5


def test_an_interrupted_waiter_passes_the_turn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C arrives as the gate opens, and the next waiter is woken."""
    clock = FakeClock()
    chain, others = WakeupChain(clock), blocked_waiters(2, clock)
    interrupted = Waiter(Deadline.after(clock, 60.0))

    class Gate:
        def __init__(self) -> None:
            self.taken = False

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            if not self.taken:
                self.taken = True
                return True
            interrupted.resolve(RESULT)
            chain.start([interrupted, *others])
            raise KeyboardInterrupt

        def release(self) -> None:
            self.taken = True

    monkeypatch.setattr("cosyclient.pipeline.queue.pending.threading.Lock", Gate)
    with pytest.raises(KeyboardInterrupt):
        interrupted.wait()
    assert woken(others) == [0]
