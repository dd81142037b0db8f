"""Limit, forecast and queue together: which endings count as what, and goodput against GPUs in seeded fake time."""

from __future__ import annotations

import pytest

from cosyclient.adaptation import Adaptation
from cosyclient.batch import NOTHING_KNOWN
from cosyclient.config import AdaptiveConfig
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
)
from cosyclient.events import Events, LimitChanged
from cosyclient.policies.bulkhead import Bulkhead
from cosyclient.testing import FakeClock, RecordingListener
from tests.gpu_world import GpuWorld

SEEDS = range(5)


class World:
    """Hold an adaptation, its bulkhead, and what was told."""

    def __init__(self, config: AdaptiveConfig | None = None) -> None:
        self.listener = RecordingListener()
        self.bulkhead = Bulkhead(40, FakeClock(), name="in flight", full=BulkheadFull)
        self.adaptation = Adaptation(
            config or AdaptiveConfig(), self.bulkhead, calm=0.0, endpoint="tts-1", events=Events([self.listener])
        )
        self.now = 100.0

    def turn(self, error: CosyError | None = None, span: float = 0.2) -> None:
        """Let as many attempts as are allowed end in *span* seconds, with *error*."""
        tickets = [self.adaptation.start(4.0, self.now) for _ in range(self.bulkhead.limit)]
        self.now += span
        for ticket in tickets:
            assert ticket is not None
            self.adaptation.settle(ticket, error, self.now, returned=0.0 if error else 4.0)

    def grow(self, to: int) -> None:
        """Answer quickly until *to* may be in flight."""
        while self.bulkhead.limit < to:
            self.turn()


def test_the_bulkhead_follows_and_listeners_hear_of_it() -> None:
    """From two to the pool's size by doubling; each word is of a move by half or more."""
    world = World()
    assert world.bulkhead.limit == 2
    world.grow(40)
    told = [(event.endpoint, event.old, event.new) for event in world.listener.of(LimitChanged)]
    assert told == [("tts-1", 2, 4), ("tts-1", 4, 8), ("tts-1", 8, 16), ("tts-1", 16, 32)]


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        (Throttled("no", status=429), 36),
        (ServiceFault("no", status=503), 36),
        (ServiceFault("no", status=504), 36),
        (AttemptTimeout("no"), 36),
        (ServiceFault("no", status=500), 40),
        (BadRequest("no", status=400), 40),
        (DecodeError("no"), 40),
        (Rejected("nobody waits", sent=True), 40),
        (DeadlineExceeded("no", sent=True), 40),
    ],
)
def test_refusals_for_lack_of_capacity_lower_the_limit_once(error: CosyError, limit: int) -> None:
    """Throttling, overload and time-outs do; faults, bad requests and our own changes of mind do not."""
    world = World()
    world.grow(40)
    world.turn(error, span=0.05)
    assert world.bulkhead.limit == limit


def test_two_attempts_in_a_row_for_nothing_leave_one_permit() -> None:
    """Ten seconds each, cut off by our deadline: the service is stuck, and is tried one at a time."""
    world = World()
    world.grow(40)
    world.turn(DeadlineExceeded("no", sent=True), span=10.0)
    assert world.bulkhead.limit == 1
    assert world.adaptation.prospect(world.now).newest_first
    world.turn()
    assert not world.adaptation.prospect(world.now).newest_first


def test_switched_off_it_does_nothing() -> None:
    """The pool's size is the limit, nothing is forecast, nothing is noted."""
    world = World(AdaptiveConfig(enabled=False))
    assert world.bulkhead.limit == 40
    assert world.adaptation.start(4.0, 0.0) is None
    assert world.adaptation.prospect(0.0) is NOTHING_KNOWN
    assert repr(world.adaptation) == "<Adaptation off>"


def test_it_reads_like_a_status_line() -> None:
    """Both policies, one after the other."""
    adaptation = World().adaptation
    assert repr(adaptation) == (
        "<Adaptation <AdaptiveLimit 0 of 2 (1 to 40), <Baseline 0.000 s + 0.0000 s per second of audio>>"
        " <Forecast 0.000 s ± 0.000 s, 0 s of audio in flight, 0 a second>>"
    )


# Against GPUs: 67 s of audio a second, texts of 2 to 6 s, ten seconds for each


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("load", [2.0, 5.0])
def test_overload_costs_no_goodput(load: float, seed: int) -> None:
    """At two and five times the capacity 95 % of it goes to texts that make their deadline, and little is wasted."""
    world = GpuWorld(seed, load=load, seconds=75)
    assert world.mean(15, 75) >= 0.95
    assert world.wasted <= 0.05 * 4 * 75
    assert world.doomed > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_without_it_overload_costs_nearly_all(seed: int) -> None:
    """Forty batches of 64 in flight: what comes back comes too late. The test above measures something."""
    world = GpuWorld(seed, load=5.0, seconds=75, config=AdaptiveConfig(enabled=False))
    assert world.mean(15, 75) <= 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_another_capacity_is_used_within_thirty_seconds(seed: int) -> None:
    """Four GPUs, then two, then eight, at three times the first capacity."""
    world = GpuWorld(seed, load=3.0, seconds=150, changes=[(40.0, 2), (90.0, 8)])
    assert world.mean(70, 90) >= 0.95 * 0.5
    assert world.mean(120, 150) >= 0.95 * 2.0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("gpus", [1, 8])
def test_one_gpu_and_eight_are_used_alike(gpus: int, seed: int) -> None:
    """With one, a batch of 64 texts is fifteen seconds of work and never in time: batches must be smaller."""
    world = GpuWorld(seed, load=2.0, seconds=80, gpus=gpus)
    assert world.mean(30, 80) >= 0.93


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stall", [2.5, 15.0])
def test_a_service_that_stalls_is_found_again(stall: float, seed: int) -> None:
    """For longer than any text waits, too: no stalemate of old texts and old estimates remains."""
    world = GpuWorld(seed, load=2.0, seconds=120, stall=stall)
    assert world.mean(60, 120) >= 0.85
