"""One origin's connections: urllib3's pool with bounded waits, bounded ages and places that cannot leak."""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import threading
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast

import urllib3

from cosyclient.clock import closed_gate, open_gate
from cosyclient.transports.base import PoolStats
from cosyclient.transports.http.connection import Connection
from cosyclient.transports.sockets import Aborted

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.clock import Clock
    from cosyclient.transports.dialer import Dialer
    from cosyclient.transports.sockets import StepTimeouts


class Pooled(Protocol):
    """Be what a pool wants to know of a connection."""

    opened: int
    """How often it was opened."""
    aborted: bool
    """Whether it was shut down under its user."""

    @property
    def is_closed(self) -> bool:
        """Return whether there is no connection."""

    def worn(self, now: float, idle_limit: float) -> bool:
        """Return whether it idled or lived too long to be used again."""

    def close(self) -> None:
        """Close it."""

    def abort(self) -> None:
        """Shut it down under its user."""


C = TypeVar("C", bound=Pooled)
_AGE_SPREAD: Final = 0.2


def lifetimes(max_age: float, uniform: Callable[[float, float], float]) -> Callable[[], float]:
    """Return what draws how long each connection may live, *max_age* seconds ± 20 %, so that not all end at once."""
    return lambda: max_age * uniform(1 - _AGE_SPREAD, 1 + _AGE_SPREAD)


class Place(Generic[C]):
    """Stand for the right to one connection and, once there is one, that connection; made before it is taken."""

    __slots__ = ("connection", "held")

    def __init__(self) -> None:
        self.connection: C | None = None
        self.held = False


