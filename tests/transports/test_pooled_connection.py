"""How the connections of a pool are opened, aborted and aged."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, cast

import pytest

from cosyclient.testing import FakeClock
from cosyclient.transports.pooled_connection import PooledConnection, lifetime_sampler
from cosyclient.transports.sockets import Aborted, DeadlineSocket, StepTimeouts

if TYPE_CHECKING:
    from collections.abc import Callable

CLOCK = FakeClock()
TIMEOUTS = StepTimeouts(CLOCK, {}, None)


class OneSocketDialer:
    """Open one end of a socket pair; *meddle* is called just before it is published."""

    def __init__(self, meddle: Callable[[], object] = lambda: None) -> None:
        self.near, self.far = socket.socketpair()
        self.meddle = meddle

    def dial(
        self, timeouts: StepTimeouts, *, opened: Callable[[DeadlineSocket], None], aborted: Callable[[], bool]
    ) -> DeadlineSocket:
        connection = DeadlineSocket(self.near, timeouts)
        self.meddle()
        try:
            opened(connection)
        except BaseException:
            connection.close()
            raise
        return connection


class Connection(PooledConnection):
    is_closed = False

    def __init__(self, dialer: OneSocketDialer) -> None:
        super().__init__(cast("Any", dialer), CLOCK, lambda: 100.0)

    def expired(self, now: float, idle_limit: float) -> bool:
        return now >= self._expires_at

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()


def test_opening_counts_and_draws_a_lifetime() -> None:
    dialer = OneSocketDialer()
    connection = Connection(dialer)
    assert connection._dial(TIMEOUTS) is connection.socket
    assert connection.opened == 1
    assert [connection.expired(CLOCK.now() + age, 60.0) for age in (99.0, 100.0)] == [False, True]
    connection.close()
    dialer.far.close()


@pytest.mark.parametrize("when", ["while it opens", "afterwards"])
def test_an_abort_reaches_the_socket_whenever_it_comes(when: str) -> None:
    """Also one that comes just before the socket is published."""
    dialer = OneSocketDialer()
    connection = Connection(dialer)
    if when == "afterwards":
        connection._dial(TIMEOUTS)
        connection.abort()
        assert connection.socket is not None
        with pytest.raises(Aborted):
            connection.socket.sendall(b"x")
    else:
        dialer.meddle = connection.abort
        with pytest.raises(Aborted):
            connection._dial(TIMEOUTS)
    assert connection.aborted
    connection.close()
    assert dialer.far.recv(1) == b""
    dialer.far.close()


def test_lifetimes_differ_by_twenty_percent() -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    assert lifetime_sampler(100.0, uniform)() == 120.0
    assert asked == [(0.8, 1.2)]
