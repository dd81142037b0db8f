"""What holds for every policy that issues something: all of it is returned, deadlines are kept, and decisions are a
pure function of time. A new policy needs one more row in ``ISSUERS``.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.clock import Deadline
from cosyclient.config import BreakerConfig, RetryConfig
from cosyclient.errors import BulkheadFull, CircuitOpen, RateLimited, Rejected, Throttled
from cosyclient.policies.breaker import Breaker
from cosyclient.policies.budget import RetryBudget
from cosyclient.policies.bulkhead import Bulkhead
from cosyclient.policies.ratelimit.limiter import RateLimiter
from cosyclient.policies.retry import RetryPolicy
from cosyclient.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

FREE = 4
"""How many each issuer below issues at once before it rejects."""


class Issuer(Protocol):
    """Acquire and release by one name, whatever the policy calls it."""

    def acquire(self, deadline: Deadline) -> Any:
        """Return what was issued, or raise `Rejected`."""

    def release(self, token: Any) -> None:
        """Give *token* back unused."""

    def status(self) -> object:
        """Return all of the state that is visible."""


class BulkheadIssuer:
    def __init__(self, clock: FakeClock) -> None:
        self.policy = Bulkhead(FREE, clock, name="in flight", full_error=BulkheadFull)

    def acquire(self, deadline: Deadline) -> Any:
        holder = object()
        self.policy.acquire(deadline, holder)
        return holder

    def release(self, token: Any) -> None:
        self.policy.release(token)

    def status(self) -> object:
        return (self.policy.in_use, self.policy.waiting, self.policy.limit)


class LimiterIssuer:
    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.policy = RateLimiter(rate=0.01, burst=FREE)

    def acquire(self, deadline: Deadline) -> Any:
        return self.policy.reserve(self.clock.now(), max_wait=deadline.remaining)

    def release(self, token: Any) -> None:
        self.policy.cancel(token)

    def status(self) -> object:
        reservations = [self.policy.reserve(self.clock.now()) for _ in range(FREE + 1)]
        for reservation in reversed(reservations):
            self.policy.cancel(reservation)
        return [reservation.at for reservation in reservations]


class BudgetIssuer:
    def __init__(self, clock: FakeClock) -> None:
        self.policy = RetryBudget(RetryConfig(budget=5 * FREE))

    def acquire(self, deadline: Deadline) -> Any:
        cost = self.policy.withdraw(throttled=True)
        if not cost:
            raise Rejected
        return cost

    def release(self, token: Any) -> None:
        self.policy.deposit(token)

    def status(self) -> object:
        return self.policy.available


class ProbeIssuer:
    """Issue the probe permits of a breaker that has just turned half-open."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.policy = Breaker(
            BreakerConfig(minimum_failures=1, probes=FREE, open_for=100.0), name="tts-1", uniform=lambda low, _: low
        )
        self.policy.acquire(clock.now() - 90.0).record_failure(clock.now() - 90.0)
        self.policy.acquire(clock.now()).release()

    def acquire(self, deadline: Deadline) -> Any:
        return self.policy.acquire(self.clock.now())

    def release(self, token: Any) -> None:
        token.release()

    def status(self) -> object:
        return repr(self.policy)


ISSUERS: dict[str, Callable[[FakeClock], Issuer]] = {
    "bulkhead": BulkheadIssuer,
    "rate limiter": LimiterIssuer,
    "retry budget": BudgetIssuer,
    "breaker, half-open": ProbeIssuer,
}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=ISSUERS)
def issuer(request: pytest.FixtureRequest, clock: FakeClock) -> Issuer:
    return ISSUERS[request.param](clock)


def test_all_that_is_free_is_issued_at_once(issuer: Issuer, clock: FakeClock) -> None:
    started = clock.now()
    for _ in range(FREE):
        issuer.acquire(Deadline.after(clock, 0.0))
    assert clock.now() == started


def test_everything_issued_can_be_returned(issuer: Issuer, clock: FakeClock) -> None:
    before = issuer.status()
    for _ in range(3):
        tokens = [issuer.acquire(Deadline.after(clock, 1.0)) for _ in range(FREE)]
        assert issuer.status() != before
        for token in reversed(tokens):
            issuer.release(token)
        assert issuer.status() == before


def test_a_rejection_takes_nothing(issuer: Issuer, clock: FakeClock) -> None:
    tokens = [issuer.acquire(Deadline.after(clock, 1.0)) for _ in range(FREE)]
    before = issuer.status()
    for _ in range(10):
        with pytest.raises(Rejected):
            issuer.acquire(Deadline.after(clock, 0.0))
    assert issuer.status() == before
    issuer.release(tokens.pop())
    issuer.acquire(Deadline.after(clock, 0.0))


@pytest.mark.parametrize("seconds", [0.0, 0.5, 30.0])
def test_a_rejection_comes_at_the_deadline_at_the_latest(issuer: Issuer, clock: FakeClock, seconds: float) -> None:
    for _ in range(FREE):
        issuer.acquire(Deadline.after(clock, 0.0))
    deadline = Deadline.after(clock, seconds)
    with pytest.raises(Rejected) as refusal:
        issuer.acquire(deadline)
    assert clock.now() <= deadline.at
    assert not refusal.value.sent
    assert not refusal.value.retryable
    assert not refusal.value.endpoint_fault


@pytest.mark.parametrize("kind", ISSUERS)
@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["take", "take", "give"]), st.floats(0.0, 120.0)), max_size=40))
def test_the_same_times_give_the_same_decisions(kind: str, script: list[tuple[str, float]]) -> None:
    def run() -> list[object]:
        clock = FakeClock()
        issuer = ISSUERS[kind](clock)
        tokens: list[Any] = []
        seen: list[object] = []
        for step, gap in script:
            clock.advance(gap)
            if step == "take":
                try:
                    tokens.append(issuer.acquire(Deadline.after(clock, gap)))
                except Rejected as refusal:
                    seen.append((str(refusal), refusal.retry_after))
            elif tokens:
                issuer.release(tokens.pop(0))
            seen.append(issuer.status())
            seen.append(clock.now())
        return seen

    assert run() == run()


@settings(deadline=None)
@given(st.integers(), st.lists(st.tuples(st.none() | st.floats(0.0, 100.0), st.floats(0.0, 200.0)), max_size=10))
def test_a_retry_schedule_depends_on_its_seed_alone(seed: int, script: list[tuple[float | None, float]]) -> None:
    def run() -> list[float | None]:
        dice = random.Random(seed)
        policy = RetryPolicy(RetryConfig(), 5, jitter=lambda top: dice.uniform(0.0, top), uniform=dice.uniform)
        schedule = policy.schedule()
        return [schedule.next_wait(Throttled(retry_after=asked), remaining=left) for asked, left in script]

    waits = run()
    assert waits == run()
    assert all(wait is None or wait < left for wait, (_, left) in zip(waits, script, strict=True))


def test_rejections_say_when_to_try_again(clock: FakeClock) -> None:
    for issuer, kind in ((LimiterIssuer(clock), RateLimited), (ProbeIssuer(clock), CircuitOpen)):
        for _ in range(FREE):
            issuer.acquire(Deadline.after(clock, 0.0))
        with pytest.raises(kind) as refusal:
            issuer.acquire(Deadline.after(clock, 0.0))
        assert refusal.value.retry_after == pytest.approx(100.0)
