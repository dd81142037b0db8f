"""The records of runs, their medians, and what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks.harness import machine
from benchmarks.harness.options import Options
from benchmarks.harness.results import Run, announce, medians, publish

if TYPE_CHECKING:
    from pathlib import Path

RUN = Run(
    asked=100,
    finished=80,
    elapsed=4.0,
    rate=20.0,
    peak=30.0,
    latency_mean=0.25,
    latency_p50=0.2,
    latency_p99=1.5,
    failed_mean=5.0,
    threads=12,
    callers=10,
    cpu=0.4,
    requests=90,
    throttled=7,
    early_throttled=0,
    refused=3,
    service_cpu=0.02,
    errors={"EmptyPoolError": 20.0},
)


def test_medians_take_each_figure_and_ignore_what_is_missing() -> None:
    """One lucky run decides nothing."""
    found = medians(
        [RUN, replace(RUN, rate=90.0, latency_p99=None), replace(RUN, rate=30.0, latency_p99=2.5, errors={})]
    )
    assert (found.rate, found.latency_p99) == (30.0, 2.0)
    assert found.errors["EmptyPoolError"] == pytest.approx(40 / 3)
    assert found.error_rate == pytest.approx(0.2)
    assert found.cpu_per_text == pytest.approx(0.005)
    assert found.refused_share == pytest.approx(7 / 90)


def test_a_benchmark_is_announced_and_its_results_are_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON for machines, a picture for people, and where both are."""
    about = announce("some", "what it measures")
    options = Options(output=tmp_path / "new", quick=True)
    publish("some", options, about, {"rows": [1]}, lambda path: path.write_text("drawn"))
    document = json.loads((tmp_path / "new" / "some.json").read_text(encoding="utf-8"))
    assert (document["benchmark"], document["quick"], document["rows"]) == ("some", True, [1])
    assert {"commit", "cores", "date", "packages", "processor", "python"} <= document["machine"].keys()
    assert (tmp_path / "new" / "some.svg").read_text() == "drawn"
    printed = capsys.readouterr().out
    assert "some: what it measures" in printed
    assert machine.sentence(about) in printed
    assert "some.json" in printed
