"""What an endpoint makes of refusals and quotas: how it slows down, and what it tells its listeners of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cosyclient.clock import Deadline, Flag
from cosyclient.config import AdaptiveConfig, BreakerConfig
from cosyclient.endpoints.endpoint import Endpoint, Permit
from cosyclient.errors import BulkheadFull, ClientClosed, RateLimited, ServiceFault, Throttled
from cosyclient.events import Events, RateChanged
from cosyclient.policies.breaker import Breaker
from cosyclient.policies.bulkhead import Bulkhead
from cosyclient.policies.ratelimit.limiter import RateLimiter
from cosyclient.protocols.base import Quota
from cosyclient.testing import FakeClock, RecordingListener, ScriptedTransport

if TYPE_CHECKING:
    from collections.abc import Iterator


class World:
    """Hold an endpoint of 100 requests/s, its clock, and what was told."""

    def __init__(self, adaptive: AdaptiveConfig | None = None) -> None:
        self.clock = FakeClock()
        self.listener = RecordingListener()
        self.endpoint = Endpoint(
            "tts-1",
            ScriptedTransport([]),
            limiter=RateLimiter(rate=100.0, burst=10),
            bulkhead=Bulkhead(40, self.clock, name="in flight", full_error=BulkheadFull),
            breaker=Breaker(BreakerConfig(), name="tts-1"),
            adaptive=adaptive or AdaptiveConfig(enabled=False),
            latency_floor=0.4,
            clock=self.clock,
            events=Events([self.listener]),
            max_pause=60.0,
        )

    def acquire(self) -> Permit:
        permit = Permit(self.endpoint)
        self.endpoint.acquire(permit, Deadline.after(self.clock, 100.0), Flag())
        return permit

    def permit(self) -> Permit:
        permit = self.acquire()
        permit.start(self.clock.now(), retry=False, audio=4.0, time_limit=30.0)
        return permit

    def refuse(self, *permits: Permit, retry_after: float | None = None) -> None:
        for permit in permits:
            permit.finish(Throttled("too fast", status=429, retry_after=retry_after), self.clock.now())

    def told(self) -> Iterator[tuple[float, float, float]]:
        for event in self.listener.events:
            if isinstance(event, RateChanged):
                yield round(event.old, 1), round(event.new, 1), event.hold


def test_a_round_trip_of_refusals_is_told_once() -> None:
    """Ten requests were on their way; the rate falls once, and every permit is back."""
    world = World()
    world.refuse(*[world.permit() for _ in range(10)])
    assert list(world.told()) == [(100.0, 70.0, 0.0)]
    assert world.endpoint.bulkhead.in_use == 0
    assert world.endpoint.stats.accepted == 0


def test_recovery_is_told_once_and_not_its_every_step() -> None:
    """From the refusal to the full rate: two events, however many requests were sent meanwhile."""
    world = World()
    world.refuse(world.permit())
    sent = 0
    while world.endpoint.limiter.slowed:
        world.permit().finish(None, world.clock.now())
        sent += 1
    for _ in range(20):
        world.permit().finish(None, world.clock.now())
    assert sent > 100
    assert list(world.told()) == [(100.0, 70.0, 0.0), (70.0, 100.0, 0.0)]


def test_recovery_is_told_when_only_lone_calls_are_made() -> None:
    """They take the short way, which waits for nothing."""
    world = World()
    world.refuse(world.permit())
    while world.endpoint.limiter.slowed:
        world.clock.advance(0.1)
        permit = Permit(world.endpoint)
        if world.endpoint.try_acquire(permit):
            permit.start(world.clock.now(), retry=False, audio=4.0, time_limit=30.0)
            permit.finish(None, world.clock.now())
        else:
            permit.cancel()
    world.clock.advance(0.1)
    permit = Permit(world.endpoint)
    assert world.endpoint.try_acquire(permit)
    permit.cancel()
    assert list(world.told()) == [(100.0, 70.0, 0.0), (70.0, 100.0, 0.0)]


def test_a_right_given_back_after_something_left_is_an_attempt() -> None:
    """Ctrl-C amid a reply: the quota was used, nobody is to blame, and nothing counts as in flight for ever."""
    world = World(AdaptiveConfig())
    for number in range(1, 6):
        world.permit().cancel()
        assert world.endpoint.bulkhead.in_use == 0
        assert "<AdaptiveLimit 0 of 40 " in repr(world.endpoint.concurrency)
        assert world.endpoint.stats.executions == number
    assert world.endpoint.breaker.state == "closed"
    unused = world.acquire()
    unused.cancel()
    unused.cancel()
    assert (world.endpoint.bulkhead.in_use, world.endpoint.stats.executions) == (0, 5)


def test_a_pause_that_was_asked_for_is_told_with_the_rate() -> None:
    """Nothing leaves before it ends."""
    world = World()
    began = world.clock.now()
    world.refuse(world.permit(), retry_after=2.0)
    world.permit()
    assert world.clock.now() >= began + 2.0
    assert list(world.told()) == [(100.0, 70.0, 2.0)]


def test_a_quota_is_told_when_it_moves_the_rate() -> None:
    """A limit without a window moves no rate."""
    world = World()
    world.endpoint.apply_quota(Quota(limit=60.0))
    world.endpoint.apply_quota(Quota(limit=60.0, window=1.0))
    world.endpoint.apply_quota(Quota(limit=60.0, window=1.0))
    assert list(world.told()) == [(100.0, 60.0, 0.0)]


def test_a_lowered_rate_is_seen_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody who wonders why it is slow finds the reason."""
    with caplog.at_level("INFO", logger="cosyclient"):
        world = World()
        world.refuse(world.permit())
    assert "RateChanged endpoint=tts-1 old=100.000 new=70.000 hold=0.000" in caplog.text


