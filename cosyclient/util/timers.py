"""A timer: expires what no thread waits for when its deadline passes."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from cosyclient.clock import Flag, closed_gate, open_gate
from cosyclient.events import invoke_callback
from cosyclient.util.threads import IDLE_TIMEOUT, start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from cosyclient.clock import Clock, Deadline

RESOLUTION: Final = 0.02
"""Seconds that one bucket covers: a future expires at most this late, and all its items expire together."""


class Timed(Protocol):
    """What a `DeadlineTimer` expires at ``deadline`` unless it is ``done`` before; the timer sets ``scheduled``."""

    deadline: Deadline
    scheduled: bool

    @property
    def done(self) -> bool:
        """Return whether it is resolved, so that it need not expire."""


T = TypeVar("T", bound=Timed)


class _TimerThread:
    """One thread of the timer: the gate it waits on, its identifier while it runs, and a flag for its end."""

    def __init__(self) -> None:
        self.gate = closed_gate()
        self.ended = Flag()
        self.ident: int | None = None


class DeadlineTimer(Generic[T]):
    """Calls *expire* with each item whose deadline has passed, on one thread, which ends when it is idle.

    Items are kept in buckets of *resolution* seconds, so that adding and discarding cost one set operation each, and
    finished items leave nothing behind.
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
        self._thread: _TimerThread | None = None
        self._next: int | None = None
        self._closed = False

    def add(self, item: T) -> None:
        """Expire *item* when its deadline passes; call `discard` when it is resolved before."""
        key = self._bucket_of(item)
        with self._lock:
            if self._closed:
                return
            item.scheduled = True
            self._buckets.setdefault(key, set()).add(item)
            thread, first = self._thread, self._next is None or key < self._next
        if thread is None:
            self._start()
        elif first:
            open_gate(thread.gate)
        if item.done:
            # It was resolved before it was scheduled, and the `discard` of that moment did nothing.
            self.discard(item)

    def discard(self, item: T) -> None:
        """Remove *item*, which has been resolved; does nothing if it was never added."""
        self.discard_all((item,))

    def discard_all(self, items: Iterable[T]) -> None:
        """Remove *items*, as `discard` does, taking the lock once for all."""
        scheduled = [item for item in items if item.scheduled]
        if not scheduled:
            return
        with self._lock:
            for item in scheduled:
                key = self._bucket_of(item)
                bucket = self._buckets.get(key)
                if bucket is not None:
                    bucket.discard(item)
                    if not bucket:
                        del self._buckets[key]

    @property
    def on_own_thread(self) -> bool:
        """Return whether the calling thread is the timer's, as in a callback: meanwhile no other item expires."""
        return self._thread is not None and self._thread.ident == threading.get_ident()

    def close(self) -> None:
        """Remove all items, stop the thread and wait for its end."""
        with self._lock:
            self._closed = True
            self._buckets.clear()
            thread = self._thread
        if thread is not None:
            open_gate(thread.gate)
            if thread.ident != threading.get_ident():
                thread.ended.wait(threading.TIMEOUT_MAX)

    def _start(self) -> None:
        thread = _TimerThread()
        try:
            with self._lock:
                if self._thread is not None:
                    return
                self._thread = thread
            start_thread(partial(self._run, thread), self._name)
        except RuntimeError:
            # No thread can be started, as at interpreter exit. Threads that wait for an item keep its deadline
            # themselves.
            self._thread = None
        except BaseException:
            # Interrupted. If the thread was started all the same, it finds that it is not `_thread`, and ends.
            if self._thread is thread:
                self._thread = None
            raise

    def _bucket_of(self, item: T) -> int:
        return int(item.deadline.at / self._resolution) + 1

    def _run(self, thread: _TimerThread) -> None:
        thread.ident = threading.get_ident()
        try:
            while (pause := self._next_wait(thread)) is not None:
                woken = pause <= 0 or self._clock.wait(thread.gate, pause)
                for item in self._pop_due():
                    invoke_callback(self._expire, item)
                if not woken and self._next is None and self._end_if_idle(thread):
                    return
        finally:
            # The system may give a later thread the same identifier.
            thread.ident = None
            thread.ended.set()

    def _next_wait(self, thread: _TimerThread) -> float | None:
        """Return the seconds until a bucket is due, or those to stay idle if there is none; None to end."""
        with self._lock:
            if self._closed or self._thread is not thread:
                return None
            self._next = min(self._buckets, default=None)
            if self._next is None:
                return IDLE_TIMEOUT
            # No longer than when idle: the earliest items may have been discarded, which does not wake this thread.
            return min(IDLE_TIMEOUT, self._next * self._resolution - self._clock.now())

    def _pop_due(self) -> Collection[T]:
        with self._lock:
            if self._next is None or self._next * self._resolution > self._clock.now():
                return ()
            return self._buckets.pop(self._next, ())

    def _end_if_idle(self, thread: _TimerThread) -> bool:
        """Return whether to end: nothing was added meanwhile. An idle client keeps no thread."""
        with self._lock:
            if self._buckets or self._thread is not thread:
                return False
            self._thread = None
            return True

    def __repr__(self) -> str:
        return f"<DeadlineTimer {sum(map(len, self._buckets.values()))} pending>"
