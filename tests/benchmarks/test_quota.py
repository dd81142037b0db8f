"""The quota benchmark: what Envoy counted, the targets, the report, and the published results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.harness.options import Options
from benchmarks.harness.results import Row, Run
from benchmarks.suites.quota import run as quota
from benchmarks.suites.quota.plan import CASES, QUICK, Case
from benchmarks.suites.quota.report import conclusions, draw, introduction, tabulate, targets

RUN = Run(
    asked=64_000,
    finished=64_000,
    elapsed=10.0,
    rate=6400.0,
    peak=6500.0,
    latency_mean=0.21,
    latency_p50=0.21,
    latency_p99=0.24,
    failed_mean=None,
    threads=50,
    callers=1,
    cpu=9.0,
    requests=1000,
    throttled=0,
    early_throttled=0,
    refused=0,
    service_cpu=0.2,
)


def case(name: str) -> Case:
    return next(each for each in CASES if each.name == name)


def rows(run: Run) -> list[Row]:
    return [Row(name=each.name, label=each.label, sentence="", runs=[run]) for each in CASES]


def test_a_run_holds_what_envoy_saw() -> None:
    """A bucket that is empty before the measured part begins refuses all that comes in it."""
    strict = replace(case("asyncio200"), rate=0.001, bucket=1, warm_up=1.0)
    run = quota.measure_one(strict, 1.0, "opus")
    assert run.early_throttled > 0
    # At either end, requests of fifty connections may be counted and not yet refused.
    assert run.requests > 100
    assert run.throttled == pytest.approx(run.requests, abs=50)
    assert run.errors.keys() >= {"TriesUsedUp"}


def test_the_service_alone_has_no_quota() -> None:
    """It answers as fast as it can, and as many as ask."""
    run = quota.measure_one(replace(case("raw"), warm_up=0.1), 0.5, "opus")
    assert (run.throttled, run.refused, run.errors) == (0, 0, {})
    assert run.finished / 64 == pytest.approx(run.requests, abs=50)


def test_targets_name_what_was_missed() -> None:
    """Each row has its own targets; none is met by nothing."""
    strict = replace(RUN, requests=580)
    good = {each.name: strict if each.strict else RUN for each in CASES if each.ours}
    assert all(met for name, run in good.items() for _, met in targets(case(name), run))
    missed = {
        "many": replace(RUN, rate=6200.0),
        "threads": replace(RUN, rate=6000.0),
        "submit": replace(RUN, throttled=1),
        "submit_frames": replace(RUN, rate=6300.0),
        "open": replace(RUN, latency_p99=0.31),
        "strict60": replace(RUN, requests=600, throttled=7),
        "strict6": replace(RUN, requests=560),
    }
    for name, run in missed.items():
        assert [met for _, met in targets(case(name), run)].count(False) == 1, name
    assert not any(met for _, met in targets(case("open"), replace(RUN, latency_p99=None, early_throttled=1)))
    assert targets(case("open"), RUN)[0][0] == "p99 at most 300 ms"


def test_report_and_picture_name_every_row_and_every_miss(tmp_path: Path) -> None:
    """Missed targets stand out."""
    found = rows(replace(RUN, rate=3000.0, throttled=100, service_cpu=0.95, errors={"TriesUsedUp": 64.0}))
    lines = tabulate(CASES, found).splitlines()
    assert len(lines) == 3 + len(CASES)
    assert "10.0 %" in lines[3]
    assert "–" in lines[3]  # the service alone has no quota to fill
    assert "46.9 %" in lines[4]
    output = conclusions(CASES, found)
    assert "1,750 threads synthesize: at least 95 % of 6,400 texts/s: MISSED; no 429, no error: MISSED." in output
    assert "Envoy used 90 % of a core: it may be what was slow in bare loop, 20 threads, synthesize_many" in output
    assert "64 TriesUsedUp" in output
    draw(tmp_path / "quota.svg", CASES, found, machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "quota.svg").getroot().itertext())
    assert all(each.label in drawn for each in CASES if each.name != "raw")


@pytest.mark.parametrize("quick", [True, False])
def test_the_introduction_states_the_warm_up(quick: bool) -> None:
    """And how often it was repeated."""
    output = introduction(3.0, QUICK if quick else CASES, Options(repeat=3))
    assert f"after a warm-up of {'2.5' if quick else '5'} s" in output
    assert "Medians of 3 runs" in output


def test_the_published_results_are_what_a_run_writes() -> None:
    """The published figures can be read again, and their parameters are this benchmark's."""
    published = Path(quota.__file__).parents[2] / "published" / "quota.json"
    document = json.loads(published.read_text(encoding="utf-8"))
    assert [Case(**each) for each in document["parameters"]["cases"]] == list(CASES)
    for row in document["rows"]:
        runs = [Run(**each) for each in row["runs"]]
        assert Row(name=row["name"], label=row["label"], sentence=row["sentence"], runs=runs).document() == row
