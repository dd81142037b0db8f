"""How many may be in flight, or wait in a queue, at once: a bulkhead issues permits, first come, first served.

A caller acquires a permit, waiting for one until its deadline at most, and releases it in a ``finally``.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from cosyclient.clock import closed_gate, open_gate
from cosyclient.errors import ClientClosed, CosyError, Rejected

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable

    from cosyclient.clock import Clock, Deadline

_LONGEST_WAIT: Final = 3600.0
"""Seconds of one wait: a lock refuses to wait for infinity, so a wait without a deadline is renewed every hour."""


class _Waiter:
    """Hold one caller's place in the queue; the bulkhead's lock guards every field."""

    __slots__ = ("gate", "holder", "issued", "refusal")

    def __init__(self, holder: Hashable) -> None:
        # One gate each: a release wakes only the thread whose turn it is.
        self.gate = closed_gate()
        self.holder = holder
        self.issued = False
        self.refusal: CosyError | None = None


class Bulkhead:
    """Issue at most *limit* permits at once, in the order they were asked for; safe to share between threads.

    A permit belongs to its holder, any hashable object, which never holds two. The caller of `acquire` must `release`
    in a ``finally``; releasing for a holder that has none does nothing, so this is safe after an interrupted `acquire`
    as well. *name* says in messages what is limited, *full_error* is raised when no permit became free in time.
    """

    def __init__(self, limit: int, clock: Clock, *, name: str, full_error: type[Rejected]) -> None:
        self._clock = clock
        self._name = name
        self._full_error = full_error
        self._lock = threading.Lock()  # guards everything below
        self._limit = _checked(limit)
        self._held: set[Hashable] = set()
        self._peak = 0
        self._closed = False
        self._queue: OrderedDict[_Waiter, None] = OrderedDict()
        # Out of the queue and not woken yet; left here by an interrupt, they are woken by the next release.
        self._to_wake: list[_Waiter] = []

    @property
    def limit(self) -> int:
        """Return how many permits exist."""
        return self._limit

    @property
    def in_use(self) -> int:
        """Return how many permits are held; above ``limit`` for a while after the limit shrank."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """Return how many callers wait for a permit."""
        return len(self._queue)

    @property
    def peak(self) -> int:
        """Return the most permits that were ever held at once."""
        return self._peak

    def acquire(self, deadline: Deadline, holder: Hashable) -> None:
        """Give *holder* a permit, waiting for it until *deadline*; `release` it afterwards.

        A free permit is issued without a look at the clock. Raises *full_error* at the deadline, and `ClientClosed`
        when the bulkhead is or gets closed; *holder* holds none then.
        """
        if self.try_acquire(holder):
            return
        waiter = _Waiter(holder)
        try:
            with self._lock:
                if self._closed:
                    raise self._closed_error()
                self._queue[waiter] = None
                self._issue_locked()
            self._wait(waiter, deadline)
        except BaseException:
            # Timed out or interrupted: leave the queue and pass the turn on.
            try:
                self._leave_queue(waiter)
            except BaseException:
                self._leave_queue(waiter)
                raise
            raise

    def try_acquire(self, holder: Hashable) -> bool:
        """Give *holder* a permit if that needs no wait; return whether it has one now."""
        with self._lock:
            # Written out instead of calling `_issue_locked`: every text comes through here.
            in_use = len(self._held) + 1
            if self._queue or in_use > self._limit or self._closed:
                return False
            if in_use > self._peak:
                self._peak = in_use
            self._held.add(holder)
            return True

    def try_acquire_all(self, holders: Collection[Hashable]) -> bool:
        """Give each of *holders* a permit if that needs no wait; return whether all have one now, or none."""
        with self._lock:
            in_use = len(self._held) + len(holders)
            if self._queue or in_use > self._limit or self._closed:
                return False
            self._peak = max(self._peak, in_use)
            self._held.update(holders)
            return True

    def release(self, holder: Hashable) -> None:
        """Take back the permit of *holder*, if it has one."""
        with self._lock:
            self._held.discard(holder)
            if self._queue or self._to_wake:
                self._issue_locked()

    def release_all(self, holders: Collection[Hashable]) -> None:
        """Take back the permits of all *holders* that have one."""
        with self._lock:
            self._held.difference_update(holders)
            if self._queue or self._to_wake:
                self._issue_locked()

    def resize(self, limit: int) -> None:
        """Change how many permits exist; those held above a smaller limit are kept until they are released."""
        with self._lock:
            self._limit = _checked(limit)
            self._issue_locked()

    def close(self) -> None:
        """Reject all waiting and later callers with `ClientClosed`; permits that are held can still be released."""
        with self._lock:
            self._closed = True
            refused = list(self._queue)
            for waiter in refused:
                waiter.refusal = self._closed_error()
            self._queue.clear()
        for waiter in refused:
            open_gate(waiter.gate)

    def _wait(self, waiter: _Waiter, deadline: Deadline) -> None:
        while not waiter.issued:
            if waiter.refusal is not None:
                raise waiter.refusal
            remaining = deadline.remaining
            if remaining <= 0.0:
                raise self._full_error(
                    f"{self._name}: no permit came free in time ({self.in_use} of {self._limit} in use,"
                    f" {self.waiting} waiting)"
                )
            self._clock.wait(waiter.gate, min(remaining, _LONGEST_WAIT))

    def _leave_queue(self, waiter: _Waiter) -> None:
        with self._lock:
            self._queue.pop(waiter, None)
            self._held.discard(waiter.holder)
            self._issue_locked()

    def _issue_locked(self) -> None:
        while self._queue and len(self._held) < self._limit:
            waiter = next(iter(self._queue))
            # No call from here on: an interrupt finds all of it done or nothing.
            del self._queue[waiter]
            self._held |= {waiter.holder}
            self._to_wake += [waiter]
            waiter.issued = True
            if len(self._held) > self._peak:
                self._peak = len(self._held)
        while self._to_wake:
            open_gate(self._to_wake[-1].gate)
            del self._to_wake[-1]

    def _closed_error(self) -> ClientClosed:
        return ClientClosed(f"{self._name}: closed")

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return (
            f"<Bulkhead {self._name}: {self.in_use} of {self._limit} in use,"
            f" {self.waiting} waiting, peak {self._peak}{closed}>"
        )


def _checked(limit: int) -> int:
    if limit < 1:
        raise ValueError(f"there must be at least 1 permit, got {limit!r}")
    return limit
