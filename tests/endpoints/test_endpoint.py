"""The endpoint: how permits are given back, how refusals and quotas change its rate, and which events report that."""

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


class Setup:
    """Hold an endpoint of 100 requests/s, its clock and the events it emitted."""

    def __init__(self, adaptive: AdaptiveConfig | None = None, *, slow_down: bool = True) -> None:
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
            slow_down=slow_down,
        )

    def acquire(self) -> Permit:
        permit = Permit(self.endpoint)
        self.endpoint.acquire(permit, Deadline.after(self.clock, 100.0), Flag())
        return permit

    def send(self) -> Permit:
        permit = self.acquire()
        permit.start(self.clock.now(), retry=False, audio=4.0, time_limit=30.0)
        return permit

    def refuse(self, *permits: Permit, retry_after: float | None = None) -> None:
        for permit in permits:
            permit.finish(Throttled("too fast", status=429, retry_after=retry_after), self.clock.now())

    def changes(self) -> Iterator[tuple[float, float, float]]:
        for event in self.listener.events:
            if isinstance(event, RateChanged):
                yield round(event.old, 1), round(event.new, 1), event.hold


def test_the_refusals_of_one_round_trip_are_one_event() -> None:
    """Ten requests were in flight; the rate falls once, and every permit is back."""
    setup = Setup()
    setup.refuse(*[setup.send() for _ in range(10)])
    assert list(setup.changes()) == [(100.0, 70.0, 0.0)]
    assert setup.endpoint.bulkhead.in_use == 0
    assert setup.endpoint.stats.accepted == 0


def test_a_recovery_is_one_event() -> None:
    """From the refusal to the full rate: two events, however many requests were sent meanwhile."""
    setup = Setup()
    setup.refuse(setup.send())
    sent = 0
    while setup.endpoint.limiter.slowed:
        setup.send().finish(None, setup.clock.now())
        sent += 1
    for _ in range(20):
        setup.send().finish(None, setup.clock.now())
    assert sent > 100
    assert list(setup.changes()) == [(100.0, 70.0, 0.0), (70.0, 100.0, 0.0)]


def test_a_recovery_is_reported_when_only_lone_calls_are_made() -> None:
    """They use `try_acquire`, which waits for nothing."""
    setup = Setup()
    setup.refuse(setup.send())
    while setup.endpoint.limiter.slowed:
        setup.clock.advance(0.1)
        permit = Permit(setup.endpoint)
        if setup.endpoint.try_acquire(permit):
            permit.start(setup.clock.now(), retry=False, audio=4.0, time_limit=30.0)
            permit.finish(None, setup.clock.now())
        else:
            permit.cancel()
    setup.clock.advance(0.1)
    permit = Permit(setup.endpoint)
    assert setup.endpoint.try_acquire(permit)
    permit.cancel()
    assert list(setup.changes()) == [(100.0, 70.0, 0.0), (70.0, 100.0, 0.0)]


def test_a_permit_cancelled_after_a_request_was_sent_is_an_attempt() -> None:
    """Ctrl-C amid a reply: the quota was used, no failure is counted, and nothing counts as in flight for ever."""
    setup = Setup(AdaptiveConfig())
    for number in range(1, 6):
        setup.send().cancel()
        assert setup.endpoint.bulkhead.in_use == 0
        assert "<AdaptiveLimit 0 of 40 " in repr(setup.endpoint.concurrency)
        assert setup.endpoint.stats.executions == number
    assert setup.endpoint.breaker.state == "closed"
    unused = setup.acquire()
    unused.cancel()
    unused.cancel()
    assert (setup.endpoint.bulkhead.in_use, setup.endpoint.stats.executions) == (0, 5)


def test_a_retry_after_is_reported_with_the_rate() -> None:
    """Nothing is sent before it ends."""
    setup = Setup()
    began = setup.clock.now()
    setup.refuse(setup.send(), retry_after=2.0)
    setup.send()
    assert setup.clock.now() >= began + 2.0
    assert list(setup.changes()) == [(100.0, 70.0, 2.0)]


def test_a_quota_is_reported_when_it_changes_the_rate() -> None:
    """A limit without a window changes no rate."""
    setup = Setup()
    setup.endpoint.apply_quota(Quota(limit=60.0))
    setup.endpoint.apply_quota(Quota(limit=60.0, window=1.0))
    setup.endpoint.apply_quota(Quota(limit=60.0, window=1.0))
    assert list(setup.changes()) == [(100.0, 60.0, 0.0)]


def test_a_lowered_rate_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log says why the client is slow."""
    with caplog.at_level("INFO", logger="cosyclient"):
        setup = Setup()
        setup.refuse(setup.send())
    assert "RateChanged endpoint=tts-1 old=100.000 new=70.000 hold=0.000" in caplog.text


def test_finishing_again_does_nothing() -> None:
    """An interrupted caller gives back once more: one report, one permit, and no permit of another holder."""
    setup = Setup(AdaptiveConfig())
    now = setup.clock.now()
    finished, other = setup.send(), setup.send()
    for _ in range(3):
        finished.finish(ServiceFault("HTTP 503", status=503), now)
        finished.cancel()
    assert (setup.endpoint.bulkhead.in_use, setup.endpoint.stats.failures) == (1, 1)
    assert "1 of 1 failed" in repr(setup.endpoint.breaker)
    assert "<AdaptiveLimit 1 of 40 " in repr(setup.endpoint.concurrency)
    other.finish(None, now)
    other.finish(None, now)
    assert (setup.endpoint.bulkhead.in_use, setup.endpoint.stats.executions) == (0, 2)


def test_a_permit_that_was_never_acquired_gives_nothing_back() -> None:
    """It is made before anything is acquired."""
    setup = Setup()
    before = repr(setup.endpoint)
    for _ in range(2):
        Permit(setup.endpoint).cancel()
    with Permit(setup.endpoint):
        pass
    assert repr(setup.endpoint) == before


@pytest.mark.parametrize("way", ["acquire", "try_acquire"])
def test_a_rejected_acquisition_gives_everything_back(way: str) -> None:
    """What was acquired before the rejection is back after `cancel`."""
    setup = Setup()
    # The burst is spent, and the pace is too slow for the deadline.
    burst = [setup.acquire() for _ in range(10)]
    permit = Permit(setup.endpoint)
    if way == "acquire":
        with pytest.raises(RateLimited):
            setup.endpoint.acquire(permit, Deadline.after(setup.clock, 0.001), Flag())
    else:
        assert not setup.endpoint.try_acquire(permit)
    assert setup.endpoint.bulkhead.in_use == 11
    permit.cancel()
    permit.cancel()
    assert setup.endpoint.bulkhead.in_use == 10
    for each in burst:
        each.cancel()
    assert setup.endpoint.bulkhead.in_use == 0


def test_closing_ends_the_wait_of_the_limiter() -> None:
    """The flag is set while a text waits for its turn."""
    setup = Setup()
    for _ in range(10):
        setup.send()
    closing, permit = Flag(), Permit(setup.endpoint)
    closing.set()
    with pytest.raises(ClientClosed):
        setup.endpoint.acquire(permit, Deadline.after(setup.clock, 100.0), closing)
    permit.cancel()
    assert setup.endpoint.bulkhead.in_use == 10


def test_a_refusal_slows_nothing_down_where_that_is_off() -> None:
    setup = Setup(slow_down=False)
    setup.refuse(setup.send(), retry_after=30.0)
    assert (list(setup.changes()), setup.endpoint.limiter.rate) == ([], 100.0)
    before = setup.clock.now()
    setup.send()
    assert setup.clock.now() - before < 1.0
