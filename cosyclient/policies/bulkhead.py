"""The compartment that issues permits to be in flight (or to wait in a queue), first come, first served."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from cosyclient.errors import ClientClosed, CosyError, Rejected

if TYPE_CHECKING:
    from cosyclient.clock import Clock, Deadline

# A lock refuses to wait for infinity; a wait without a deadline is looked at once an hour.
_LONGEST_WAIT = 3600.0


class _Waiter:
    """Stand in the line for *count* permits; the bulkhead's lock guards every field."""

    __slots__ = ("condition", "count", "granted", "refusal")

    def __init__(self, lock: threading.Lock, count: int) -> None:
        # One condition each: a release wakes the one whose turn it is, not the herd.
        self.condition = threading.Condition(lock)
        self.count = count
        self.granted = False
        self.refusal: CosyError | None = None


class Bulkhead:
    """Issue at most *limit* permits at once, in the order they were asked for; safe to share between threads.

    *name* says in messages what is limited and *full* is the error raised when no permit came free in time. Whoever
    acquires must release in a ``finally``.
    """

    def __init__(self, limit: int, clock: Clock, *, name: str, full: type[Rejected]) -> None:
        self._clock = clock
        self._name = name
        self._full = full
        self._lock = threading.Lock()  # guards everything below
        self._limit = _checked(limit)
        self._in_use = 0
        self._peak = 0
        self._closed = False
        self._line: OrderedDict[_Waiter, None] = OrderedDict()

    @property
    def limit(self) -> int:
        """Return how many permits exist."""
        return self._limit

    @property
    def in_use(self) -> int:
        """Return how many permits are out; above ``limit`` for a while after the limit shrank."""
        return self._in_use

    @property
    def waiting(self) -> int:
        """Return how many callers stand in line."""
        return len(self._line)

    @property
    def peak(self) -> int:
        """Return the most permits that were ever out at once."""
        return self._peak

    def acquire(self, deadline: Deadline, count: int = 1) -> None:
        """Take *count* permits, waiting in line for them until *deadline*.

        Free permits are handed out without a look at the clock. Raises the bulkhead's *full* error at the deadline,
        or at once when *count* exceeds the limit, and `ClientClosed` when the bulkhead is or gets closed.
        """
        with self._lock:
            if self._free_locked(_checked(count)):
                self._take_locked(count)
                return
            if self._closed:
                raise self._closed_error()
            if count > self._limit:
                raise self._too_many_locked(count)
            waiter = _Waiter(self._lock, count)
            try:
                self._line[waiter] = None
                self._wait_locked(waiter, deadline)
            except BaseException:
                # Timed out or interrupted: leave no trace and pass the turn on.
                if waiter.granted:
                    self._in_use -= count
                self._line.pop(waiter, None)
                self._grant_locked()
                raise

    def try_acquire(self, count: int = 1) -> bool:
        """Take *count* permits if they are free, nobody waits for them and the bulkhead is open; return whether."""
        if count < 1:
            _checked(count)
        with self._lock:
            # Written out: every text comes through here.
            in_use = self._in_use + count
            if self._line or in_use > self._limit or self._closed:
                return False
            self._in_use = in_use
            if in_use > self._peak:
                self._peak = in_use
            return True

    def release(self, count: int = 1) -> None:
        """Give *count* permits back; more than are out is a `RuntimeError`."""
        with self._lock:
            if _checked(count) > self._in_use:
                raise RuntimeError(f"{self._name}: {count} permits released, but only {self._in_use} are out")
            self._in_use -= count
            if self._line:
                self._grant_locked()

    def resize(self, limit: int) -> None:
        """Change how many permits exist; those out above a smaller limit stay out until they are released.

        A waiter that wants more than the new limit is refused, as it would be if it came now.
        """
        with self._lock:
            self._limit = _checked(limit)
            for waiter in [waiter for waiter in self._line if waiter.count > limit]:
                self._refuse_locked(waiter, self._too_many_locked(waiter.count))
            self._grant_locked()

    def close(self) -> None:
        """Refuse whoever waits and whoever comes with `ClientClosed`; permits that are out can still be released."""
        with self._lock:
            self._closed = True
            for waiter in list(self._line):
                self._refuse_locked(waiter, self._closed_error())

    def _free_locked(self, count: int) -> bool:
        return not self._line and self._in_use + count <= self._limit and not self._closed

    def _take_locked(self, count: int) -> None:
        self._in_use += count
        if self._in_use > self._peak:
            self._peak = self._in_use

    def _wait_locked(self, waiter: _Waiter, deadline: Deadline) -> None:
        while not waiter.granted:
            if waiter.refusal is not None:
                raise waiter.refusal
            remaining = deadline.remaining
            if remaining <= 0.0:
                raise self._full(
                    f"{self._name}: no permit came free in time ({self._in_use} of {self._limit} in use,"
                    f" {len(self._line)} waiting)"
                )
            self._clock.wait(waiter.condition, min(remaining, _LONGEST_WAIT))

    def _grant_locked(self) -> None:
        while self._line:
            waiter = next(iter(self._line))
            if self._in_use + waiter.count > self._limit:
                return  # the first in line waits for enough; nobody overtakes it
            del self._line[waiter]
            self._take_locked(waiter.count)
            waiter.granted = True
            waiter.condition.notify()

    def _refuse_locked(self, waiter: _Waiter, error: CosyError) -> None:
        del self._line[waiter]
        waiter.refusal = error
        waiter.condition.notify()

    def _too_many_locked(self, count: int) -> Rejected:
        return self._full(f"{self._name}: {count} permits wanted at once, but there are only {self._limit}")

    def _closed_error(self) -> ClientClosed:
        return ClientClosed(f"{self._name}: closed")

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return (
            f"<Bulkhead {self._name}: {self._in_use} of {self._limit} in use,"
            f" {len(self._line)} waiting, peak {self._peak}{closed}>"
        )


def _checked(count: int) -> int:
    if count < 1:
        raise ValueError(f"a count of permits must be at least 1, got {count!r}")
    return count
