"""Time: the clock that every wait of a client goes through, deadlines, and cancellation.

Times are monotonic float seconds. `Clock` is the interface that `cosyclient.testing.FakeClock` replaces.

```python
from cosyclient.clock import Deadline
from cosyclient.testing import FakeClock

clock = FakeClock()
deadline = Deadline.after(clock, 2.0)
clock.advance(1.5)
print(deadline.remaining, deadline.expired)  # 0.5 False
```
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from queue import Empty
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Clock(Protocol):
    """Tell the time and wait; the only door through which time enters."""

    def now(self) -> float:
        """Return monotonic seconds; only differences mean anything."""

    def wall(self) -> float:
        """Return seconds since the epoch, for dates that a service names."""

    def sleep(self, seconds: float, wake: Flag) -> bool:
        """Wait *seconds* or until *wake* is set; return whether it was set."""

    def wait(self, gate: threading.Lock, seconds: float) -> bool:
        """Wait at most *seconds* until another thread opens *gate*; return whether it did."""


class SystemClock:
    """Tell real time."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def sleep(self, seconds: float, wake: Flag) -> bool:
        """Wait *seconds* or until *wake* is set; return whether it was set."""
        return wake.wait(seconds) if seconds > 0 else wake.is_set()

    def wait(self, gate: threading.Lock, seconds: float) -> bool:
        """Wait at most *seconds* until another thread opens *gate*; return whether it did."""
        return pass_gate(gate, seconds)


# How this library waits and takes. An interrupt (Ctrl-C, a signal handler that raises, a task queue's time limit) may
# come wherever CPython looks for one: when a function is entered, after a call, on a jump back. Never between the
# acquisition of a plain lock by `with` and its block, nor between operators and assignments without a call.
#
# - Conditions, events and semaphores are entered in Python: an interrupt on the way in leaves their lock held for
#   ever. A thread that may be interrupted waits at a gate of its own, a plain lock that is closed by its maker and
#   opened by whoever wakes it.
# - Whoever takes something makes the object that stands for it first, takes within a `try`, and gives back what that
#   object holds: nothing, if it was not reached, and nothing again the second time. An interrupt may come amid the
#   giving back as well, so that is done once more then.
# - Under a lock all calls come first, then the assignments that belong together, written with operators.
#
# tests/concurrency/test_interrupts.py tries every such place.


SLICE: Final = 1.0
"""Seconds after which a thread that waits looks up, see `pass_gate`."""


def closed_gate() -> threading.Lock:
    """Return a gate for one thread to wait at, see `Clock.wait`."""
    gate = threading.Lock()
    gate.acquire()
    return gate


def open_gate(gate: threading.Lock) -> None:
    """Let whoever waits at *gate* go on, or come through later; a second time does nothing."""
    try:  # noqa: SIM105 - every waiting thread is woken here, and suppress costs ten times as much
        gate.release()
    except RuntimeError:
        pass


def pass_gate(gate: threading.Lock, seconds: float) -> bool:
    """Wait at most *seconds* until another thread opens *gate*; return whether it did.

    In slices: a signal that arrives just before the thread lies down does not wake it, its handler has run by then, and
    Ctrl-C would be heard at the end of the wait.
    """
    end = time.monotonic() + seconds
    while True:
        left = end - time.monotonic()
        if gate.acquire(timeout=min(max(0.0, left), SLICE)):
            return True
        if left <= SLICE:
            return False


class Flag:
    """Be set once and for good, and wake whoever waits for that."""

    def __init__(self) -> None:
        self._set = False
        self._gates = set[threading.Lock]()

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it; a second time does nothing."""
        # First the mark, then the gates; who waits does it the other way round.
        self._set = True
        for gate in tuple(self._gates):
            open_gate(gate)

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, at most *seconds*; return whether it is."""
        gate = closed_gate()
        try:
            self._gates.add(gate)
            if not self._set:
                pass_gate(gate, seconds)
            return self._set
        finally:
            self._gates.discard(gate)

    def __repr__(self) -> str:
        return f"<Flag {'set' if self._set else 'not set'}>"


class Mailbox(Generic[T]):
    """Hand things from any threads to the one that waits for them, in order.

    A `queue.SimpleQueue` of CPython 3.11 and 3.12 waits for ever where a wait is stopped for longer than it was to last
    (by a busy machine, or a signal): what is left of it is negative then, and taken for "no limit".
    """

    def __init__(self) -> None:
        self._things: deque[T] = deque()
        self._gate = closed_gate()

    def put(self, thing: T) -> None:
        """Leave *thing*; never waits."""
        self._things.append(thing)
        open_gate(self._gate)

    def get(self, seconds: float = math.inf) -> T:
        """Return what came first, waiting at most *seconds* for something to come; raises `queue.Empty`."""
        end = time.monotonic() + seconds
        # The gate may stand open for what was taken without a wait, and closed where `put` was interrupted.
        while not self._things and (left := end - time.monotonic()) > 0:
            pass_gate(self._gate, min(left, SLICE))
        try:
            return self._things.popleft()
        except IndexError:
            raise Empty from None

    def __len__(self) -> int:
        return len(self._things)

    def __repr__(self) -> str:
        return f"<Mailbox {len(self)} waiting>"


class Deadline:
    """Mark the instant a call is worthless; it rides along through every wait and never changes."""

    __slots__ = ("at", "clock")

    def __init__(self, at: float, clock: Clock) -> None:
        self.at = at
        self.clock = clock

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> Deadline:
        """Return the deadline *seconds* from now."""
        return cls(clock.now() + seconds, clock)

    @property
    def remaining(self) -> float:
        """Return the seconds left, never below zero."""
        return max(0.0, self.at - self.clock.now())

    @property
    def expired(self) -> bool:
        """Return whether the instant has passed."""
        return self.clock.now() >= self.at

    def __repr__(self) -> str:
        return "<Deadline none>" if math.isinf(self.at) else f"<Deadline {self.at - self.clock.now():+.3f} s>"


class Cancellation:
    """Say that nobody wants an attempt any more, and wake the thread that waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._cancelled = False
        self._wake: Callable[[], None] | None = None

    @property
    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        return self._cancelled

    def cancel(self) -> None:
        """Cancel, now and for good."""
        with self._lock:
            self._cancelled = True
            # Under the lock, so that whoever withdraws its wake-up knows that none comes later: by then the
            # connection may carry somebody else's request. It must neither block nor call back.
            if self._wake is not None:
                self._wake()

    def on_cancel(self, wake: Callable[[], None] | None) -> None:
        """Call *wake* when cancelled, at once if that has happened; None withdraws it."""
        with self._lock:
            self._wake = wake
            if self._cancelled and wake is not None:
                wake()

    def __repr__(self) -> str:
        return f"<Cancellation {'cancelled' if self._cancelled else 'open'}>"
