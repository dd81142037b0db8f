"""What HTTP and WebSocket connections share: how they are opened, aborted and aged, as `ConnectionSlots` needs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from cosyclient.transports.sockets import Aborted

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.clock import Clock
    from cosyclient.transports.dialer import Dialer
    from cosyclient.transports.sockets import DeadlineSocket, StepTimeouts

_LIFETIME_SPREAD: Final = 0.2


def lifetime_sampler(max_age: float, uniform: Callable[[float, float], float]) -> Callable[[], float]:
    """Return a function that draws a lifetime of *max_age* seconds ± 20 %, so that connections do not end together."""
    return lambda: max_age * uniform(1 - _LIFETIME_SPREAD, 1 + _LIFETIME_SPREAD)


class PooledConnection(ABC):
    """A connection of a pool; one thread uses it, and any other may abort it."""

    timeouts: StepTimeouts
    """Those of the request at hand."""

    def __init__(self, dialer: Dialer, clock: Clock, lifetime: Callable[[], float]) -> None:
        self.opened = 0
        """How often it was opened."""
        self.aborted = False
        self.idle_since = 0.0
        """When its slot was released last."""
        self.socket: DeadlineSocket | None = None
        """The socket, from the moment it connects."""
        self._expires_at = 0.0
        self._dialer = dialer
        self._clock = clock
        self._lifetime = lifetime

    @property
    @abstractmethod
    def is_closed(self) -> bool:
        """Return whether there is no connection."""

    @abstractmethod
    def expired(self, now: float, idle_limit: float) -> bool:
        """Return whether it idled or lived too long to be used again."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""

    def abort(self) -> None:
        """Shut the socket down, or the next one while it is being opened, so that the threads that use it wake."""
        self.aborted = True
        if self.socket is not None:
            self.socket.abort()

    def _dial(self, timeouts: StepTimeouts) -> DeadlineSocket:
        """Open the socket, TLS handshake included, and draw its lifetime; raises `OSError`."""
        self.opened += 1
        socket = self._dialer.dial(timeouts, opened=self._publish_socket, aborted=lambda: self.aborted)
        self._expires_at = self._clock.now() + self._lifetime()
        return socket

    def _publish_socket(self, socket: DeadlineSocket) -> None:
        # First publish the socket, then look at the flag; abort() does it the other way round, so one of the two acts.
        self.socket = socket
        if self.aborted:
            raise Aborted
