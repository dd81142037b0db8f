"""One origin's connections: urllib3's pool with bounded waits, bounded ages and places that cannot leak."""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING, Any, cast

import urllib3
from urllib3.connection import HTTPConnection

from cosyclient.transports.base import PoolStats
from cosyclient.transports.guard import GuardedSocket, Severed, Spans, dial
from cosyclient.transports.reply_reader import Inbox

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from cosyclient.clock import Clock


class Connection(HTTPConnection):
    """Connect through `dial`, keep to the spans of the request at hand, and know one's own age."""

    def __init__(
        self, *args: Any, tls: ssl.SSLContext | None, clock: Clock, lifetime: Callable[[], float], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.spans: Spans
        self.inbox: Inbox
        self.guard: GuardedSocket | None = None
        self.severed = False
        self.served = 0
        self.opened = 0
        self.idle_since = 0.0
        self._tls = tls
        self._clock = clock
        self._lifetime = lifetime
        self._worn_at = 0.0

    def connect(self) -> None:
        """Open a guarded socket, TLS handshake included."""
        self.served = 0
        self.opened += 1
        guard = dial(self._dns_host, self.port, self.spans, tls=self._tls, opened=self._watch)
        self._worn_at = self._clock.now() + self._lifetime()
        self.inbox = Inbox(guard.recv)
        self.sock = guard

    def begin(self, spans: Spans) -> None:
        """Put the next request under *spans*."""
        self.spans = spans
        if self.guard is not None:
            self.guard.spans = spans
            self.guard.received = 0

    @property
    def untouched(self) -> bool:
        """Return whether no byte of the reply has come."""
        return self.guard is None or not self.guard.received

    @property
    def is_connected(self) -> bool:
        """Return whether the connection is open and nothing unasked for has arrived on it."""
        return self.sock is not None and self.inbox.empty and self.guard is not None and self.guard.quiet()

    def worn(self, now: float, idle_limit: float) -> bool:
        """Return whether this connection idled or lived too long to be used again."""
        return now - self.idle_since > idle_limit or now >= self._worn_at

    def sever(self) -> None:
        """Shut down whatever socket is in use, now or in a moment, so that its thread wakes."""
        self.severed = True
        if self.guard is not None:
            self.guard.sever()

    def _watch(self, guard: GuardedSocket) -> None:
        # First publish the socket, then look at the flag: sever() does it the other way round, so one of us acts.
        self.guard = guard
        if self.severed:
            raise Severed("the transport was closed")


class Places(queue.LifoQueue[Any]):
    """Hold a pool's places: the connection used last is taken first, a new one is opened only when none idles."""

    def __init__(self, maxsize: int, clock: Clock) -> None:
        # The base class is only a name that urllib3 expects; nothing of it is used.
        self.maxsize = maxsize
        self._clock = clock
        self._owner = os.getpid()
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
                if not block or now >= end:
                    break
                self._clock.wait(self._changed, end - now)
            raise queue.Empty

    def lend(self, connection: Connection) -> None:
        """Remember that *connection* fills a taken place, so that `shut` can wake its user."""
        with self._changed:
            self._lent.add(connection)
            shut = self._shut
        if shut:
            raise Severed("the transport was closed")

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
            self._changed.notify()
        if item is not None and not keep:
            item.close()

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
        host: str,
        port: int,
        *,
        connections: int,
        tls: ssl.SSLContext | None,
        idle_limit: float,
        lifetime: Callable[[], float],
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._idle_limit = idle_limit
        super().__init__(host, port, maxsize=connections, block=True, tls=tls, clock=clock, lifetime=lifetime)

    def _new_pool_queue(self, maxsize: int) -> Places:
        return Places(maxsize, self._clock)

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
                connection.served += 1
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
