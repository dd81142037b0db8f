"""The slots of a connection pool: one for each connection it may hold, each wait bounded, none lost to an interrupt.

The HTTP and the WebSocket transport both take their connections from here.
"""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from cosyclient.clock import closed_gate, open_gate
from cosyclient.transports.base import PoolStats
from cosyclient.transports.sockets import Aborted

if TYPE_CHECKING:
    from cosyclient.clock import Clock
    from cosyclient.transports.pooled_connection import PooledConnection


C = TypeVar("C", bound="PooledConnection")


class Slot(Generic[C]):
    """Hold the right to one connection and, once there is one, that connection.

    Its user makes it before `ConnectionSlots.acquire` fills it, and releases it whatever happens.
    """

    __slots__ = ("connection", "held")

    def __init__(self) -> None:
        self.connection: C | None = None
        self.held = False


class ConnectionSlots(Generic[C]):
    """Issue at most *limit* slots; the connection used last is reused first, a new one is opened when none is idle.

    Not a `queue.LifoQueue`, because that cannot wake waiting threads when the pool closes, does not know the
    connections in use (to abort them) nor the idle ones (to close what idled too long), waits by its own clock, loses a
    slot to an interrupt, and may wait for ever in a forked child.
    """

    def __init__(self, limit: int, clock: Clock, idle_limit: float) -> None:
        self._limit = limit
        self._clock = clock
        self._idle_limit = idle_limit
        self._owner = os.getpid()
        self.dropped: collections.deque[Slot[C]] = collections.deque()
        """Slots whose reply was dropped unclosed; a finalizer appends, as it must not wait for a lock."""
        self._gates: set[threading.Lock] = set()  # of the threads that wait for a slot
        self._lock = threading.Lock()
        # Guarded by _lock, like all below; a slot that is neither idle nor in use may open a connection.
        self._idle: list[C] = []
        self._in_use: set[Slot[C]] = set()
        self._opened = 0
        self._closed = False

    def try_acquire(self, slot: Slot[C]) -> bool:
        """Fill *slot* as `acquire` does if one is free; return whether it was."""
        if self._owner != os.getpid():
            # The lock may be held by a thread that does not exist in a forked child.
            raise RuntimeError("this transport was made before fork(): make a new one in the child")
        if self.dropped:
            self._release_dropped()
        with self._lock:
            idle = self._idle
            if self._closed or not (idle or len(self._in_use) < self._limit):
                return False
            # No call from here on.
            self._in_use |= {slot}
            slot.held = True
            if idle:
                slot.connection = idle[-1]
                del idle[-1]
            return True

    def acquire(self, slot: Slot[C], timeout: float) -> None:
        """Fill *slot* within *timeout* seconds: with an idle connection, or with none, then the caller opens one.

        The caller calls `mark_in_use` next, and `release` whatever happens. Raises `queue.Empty` when no slot came
        free, or the pool is closed.
        """
        end = None
        while not self.try_acquire(slot):
            now = self._clock.now()
            end = now + timeout if end is None else end
            if now >= end or self._closed:
                raise queue.Empty
            gate = closed_gate()
            try:
                self._gates.add(gate)
                # Checked again now that the gate can be seen; release() does it the other way round.
                if not self._available():
                    self._clock.wait(gate, end - now)
            finally:
                self._gates.discard(gate)

    def mark_in_use(self, slot: Slot[C], connection: C) -> None:
        """Put *connection* into *slot*, so that `close` can abort it; raises `Aborted` once the pool is closed."""
        # First the connection, then a look at the mark; close() does it the other way round.
        slot.connection = connection
        if self._closed:
            raise Aborted

    def release(self, slot: Slot[C], *, reusable: bool) -> None:
        """Take *slot* back, and keep its connection if that is *reusable* and open; a second call does nothing."""
        if not slot.held:
            return
        connection = slot.connection
        now = self._clock.now()
        if connection is not None:
            connection.idle_since = now
            # Aborted with the last byte read, it would fail the next request.
            if connection.aborted or not reusable:
                connection.close()
        with self._lock:
            keep = connection is not None and not connection.is_closed and not self._closed
            old = self._idle[0] if self._idle and self._idle[0].expired(now, self._idle_limit) else None
            if slot.held:
                # No call from here on.
                slot.held, slot.connection = False, None
                self._in_use -= {slot}
                if connection is not None:
                    if keep:
                        self._idle += [connection]
                    else:
                        self._opened += connection.opened
                if old is not None:
                    self._opened += old.opened
                    del self._idle[0]
        for gate in tuple(self._gates):
            open_gate(gate)
        if connection is not None and not keep:
            connection.close()
        if old is not None:
            old.close()

    def close(self) -> None:
        """Issue no more slots, wake the threads that wait for one, close idle connections and abort those in use."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            self._opened += sum(connection.opened for connection in idle)
            in_use = [slot.connection for slot in self._in_use if slot.connection is not None]
        for gate in tuple(self._gates):
            open_gate(gate)
        for connection in idle:
            connection.close()
        for connection in in_use:
            connection.abort()

    def pop_idle(self) -> C | None:
        """Return an idle connection, no longer one of the pool's, or None; the caller closes it.

        May run in a finalizer of a forked child, where the lock may be held by a thread that does not exist there.
        """
        with self._lock if self._owner == os.getpid() else contextlib.nullcontext():
            if not self._idle:
                return None
            connection = self._idle.pop()
            self._opened += connection.opened
            return connection

    def stats(self) -> PoolStats:
        """Return a snapshot."""
        self._release_dropped()
        with self._lock:
            in_use = [slot.connection for slot in self._in_use if slot.connection is not None]
            return PoolStats(
                in_use=len(self._in_use),
                idle=len(self._idle),
                opened=self._opened + sum(connection.opened for connection in (*self._idle, *in_use)),
                limit=self._limit,
            )

    def _available(self) -> bool:
        return not self._closed and (bool(self._idle) or len(self._in_use) < self._limit)

    def _release_dropped(self) -> None:
        while self.dropped:
            with contextlib.suppress(IndexError, ValueError):  # another thread was faster
                slot = self.dropped[0]
                self.release(slot, reusable=False)
                self.dropped.remove(slot)
