"""The storm benchmark's arithmetic on made-up logs, and that each of its clients tries as often as it should."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.peers.urllib3_retry import Slept, Urllib3RetryClient
from benchmarks.suites.storm import plan, report, run
from benchmarks.suites.storm.clients import CLIENTS, Call, CallLog, LoadSpec, run_load
from cosyclient.emulator import Emulator, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRIES = {"ours": 4, "budget": 4, "bare": 4, "urllib3": 4, "report": 3}


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """Run a service without limits."""
    with running(engine="tone") as emulator:
        yield emulator


def log(bad: range, changes: list[tuple[float, str]] | None = None) -> CallLog:
    """Return one call every 0.1 s from 100 s on for 20 s; those numbered in *bad* failed."""
    calls = [Call(100 + n / 10, 100 + n / 10 + 0.05, "ServiceFault" if n in bad else "") for n in range(200)]
    return CallLog(calls=calls, changes=changes or [])


def rows() -> list[dict[str, object]]:
    """Return a row per client and share."""
    return [
        run._row(client, failing, log(range(round(failing * 200))), 200 * (1 if client == "ours" else 3))
        for client in CLIENTS
        for failing in plan.SHARES
    ]


def test_each_share_of_failures_is_the_median_of_its_runs() -> None:
    """And the spread is that of the amplification."""
    runs = [*rows(), *rows(), *rows()]
    runs[0]["amplification"], runs[30]["amplification"] = 1.5, 1.2
    found = run.medians(runs)
    assert len(found) == len(CLIENTS) * len(plan.SHARES)
    first = found[0]
    assert (first["client"], first["share"], first["calls"]) == ("ours", 0.01, 200)
    assert (first["lowest"], first["amplification"], first["highest"]) == (1.0, 1.2, 1.5)
    assert first["errors"] == {"ServiceFault": 2}


def test_an_outage_is_recorded_by_what_the_service_received_and_when_calls_succeed_again() -> None:
    """The breaker opened at 105 s, probed at 109 s and, after the recovery at 110 s, closed at 112 s."""
    changes = [(105.0, "open"), (109.0, "half-open"), (109.1, "open"), (112.0, "half-open"), (112.1, "closed")]
    readings = [(100.2 + n / 5, min(n, 30)) for n in range(49)]
    outage = run.outage_of("ours", log(range(121), changes), readings, 100.0, 110.0)
    assert (outage.calls, outage.requests, outage.probes) == (100, 30, 5)
    assert outage.requests_open == 3
    assert outage.failed_after == 21
    assert outage.still_open == pytest.approx(2.0)
    assert outage.recovery == pytest.approx(2.1)
    assert outage.beyond == pytest.approx(0.1)
    assert outage.goodput[0] == (0.0, 0.0)
    assert outage.goodput[-1] == (19.0, 1.0)


def test_a_client_that_never_recovers_has_no_recovery_time() -> None:
    """Not even when its calls succeed for a while in between."""
    assert run.recovery(log(range(100, 200)), 110.0) is None
    relapsing = log(range(160, 200))
    assert run.recovery(relapsing, 110.0) is None
    assert run.recovery(log(range(100)), 110.0) == 0.0


def test_tables_and_conclusions_name_what_is_missed() -> None:
    """A target that is missed is named so."""
    found = run.medians(rows())
    lines = report.tabulate(found).splitlines()
    assert len(lines) == 3 + len(found)
    assert " ".join(lines[3].split()) == "ours 1.00 % 200 200 1.00 – 99.0 % 0 0 2 0 µs"
    assert lines[6].split()[-1] == "yes"
    good = run.outage_of("ours", log(range(121), [(105.0, "open"), (112.0, "half-open")]), [(109.0, 9)], 100.0, 110.0)
    output = report.conclusions(found, [good])
    assert output.count("MISSED") == 0
    for row in found:
        row["amplification"] = 1.2
    lost = run.outage_of("ours", log(range(200)), [(109.0, 9)], 100.0, 110.0)
    assert report.conclusions(found, [lost]).count("MISSED") == 3
    assert "–" in report.tabulate_outage([lost])


def test_the_picture_names_every_client(tmp_path: Path) -> None:
    """Lines are labelled at their ends, the outage in its legend."""
    outages = [run.outage_of(name, log(range(121)), [(109.0, 700)], 100.0, 110.0) for name in CLIENTS]
    report.draw(tmp_path / "storm.svg", run.medians(rows()), outages, plan.QUICK, machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "storm.svg").getroot().itertext())
    for words in ("ours 1.00", "report 3.00", "target 1.1", "urllib3: 700 requests for 100 calls"):
        assert words in drawn


@pytest.mark.parametrize("client", CLIENTS)
def test_each_client_makes_its_calls_and_counts_how_they_end(service: Emulator, client: str) -> None:
    """At a healthy service one request a call; at a failing one, as many as its tries."""
    spec = LoadSpec(client=client, url=service.url, audio="opus", rate=100.0, seconds=0.2, open_for=1.0)
    service.reset()
    well = run_load(spec)
    assert (len(well.calls), well.succeeded, well.slept) == (20, 20, 0.0)
    assert service.counters().requests == 20

    service.reset()
    service.inject("error", count=1000)
    one = run_load(LoadSpec(client=client, url=service.url, audio="opus", rate=100.0, seconds=0.01, open_for=1.0))
    assert (len(one.calls), one.succeeded, one.errors.total()) == (1, 0, 1)
    assert one.slept > 0
    assert service.counters().requests == TRIES[client]
    service.reset()


def test_the_urllib3_client_retries_posts_and_counts_its_sleep(service: Emulator) -> None:
    """The first retry is at once, the second after 0.4 s."""
    service.reset()
    service.inject("error", count=2)
    with Urllib3RetryClient(service.url, format="opus") as client:
        assert client.synthesize("你好")
        assert client.slept.seconds == pytest.approx(0.4)
    assert service.counters().requests == 3
    assert repr(client.slept) == "<Slept 0.4 s>"
    assert repr(Slept()) == "<Slept 0.0 s>"
