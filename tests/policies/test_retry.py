"""The retry schedule of one call: its exact waits, what ends it, and what a Retry-After changes."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.config import RetryConfig
from cosyclient.errors import BadRequest, CosyError, DecodeError, ServiceFault, Throttled, TransportError
from cosyclient.policies.retry import RetryPolicy, RetrySchedule

LONG = 1e6


def longest(config: RetryConfig | None = None, max_retries: int = 10) -> RetryPolicy:
    """Return a policy that always draws the longest wait."""
    return RetryPolicy(
        config or RetryConfig(), max_retries, jitter=lambda ceiling: ceiling, uniform=lambda _, high: high
    )


def shortest(max_retries: int = 10) -> RetryPolicy:
    """Return a policy that always draws the shortest wait."""
    return RetryPolicy(RetryConfig(), max_retries, jitter=lambda _: 0.0, uniform=lambda low, _: low)


def waits(schedule: RetrySchedule, count: int, error: CosyError | None = None) -> list[float | None]:
    return [schedule.next_wait(error or ServiceFault(), remaining=LONG) for _ in range(count)]


def test_ceilings_double_from_200_ms_to_20_s() -> None:
    assert waits(longest().schedule(), 10) == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0, 20.0]


def test_full_jitter_reaches_down_to_zero() -> None:
    assert waits(shortest().schedule(), 3) == [0.0, 0.0, 0.0]


def test_default_jitter_is_full_jitter() -> None:
    schedule = RetryPolicy(RetryConfig(initial=1.0, cap=1.0), 10_000).schedule()
    drawn = [wait for wait in waits(schedule, 10_000) if wait is not None]
    assert len(drawn) == 10_000
    assert all(0.0 <= wait <= 1.0 for wait in drawn)
    assert sum(drawn) / len(drawn) == pytest.approx(0.5, abs=0.03)


def test_default_spread_of_a_retry_after_only_goes_up() -> None:
    schedule = RetryPolicy(RetryConfig(), 2000).schedule()
    drawn = [wait for wait in waits(schedule, 2000, Throttled(retry_after=30.0)) if wait is not None]
    assert len(drawn) == 2000
    assert all(30.0 <= wait <= 31.0 for wait in drawn)
    assert max(drawn) - min(drawn) > 0.9


@pytest.mark.parametrize(("initial", "cap"), [(0.2, 20.0), (5e-324, 20.0), (1e-300, 1e300), (20.0, 20.0)])
def test_attempt_2000_does_not_overflow(initial: float, cap: float) -> None:
    schedule = longest(RetryConfig(initial=initial, cap=cap), max_retries=2000).schedule()
    for _ in range(2000):
        wait = schedule.next_wait(ServiceFault(), remaining=math.inf)
        assert wait is not None
        assert 0.0 <= wait <= cap
    assert wait == cap


def test_retries_are_used_up_and_counted() -> None:
    schedule = longest(max_retries=3).schedule()
    assert waits(schedule, 5) == [0.2, 0.4, 0.8, None, None]
    assert schedule.retries == 3


def test_no_retries_means_none() -> None:
    assert waits(longest(max_retries=0).schedule(), 1) == [None]


def test_schedules_do_not_share_state() -> None:
    policy = longest()
    first, second = policy.schedule(), policy.schedule()
    assert waits(first, 2) == [0.2, 0.4]
    assert waits(second, 2) == [0.2, 0.4]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (TransportError(), True),
        (ServiceFault(), True),
        (Throttled(), True),
        (BadRequest(), False),
        (BadRequest(retryable=True), True),
        (DecodeError(), False),
        (ServiceFault(retryable=False, retry_after=1.0), False),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_only_retryable_errors_are_retried(error: CosyError, again: bool) -> None:
    schedule = longest().schedule()
    assert (schedule.next_wait(error, remaining=LONG) is not None) is again
    assert schedule.retries == again


@pytest.mark.parametrize(
    ("retry_after", "low", "high"),
    [
        (0.05, 0.05, 0.2),  # the back-off is the longer one
        (0.3, 0.3, 0.6),
        (1.0, 1.0, 2.0),
        (30.0, 30.0, 31.0),
        (120.0, 120.0, 121.0),
    ],
)
def test_retry_after_is_a_floor_with_jitter_upwards(retry_after: float, low: float, high: float) -> None:
    error = Throttled(retry_after=retry_after)
    assert shortest().schedule().next_wait(error, remaining=LONG) == low
    assert longest().schedule().next_wait(error, remaining=LONG) == high


def test_a_back_off_longer_than_the_retry_after_is_kept() -> None:
    schedule = longest().schedule()
    waits(schedule, 4)
    assert schedule.next_wait(Throttled(retry_after=0.5), remaining=LONG) == 3.2


@pytest.mark.parametrize("retry_after", [math.nan, -1.0, -math.inf, 0.0, -0.0])
def test_a_senseless_retry_after_is_ignored(retry_after: float) -> None:
    assert longest().schedule().next_wait(Throttled(retry_after=retry_after), remaining=LONG) == 0.2


@pytest.mark.parametrize("retry_after", [120.001, 1e9, math.inf])
def test_an_absurd_retry_after_is_not_waited_for(retry_after: float) -> None:
    schedule = longest().schedule()
    assert schedule.next_wait(Throttled(retry_after=retry_after), remaining=math.inf) is None
    assert schedule.retries == 0


@pytest.mark.parametrize(
    ("retry_after", "remaining", "wait"),
    [
        (None, 0.2001, 0.2),
        (None, 0.2, None),  # would end at the deadline: worthless
        (None, 0.0, None),
        (None, -1.0, None),
        (None, math.nan, None),
        (2.0, 3.0001, 3.0),
        (2.0, 3.0, None),
        (2.0, 1.5, None),
        (2.0, 2.0, None),
    ],
)
def test_a_wait_ends_before_the_deadline_or_is_not_begun(
    retry_after: float | None, remaining: float, wait: float | None
) -> None:
    assert longest().schedule().next_wait(ServiceFault(retry_after=retry_after), remaining=remaining) == wait


@settings(deadline=None)
@given(
    retry_after=st.none() | st.floats(),
    remaining=st.floats(),
    draw=st.floats(0, 1),
    spread=st.floats(0, 1),
)
def test_any_wait_is_bounded(retry_after: float | None, remaining: float, draw: float, spread: float) -> None:
    policy = RetryPolicy(
        RetryConfig(), 3, jitter=lambda ceiling: ceiling * draw, uniform=lambda low, high: low + (high - low) * spread
    )
    wait = policy.schedule().next_wait(Throttled(retry_after=retry_after), remaining=remaining)
    if wait is not None:
        assert 0.0 <= wait < remaining
        assert wait <= 121.0
        if retry_after is not None and retry_after > 0:
            assert wait >= retry_after


def test_callers_throttled_at_the_same_time_do_not_retry_at_the_same_time() -> None:
    """Of 200 callers with Retry-After 1 none is early, and no tenth of a second has more than a fifth of them."""
    dice = random.Random(7)
    policy = RetryPolicy(RetryConfig(), 3, jitter=lambda ceiling: dice.uniform(0.0, ceiling), uniform=dice.uniform)
    returns = [policy.schedule().next_wait(Throttled(retry_after=1.0), remaining=30.0) for _ in range(200)]
    assert all(wait is not None and 1.0 <= wait <= 2.0 for wait in returns)
    tenths = Counter(int(wait * 10) for wait in returns if wait is not None)
    assert len(tenths) == 10
    assert max(tenths.values()) <= 40


def test_repr_reads_like_a_status_line() -> None:
    policy = longest(max_retries=3)
    assert repr(policy) == "<RetryPolicy at most 3 retries, 0.2 s × 2ⁿ up to 20 s>"
    schedule = policy.schedule()
    waits(schedule, 1)
    assert repr(schedule) == "<RetrySchedule 1 of 3 retries used>"
