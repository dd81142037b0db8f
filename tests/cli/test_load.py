"""The load ramp: how long it lasts, when it stops, and what it advises."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient.cli.load import LOAD_CONFIG, Ramp, RampStep, parse_span
from cosyclient.errors import ConfigurationError
from cosyclient.testing import scripted_client
from tests.support.service import answer, refuse

if TYPE_CHECKING:
    from cosyclient.testing import ScriptedReply
    from cosyclient.wire import WireRequest


@pytest.mark.parametrize(("span", "seconds"), [("20", 20.0), ("20s", 20.0), ("2m", 120.0), ("1h", 3600.0)])
def test_a_span_has_a_unit(span: str, seconds: float) -> None:
    assert parse_span(span) == seconds


@pytest.mark.parametrize("span", ["", "x", "0.5s", "2h", "nan", "-5"])
def test_a_span_out_of_range_is_refused(span: str) -> None:
    with pytest.raises(ConfigurationError, match="--load: must be a span"):
        parse_span(span)


def _step(at_once: int, per_second: float, median: float = 0.1, **counts: Any) -> RampStep:
    counts = {"failed": 0} | counts
    return RampStep(at_once=at_once, texts=10, per_second=per_second, median=median, p95=median, **counts)


def _ramp(steps: list[RampStep]) -> Ramp:
    client, _ = scripted_client(answer, config=LOAD_CONFIG)
    ramp = Ramp(client, "hello", span=10.0, most=64)
    ramp.steps = steps
    return ramp


def test_the_advice_is_the_smallest_concurrency_with_full_throughput() -> None:
    ramp = _ramp([_step(1, 10.0), _step(2, 19.0), _step(3, 20.0), _step(4, 30.0, failed=1)])
    assert ramp.advice() == {"concurrency": 2}


def test_a_step_with_refusals_by_chance_counts_and_one_above_the_quota_does_not() -> None:
    ramp = _ramp(
        [_step(1, 10.0), _step(2, 20.0, failed=1, refused=1), _step(3, 30.0, failed=4, refused=4, above_quota=True)]
    )
    assert ramp.advice() == {"concurrency": 2}
    ramp._above_quota = True
    assert ramp.advice() == {"concurrency": 2, "requests_per_second": 20.0}


def test_without_a_step_there_is_no_advice() -> None:
    assert _ramp([]).advice() == {}


def test_a_ramp_stops_where_throughput_is_flat_and_latency_has_grown() -> None:
    flat = [_step(1, 10.0, 0.1), _step(2, 10.0, 0.3), _step(3, 10.0, 0.5)]
    assert "3 at once bring no higher throughput, and each takes 5.0 times as long" in _ramp(flat)._reason_to_stop()
    growing = [_step(1, 10.0, 0.1), _step(2, 15.0, 0.3), _step(3, 20.0, 0.5)]
    assert _ramp(growing)._reason_to_stop() == ""


def test_a_ramp_stops_at_refusals_in_a_row() -> None:
    client, transport = scripted_client(lambda _: refuse(429), config=LOAD_CONFIG, max_retries=0)
    ramp = Ramp(client, "hello", span=10.0, most=64)
    ramp.run()
    assert ramp.stopped.startswith("at 1 at once it refused or failed: Throttled")
    assert (len(transport.requests), ramp.report()["texts"]) == (3, 3)
    assert ramp.advice() == {}


@pytest.mark.parametrize(("every", "stops"), [(50, False), (8, True)])
def test_a_ramp_goes_on_after_refusals_by_chance(every: int, stops: bool) -> None:
    sent = itertools.count(1)

    def some_refused(request: WireRequest) -> ScriptedReply:
        time.sleep(0.002)
        return refuse(429) if next(sent) % every == 0 else answer(request)

    client, transport = scripted_client(some_refused, config=LOAD_CONFIG, max_retries=0, requests_per_second=None)
    ramp = Ramp(client, "hello", span=3.0, most=2)
    ramp.run()
    client.close(drain=False)
    assert len(transport.requests) > 100
    if stops:
        assert " texts as too fast" in ramp.stopped
        assert ramp.steps[-1].above_quota
    else:
        assert ramp.stopped == "2 at once is the limit (--connections)"
        assert all(step.refused == step.failed > 0 for step in ramp.steps)
        assert ramp.advice().keys() == {"concurrency"}
