"""A timer: what no thread waits for is still looked after at its deadline."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.clock import Clock, Deadline

GRAIN: Final = 0.02
"""Seconds between two looks: futures expire at most this late, and one look serves all that fall into it."""
_IDLE: Final = 30.0
"""Seconds the thread outlives the last watched future."""


class Timed(Protocol):
    """Be watched until ``deadline``, unless ``done`` before; ``watched`` belongs to the timer."""

    deadline: Deadline
    watched: bool

    @property
    def done(self) -> bool:
        """Return whether there is nothing to watch for any more."""


T = TypeVar("T", bound=Timed)


class Expiry(Generic[T]):
    """Call *expire* with everything watched whose deadline has passed, from one thread started when first needed.

    They sit in buckets of *grain* seconds, so watching and forgetting cost a set operation, and a million
    finished futures leave nothing behind.
    """

    def __init__(
        self, clock: Clock, expire: Callable[[T], None], *, name: str = "cosyclient-expiry", grain: float = GRAIN
    ) -> None:
        self._grain = grain
        self._name = name
        self._clock = clock
        self._expire = expire
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        # Guarded by _lock, like the three below.
        self._buckets: dict[int, set[T]] = {}
        self._thread: threading.Thread | None = None
        self._next: int | None = None
        self._closed = False

    def watch(self, waiter: T) -> None:
        """Expire *waiter* when its deadline passes."""
        slot = self._slot(waiter)
        with self._lock:
            if self._closed:
                return
            waiter.watched = True
            self._buckets.setdefault(slot, set()).add(waiter)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            elif self._next is None or slot < self._next:
                self._changed.notify()
        if waiter.done:
            # Resolved before it was watched, so nobody else will say so.
            self.forget(waiter)

    def forget(self, waiter: T) -> None:
        """Stop watching *waiter*, if that was asked for; it has been resolved."""
        if not waiter.watched:
            return
        slot = self._slot(waiter)
        with self._lock:
            bucket = self._buckets.get(slot)
            if bucket is not None:
                bucket.discard(waiter)
                if not bucket:
                    del self._buckets[slot]

    @property
    def on_timer(self) -> bool:
        """Return whether the calling thread is the timer, as in a callback: all other deadlines wait for it."""
        return self._thread is not None and self._thread is threading.current_thread()

    def close(self) -> None:
        """Stop the thread, if there is one, and forget everybody."""
        with self._lock:
            self._closed = True
            self._buckets.clear()
            thread, self._thread = self._thread, None
            self._changed.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _slot(self, waiter: T) -> int:
        return int(waiter.deadline.at / self._grain) + 1

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    return
                self._next = min(self._buckets, default=None)
                if self._next is None:
                    # Nothing to watch: stay a while, then end, so that an idle client keeps no thread of ours.
                    if not self._clock.wait(self._changed, _IDLE) and not self._buckets:
                        self._thread = None
                        return
                    continue
                pause = self._next * self._grain - self._clock.now()
                if pause > 0:
                    self._clock.wait(self._changed, pause)
                    continue
                due = self._buckets.pop(self._next)
            for waiter in due:
                self._expire(waiter)

    def __repr__(self) -> str:
        return f"<Expiry {sum(map(len, self._buckets.values()))} watched>"
