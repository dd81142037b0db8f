"""The relay in which waiting threads are woken: one after the other, and nobody is forgotten."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from cosyclient.clock import Deadline, SystemClock, closed_gate
from cosyclient.errors import CosyError
from cosyclient.pipeline.queue.pending import SpeechFuture, Waiter
from cosyclient.pipeline.queue.wakeups import WakeupChain
from cosyclient.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULT = CosyError("what became of it")


def standing(count: int, clock: FakeClock) -> list[Waiter]:
    """Return resolved waiters as they are while their threads stand at the gate."""
    waiters = [Waiter(Deadline.after(clock, 60.0)) for _ in range(count)]
    for waiter in waiters:
        waiter._gate = closed_gate()
        waiter.resolve(RESULT)
        assert waiter.needs_wakeup
    return waiters


def woken(waiters: list[Waiter]) -> list[int]:
    """Return the places of those whose gate is open."""
    return [place for place, waiter in enumerate(waiters) if waiter._gate is not None and not waiter._gate.locked()]


def test_each_wakes_the_next() -> None:
    """One is on its way at a time, whatever has landed meanwhile."""
    clock = FakeClock()
    relay, first, second = WakeupChain(clock), standing(2, clock), standing(1, clock)
    relay.start(first)
    relay.start(second)
    assert (woken(first), woken(second)) == ([0], [])
    assert repr(relay) == "<WakeupChain 2 to wake, running>"
    relay.wake_next()
    assert (woken(first), woken(second)) == ([0, 1], [])
    relay.wake_next()
    assert (woken(first), woken(second)) == ([0, 1], [0])
    relay.wake_next()
    assert repr(relay) == "<WakeupChain 0 to wake, at rest>"


def test_a_slow_step_wakes_some_beside_who_wake_nobody() -> None:
    """Where a thread computes without pause each step costs one of its turns; seven more share it."""
    clock = FakeClock()
    relay, waiters = WakeupChain(clock), standing(20, clock)
    relay.start(waiters)
    clock.advance(0.006)
    relay.wake_next()
    assert woken(waiters) == list(range(9))
    assert [waiter.wakes_next for waiter in waiters[:9]] == [True] + 7 * [False] + [True]
    relay.wake_next()
    assert woken(waiters) == list(range(10))


def test_a_broken_chain_is_taken_up_by_the_next_landing() -> None:
    """A thread killed at the wrong moment passes nothing on; the others wait no longer than until something lands."""
    clock = FakeClock()
    relay, lost, later = WakeupChain(clock), standing(3, clock), standing(1, clock)
    relay.start(lost)
    clock.advance(0.2)
    relay.start(later)
    assert woken(lost) == [0]
    clock.advance(0.1)
    relay.start(standing(1, clock))
    assert woken(lost) == [0, 1]


def test_who_has_left_is_passed_over() -> None:
    """Their deadline came first: the turn goes to the next who stands there."""
    clock = FakeClock()
    relay, waiters = WakeupChain(clock), standing(3, clock)
    waiters[0]._stopped_waiting = waiters[1]._stopped_waiting = True
    relay.start(waiters)
    assert woken(waiters) == [0, 1, 2]


@pytest.mark.parametrize("landings", [1, 7, 64])
def test_all_threads_come_through(landings: int) -> None:
    """Two hundred threads, some with a deadline that passes meanwhile: each finds its result or its deadline."""
    clock, count = SystemClock(), 200
    relay, waiters = (
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
    for start in range(0, count, -(-count // landings)):
        landed = waiters[start : start + -(-count // landings)]
        for waiter in landed:
            waiter.resolve(RESULT)
        if blocked := [waiter for waiter in landed if waiter.needs_wakeup]:
            relay.start(blocked)
    for thread in threads:
        thread.join(60.0)
    assert not any(thread.is_alive() for thread in threads)
    assert len(found) == count
    assert found.count(True) >= count * 4 // 5


def test_an_interrupted_waiter_passes_the_turn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C arrives as the gate opens: the next is woken all the same."""
    clock = FakeClock()
    relay, others = WakeupChain(clock), standing(2, clock)
    interrupted = Waiter(Deadline.after(clock, 60.0))

    class Gate:
        def __init__(self) -> None:
            self.taken = False

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            if not self.taken:
                self.taken = True
                return True
            interrupted.resolve(RESULT)
            relay.start([interrupted, *others])
            raise KeyboardInterrupt

        def release(self) -> None:
            self.taken = True

    monkeypatch.setattr("cosyclient.pipeline.queue.pending.threading.Lock", Gate)
    with pytest.raises(KeyboardInterrupt):
        interrupted.wait()
    assert woken(others) == [0]


class TimeLimit(Exception):
    """What a task queue raises in a signal's handler."""


@pytest.fixture
def raises(request: pytest.FixtureRequest) -> Iterator[type[BaseException]]:
    """Have the alarm's handler raise what the test is parametrized with."""

    def handler(*_: object) -> None:
        raise request.param

    before = signal.signal(signal.SIGALRM, handler)
    yield request.param
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("raises", [TimeLimit, SystemExit, KeyboardInterrupt], indirect=True)
def test_an_interrupt_amid_a_callback_is_raised_and_the_others_are_told(raises: type[BaseException]) -> None:
    """Whoever carries a text calls others' callbacks: an interrupt is his, not theirs."""
    future, told = SpeechFuture(lambda _: None), list[object]()
    future.add_done_callback(lambda _: signal.raise_signal(signal.SIGALRM))
    future.add_done_callback(told.append)
    with pytest.raises(raises):
        future.resolve(RESULT)
    assert told == [future]
    future.resolve(RESULT)
    assert told == [future]


def test_an_interrupt_before_the_callbacks_leaves_them_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted delivery is done once more: the result is there by then, the callbacks have not heard."""
    future, told = SpeechFuture(lambda _: None), list[object]()
    future.add_done_callback(told.append)

    def interrupted(_: SpeechFuture) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SpeechFuture, "_invoke_callbacks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            future.resolve(RESULT)
    assert future.done()
    future.resolve(RESULT)
    assert told == [future]
    future.resolve(RESULT)
    assert told == [future]
