"""The connections of one origin: how many, how long, and which are used again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from cosyclient.testing import FakeClock
from cosyclient.transports.http.urllib3_transport import Urllib3Transport
from tests.support.hostile import (
    answers,
    echoes,
    hostile,
)
from tests.transports.wire import httpx_client


def test_no_more_connections_are_opened_than_allowed() -> None:
    """Nor more than are needed."""
    with (
        hostile(echoes(delay=0.001)) as service,
        Urllib3Transport(connections=4) as transport,
        ThreadPoolExecutor(16) as threads,
    ):
        list(threads.map(lambda _: httpx_client(transport).get(service.url), range(200)))
        assert service.peak <= 4
        assert service.seen <= 4
        assert transport.stats().idle == service.seen


def test_an_idle_connection_is_not_used_beyond_its_limit() -> None:
    """uvicorn closes after 5 s, so this client stops after 4."""
    clock = FakeClock()
    with hostile(answers()) as service, Urllib3Transport(idle_limit=4.0, max_age=1e6, clock=clock) as transport:
        for pause, seen in ((0.0, 1), (4.0, 1), (4.1, 2), (3.0, 2)):
            clock.advance(pause)
            httpx_client(transport).get(service.url)
            assert service.seen == seen


def test_a_connection_is_not_used_beyond_its_age() -> None:
    """So that new addresses behind a name are found; ±20 %, so that a fleet does not reconnect in step."""
    clock = FakeClock()
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    with (
        hostile(answers()) as service,
        Urllib3Transport(idle_limit=1e6, max_age=100.0, uniform=uniform, clock=clock) as transport,
    ):
        for pause, seen in ((0.0, 1), (60.0, 1), (59.0, 1), (1.0, 2), (119.0, 2)):
            clock.advance(pause)
            httpx_client(transport).get(service.url)
            assert service.seen == seen
    assert asked == [(0.8, 1.2)] * 2


def test_expired_idle_connections_are_closed_when_another_is_released() -> None:
    """After a burst the pool shrinks to what is used."""
    clock = FakeClock()
    with hostile(answers()) as service, Urllib3Transport(idle_limit=4.0, clock=clock) as transport:
        front = httpx_client(transport)
        with front.stream("GET", service.url), front.stream("GET", service.url), front.stream("GET", service.url):
            pass
        for response in [front.send(front.build_request("GET", service.url), stream=True) for _ in range(3)]:
            response.read()
        assert transport.stats().idle == 3
        clock.advance(3.0)
        front.get(service.url)
        clock.advance(3.0)
        for idle in (2, 1, 1):
            front.get(service.url)
            assert transport.stats().idle == idle
        assert service.wait_for(lambda seen: seen.open == 1)
