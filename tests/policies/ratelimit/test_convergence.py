"""The limiter against a gateway that allows less than it was told: a seeded model in fake time."""

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

TOLD = 100.0
ROUND_TRIP = 0.2
WORKERS = 40
LATENESS = 0.003
"""Mean seconds by which a sleeping thread wakes too late."""
AT_ONCE = 0.002


@dataclass
class Gateway:
    """Refill a bucket of *bucket* tokens by *quota* (of the time) a second, and note what is asked of it."""

    quota: Callable[[float], float]
    bucket: float
    replies: list[tuple[float, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens, self.then = self.bucket, 0.0

    def admits(self, now: float) -> bool:
        self.tokens = min(self.bucket, self.tokens + (now - self.then) * self.quota(now))
        self.then = now
        admitted = self.tokens >= 1.0
        self.tokens -= admitted
        self.replies.append((now, admitted))
        return admitted

    def between(self, since: float, until: float) -> tuple[float, float]:
        """Return the share of requests refused, and the share of the quota used."""
        seen = [admitted for now, admitted in self.replies if since <= now < until]
        return seen.count(False) / len(seen), seen.count(True) / (self.quota(since) * (until - since))


def play(
    gateway: Gateway,
    *,
    seconds: float,
    refusal: float = ROUND_TRIP,
    retry_after: float | None = None,
    stall: float = 0.0,
    tells: bool = False,
    seed: int = 1,
    told: float = TOLD,
) -> RateLimiter:
    """Let workers send as fast as the limiter lets them, each one request at a time; a refusal takes *refusal* seconds.

    As in the client, a worker obtains its place ahead of time, sleeps, asks whether the place still stands, and sends.
    Once a second the whole process stands still, at most for *stall* seconds. A gateway that *tells* names the size of
    its bucket as the limit, as Envoy does.
    """
    limiter, dice, order = RateLimiter(rate=told, burst=10), random.Random(seed), count()
    if tells:
        limiter.apply_quota(gateway.bucket, None)
    agenda: list[tuple[float, int, str, Reservation | None]] = [(0.0, next(order), "free", None)] * WORKERS
    heapq.heapify(agenda)
    sent = refused = 0
    stalls = [dice.uniform(0.0, stall) for _ in range(int(seconds) + 2)]

    def later(at: float, what: str, place: Reservation | None = None) -> None:
        heapq.heappush(agenda, (at, next(order), what, place))

    def asleep(place: Reservation) -> None:
        wakes = place.at + dice.expovariate(1 / LATENESS)
        later(max(wakes, int(wakes) + stalls[int(wakes)]), "due", place)

    while (step := heapq.heappop(agenda))[0] < seconds:
        now, _, what, place = step
        if what == "free":
            place = limiter.reserve(now)
            if place.at > now:
                asleep(place)
            else:
                later(now, "due", place)
            continue
        assert place is not None
        if what == "due" and (place := limiter.recheck(place, now)).at > now:
            asleep(place)
        elif what == "due":
            sent += 1
            admitted = gateway.admits(now)
            later(now + (ROUND_TRIP if admitted else refusal), "free" if admitted else "refused", place)
        else:
            refused += 1
            lately = sum(at > now - 1.0 for at, _ in gateway.replies[-200:])
            limiter.record_throttled(now, place, accepted=sent - refused, sent=lately)
            if retry_after is not None:
                limiter.pause(now, retry_after)
            later(now, "free")
    return limiter


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("refusal", [ROUND_TRIP, AT_ONCE])
@pytest.mark.parametrize("bucket", [6, 60])
@pytest.mark.parametrize("quota", [20, 60, 90])
def test_a_stricter_gateway_is_found_out_and_filled(quota: int, bucket: int, refusal: float, seed: int) -> None:
    """After ten seconds at most 1 % is refused, and 95 % of its quota are used."""
    gateway = Gateway(lambda _: quota, bucket)
    play(gateway, seconds=70.0, refusal=refusal, seed=seed)
    refused, used = gateway.between(10.0, 70.0)
    assert refused <= 0.01
    assert used >= 0.95


@pytest.mark.parametrize("bucket", [6, 60])
def test_it_is_found_out_within_seconds(bucket: int) -> None:
    """What the whole discovery costs: less than a second's quota is refused in the first ten seconds."""
    gateway = Gateway(lambda _: 60.0, bucket)
    play(gateway, seconds=10.0)
    assert sum(not admitted for _, admitted in gateway.replies) < 60
    assert gateway.between(5.0, 10.0)[0] <= 0.02


@pytest.mark.parametrize("bucket", [6, 60])
def test_refusals_with_retry_after_are_few_as_well(bucket: int) -> None:
    """The pauses are obeyed and cost quota, most where the bucket is small; they are not taken for a smaller quota."""
    gateway = Gateway(lambda _: 60.0, bucket)
    play(gateway, seconds=70.0, retry_after=1.0)
    refused, used = gateway.between(10.0, 70.0)
    assert refused <= 0.01
    assert used >= 0.85


@pytest.mark.parametrize("bucket", [6, 60])
def test_a_lifted_quota_is_found_in_the_end(bucket: int) -> None:
    """The longest plateau is a minute; some seconds later the old rate is back."""
    gateway = Gateway(lambda now: 60.0 if now < 100.0 else TOLD, max(bucket, 10))
    limiter = play(gateway, seconds=190.0)
    assert (limiter.rate, limiter.slowed) == (TOLD, False)
    assert gateway.between(180.0, 190.0)[1] >= 0.99


@pytest.mark.parametrize("bucket", [6, 10])
def test_a_stalled_client_is_not_taken_for_a_smaller_quota(bucket: int) -> None:
    """All who wake after a stall would leave at once and be refused, though the pace was right."""
    gateway = Gateway(lambda _: 60.0, bucket)
    play(gateway, seconds=70.0, refusal=AT_ONCE, stall=0.15, tells=True)
    refused, used = gateway.between(10.0, 70.0)
    assert refused <= 0.01
    assert used >= 0.9


def test_a_stalled_client_does_not_overrun_what_it_was_told() -> None:
    """Not even where the service forgives no more than the burst."""
    gateway = Gateway(lambda _: TOLD, 11.0)
    limiter = play(gateway, seconds=70.0, stall=0.15)
    assert gateway.between(0.0, 70.0)[0] == 0.0
    assert gateway.between(1.0, 70.0)[1] >= 0.95
    assert not limiter.slowed


def test_a_quota_as_told_is_never_overrun() -> None:
    """Nothing is refused, nothing is left."""
    gateway = Gateway(lambda _: TOLD, 20.0)
    limiter = play(gateway, seconds=30.0)
    assert gateway.between(0.0, 30.0)[0] == 0.0
    assert gateway.between(1.0, 30.0)[1] >= 0.99
    assert not limiter.slowed


@pytest.mark.parametrize("refusal", [ROUND_TRIP, AT_ONCE])
@pytest.mark.parametrize("bucket", [6, 60])
@pytest.mark.parametrize("quota", [20, 60, 150])
def test_a_quota_nobody_told_of_is_found_out(quota: int, bucket: int, refusal: float) -> None:
    """Told that there is none, the client finds it from its refusals: few of them, for it begins with what was sent."""
    gateway = Gateway(lambda _: quota, bucket)
    play(gateway, seconds=90.0, refusal=refusal, told=math.inf)
    assert sum(not admitted for _, admitted in gateway.replies) < 150
    refused, used = gateway.between(20.0, 90.0)
    assert refused <= 0.01
    assert used >= 0.6


def test_where_there_is_none_nobody_waits() -> None:
    """As many as the workers can carry, from the first second to the last."""
    gateway = Gateway(lambda _: 1e9, 1e9)
    limiter = play(gateway, seconds=10.0, told=math.inf)
    assert len(gateway.replies) >= 0.95 * WORKERS * 10.0 / (ROUND_TRIP + LATENESS)
    assert (limiter.rate, limiter.slowed) == (math.inf, False)
