"""The quota benchmark: each load on a service that grants everything, what Envoy counted, and the verdicts."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.harness.loads import Order, drive
from benchmarks.harness.options import Options
from benchmarks.harness.results import medians
from benchmarks.suites.quota import run as quota
from benchmarks.suites.quota.report import conclusions, draw, introduction, tabulate, verdicts
from benchmarks.suites.quota.run import CONTESTS, QUICK, Contest, GatewayRow, GatewayRun
from cosyclient.emulator import Emulator, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUN = GatewayRun(
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
    connections=40,
    refused=0,
    service_cpu=0.2,
    early_throttled=0,
    gateway_cpu=0.1,
    used=1.0,
)


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """Run a service without limits."""
    with running(engine="tone") as emulator:
        yield emulator


def contest(name: str) -> Contest:
    return next(each for each in CONTESTS if each.name == name)


def rows(run: GatewayRun) -> list[GatewayRow]:
    return [GatewayRow(name=each.name, label=each.label, sentence="", runs=[run]) for each in CONTESTS]


@pytest.mark.parametrize(("peer", "load"), [("d", "submit"), ("d", "open"), ("b", "stream"), ("b20", "stream")])
def test_every_load_gets_its_texts_spoken(service: Emulator, peer: str, load: str) -> None:
    """On a service that grants everything nobody fails; what is measured lies between two marks."""
    service.reset()
    order = Order(
        peer=peer,
        url=service.url,
        audio="opus",
        texts=0,
        callers=4,
        seconds=1.0,
        warm_up=1.1 if load == "open" else 0.1,
        pause=0.0,
        load=load,
        rate=20.0,
    )
    marks: list[int] = []
    figures = drive(order, lambda: marks.append(service.counters().texts))
    assert len(marks) == 2
    assert figures["errors"] == {}
    assert figures["asked"] == figures["finished"] > 0


def test_a_run_holds_what_envoy_saw(service: Emulator) -> None:
    """A bucket that is empty before the measured part begins refuses all that comes in it."""
    strict = replace(contest("asyncio20"), rate=0.001, bucket=1, warm_up=0.5)
    run = quota.measure_one(service, strict, 0.3, "opus")
    assert run.early_throttled > 0
    # At either end, twenty senders' requests may be counted and not yet refused.
    assert run.requests > 100
    assert run.throttled == pytest.approx(run.requests, abs=20)
    assert run.errors.keys() == {"TriesUsedUp"}


def test_verdicts_say_what_was_missed() -> None:
    """Each row has its own targets; none is met by nothing."""
    assert all(met for each in CONTESTS if each.ours for _, met in verdicts(each, replace(RUN, used=0.96)))
    missed = {
        "threads": replace(RUN, rate=6300.0),
        "submit": replace(RUN, throttled=1),
        "open": replace(RUN, latency_p99=0.26),
        "strict60": replace(RUN, throttled=11),
        "strict6": replace(RUN, used=0.94),
    }
    for name, run in missed.items():
        assert [met for _, met in verdicts(contest(name), run)].count(False) == 1, name
    assert not any(met for _, met in verdicts(contest("open"), replace(RUN, latency_p99=None, early_throttled=1)))


def test_words_and_picture_name_every_row_and_every_miss(tmp_path: Path) -> None:
    """A stranger finds the targets missed without looking for them."""
    found = rows(replace(RUN, rate=3000.0, throttled=100, service_cpu=0.95, errors={"TriesUsedUp": 64.0}))
    lines = tabulate(CONTESTS, found).splitlines()
    assert len(lines) == 3 + len(CONTESTS)
    assert "10.0 %" in lines[3]
    told = conclusions(CONTESTS, found)
    assert "1,750 threads synthesize: at least 99.0 % of 6,400 texts/s: MISSED; no 429, no error: MISSED." in told
    assert "Envoy or the service used 90% of a core: they may be what was slow in 1,750 threads" in told
    assert "64 TriesUsedUp" in told
    draw(tmp_path / "quota.svg", CONTESTS, found, machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "quota.svg").getroot().itertext())
    assert all(each.label in drawn for each in CONTESTS)


@pytest.mark.parametrize("quick", [True, False])
def test_the_introduction_states_the_warm_up(quick: bool) -> None:
    """And how often it was repeated."""
    said = introduction(3.0, QUICK if quick else CONTESTS, Options(repeat=3))
    assert f"after a warm-up of {'2.5' if quick else '5'} s" in said
    assert "Medians of 3 runs" in said


def test_medians_keep_what_only_the_gateway_knows() -> None:
    """The figures of Envoy are medians like the others."""
    runs = [replace(RUN, used=used) for used in (0.5, 0.9, 0.6)]
    found: Any = medians(runs)
    assert (type(found), found.used) == (GatewayRun, 0.6)
    assert asdict(found)["gateway_cpu"] == 0.1
