"""A timer: what no thread waits for is still looked after at its deadline."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from cosyclient.clock import Flag, closed_gate, open_gate
from cosyclient.events import invoke_callback
from cosyclient.util.threads import IDLE, start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cosyclient.clock import Clock, Deadline

RESOLUTION: Final = 0.02
"""Seconds between two looks: futures expire at most this late, and one look serves all that fall into it."""


class Timed(Protocol):
    """Be scheduled until ``deadline``, unless ``done`` before; ``scheduled`` belongs to the timer."""

    deadline: Deadline
    scheduled: bool

    @property
    def done(self) -> bool:
        """Return whether there is nothing to watch for any more."""


T = TypeVar("T", bound=Timed)


class _Run:
    """Stand for one life of the timer's thread."""

    def __init__(self) -> None:
        self.gate = closed_gate()
        self.over = Flag()
        self.thread: int | None = None


class DeadlineTimer(Generic[T]):
    """Call *expire* with everything scheduled whose deadline has passed, from one thread that runs while it is needed.

    They sit in buckets of *resolution* seconds, so watching and forgetting cost a set operation, and a million
    finished futures leave nothing behind.
    """

    def __init__(
        self,
        clock: Clock,
        expire: Callable[[T], None],
        *,
        name: str = "cosyclient-expiry",
        resolution: float = RESOLUTION,
    ) -> None:
        self._resolution = resolution
        self._name = name
        self._clock = clock
        self._expire = expire
        self._lock = threading.Lock()
        # Guarded by _lock, like all below.
        self._buckets: dict[int, set[T]] = {}
        self._running: _Run | None = None
        self._next: int | None = None
        self._closed = False

    def add(self, waiter: T) -> None:
        """Expire *waiter* when its deadline passes."""
        slot = self._slot(waiter)
        with self._lock:
            if self._closed:
                return
            waiter.scheduled = True
            self._buckets.setdefault(slot, set()).add(waiter)
            run, first = self._running, self._next is None or slot < self._next
        if run is None:
            self._start()
        elif first:
            open_gate(run.gate)
        if waiter.done:
            # Resolved before it was scheduled, so nobody else will say so.
            self.discard(waiter)

    def discard(self, waiter: T) -> None:
        """Stop watching *waiter*, if that was asked for; it has been resolved."""
        if not waiter.scheduled:
            return
        slot = self._slot(waiter)
        with self._lock:
            bucket = self._buckets.get(slot)
            if bucket is not None:
                bucket.discard(waiter)
                if not bucket:
                    del self._buckets[slot]

    @property
    def on_own_thread(self) -> bool:
        """Return whether the calling thread is the timer, as in a callback: all other deadlines wait for it."""
        return self._running is not None and self._running.thread == threading.get_ident()

    def close(self) -> None:
        """Stop the thread, if there is one, and forget everybody."""
        with self._lock:
            self._closed = True
            self._buckets.clear()
            run = self._running
        if run is not None:
            open_gate(run.gate)
            if run.thread != threading.get_ident():
                run.over.wait(threading.TIMEOUT_MAX)

    def _start(self) -> None:
        run = _Run()
        try:
            with self._lock:
                if self._running is not None:
                    return
                self._running = run
            start_thread(partial(self._run, run), self._name)
        except RuntimeError:
            # No thread can be started, as at the end of the interpreter. Whoever waits looks at the time himself.
            self._running = None
        except BaseException:
            # Interrupted. Should the thread run all the same, it finds another in its place, and ends.
            if self._running is run:
                self._running = None
            raise

    def _slot(self, waiter: T) -> int:
        return int(waiter.deadline.at / self._resolution) + 1

    def _run(self, run: _Run) -> None:
        run.thread = threading.get_ident()
        try:
            while (pause := self._pause(run)) is not None:
                told = pause <= 0 or self._clock.wait(run.gate, pause)
                for waiter in self._due():
                    invoke_callback(self._expire, waiter)
                if not told and self._next is None and self._rest(run):
                    return
        finally:
            # The next thread of the system may be given the same number.
            run.thread = None
            run.over.set()

    def _pause(self, run: _Run) -> float | None:
        """Return the seconds until something is due, or those to stay if there is nothing; None to end."""
        with self._lock:
            if self._closed or self._running is not run:
                return None
            self._next = min(self._buckets, default=None)
            if self._next is None:
                return IDLE
            # Looked at again before: what was scheduled longest may be forgotten by now, and nobody says so.
            return min(IDLE, self._next * self._resolution - self._clock.now())

    def _due(self) -> Collection[T]:
        with self._lock:
            if self._next is None or self._next * self._resolution > self._clock.now():
                return ()
            return self._buckets.pop(self._next, ())

    def _rest(self, run: _Run) -> bool:
        """End, unless something came in meanwhile: an idle client keeps no thread of ours."""
        with self._lock:
            if self._buckets or self._running is not run:
                return False
            self._running = None
            return True

    def __repr__(self) -> str:
        return f"<DeadlineTimer {sum(map(len, self._buckets.values()))} pending>"
