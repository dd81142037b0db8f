"""The load ramp: how long it lasts, when it stops, and what it advises."""

from __future__ import annotations

import pytest

from cosyclient.cli.load import LOAD_CONFIG, Ramp, RampStep, parse_span
from cosyclient.errors import ConfigurationError
from cosyclient.testing import scripted_client
from tests.support.service import answer, refuse


@pytest.mark.parametrize(("span", "seconds"), [("20", 20.0), ("20s", 20.0), ("2m", 120.0), ("1h", 3600.0)])
def test_a_span_has_a_unit(span: str, seconds: float) -> None:
    assert parse_span(span) == seconds


@pytest.mark.parametrize("span", ["", "x", "0.5s", "2h", "nan", "-5"])
def test_a_span_out_of_range_is_refused(span: str) -> None:
    with pytest.raises(ConfigurationError, match="--load: must be a span"):
        parse_span(span)


def _step(at_once: int, per_second: float, median: float = 0.1, failed: int = 0) -> RampStep:
    return RampStep(at_once=at_once, texts=10, per_second=per_second, median=median, p95=median, failed=failed)


def _ramp(steps: list[RampStep]) -> Ramp:
    client, _ = scripted_client(answer, config=LOAD_CONFIG)
    ramp = Ramp(client, "hello", span=10.0, most=64)
    ramp.steps = steps
    return ramp


def test_the_advice_is_the_smallest_concurrency_with_full_throughput() -> None:
    ramp = _ramp([_step(1, 10.0), _step(2, 19.0), _step(3, 20.0), _step(4, 30.0, failed=1)])
    assert ramp.advice() == {"concurrency": 2, "texts_per_second": 19.0}


def test_without_a_step_there_is_no_advice() -> None:
    assert _ramp([]).advice() == {}


def test_a_ramp_stops_where_throughput_is_flat_and_latency_has_grown() -> None:
    flat = [_step(1, 10.0, 0.1), _step(2, 10.0, 0.3), _step(3, 10.0, 0.5)]
    assert "3 at once bring no higher throughput, and each takes 5.0 times as long" in _ramp(flat)._reason_to_stop()
    growing = [_step(1, 10.0, 0.1), _step(2, 15.0, 0.3), _step(3, 20.0, 0.5)]
    assert _ramp(growing)._reason_to_stop() == ""


def test_a_ramp_stops_at_a_refusal() -> None:
    client, transport = scripted_client(lambda _: refuse(429), config=LOAD_CONFIG, max_retries=0)
    ramp = Ramp(client, "hello", span=10.0, most=64)
    ramp.run()
    assert ramp.stopped.startswith("at 1 at once it refused or failed: Throttled")
    assert (len(transport.requests), ramp.report()["texts"]) == (1, 1)
