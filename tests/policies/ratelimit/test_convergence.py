"""The limiter against a gateway that allows less than is configured: a seeded model in fake time."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import pytest

from cosyclient.policies.ratelimit.limiter import RateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.policies.ratelimit.limiter import Reservation

CONFIGURED = 100.0
ROUND_TRIP = 0.2
WORKERS = 40
LATENESS = 0.003
"""Mean seconds by which a sleeping thread wakes too late."""
AT_ONCE = 0.002


@dataclass
class Gateway:
    """Refill a bucket of *bucket* tokens by *quota* (of the time) a second, and record each request."""

    quota: Callable[[float], float]
    bucket: float
    replies: list[tuple[float, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens, self.then = self.bucket, 0.0

    def accepts(self, now: float) -> bool:
        self.tokens = min(self.bucket, self.tokens + (now - self.then) * self.quota(now))
        self.then = now
        accepted = self.tokens >= 1.0
        self.tokens -= accepted
        self.replies.append((now, accepted))
        return accepted

    def between(self, since: float, until: float) -> tuple[float, float]:
        """Return the share of requests refused, and the share of the quota used."""
        answers = [accepted for now, accepted in self.replies if since <= now < until]
        return answers.count(False) / len(answers), answers.count(True) / (self.quota(since) * (until - since))


def simulate(
    gateway: Gateway,
    *,
    seconds: float,
    refusal: float = ROUND_TRIP,
    retry_after: float | None = None,
    stall: float = 0.0,
    announces: bool = False,
    seed: int = 1,
    configured: float = CONFIGURED,
) -> RateLimiter:
    """Let workers send as fast as the limiter lets them, each one request at a time; a refusal takes *refusal* seconds.

    As in the client, a worker reserves an instant, sleeps, rechecks it and sends. Once a second the whole process
    stands still, at most for *stall* seconds. A gateway that *announces* reports the size of its bucket as the limit,
    as Envoy does.
    """
    limiter, dice, order = RateLimiter(rate=configured, burst=10), random.Random(seed), count()
    if announces:
        limiter.apply_quota(gateway.bucket, None)
    events: list[tuple[float, int, str, Reservation | None]] = [(0.0, next(order), "free", None)] * WORKERS
    heapq.heapify(events)
    sent = refused = 0
    stalls = [dice.uniform(0.0, stall) for _ in range(int(seconds) + 2)]

    def schedule(at: float, what: str, reservation: Reservation | None = None) -> None:
        heapq.heappush(events, (at, next(order), what, reservation))

    def sleep(reservation: Reservation) -> None:
        wakes = reservation.at + dice.expovariate(1 / LATENESS)
        schedule(max(wakes, int(wakes) + stalls[int(wakes)]), "due", reservation)

    while (step := heapq.heappop(events))[0] < seconds:
        now, _, what, reservation = step
        if what == "free":
            reservation = limiter.reserve(now)
            if reservation.at > now:
                sleep(reservation)
            else:
                schedule(now, "due", reservation)
            continue
        assert reservation is not None
        if what == "due" and (reservation := limiter.recheck(reservation, now)).at > now:
            sleep(reservation)
        elif what == "due":
            sent += 1
            accepted = gateway.accepts(now)
            schedule(now + (ROUND_TRIP if accepted else refusal), "free" if accepted else "refused", reservation)
        else:
            refused += 1
            rate_sent = sum(at > now - 1.0 for at, _ in gateway.replies[-200:])
            limiter.record_throttled(now, reservation, accepted=sent - refused, sent=rate_sent)
            if retry_after is not None:
                limiter.pause(now, retry_after)
            schedule(now, "free")
    return limiter


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("refusal", [ROUND_TRIP, AT_ONCE])
@pytest.mark.parametrize("bucket", [6, 60])
@pytest.mark.parametrize("quota", [20, 60, 90])
def test_the_quota_of_a_stricter_gateway_is_found_and_used(quota: int, bucket: int, refusal: float, seed: int) -> None:
    """After ten seconds at most 1 % is refused, and 95 % of its quota are used."""
    gateway = Gateway(lambda _: quota, bucket)
    simulate(gateway, seconds=70.0, refusal=refusal, seed=seed)
    refused, used = gateway.between(10.0, 70.0)
    assert refused <= 0.01
    assert used >= 0.95


@pytest.mark.parametrize("bucket", [6, 60])
def test_the_quota_is_found_within_seconds(bucket: int) -> None:
    """The search is cheap: less than a second's quota is refused in the first ten seconds."""
    gateway = Gateway(lambda _: 60.0, bucket)
    simulate(gateway, seconds=10.0)
    assert sum(not accepted for _, accepted in gateway.replies) < 60
    assert gateway.between(5.0, 10.0)[0] <= 0.02


