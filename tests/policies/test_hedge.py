"""When an attempt is slow, and how much may be sent twice: a quantile and two buckets, on counts alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyclient.config import HedgeConfig
from cosyclient.errors import ConfigurationError
from cosyclient.policies.hedge import HedgePolicy


def make(extra: float = 0.02) -> HedgePolicy:
    return HedgePolicy(HedgeConfig(extra=extra))


def test_nothing_is_slow_before_enough_latencies_are_known() -> None:
    """Forty attempts; then the quantile that the budget allows, kept up to date."""
    policy = make()
    for number in range(39):
        policy.record_latency(number / 100)
        assert policy.delay is None
    policy.record_latency(0.39)
    assert policy.delay == 0.38
    for _ in range(400):
        policy.record_latency(1.0)
    assert policy.delay == 1.0


def test_the_slowest_twentieth_is_slow() -> None:
    """With 2 % extra, 5 % are slow: as many as the budget of texts allows."""
    policy, dice = make(0.02), random.Random(20261124)
    for _ in range(400):
        policy.record_latency(dice.uniform(0.1, 0.2) * (10.0 if dice.random() < 0.03 else 1.0))
    assert policy.delay is not None
    assert 0.19 < policy.delay < 0.21


@given(st.lists(st.tuples(st.integers(1, 64), st.booleans()), max_size=400))
def test_no_more_is_sent_twice_than_was_withdrawn(requests: list[tuple[int, bool]]) -> None:
    """Requests stay within the share plus their burst, texts within 2.5 times that plus theirs."""
    policy, texts = make(0.02), 0
    for size, late in requests:
        policy.record_sent(size)
        texts += size
        if late and policy.withdraw_texts(size):
            policy.withdraw_request()
    assert policy.hedge_requests <= 1.0 + 0.02 * len(requests) + 1e-9
    assert policy.hedged_texts <= 64 + 0.05 * texts + 1e-9


def test_hedging_stops_when_everything_is_slow() -> None:
    """A thousand requests of ten texts, all slow: one in fifty is sent again, not all."""
    policy = make(0.02)
    for _ in range(1000):
        policy.record_sent(10)
        if policy.withdraw_texts(10):
            policy.withdraw_request()
    assert policy.hedge_requests == 21
    assert policy.hedged_texts == 564
    assert repr(policy) == "<HedgePolicy delay unknown, 564 texts again, 21 extra requests>"


@pytest.mark.parametrize("extra", [-0.1, 0.21, "a lot", float("nan")])
def test_a_senseless_share_is_refused(extra: float) -> None:
    """The message names the field."""
    with pytest.raises(ConfigurationError, match="hedge.extra"):
        HedgeConfig(extra=extra)