def test_giving_back_again_does_nothing() -> None:
    """Whoever is interrupted gives back once more: one report, one permit, and no place of somebody else's."""
    world = World(AdaptiveConfig())
    now = world.clock.now()
    settled, other = world.permit(), world.permit()
    for _ in range(3):
        settled.finish(ServiceFault("HTTP 503", status=503), now)
        settled.cancel()
    assert (world.endpoint.bulkhead.in_use, world.endpoint.stats.failures) == (1, 1)
    assert "1 of 1 failed" in repr(world.endpoint.breaker)
    assert "<AdaptiveLimit 1 of 40 " in repr(world.endpoint.concurrency)
    other.finish(None, now)
    other.finish(None, now)
    assert (world.endpoint.bulkhead.in_use, world.endpoint.stats.executions) == (0, 2)


def test_what_was_never_acquired_has_nothing_to_give_back() -> None:
    """The permit is made before anything is taken."""
    world = World()
    before = repr(world.endpoint)
    for _ in range(2):
        Permit(world.endpoint).cancel()
    with Permit(world.endpoint):
        pass
    assert repr(world.endpoint) == before


@pytest.mark.parametrize("way", ["acquire", "try_acquire"])
def test_a_right_that_is_not_to_be_had_leaves_nothing_taken(way: str) -> None:
    """Permit, place and admission: whatever was reached before the refusal is back after `cancel`."""
    world = World()
    # The burst is spent, and the pace is too slow for the deadline.
    burst = [world.acquire() for _ in range(10)]
    permit = Permit(world.endpoint)
    if way == "acquire":
        with pytest.raises(RateLimited):
            world.endpoint.acquire(permit, Deadline.after(world.clock, 0.001), Flag())
    else:
        assert not world.endpoint.try_acquire(permit)
    assert world.endpoint.bulkhead.in_use == 11
    permit.cancel()
    permit.cancel()
    assert world.endpoint.bulkhead.in_use == 10
    for each in burst:
        each.cancel()
    assert world.endpoint.bulkhead.in_use == 0


def test_closing_ends_the_wait_for_pace() -> None:
    """The flag is set while a text waits for its turn."""
    world = World()
    for _ in range(10):
        world.permit()
    closing, permit = Flag(), Permit(world.endpoint)
    closing.set()
    with pytest.raises(ClientClosed):
        world.endpoint.acquire(permit, Deadline.after(world.clock, 100.0), closing)
    permit.cancel()
    assert world.endpoint.bulkhead.in_use == 10