@pytest.mark.parametrize("bucket", [6, 60])
def test_refusals_with_retry_after_are_few_as_well(bucket: int) -> None:
    """The pauses are kept and cost quota, most where the bucket is small; they are not taken for a smaller quota."""
    gateway = Gateway(lambda _: 60.0, bucket)
    simulate(gateway, seconds=70.0, retry_after=1.0)
    refused, used = gateway.between(10.0, 70.0)
    assert refused <= 0.01
    assert used >= 0.85


@pytest.mark.parametrize("bucket", [6, 60])
def test_a_raised_quota_is_found_in_the_end(bucket: int) -> None:
    """The longest plateau is a minute; some seconds later the old rate is back."""
    gateway = Gateway(lambda now: 60.0 if now < 100.0 else CONFIGURED, max(bucket, 10))
    limiter = simulate(gateway, seconds=190.0)
    assert (limiter.rate, limiter.slowed) == (CONFIGURED, False)
    assert gateway.between(180.0, 190.0)[1] >= 0.99


@pytest.mark.parametrize("bucket", [6, 10])
def test_a_stalled_client_is_not_taken_for_a_smaller_quota(bucket: int) -> None:
    """All that wake after a stall would send at once and be refused, though the pace was right."""
    gateway = Gateway(lambda _: 60.0, bucket)
    simulate(gateway, seconds=70.0, refusal=AT_ONCE, stall=0.15, announces=True)
    refused, used = gateway.between(10.0, 70.0)
    assert refused <= 0.01
    assert used >= 0.9


def test_a_stalled_client_does_not_exceed_the_configured_burst() -> None:
    """Even where the service accepts no more than the burst at once."""
    gateway = Gateway(lambda _: CONFIGURED, 11.0)
    limiter = simulate(gateway, seconds=70.0, stall=0.15)
    assert gateway.between(0.0, 70.0)[0] == 0.0
    assert gateway.between(1.0, 70.0)[1] >= 0.95
    assert not limiter.slowed


def test_a_quota_as_configured_is_never_exceeded() -> None:
    """Nothing is refused, and all of it is used."""
    gateway = Gateway(lambda _: CONFIGURED, 20.0)
    limiter = simulate(gateway, seconds=30.0)
    assert gateway.between(0.0, 30.0)[0] == 0.0
    assert gateway.between(1.0, 30.0)[1] >= 0.99
    assert not limiter.slowed


@pytest.mark.parametrize("refusal", [ROUND_TRIP, AT_ONCE])
@pytest.mark.parametrize("bucket", [6, 60])
@pytest.mark.parametrize("quota", [20, 60, 150])
def test_a_quota_that_is_not_configured_is_found(quota: int, bucket: int, refusal: float) -> None:
    """The client finds it from a few refusals, because it begins with the rate that was sent."""
    gateway = Gateway(lambda _: quota, bucket)
    simulate(gateway, seconds=90.0, refusal=refusal, configured=math.inf)
    assert sum(not accepted for _, accepted in gateway.replies) < 150
    refused, used = gateway.between(20.0, 90.0)
    assert refused <= 0.01
    assert used >= 0.6


def test_without_a_quota_nothing_waits() -> None:
    """The workers send as fast as they can, from the first second to the last."""
    gateway = Gateway(lambda _: 1e9, 1e9)
    limiter = simulate(gateway, seconds=10.0, configured=math.inf)
    assert len(gateway.replies) >= 0.95 * WORKERS * 10.0 / (ROUND_TRIP + LATENESS)
    assert (limiter.rate, limiter.slowed) == (math.inf, False)
