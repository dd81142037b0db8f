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
    """The source of time: every module reads the time and waits through one of these."""

    def now(self) -> float:
        """Return monotonic seconds; only differences mean anything."""

    def wall(self) -> float:
        """Return seconds since the epoch, to compare with dates in a service's replies."""

    def sleep(self, seconds: float, wake: Flag) -> bool:
        """Wait *seconds* or until *wake* is set; return whether it was set."""

    def wait(self, gate: threading.Lock, seconds: float) -> bool:
        """Wait at most *seconds* until another thread opens *gate*; return whether it did."""


class SystemClock:
    """The clock of the operating system, which every client uses outside tests."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def sleep(self, seconds: float, wake: Flag) -> bool:
        """Wait *seconds* or until *wake* is set; return whether it was set."""
        return wake.wait(seconds) if seconds > 0 else wake.is_set()

    def wait(self, gate: threading.Lock, seconds: float) -> bool:
        """Wait at most *seconds* until another thread opens *gate*; return whether it did."""
        return pass_gate(gate, seconds)


# How this library waits and acquires. An interrupt is an exception that a signal raises in a thread of the user:
# Ctrl-C, a signal handler that raises, the time limit of a task queue. CPython raises it only at some instructions:
# when a function is entered, after a call, on a jump back. It never raises it between the acquisition of a plain lock
# by `with` and the first instruction of the block, nor between operators and assignments without a call. Three rules
# follow.
#
# - Wait on a gate: a plain lock that the waiting thread makes, already acquired, and acquires again to wait; the
#   thread that wakes it releases the lock. Conditions, events and semaphores are written in Python: an interrupt while
#   one is entered leaves its inner lock held for ever.
# - Acquire in this order: make the object that stands for what is acquired; enter a `try`; acquire, and let the object
#   record it; on the way out release what the object has recorded. Releasing is idempotent: it does nothing if nothing
#   was recorded, and nothing the second time. An interrupt may come during the release too, so on `BaseException` it
#   is called once more.
# - Under a lock make all calls first, then the assignments that belong together, written with operators: no interrupt
#   separates those.
#
# tests/concurrency/test_interrupts.py raises an interrupt at every such instruction.


SLICE: Final = 1.0
"""Seconds after which a waiting thread wakes up to let signal handlers run, see `pass_gate`."""


def closed_gate() -> threading.Lock:
    """Return a new gate, a lock that is already held: one thread waits on it with `Clock.wait`."""
    gate = threading.Lock()
    gate.acquire()
    return gate


def open_gate(gate: threading.Lock) -> None:
    """Wake the thread that waits on *gate*, or let its next wait return at once; a second call does nothing."""
    try:  # noqa: SIM105 - every waiting thread is woken here, and suppress costs ten times as much
        gate.release()
    except RuntimeError:
        pass


def pass_gate(gate: threading.Lock, seconds: float) -> bool:
    """Wait at most *seconds* until another thread opens *gate*; return whether it did.

    Waits in slices of `SLICE` seconds. A signal that arrives just before the thread blocks does not wake it, and Python
    would call its handler only at the end of the wait.
    """
    end = time.monotonic() + seconds
    while True:
        left = end - time.monotonic()
        if gate.acquire(timeout=min(max(0.0, left), SLICE)):
            return True
        if left <= SLICE:
            return False


class Flag:
    """A flag that is set once and never cleared, and wakes every thread that waits for it."""

    def __init__(self) -> None:
        self._set = False
        self._gates = set[threading.Lock]()

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it and wake all waiting threads; a second call does nothing."""
        # First the value, then the gates. `wait` adds its gate first and reads the value after, so none is missed.
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
    """A queue from many threads to one.

    `queue.SimpleQueue` of CPython 3.11 and 3.12 cannot be used: when a wait is suspended for longer than its timeout
    (by a busy machine or a signal), the remaining time is negative, which it takes for "no timeout", and it never
    returns.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._gate = closed_gate()

    def put(self, item: T) -> None:
        """Append *item* without waiting."""
        self._items.append(item)
        open_gate(self._gate)

    def get(self, seconds: float = math.inf) -> T:
        """Return the oldest item, waiting at most *seconds* for one; raises `queue.Empty`."""
        end = time.monotonic() + seconds
        # The gate alone proves nothing: it may be open for an item that an earlier `get` took without waiting, and
        # closed for one whose `put` was interrupted before it opened the gate.
        while not self._items and (left := end - time.monotonic()) > 0:
            pass_gate(self._gate, min(left, SLICE))
        try:
            return self._items.popleft()
        except IndexError:
            raise Empty from None

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"<Mailbox {len(self)} waiting>"


class Deadline:
    """The instant after which a call's result is of no use; immutable, passed to everything that waits for it."""

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
    """A request to abandon an attempt, which wakes the thread that waits for its reply."""

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
        """Cancel the attempt; this cannot be undone."""
        with self._lock:
            self._cancelled = True
            # Under the lock, so that after `on_cancel(None)` the callback never runs again: by then the connection may
            # carry another call's request. The callback must neither block nor call this object.
            if self._wake is not None:
                self._wake()

    def on_cancel(self, wake: Callable[[], None] | None) -> None:
        """Call *wake* on cancellation, at once if it is already cancelled; None removes the callback."""
        with self._lock:
            self._wake = wake
            if self._cancelled and wake is not None:
                wake()

    def __repr__(self) -> str:
        return f"<Cancellation {'cancelled' if self._cancelled else 'open'}>"
