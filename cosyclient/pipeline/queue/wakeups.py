"""Wake the threads whose results are there, one after the other."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cosyclient.clock import Clock

# Above this a step waited for a thread that computes without pause: the interpreter takes turns of 5 ms.
_SLOW: Final = 0.0045
# How many are woken beside the next one then.
_BESIDE: Final = 7
# Above this the chain is broken: its thread was killed before it could pass the turn on.
_BROKEN: Final = 0.25


class Wakeable(Protocol):
    """Stand for a thread that waits; ``wakes_next`` says whether it calls `WakeupChain.wake_next` once awake."""

    chain: WakeupChain | None
    wakes_next: bool

    def wake(self) -> bool:
        """Wake the thread; return whether it was still waiting, so that it will wake the next."""


class WakeupChain:
    """Wake the waiting threads of a client one after the other: each, once awake, wakes the next.

    Sixty-four threads woken at once fight for the interpreter, and most lose several times before they run: with
    1,500 calling threads that fight cost more than half of the client's speed, and a second chain a quarter. Where a
    thread of the user's computes without pause, each step costs one of its turns; some more are woken then, which
    share the next turn but wake nobody. *on_rest* is called when none is left to be woken; it must not wait.
    """

    def __init__(self, clock: Clock, on_rest: Callable[[], object] = lambda: None) -> None:
        self._clock = clock
        self._on_rest = on_rest
        self._lock = threading.Lock()
        # All guarded by _lock.
        self._line: deque[Wakeable] = deque()
        self._last_wake = 0.0
        self.running = False
        """Whether threads are being woken: most come back with their next text in a moment."""

    def start(self, waiters: Sequence[Wakeable]) -> None:
        """Let *waiters*, whose results are there, be woken in their turn."""
        now = self._clock.now()
        with self._lock:
            for each in waiters:
                if each.chain is None:
                    self._line += [each]
                    each.chain = self
            if self.running and now - self._last_wake < _BROKEN:
                return
            self.running = True
            self._last_wake = now
            self._wake_locked()

    def wake_next(self) -> None:
        """Wake the next waiter; called by one that has just been woken."""
        now = self._clock.now()
        with self._lock:
            slow, self._last_wake = now - self._last_wake > _SLOW, now
            if slow:
                for _ in range(min(_BESIDE, len(self._line))):
                    self._line[0].wakes_next = False
                    self._line[0].wake()
                    del self._line[0]
            self._wake_locked()

    def _wake_locked(self) -> None:
        # A thread that has stopped waiting wakes no other, so the one after it is woken here; see `Waiter.wait`.
        while self._line:
            there = self._line[0].wake()
            del self._line[0]
            if there:
                return
        self.running = False
        self._on_rest()

    def __repr__(self) -> str:
        return f"<WakeupChain {len(self._line)} to wake, {'running' if self.running else 'at rest'}>"
