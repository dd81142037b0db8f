"""The compartment that issues permits to be in flight (or to wait in a queue), first come, first served."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from cosyclient.clock import closed_gate, open_gate
from cosyclient.errors import ClientClosed, CosyError, Rejected

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable

    from cosyclient.clock import Clock, Deadline

# A lock refuses to wait for infinity; a wait without a deadline is looked at once an hour.
_LONGEST_WAIT = 3600.0


class _Waiter:
    """Stand in the line for a permit; the bulkhead's lock guards every field."""

    __slots__ = ("gate", "granted", "holder", "refusal")

    def __init__(self, holder: Hashable) -> None:
        # One gate each: a release wakes the one whose turn it is, not the herd.
        self.gate = closed_gate()
        self.holder = holder
        self.granted = False
        self.refusal: CosyError | None = None


class Bulkhead:
    """Issue at most *limit* permits at once, in the order they were asked for; safe to share between threads.

    A permit is its holder's, any hashable object; one that holds a permit already is given no second one. Whoever
    acquires must `release` in a ``finally``: releasing for who holds none does nothing, so an interrupted acquisition
    needs no thought. *name* says in messages what is limited and *full* is the error raised when no permit came free in
    time.
    """

    def __init__(self, limit: int, clock: Clock, *, name: str, full_error: type[Rejected]) -> None:
        self._clock = clock
        self._name = name
        self._full = full_error
        self._lock = threading.Lock()  # guards everything below
        self._limit = _checked(limit)
        self._held: set[Hashable] = set()
        self._peak = 0
        self._closed = False
        self._line: OrderedDict[_Waiter, None] = OrderedDict()
        # Out of the line and to be woken; left here by an interrupt, they are woken by the next release.
        self._served: list[_Waiter] = []

    @property
    def limit(self) -> int:
        """Return how many permits exist."""
        return self._limit

    @property
    def in_use(self) -> int:
        """Return how many permits are out; above ``limit`` for a while after the limit shrank."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """Return how many callers stand in line."""
        return len(self._line)

    @property
    def peak(self) -> int:
        """Return the most permits that were ever out at once."""
        return self._peak

    def acquire(self, deadline: Deadline, holder: Hashable) -> None:
        """Give *holder* a permit, waiting in line for it until *deadline*.

        A free permit is handed out without a look at the clock. Raises the bulkhead's *full* error at the deadline, and
        `ClientClosed` when the bulkhead is or gets closed; *holder* holds none then.
        """
        if self.try_acquire(holder):
            return
        waiter = _Waiter(holder)
        try:
            with self._lock:
                if self._closed:
                    raise self._closed_error()
                self._line[waiter] = None
                self._grant_locked()
            self._wait(waiter, deadline)
        except BaseException:
            # Timed out or interrupted: leave no trace and pass the turn on.
            try:
                self._leave(waiter)
            except BaseException:
                self._leave(waiter)
                raise
            raise

    def try_acquire(self, holder: Hashable) -> bool:
        """Give *holder* a permit if one is free, nobody waits for it and the bulkhead is open; return whether."""
        with self._lock:
            # Written out: every text comes through here.
            in_use = len(self._held) + 1
            if self._line or in_use > self._limit or self._closed:
                return False
            if in_use > self._peak:
                self._peak = in_use
            self._held.add(holder)
            return True

    def release(self, holder: Hashable) -> None:
        """Take back *holder*'s permit, if it has one."""
        with self._lock:
            self._held.discard(holder)
            if self._line or self._served:
                self._grant_locked()

    def release_all(self, holders: Collection[Hashable]) -> None:
        """Take back the permits of all *holders* that have one."""
        with self._lock:
            self._held.difference_update(holders)
            if self._line or self._served:
                self._grant_locked()

    def resize(self, limit: int) -> None:
        """Change how many permits exist; those out above a smaller limit stay out until they are released."""
        with self._lock:
            self._limit = _checked(limit)
            self._grant_locked()

    def close(self) -> None:
        """Refuse whoever waits and whoever comes with `ClientClosed`; permits that are out can still be released."""
        with self._lock:
            self._closed = True
            refused = list(self._line)
            for waiter in refused:
                waiter.refusal = self._closed_error()
            self._line.clear()
        for waiter in refused:
            open_gate(waiter.gate)

    def _wait(self, waiter: _Waiter, deadline: Deadline) -> None:
        while not waiter.granted:
            if waiter.refusal is not None:
                raise waiter.refusal
            remaining = deadline.remaining
            if remaining <= 0.0:
                raise self._full(
                    f"{self._name}: no permit came free in time ({self.in_use} of {self._limit} in use,"
                    f" {self.waiting} waiting)"
                )
            self._clock.wait(waiter.gate, min(remaining, _LONGEST_WAIT))

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            self._line.pop(waiter, None)
            self._held.discard(waiter.holder)
            self._grant_locked()

    def _grant_locked(self) -> None:
        while self._line and len(self._held) < self._limit:
            waiter = next(iter(self._line))
            # No call from here on, so all of it happens or nothing.
            del self._line[waiter]
            self._held |= {waiter.holder}
            self._served += [waiter]
            waiter.granted = True
            if len(self._held) > self._peak:
                self._peak = len(self._held)
        while self._served:
            open_gate(self._served[-1].gate)
            del self._served[-1]

    def _closed_error(self) -> ClientClosed:
        return ClientClosed(f"{self._name}: closed")

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return (
            f"<Bulkhead {self._name}: {self.in_use} of {self._limit} in use,"
            f" {len(self._line)} waiting, peak {self._peak}{closed}>"
        )


def _checked(limit: int) -> int:
    if limit < 1:
        raise ValueError(f"there must be at least 1 permit, got {limit!r}")
    return limit
