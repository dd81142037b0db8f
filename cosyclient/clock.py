"""Time as the library sees it: monotonic float seconds, one seam for tests, one deadline per call, one way out."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock(Protocol):
    """Tell the time and wait; the only door through which time enters."""

    def now(self) -> float:
        """Return monotonic seconds; only differences mean anything."""

    def wall(self) -> float:
        """Return seconds since the epoch, for dates that a service names."""

    def sleep(self, seconds: float, wake: threading.Event) -> bool:
        """Wait *seconds* or until *wake* is set; return whether it was set."""

    def wait(self, condition: threading.Condition, seconds: float) -> bool:
        """Wait on *condition* (held by the caller) at most *seconds*; return whether it was notified."""


class SystemClock:
    """Tell real time."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def sleep(self, seconds: float, wake: threading.Event) -> bool:
        """Wait *seconds* or until *wake* is set; return whether it was set."""
        return wake.wait(seconds) if seconds > 0 else wake.is_set()

    def wait(self, condition: threading.Condition, seconds: float) -> bool:
        """Wait on *condition* (held by the caller) at most *seconds*; return whether it was notified."""
        return condition.wait(max(0.0, seconds))


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