class Places(queue.LifoQueue[Any], Generic[C]):
    """Hold a pool's places: the connection used last is taken first, a new one is opened only when none idles.

    urllib3 expects a queue here, and would do with a plain one. That one cannot wake who waits when the pool closes,
    names neither the lent connections, to wake their users, nor the idle ones, to let go of those that idled too
    long, waits by a clock of its own, loses a place to an interrupt, and in a forked child waits for a lock that nobody
    holds any more. So only the base class's name is used.
    """

    def __init__(self, maxsize: int, clock: Clock, idle_limit: float) -> None:
        self.maxsize = maxsize
        self._clock = clock
        self._idle_limit = idle_limit
        self._owner = os.getpid()
        # Places whose response was dropped unclosed, left by a finalizer, which must not wait for a lock.
        self.orphans: collections.deque[Place[C]] = collections.deque()
        self._gates: set[threading.Lock] = set()  # of those who wait for a place
        self._lock = threading.Lock()
        # Guarded by _lock, like all below; what is neither idle nor taken may be opened.
        self._idle: list[C] = []
        self._taken: set[Place[C]] = set()
        self._opened = 0
        self._shut = False

    def take(self, place: Place[C], timeout: float) -> None:
        """Fill *place* within *timeout* seconds: with an idle connection, or with none, to open one.

        Raises `queue.Empty` when there is none. Whatever happens, *place* is to be given back.
        """
        if self._owner != os.getpid():
            # The lock may be held by a thread that does not exist in a forked child.
            raise RuntimeError("this transport was made before fork(): make a new one in the child")
        self._collect()
        end = None
        while not self._try_take(place):
            now = self._clock.now()
            end = now + timeout if end is None else end
            if now >= end or self._shut:
                raise queue.Empty
            gate = closed_gate()
            try:
                self._gates.add(gate)
                # Looked at again now that the gate can be seen; who gives back does it the other way round.
                if not self._available():
                    self._clock.wait(gate, end - now)
            finally:
                self._gates.discard(gate)

    def fill(self, place: Place[C], connection: C) -> None:
        """Put *connection* into *place*, so that `shut` can wake its user."""
        # First the connection, then the mark; `shut` does it the other way round.
        place.connection = connection
        if self._shut:
            raise Aborted

    def give_back(self, place: Place[C], *, reusable: bool) -> None:
        """Take *place* back, and its connection if that is *reusable* and open; again does nothing."""
        if not place.held:
            return
        connection = place.connection
        # One that was severed with the last byte read would be so for whoever is lent it next.
        if connection is not None and (connection.aborted or not reusable):
            connection.close()
        with self._lock:
            keep = connection is not None and not connection.is_closed and not self._shut
            old = self._idle[0] if self._idle and self._idle[0].worn(self._clock.now(), self._idle_limit) else None
            if place.held:
                # No call from here on.
                place.held, place.connection = False, None
                self._taken -= {place}
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

    def shut(self) -> tuple[list[C], list[C]]:
        """Let nobody take a place any more, wake who waits, and return the idle and the lent connections."""
        with self._lock:
            self._shut = True
            idle, self._idle = self._idle, []
            self._opened += sum(connection.opened for connection in idle)
            lent = [place.connection for place in self._taken if place.connection is not None]
        for gate in tuple(self._gates):
            open_gate(gate)
        return idle, lent

    def stats(self) -> PoolStats:
        """Return a snapshot."""
        self._collect()
        with self._lock:
            lent = [place.connection for place in self._taken if place.connection is not None]
            return PoolStats(
                in_use=len(self._taken),
                idle=len(self._idle),
                opened=self._opened + sum(connection.opened for connection in (*self._idle, *lent)),
                limit=self.maxsize,
            )

    def get(self, block: bool = True, timeout: float | None = None) -> C:  # noqa: ARG002 - urllib3's signature
        """Hand out what idles: urllib3's finalizer closes what it gets.

        It runs at the interpreter's exit too, when other exit handlers may still call: so it gets no place. In a forked
        child the lock may be held by a thread that does not exist there; closing tells the parent's peer nothing.
        """
        with self._lock if self._owner == os.getpid() else contextlib.nullcontext():
            if not self._idle:
                raise queue.Empty
            connection = self._idle.pop()
            self._opened += connection.opened
            return connection

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        """Do nothing: urllib3 fills its queue with places, which are here already."""

    def _try_take(self, place: Place[C]) -> bool:
        with self._lock:
            if not self._available():
                return False
            # No call from here on.
            self._taken |= {place}
            place.held = True
            if self._idle:
                place.connection = self._idle[-1]
                del self._idle[-1]
            return True

    def _available(self) -> bool:
        return not self._shut and (bool(self._idle) or len(self._taken) < self.maxsize)

    def _collect(self) -> None:
        while self.orphans:
            with contextlib.suppress(IndexError, ValueError):  # another thread was faster
                orphan = self.orphans[0]
                self.give_back(orphan, reusable=False)
                self.orphans.remove(orphan)


class Pool(urllib3.HTTPConnectionPool):
    """Lend connections to one origin; every wait for one ends, and every one lent is to be given back."""

    ConnectionCls = Connection
    pool: Places[Connection]

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

    def _new_pool_queue(self, maxsize: int) -> Places[Connection]:
        return Places(maxsize, self._clock, self._idle_limit)

    def borrow(self, place: Place[Connection], timeouts: StepTimeouts) -> Connection:
        """Take *place* within the pool step and the deadline; raises `queue.Empty` or `Severed` otherwise.

        The connection comes open if it was used before and is fit to be used again, closed otherwise. Whatever happens,
        *place* is to be given back.
        """
        self.pool.take(place, timeouts.within_deadline(timeouts.pool))
        connection = place.connection
        if connection is None:
            connection = cast("Connection", self._new_conn())
        elif connection.worn(self._clock.now(), self._idle_limit) or not connection.is_connected:
            connection.close()
        self.pool.fill(place, connection)
        connection.begin(timeouts)
        return connection

    def give_back(self, place: Place[Connection], *, reusable: bool) -> None:
        """Return the place; the connection stays open only if it is *reusable*; again does nothing."""
        if place.connection is not None:
            place.connection.idle_since = self._clock.now()
        self.pool.give_back(place, reusable=reusable)

    def shut(self) -> None:
        """Close what idles and wake whoever waits for or uses a connection."""
        idle, lent = self.pool.shut()
        for connection in idle:
            connection.close()
        for connection in lent:
            connection.abort()
