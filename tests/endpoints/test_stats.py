"""The statistics of an endpoint: what counts as what, and over which time."""

from __future__ import annotations

import math

import pytest

from cosyclient.endpoints.stats import EndpointStats
from cosyclient.errors import ServiceFault, Throttled


def test_a_throttled_request_is_a_failure_and_was_not_accepted() -> None:
    """Requests in flight count as accepted."""
    stats = EndpointStats()
    for number in range(4):
        stats.record_start(100.0, retry=number == 3)
    stats.record_finish(0.1, None, 100.1, answered=True)
    stats.record_finish(0.1, Throttled("HTTP 429", status=429), 100.1, answered=False)
    stats.record_finish(0.1, ServiceFault("HTTP 503", status=503), 100.1, answered=False)
    assert (stats.executions, stats.retries, stats.failures, stats.throttled, stats.accepted) == (4, 1, 2, 1, 3)


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    """Or of the time since the first request, but a second at least."""
    stats = EndpointStats()
    assert stats.rate(0.0) == 0.0
    for number in range(5):
        stats.record_start(100.0 + number / 10, retry=False)
    assert stats.rate(100.5) == 5.0
    assert stats.rate(102.0) == 2.5
    assert stats.rate(109.9) == pytest.approx(5 / 9.9)
    assert stats.rate(110.25) == pytest.approx(0.2)
    assert stats.rate(200.0) == 0.0


def test_the_latency_is_a_moving_average() -> None:
    """A tenth of the way to each new one; the first counts in full."""
    stats = EndpointStats()
    for latency in (2.0, 1.0):
        stats.record_finish(latency, None, 100.0, answered=True)
    assert stats.latency == pytest.approx(1.9)


def test_the_last_answer_is_remembered() -> None:
    """Part of a reply is one, also of a request that failed."""
    stats = EndpointStats()
    assert stats.last_answer_at == -math.inf
    stats.record_finish(1.0, ServiceFault("HTTP 503", status=503), 100.0, answered=False)
    assert stats.last_answer_at == -math.inf
    stats.record_finish(1.0, ServiceFault("HTTP 503", status=503), 101.0, answered=True)
    assert stats.last_answer_at == 101.0
