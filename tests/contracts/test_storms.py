"""What a failing service is spared: attempts are counted through the whole client, in seeded fake time.

The service here fails a share of its requests at random; a call comes every 20 ms of fake time.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from cosyclient import BreakerConfig, CircuitOpen, ClientConfig, CosyError, RetryBudgetSpent, RetryConfig, Throttled
from cosyclient.clock import Deadline
from cosyclient.events import BreakerChanged, RetryScheduled
from cosyclient.policies.ratelimit.limiter import RateLimiter
from cosyclient.policies.retry import RetryPolicy
from cosyclient.testing import FakeClock, RecordingListener, ScriptedReply, scripted_client
from tests.support.service import answer, refuse, text_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.wire import WireReply, WireRequest

GAP = 0.02
NO_BREAKER = BreakerConfig(minimum_failures=1_000_000_000)
NO_BUDGET = RetryConfig(budget=1_000_000_000)


@pytest.fixture(autouse=True)
def _same_dice() -> None:
    """The policies' own jitter is drawn from the module's dice."""
    random.seed(20261127)


@dataclass
class Storm:
    """Send calls to a service that fails as *fails* says at the instant asked, and count what comes of them."""

    fails: Callable[[float], bool]
    config: ClientConfig = field(default_factory=ClientConfig)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.listener = RecordingListener()
        self.ends: Counter[str] = Counter()
        self.sent_at: list[float] = []
        self.changes: list[tuple[float, str]] = []
        self._called = 0
        self.cosy, self.transport = scripted_client(
            self._service,
            clock=self.clock,
            max_batch=1,
            timeout=60.0,
            config=self.config,
            listeners=[self.listener, self._note],
        )

    def _service(self, _request: WireRequest) -> WireReply:
        self.sent_at.append(self.clock.now())
        return refuse(503) if self.fails(self.clock.now()) else answer(_request)

    def _note(self, event: object) -> None:
        if isinstance(event, BreakerChanged):
            self.changes.append((self.clock.now(), event.new))

    def calls(self, count: int, gap: float = GAP) -> None:
        """Make *count* calls, one after the other, each *gap* seconds after the last."""
        for _ in range(count):
            self._called += 1
            text = f"text {self._called}"
            self.clock.advance(gap)
            try:
                assert text_in(self.cosy.synthesize(text)) == text
            except CosyError as error:
                self.ends[type(error).__name__] += 1
            else:
                self.ends["speech"] += 1

    @property
    def amplification(self) -> float:
        """Return the requests that reached the service for each call."""
        return len(self.sent_at) / self._called

    def times(self, state: str) -> list[float]:
        """Return the instants at which the breaker moved to *state*."""
        return [at for at, new in self.changes if new == state]


def chance(share: float) -> Callable[[float], bool]:
    """Return a service's dice: *share* of the requests fail, whenever they come."""
    dice = random.Random(f"share {share}")
    return lambda _now: dice.random() < share


@pytest.mark.parametrize(
    ("share", "most", "least_speech"),
    [(0.01, 1.02, 1.0), (0.10, 1.13, 0.999), (0.25, 1.36, 0.99), (0.50, 1.1, 0.0), (0.90, 1.1, 0.0), (1.00, 1.1, 0.0)],
)
def test_amplification_stays_low_at_every_share_of_failures(share: float, most: float, least_speech: float) -> None:
    """Where most succeeds, retries are free and make nearly all succeed; where half fails, few are made."""
    storm = Storm(chance(share))
    storm.calls(2000)
    assert storm.amplification <= most
    assert storm.ends["speech"] >= least_speech * 2000
    assert storm.ends.total() == 2000


@pytest.mark.parametrize(("share", "most"), [(0.50, 1.15), (0.90, 1.05), (1.00, 1.02)])
def test_the_budget_alone_keeps_the_storm_away(share: float, most: float) -> None:
    """Without the breaker every call is tried once; that is all, but for the 40 retries of a full budget."""
    storm = Storm(chance(share), ClientConfig(breaker=NO_BREAKER))
    storm.calls(2000)
    assert 1.0 <= storm.amplification <= most
    assert storm.ends["CircuitOpen"] == 0
    assert storm.ends["RetryBudgetSpent"] > 0.3 * 2000


@pytest.mark.parametrize(("share", "least"), [(0.50, 1.8), (1.00, 4.0)])
def test_without_both_there_would_be_a_storm(share: float, least: float) -> None:
    """The two tests above measure something: the same retries unguarded are what a storm is made of."""
    storm = Storm(chance(share), ClientConfig(breaker=NO_BREAKER, retry=NO_BUDGET))
    storm.calls(500)
    assert storm.amplification >= least


def test_a_dead_service_gets_probes_alone() -> None:
    """Twenty minutes of outage, five calls a second: a full window, then at most five requests each half minute."""
    storm = Storm(lambda _now: True)
    while not storm.times("open"):
        storm.calls(1)
    before = len(storm.sent_at)
    assert before <= 20
    storm.calls(6000, gap=0.2)
    probing = storm.times("half-open")
    assert 1200 / 33 - 1 <= len(probing) <= 1200 / 27 + 1
    after = storm.sent_at[before:]
    assert len(probing) <= len(after) <= 5 * len(probing)
    for at in after:
        assert any(begun <= at <= begun + 1.0 for begun in probing), "sent although the breaker was open"
    assert storm.ends["CircuitOpen"] > 5900
    assert storm.ends["speech"] == 0


def test_nobody_sleeps_in_the_outage_for_what_the_breaker_refuses_anyway() -> None:
    """Refused calls cost no back-off and no tokens."""
    storm = Storm(lambda _now: True)
    storm.calls(100)
    assert storm.times("open")
    slept, budget = len(storm.clock.slept), storm.cosy.stats().retry_budget
    storm.calls(1000)
    assert (len(storm.clock.slept), storm.cosy.stats().retry_budget) == (slept, budget)


