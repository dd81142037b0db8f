"""The concurrency controller: which ends count as what, how the bulkhead is resized, and which events report that."""

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


class Setup:
    """Hold a controller, its bulkhead and the events it emitted."""

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

    def run_round(self, error: CosyError | None = None, span: float = 0.2) -> None:
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
        (Rejected("cancelled", sent=True), 40),
        (DeadlineExceeded("no", sent=True), 40),
        (AttemptTimeout("no"), 40),
    ],
)
def test_only_throttling_lowers_the_limit_at_once(error: CosyError, limit: int) -> None:
    """429 and its like, and a service that says when to retry; what fails at once is for the breaker."""
    setup = Setup()
    setup.run_round()
    setup.run_round(error, span=0.05)
    assert setup.bulkhead.limit == limit


@pytest.mark.parametrize("error", [DeadlineExceeded("no", sent=True), AttemptTimeout("no")])
def test_time_outs_without_any_answer_leave_one_permit(error: CosyError) -> None:
    """Ten seconds each: the service is stuck, an event says so, and the next answer begins the recovery."""
    setup = Setup()
    setup.run_round()
    setup.run_round(error, span=10.0)
    assert setup.bulkhead.limit == 1
    assert setup.controller.overloaded
    assert [(event.endpoint, event.old, event.new) for event in setup.listener.of(LimitChanged)] == [("tts-1", 40, 1)]
    for _ in range(12):
        setup.run_round()
    assert setup.bulkhead.limit >= 30
    for _ in range(10):
        setup.run_round()
    assert not setup.controller.overloaded


def test_a_slow_listener_is_no_slow_service() -> None:
    """Streams of an hour, of which the service needed a second, many at once or one."""
    setup = Setup()
    for count in [*range(1, 41), *range(40, 0, -1)]:
        samples = [setup.controller.start(4.0, setup.now, 7200.0) for _ in range(count)]
        setup.now += 3600.0 + count
        for sample in samples:
            assert sample is not None
            setup.controller.finish(sample, None, setup.now, returned=4.0, listener_seconds=3599.0 + count)
    assert setup.bulkhead.limit == 40
    sample = setup.controller.start(4.0, setup.now, 7200.0)
    assert sample is not None
    assert sample.read_timeout == pytest.approx(4.0)


def test_switched_off_it_does_nothing() -> None:
    """The pool's size is the limit, nothing is estimated, nothing is recorded."""
    setup = Setup(AdaptiveConfig(enabled=False))
    assert setup.bulkhead.limit == 40
    assert setup.controller.start(4.0, 0.0, 10.0) is None
    assert setup.controller.estimate(0.0) is NO_ESTIMATE
    assert repr(setup.controller) == "<ConcurrencyController off>"
    assert repr(Setup().controller).startswith("<ConcurrencyController <AdaptiveLimit 0 of 40 (1 to 40), free, ")
