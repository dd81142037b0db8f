"""Retry storms do not happen: attempts are counted through the whole client, in seeded fake time.

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
def _seed_jitter() -> None:
    """The policies draw their jitter from the seeded `random` module."""
    random.seed(20261127)


@dataclass
class Storm:
    """Send calls to a service that fails where *fails* is true of the instant, and count the results."""

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
    """Return failures at random: a *share* of the requests, at any time."""
    dice = random.Random(f"share {share}")
    return lambda _now: dice.random() < share


@pytest.mark.parametrize(
    ("share", "most", "least_speech"),
    [(0.01, 1.02, 1.0), (0.10, 1.13, 0.999), (0.25, 1.36, 0.99), (0.50, 1.1, 0.0), (0.90, 1.1, 0.0), (1.00, 1.1, 0.0)],
)
def test_amplification_stays_low_at_every_share_of_failures(share: float, most: float, least_speech: float) -> None:
    """Where most requests succeed, retries make nearly all calls succeed; where half fail, few retries are made."""
    storm = Storm(chance(share))
    storm.calls(2000)
    assert storm.amplification <= most
    assert storm.ends["speech"] >= least_speech * 2000
    assert storm.ends.total() == 2000


@pytest.mark.parametrize(("share", "most"), [(0.50, 1.15), (0.90, 1.05), (1.00, 1.02)])
def test_the_budget_alone_prevents_a_storm(share: float, most: float) -> None:
    """Without the breaker every call is tried once, with the 40 retries of a full budget in addition."""
    storm = Storm(chance(share), ClientConfig(breaker=NO_BREAKER))
    storm.calls(2000)
    assert 1.0 <= storm.amplification <= most
    assert storm.ends["CircuitOpen"] == 0
    assert storm.ends["RetryBudgetSpent"] > 0.3 * 2000


@pytest.mark.parametrize(("share", "least"), [(0.50, 1.8), (1.00, 4.0)])
def test_without_both_there_is_a_storm(share: float, least: float) -> None:
    """So the two tests above measure the guards: the same retries without them are a storm."""
    storm = Storm(chance(share), ClientConfig(breaker=NO_BREAKER, retry=NO_BUDGET))
    storm.calls(500)
    assert storm.amplification >= least


def test_a_dead_service_gets_only_probes() -> None:
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


def test_calls_that_the_breaker_rejects_do_not_wait() -> None:
    """They cost no back-off and no tokens."""
    storm = Storm(lambda _now: True)
    storm.calls(100)
    assert storm.times("open")
    slept, budget = len(storm.clock.slept), storm.cosy.stats().retry_budget
    storm.calls(1000)
    assert (len(storm.clock.slept), storm.cosy.stats().retry_budget) == (slept, budget)


def test_rejections_say_when_the_next_probe_may_be_sent() -> None:
    """A call after that time is sent, an earlier one is not."""
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
    """The service recovers while the breaker is open; once that time is over, no call fails."""
    storm = Storm(lambda now: 1010.0 <= now < 1070.0)
    storm.calls(500)
    assert storm.ends == {"speech": 500}
    while storm.clock.now() < 1070.0:
        storm.calls(1)
    assert storm.ends["speech"] < 520
    opened = [at for at in storm.times("open") if at < 1070.0][-1]
    while storm.clock.now() < opened + 33.0:
        storm.calls(1)
    (closed_at,) = (at for at in storm.times("closed") if at > 1070.0)
    assert closed_at <= opened + 33.0
    storm.ends.clear()
    storm.calls(1000)
    assert storm.ends == {"speech": 1000}


def test_a_budget_spent_in_an_outage_is_refilled_by_successes() -> None:
    """No retries follow at once: fourteen successes pay for one."""
    storm = Storm(lambda now: now < 1030.0, ClientConfig(breaker=NO_BREAKER))
    while storm.clock.now() < 1030.0:
        storm.calls(1)
    assert storm.ends["RetryBudgetSpent"] > 100
    left = storm.cosy.stats().retry_budget
    assert left < 14
    storm.calls(300)
    assert storm.cosy.stats().retry_budget == left + 300


def test_the_error_of_a_spent_budget_carries_the_attempt() -> None:
    """It names the budget and carries the attempt and the service's Retry-After."""
    storm = Storm(lambda _now: True, ClientConfig(breaker=NO_BREAKER, retry=RetryConfig(budget=14)))
    storm.calls(1)
    with pytest.raises(RetryBudgetSpent) as refused:
        storm.cosy.synthesize("one more")
    assert len(refused.value.attempts) == 1
    assert "retry budget" in str(refused.value)


# Many clients with the same Retry-After

CLIENTS = 200


def peak_of(instants: list[float], width: float = 0.1) -> int:
    """Return the most instants within any *width* seconds."""
    ordered = sorted(instants)
    return max(sum(start <= at < start + width for at in ordered[n:]) for n, start in enumerate(ordered))


def test_processes_with_the_same_retry_after_do_not_retry_together() -> None:
    """Two hundred processes get "1 s" at one instant: none is early, a tenth of a second sees a sixth of them."""
    retried_at: list[float] = []
    for _ in range(CLIENTS):
        clock = FakeClock()
        refusals = [refuse(429, **{"Retry-After": "1"})]

        def service(
            request: WireRequest, clock: FakeClock = clock, refusals: list[ScriptedReply] = refusals
        ) -> WireReply:
            if refusals:
                return refusals.pop()
            retried_at.append(clock.now())
            return answer(request)

        cosy, _ = scripted_client(service, clock=clock)
        assert cosy.synthesize("hello").attempts == 2
    assert len(retried_at) == CLIENTS
    assert min(retried_at) >= 1001.0
    assert max(retried_at) <= 1002.1
    assert peak_of(retried_at) <= 35


def test_many_calls_of_one_client_retry_spread_and_paced() -> None:
    """Two hundred calls of one client: each draws its own wait, and the limiter paces them."""
    dice = random.Random(200)
    policy = RetryPolicy(RetryConfig(), 3, uniform=dice.uniform)
    limiter = RateLimiter(rate=100.0, burst=10)
    error = Throttled(retry_after=1.0)
    waits = [policy.schedule().next_wait(error, remaining=60.0) for _ in range(CLIENTS)]
    limiter.pause(1000.0, 1.0)
    woken = sorted(1000.0 + wait for wait in waits if wait is not None)
    sent = [max(at, limiter.reserve(at).at) for at in woken]
    assert len(sent) == CLIENTS
    assert min(sent) >= 1001.0
    assert peak_of(sent) <= 10 + 10 + 1
    assert peak_of(sent, 1.0) <= 110 + 1


def test_clients_without_a_retry_after_are_spread_by_full_jitter() -> None:
    """Back-off alone spreads them over its whole range."""
    clock = FakeClock()
    policy = RetryPolicy(RetryConfig(), 3)
    error = Throttled()
    waits = [policy.schedule().next_wait(error, remaining=Deadline.after(clock, 60).remaining) for _ in range(CLIENTS)]
    spread = [wait for wait in waits if wait is not None]
    assert len(spread) == CLIENTS
    assert peak_of(spread, 0.02) <= 40


def test_each_retry_is_reported_with_its_wait() -> None:
    """The waits in the events are those slept: the storm benchmark adds them up."""
    storm = Storm(chance(0.2))
    storm.calls(500)
    waited = sum(event.wait for event in storm.listener.of(RetryScheduled))
    assert waited == pytest.approx(sum(storm.clock.slept))
    assert len(storm.listener.of(RetryScheduled)) == len(storm.sent_at) - 500
