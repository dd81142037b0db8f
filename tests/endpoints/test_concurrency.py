"""The concurrency controller: which endings count as what, and that the bulkhead follows and listeners hear of it."""

from __future__ import annotations

import pytest

from cosyclient.config import AdaptiveConfig
from cosyclient.endpoints.concurrency import ConcurrencyController
from cosyclient.errors import (
    AttemptTimeout,
    BadRequest,
    BulkheadFull,
    CosyError,
    DeadlineExceeded,
    DecodeError,
    Rejected,
    ServiceFault,
    Throttled,
    TransportError,
)
from cosyclient.events import Events, LimitChanged
from cosyclient.policies.base import NO_ESTIMATE
from cosyclient.policies.bulkhead import Bulkhead
from cosyclient.testing import FakeClock, RecordingListener


class World:
    """Hold a controller, its bulkhead, and what was told."""

    def __init__(self, config: AdaptiveConfig | None = None) -> None:
        self.listener = RecordingListener()
        self.bulkhead = Bulkhead(40, FakeClock(), name="in flight", full_error=BulkheadFull)
        self.controller = ConcurrencyController(
            config or AdaptiveConfig(),
            self.bulkhead,
            latency_floor=0.4,
            endpoint="tts-1",
            events=Events([self.listener]),
        )
        self.now = 100.0

    def turn(self, error: CosyError | None = None, span: float = 0.2) -> None:
        """Let as many attempts as are allowed end in *span* seconds, with *error*."""
        samples = [self.controller.start(4.0, self.now, 10.0) for _ in range(self.bulkhead.limit)]
        self.now += span
        for sample in samples:
            assert sample is not None
            self.controller.finish(sample, error, self.now, returned=0.0 if error else 4.0)


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        (Throttled("no", status=429), 36),
        (ServiceFault("no", status=503, retry_after=2.0), 36),
        (ServiceFault("no", status=503), 40),
        (ServiceFault("no", status=504), 40),
        (ServiceFault("no", status=500), 40),
        (TransportError("reset"), 40),
        (BadRequest("no", status=400), 40),
        (DecodeError("no"), 40),
        (Rejected("nobody waits", sent=True), 40),
        (DeadlineExceeded("no", sent=True), 40),
        (AttemptTimeout("no"), 40),
    ],
)
def test_only_throttling_lowers_the_limit_at_once(error: CosyError, limit: int) -> None:
    """429 and its kin, and whoever says when to come back; what fails at once is the breaker's affair."""
    world = World()
    world.turn()
    world.turn(error, span=0.05)
    assert world.bulkhead.limit == limit


@pytest.mark.parametrize("error", [DeadlineExceeded("no", sent=True), AttemptTimeout("no")])
def test_time_outs_without_any_answer_leave_one_permit(error: CosyError) -> None:
    """Ten seconds each: the service is stuck, listeners hear of it, and the next answer begins the way back."""
    world = World()
    world.turn()
    world.turn(error, span=10.0)
    assert world.bulkhead.limit == 1
    assert world.controller.overloaded
    assert [(event.endpoint, event.old, event.new) for event in world.listener.of(LimitChanged)] == [("tts-1", 40, 1)]
    for _ in range(12):
        world.turn()
    assert world.bulkhead.limit >= 30
    for _ in range(10):
        world.turn()
    assert not world.controller.overloaded


def test_a_listener_who_takes_his_time_is_no_slow_service() -> None:
    """Streams of an hour, of which the service needed a second, many at once or alone."""
    world = World()
    for count in [*range(1, 41), *range(40, 0, -1)]:
        samples = [world.controller.start(4.0, world.now, 7200.0) for _ in range(count)]
        world.now += 3600.0 + count
        for sample in samples:
            assert sample is not None
            world.controller.finish(sample, None, world.now, returned=4.0, idle=3599.0 + count)
    assert world.bulkhead.limit == 40
    sample = world.controller.start(4.0, world.now, 7200.0)
    assert sample is not None
    assert sample.read_timeout == pytest.approx(4.0)


def test_switched_off_it_does_nothing() -> None:
    """The pool's size is the limit, nothing is estimated, nothing is noted."""
    world = World(AdaptiveConfig(enabled=False))
    assert world.bulkhead.limit == 40
    assert world.controller.start(4.0, 0.0, 10.0) is None
    assert world.controller.estimate(0.0) is NO_ESTIMATE
    assert repr(world.controller) == "<ConcurrencyController off>"
    assert repr(World().controller).startswith("<ConcurrencyController <AdaptiveLimit 0 of 40 (1 to 40), free, ")
