"""The timer: what is scheduled expires in time, and what is forgotten keeps no thread."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from cosyclient.clock import Deadline, SystemClock
from cosyclient.util.threads import IDLE_TIMEOUT
from cosyclient.util.timers import DeadlineTimer


@dataclass(eq=False)
class _Watched:
    deadline: Deadline
    scheduled: bool = False
    done: bool = False


class _Leaping(SystemClock):
    """Let time pass at once, as soon as the test is ready."""

    def __init__(self) -> None:
        self.time = 0.0
        self.waiting, self.ready = threading.Event(), threading.Event()

    def now(self) -> float:
        return self.time

    def wait(self, gate: threading.Lock, seconds: float) -> bool:
        self.waiting.set()
        assert self.ready.wait(30)
        self.time += seconds
        return gate.acquire(blocking=False)


def _ends(name: str) -> bool:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(30)
            return not thread.is_alive()
    return True


def test_a_discarded_item_keeps_no_thread() -> None:
    clock, expired = _Leaping(), list[_Watched]()
    expiry = DeadlineTimer(clock, expired.append, name="forgetting")
    waiter = _Watched(Deadline(3600.0, clock))
    expiry.add(waiter)
    assert clock.waiting.wait(30)
    waiter.done = True
    expiry.discard(waiter)
    clock.ready.set()
    assert _ends("forgetting")
    assert not expired
    assert clock.time <= 3 * IDLE_TIMEOUT


def test_an_item_expires_after_an_hour_though_the_timer_wakes_before() -> None:
    clock, expired = _Leaping(), list[_Watched]()
    expiry = DeadlineTimer(clock, expired.append, name="watching")
    waiter = _Watched(Deadline(3600.0, clock))
    expiry.add(waiter)
    assert clock.waiting.wait(30)
    clock.ready.set()
    assert _ends("watching")
    assert expired == [waiter]
    assert 3600.0 <= clock.time <= 3600.1 + 3 * IDLE_TIMEOUT
