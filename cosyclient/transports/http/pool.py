"""The connections to one origin: urllib3's pool, whose queue is `ConnectionSlots`."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any, cast

import urllib3

from cosyclient.transports.http.connection import Connection
from cosyclient.transports.slots import ConnectionSlots

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.clock import Clock
    from cosyclient.transports.dialer import Dialer
    from cosyclient.transports.slots import Slot
    from cosyclient.transports.sockets import StepTimeouts


class _SlotQueue(queue.LifoQueue[Any]):
    """Be the queue that urllib3 expects of its pool; only its finalizer uses it, to close what idles."""

    def __init__(self, slots: ConnectionSlots[Connection]) -> None:
        # No queue of its own is made, hence no lock that an interrupt or a fork could leave held.
        self._slots = slots

    def get(self, block: bool = True, timeout: float | None = None) -> Connection:  # noqa: ARG002 - urllib3's signature
        """Return an idle connection to be closed; raises `queue.Empty`.

        It issues no slot: urllib3 calls it at the interpreter's exit too, when other exit handlers may still send.
        """
        connection = self._slots.pop_idle()
        if connection is None:
            raise queue.Empty
        return connection

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        """Do nothing: urllib3 fills its queue with empty entries, and the slots exist already."""


class Pool(urllib3.HTTPConnectionPool):
    """Lend connections to one origin; every wait for one is bounded, and its user releases every slot it acquires."""

    ConnectionCls = Connection

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
        self.slots: ConnectionSlots[Connection] = ConnectionSlots(connections, clock, idle_limit)
        super().__init__(
            dialer.host, dialer.port, maxsize=connections, block=True, dialer=dialer, clock=clock, lifetime=lifetime
        )

    def _new_pool_queue(self, maxsize: int) -> queue.LifoQueue[Any]:  # noqa: ARG002 - urllib3's signature
        return _SlotQueue(self.slots)

    def acquire(self, slot: Slot[Connection], timeouts: StepTimeouts) -> Connection:
        """Fill *slot* within the pool step and the deadline, and return its connection.

        The connection is open if it was used before and can be used again, otherwise closed. Whatever happens, the
        caller releases *slot* to ``slots``. Raises `queue.Empty` or `TimeoutError` when no slot came free, `Aborted`
        when the pool is closed.
        """
        if not self.slots.try_acquire(slot):
            self.slots.acquire(slot, timeouts.within_deadline(timeouts.pool))
        connection = slot.connection
        if connection is None:
            connection = cast("Connection", self._new_conn())
        elif connection.expired(self._clock.now(), self._idle_limit) or not connection.is_connected:
            connection.close()
        self.slots.mark_in_use(slot, connection)
        connection.start_request(timeouts)
        return connection
