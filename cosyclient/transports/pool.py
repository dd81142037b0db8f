"""One origin's connections: urllib3's pool with bounded waits, bounded ages and places that cannot leak."""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import threading
from typing import TYPE_CHECKING, Any, cast

import urllib3

from cosyclient.transports.base import PoolStats
from cosyclient.transports.connection import Connection
from cosyclient.transports.guard import Severed

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.clock import Clock
    from cosyclient.transports.dialing import Dialer
    from cosyclient.transports.guard import Spans


class Places(queue.LifoQueue[Any]):
    """Hold a pool's places: the connection used last is taken first, a new one is opened only when none idles.

    urllib3 expects a queue here, and would do with a plain one. That one cannot wake who waits when the pool closes,
    names neither the lent connections, to wake their users, nor the idle ones, to let go of those that idled too
    long, waits by a clock of its own, and in a forked child waits for a lock that nobody holds any more. So only the
    base class's name is used.
    """

    def __init__(self, maxsize: int, clock: Clock, idle_limit: float) -> None:
        self.maxsize = maxsize
        self._clock = clock
        self._idle_limit = idle_limit
        self._owner = os.getpid()
        # Connections whose response was dropped unclosed, left by a finalizer, which must not wait for a lock.
        self.orphans: collections.deque[Connection] = collections.deque()
        # Guards the fields below; free + idle + taken = maxsize.
        self._changed = threading.Condition(threading.Lock())
        self._idle: list[Connection] = []
        self._lent: set[Connection] = set()
        self._free = 0
        self._opened = 0
        self._shut = False

    def get(self, block: bool = True, timeout: float | None = None) -> Connection | None:
        """Take a place within *timeout* seconds: an idle connection, or ``None`` for the right to open one.

        Raises `queue.Empty` when there is none.
        """
        if self._owner != os.getpid():
            return self._of_parent(block)
        if not block:
            return self._to_close()
        with contextlib.suppress(IndexError):
            while self.orphans:
                orphan = self.orphans.popleft()
                orphan.close()
                self.put(orphan)
        end = None
        with self._changed:
            while not self._shut:
                if self._idle:
                    return self._idle.pop()
                if self._free:
                    self._free -= 1
                    return None
                now = self._clock.now()
                end = now + (timeout or 0.0) if end is None else end
                if now >= end:
                    break
                self._clock.wait(self._changed, end - now)
            raise queue.Empty

    def lend(self, connection: Connection) -> None:
        """Remember that *connection* fills a taken place, so that `shut` can wake its user."""
        with self._changed:
            self._lent.add(connection)
            shut = self._shut
        if shut:
            raise Severed("shut down from our side")

    def put(self, item: Connection | None, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002 - urllib3's signature
        """Give a place back, with its connection if that is still open."""
        with self._changed:
            if self._free + len(self._idle) >= self.maxsize:
                raise queue.Full
            keep = item is not None and not item.is_closed and not self._shut
            if item is not None:
                self._lent.discard(item)
                if keep:
                    self._idle.append(item)
                else:
                    self._opened += item.opened
            self._free += not keep
            old = self._idle.pop(0) if self._idle and self._idle[0].worn(self._clock.now(), self._idle_limit) else None
            if old is not None:
                self._opened += old.opened
                self._free += 1
            self._changed.notify()
        if item is not None and not keep:
            item.close()
        if old is not None:
            old.close()

    def shut(self) -> tuple[list[Connection], list[Connection]]:
        """Let nobody take a place any more, wake who waits, and return the idle and the lent connections."""
        with self._changed:
            self._shut = True
            idle, self._idle = self._idle, []
            self._free += len(idle)
            self._opened += sum(connection.opened for connection in idle)
            self._changed.notify_all()
            return idle, list(self._lent)

    def stats(self) -> PoolStats:
        """Return a snapshot."""
        with self._changed:
            held = (*self._idle, *self._lent)
            return PoolStats(
                in_use=self.maxsize - self._free - len(self._idle),
                idle=len(self._idle),
                opened=self._opened + sum(connection.opened for connection in held),
                limit=self.maxsize,
            )

    def _to_close(self) -> Connection:
        # urllib3's finalizer, which alone does not wait, closes what it gets. It runs at the interpreter's exit too,
        # when other exit handlers may still call: so it gets the connections that idle, and no place.
        with self._changed:
            if not self._idle:
                raise queue.Empty
            connection = self._idle.pop()
            self._free += 1
            self._opened += connection.opened
            return connection

    def _of_parent(self, block: bool) -> Connection:
        # A forked child. The lock may be held by a thread that does not exist here, so it is left alone. urllib3's
        # finalizer asks without blocking and closes what it gets, which tells the parent's peer nothing.
        if block:
            raise RuntimeError("this transport was made before fork(): make a new one in the child")
        try:
            return self._idle.pop()
        except IndexError:
            raise queue.Empty from None


class Pool(urllib3.HTTPConnectionPool):
    """Lend connections to one origin; every wait for one ends, and every one lent is to be given back."""

    ConnectionCls = Connection
    pool: Places

    def __init__(
        self,
        dialer: Dialer,
        *,
        connections: int,
        idle_limit: float,
        lifetime: Callable[[], float],
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._idle_limit = idle_limit
        super().__init__(
            dialer.host, dialer.port, maxsize=connections, block=True, dialer=dialer, clock=clock, lifetime=lifetime
        )

    def _new_pool_queue(self, maxsize: int) -> Places:
        return Places(maxsize, self._clock, self._idle_limit)

    def borrow(self, spans: Spans) -> Connection:
        """Take a place within the pool step and the deadline; raise `queue.Empty` or `Severed` otherwise.

        The connection comes open if it was used before and is fit to be used again, closed otherwise.
        """
        connection = self.pool.get(timeout=spans.left(spans.pool))
        try:
            if connection is None:
                connection = cast("Connection", self._new_conn())
            elif connection.worn(self._clock.now(), self._idle_limit) or not connection.is_connected:
                connection.close()
            self.pool.lend(connection)
        except BaseException:
            self.give_back(connection, reusable=False)
            raise
        connection.begin(spans)
        return connection

    def give_back(self, connection: Connection | None, *, reusable: bool) -> None:
        """Return the place; the connection stays open only if it is *reusable*."""
        try:
            if connection is not None:
                connection.idle_since = self._clock.now()
                if not reusable:
                    connection.close()
        finally:
            self.pool.put(connection)

    def shut(self) -> None:
        """Close what idles and wake whoever waits for or uses a connection."""
        idle, lent = self.pool.shut()
        for connection in idle:
            connection.close()
        for connection in lent:
            connection.sever()
