"""The retry budget: what is withdrawn, what is deposited, and that it stays within its bounds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.config import RetryConfig
from cosyclient.policies.budget import RetryBudget


def test_costs_are_those_of_the_config() -> None:
    budget = RetryBudget(RetryConfig())
    assert budget.available == 500
    assert budget.withdraw(throttled=False) == 14
    assert budget.withdraw(throttled=True) == 5
    assert budget.available == 481


def test_a_retry_that_costs_too_much_withdraws_nothing() -> None:
    budget = RetryBudget(RetryConfig(budget=20))
    assert budget.withdraw(throttled=False) == 14
    assert budget.withdraw(throttled=False) == 0
    assert budget.available == 6
    assert budget.withdraw(throttled=True) == 5
    assert budget.withdraw(throttled=True) == 0
    assert budget.available == 1


def test_the_last_token_can_be_withdrawn() -> None:
    budget = RetryBudget(RetryConfig(budget=14))
    assert budget.withdraw(throttled=False) == 14
    assert budget.available == 0


def test_an_outage_causes_35_retries_at_most() -> None:
    budget = RetryBudget(RetryConfig())
    assert sum(budget.withdraw(throttled=False) > 0 for _ in range(1000)) == 35


@pytest.mark.parametrize(("in_flight", "retries"), [(4, 35), (40, 40), (400, 400)])
def test_all_that_may_be_in_flight_can_be_retried(in_flight: int, retries: int) -> None:
    budget = RetryBudget(RetryConfig(), in_flight=in_flight)
    assert sum(budget.withdraw(throttled=False) > 0 for _ in range(1000)) == retries


def test_a_configured_budget_is_kept() -> None:
    assert RetryBudget(RetryConfig(budget=20), in_flight=400).available == 20


@pytest.mark.parametrize(("returned", "gain"), [(0, 1), (1, 1), (14, 14), (42, 42), (-3, 1), (10_000, 98)])
def test_a_success_deposits_what_its_retries_cost_or_one(returned: int, gain: int) -> None:
    budget = RetryBudget(RetryConfig())
    for _ in range(7):
        budget.withdraw(throttled=False)
    before = budget.available
    budget.deposit(returned)
    assert budget.available - before == gain


def test_a_full_budget_stays_full() -> None:
    budget = RetryBudget(RetryConfig(budget=20))
    budget.deposit(14)
    assert budget.available == 20


@settings(deadline=None)
@given(st.lists(st.sampled_from(["transient", "throttled", "success", "costly success"]), max_size=200))
def test_it_stays_within_bounds_and_tokens_add_up(steps: list[str]) -> None:
    budget = RetryBudget(RetryConfig(budget=50))
    available = 50
    for step in steps:
        if "success" in step:
            tokens = 14 if step == "costly success" else 0
            budget.deposit(tokens)
            available = min(50, available + max(1, tokens))
        else:
            cost = 5 if step == "throttled" else 14
            taken = budget.withdraw(throttled=step == "throttled")
            assert taken == (cost if cost <= available else 0)
            available -= taken
        assert budget.available == available
        assert 0 <= available <= 50


@pytest.mark.parametrize(("failing", "most"), [(0.01, 1.012), (0.1, 1.13), (0.5, 1.09), (1.0, 1.002)])
def test_amplification_stays_low_at_any_failure_rate(failing: float, most: float) -> None:
    """The model behind the figures of the configuration: 100,000 calls of at most four attempts."""
    dice = random.Random(7)
    budget = RetryBudget(RetryConfig())
    tries = 0
    for _ in range(100_000):
        spent = 0
        for _ in range(4):
            tries += 1
            if dice.random() >= failing:
                budget.deposit(spent)
                break
            cost = budget.withdraw(throttled=False)
            if not cost:
                break
            spent += cost
    assert tries / 100_000 <= most


def test_repr_reads_like_a_status_line() -> None:
    budget = RetryBudget(RetryConfig())
    budget.withdraw(throttled=True)
    assert repr(budget) == "<RetryBudget 495 of 500 tokens>"