def test_refusals_say_when_the_next_probe_may_go() -> None:
    """Whoever comes back after that time is let through, and not before."""
    storm = Storm(lambda _now: True)
    while not storm.times("open"):
        storm.calls(1)
    with pytest.raises(CircuitOpen) as refused:
        storm.cosy.synthesize("one")
    assert refused.value.retry_after is not None
    storm.clock.advance(refused.value.retry_after - GAP)
    with pytest.raises(CircuitOpen):
        storm.cosy.synthesize("two")
    sent = len(storm.sent_at)
    storm.clock.advance(GAP)
    with pytest.raises(CosyError):
        storm.cosy.synthesize("three")
    assert len(storm.sent_at) > sent


def test_after_the_outage_everything_succeeds_as_soon_as_the_breaker_has_probed() -> None:
    """The service comes back within an open time: when that is over not one call more is lost."""
    storm = Storm(lambda now: 1010.0 <= now < 1070.0)
    storm.calls(500)
    assert storm.ends == {"speech": 500}
    while storm.clock.now() < 1070.0:
        storm.calls(1)
    assert storm.ends["speech"] < 520
    opened = [at for at in storm.times("open") if at < 1070.0][-1]
    while storm.clock.now() < opened + 33.0:
        storm.calls(1)
    (back,) = (at for at in storm.times("closed") if at > 1070.0)
    assert back <= opened + 33.0
    storm.ends.clear()
    storm.calls(1000)
    assert storm.ends == {"speech": 1000}


def test_a_budget_spent_in_the_outage_is_earned_again_by_successes() -> None:
    """Recovery is not followed by retries at once: fourteen successes buy one."""
    storm = Storm(lambda now: now < 1030.0, ClientConfig(breaker=NO_BREAKER))
    while storm.clock.now() < 1030.0:
        storm.calls(1)
    assert storm.ends["RetryBudgetSpent"] > 100
    left = storm.cosy.stats().retry_budget
    assert left < 14
    storm.calls(300)
    assert storm.cosy.stats().retry_budget == left + 300


def test_a_budget_spent_is_said_with_what_it_was_spent_on() -> None:
    """The error names the budget, carries the attempt, and the service's own word on when to come back."""
    storm = Storm(lambda _now: True, ClientConfig(breaker=NO_BREAKER, retry=RetryConfig(budget=14)))
    storm.calls(1)
    with pytest.raises(RetryBudgetSpent) as refused:
        storm.cosy.synthesize("one more")
    assert len(refused.value.attempts) == 1
    assert "retry budget" in str(refused.value)


# Crowds that were told the same Retry-After

CROWD = 200


def peak_of(instants: list[float], width: float = 0.1) -> int:
    """Return the most instants within any *width* seconds."""
    ordered = sorted(instants)
    return max(sum(start <= at < start + width for at in ordered[n:]) for n, start in enumerate(ordered))


def test_a_fleet_told_the_same_retry_after_does_not_come_back_together() -> None:
    """Two hundred processes get "1 s" at one instant: none is early, a tenth of a second sees a sixth of them."""
    back: list[float] = []
    for _ in range(CROWD):
        clock = FakeClock()
        told = [refuse(429, **{"Retry-After": "1"})]

        def service(request: WireRequest, clock: FakeClock = clock, told: list[ScriptedReply] = told) -> WireReply:
            if told:
                return told.pop()
            back.append(clock.now())
            return answer(request)

        cosy, _ = scripted_client(service, clock=clock)
        assert cosy.synthesize("hello").attempts == 2
    assert len(back) == CROWD
    assert min(back) >= 1001.0
    assert max(back) <= 1002.1
    assert peak_of(back) <= 35


def test_a_crowd_in_one_client_comes_back_spread_and_paced() -> None:
    """Two hundred calls of one client: each draws its own wait, and the limiter lets them through at its rate."""
    dice = random.Random(200)
    policy = RetryPolicy(RetryConfig(), 3, uniform=dice.uniform)
    limiter = RateLimiter(rate=100.0, burst=10)
    told = Throttled(retry_after=1.0)
    waits = [policy.schedule().next_wait(told, remaining=60.0) for _ in range(CROWD)]
    limiter.pause(1000.0, 1.0)
    woken = sorted(1000.0 + wait for wait in waits if wait is not None)
    sent = [max(at, limiter.reserve(at).at) for at in woken]
    assert len(sent) == CROWD
    assert min(sent) >= 1001.0
    assert peak_of(sent) <= 10 + 10 + 1
    assert peak_of(sent, 1.0) <= 110 + 1


def test_many_clients_without_a_retry_after_are_spread_by_full_jitter() -> None:
    """The back-off alone spreads them over its whole ceiling, too."""
    clock = FakeClock()
    policy = RetryPolicy(RetryConfig(), 3)
    error = Throttled()
    waits = [policy.schedule().next_wait(error, remaining=Deadline.after(clock, 60).remaining) for _ in range(CROWD)]
    spread = [wait for wait in waits if wait is not None]
    assert len(spread) == CROWD
    assert peak_of(spread, 0.02) <= 40


def test_each_retry_is_announced_with_its_wait() -> None:
    """What was slept is what listeners were told: the storm benchmark adds it up from there."""
    storm = Storm(chance(0.2))
    storm.calls(500)
    told = sum(event.wait for event in storm.listener.of(RetryScheduled))
    assert told == pytest.approx(sum(storm.clock.slept))
    assert len(storm.listener.of(RetryScheduled)) == len(storm.sent_at) - 500
