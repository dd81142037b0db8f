"""The deadlines benchmark's arithmetic and report, and that each client ends its calls. Counts only."""

from __future__ import annotations

import multiprocessing
import threading
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.suites.deadlines import plan, report, run
from benchmarks.suites.deadlines.clients import CallResults, CallSpec, call_all
from benchmarks.suites.deadlines.plan import CLIENTS, SCENARIOS
from benchmarks.suites.deadlines.services import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    """Run the services in a thread of this process."""
    here, there = multiprocessing.Pipe()
    serving = threading.Thread(target=serve, args=(1.0, there))
    serving.start()
    yield here.recv()
    here.close()
    serving.join(60.0)
    there.close()
    assert not serving.is_alive()


def rows(worst: float = 0.51, leaked: dict[str, int] | None = None) -> list[dict[str, object]]:
    """Return a row per scenario and client; ours took *worst* seconds at most and left *leaked* behind."""
    return [
        run.row_of(
            scenario,
            client,
            CallResults(
                took=[0.4, 0.502, worst if client == "ours" else 3.5],
                errors=["DeadlineExceeded"] * 3,
                leaked=leaked or {} if client == "ours" else {},
            ),
            0.5,
        )
        for scenario in SCENARIOS
        for client in CLIENTS
    ]


PEERS = [name for name in CLIENTS if name != "ours"]
INTERRUPTS = [{"client": name, "stops": 3, "median": 0.001, "worst": 0.002, "gone": 0.1} for name in CLIENTS]


def test_overshoot_is_what_a_call_took_beyond_its_deadline() -> None:
    """The overshoot of a call that ended early is negative."""
    row = rows()[0]
    assert (row["scenario"], row["client"], row["calls"]) == ("no SYN", "ours", 3)
    assert row["median"] == pytest.approx(0.002)
    assert row["worst"] == pytest.approx(0.01)
    assert row["errors"] == {"DeadlineExceeded": 3}


def test_the_table_and_the_conclusions_name_what_is_missed() -> None:
    """A target that is missed is named so, and so is what was left behind."""
    lines = report.tabulate(rows()).splitlines()
    assert len(lines) == 3 + len(SCENARIOS) * len(CLIENTS)
    assert " ".join(lines[3].split()) == "no SYN ours 3 2 ms 10 ms yes nothing 3 DeadlineExceeded"
    assert "MISSED" not in report.conclusions(rows(), INTERRUPTS)
    assert "–100 ms" in report.tabulate(rows(worst=0.3)[:1])
    bad = rows(worst=0.6, leaked={"threads": 2})
    output = report.conclusions(bad, [{**INTERRUPTS[0], "worst": 0.7}, *INTERRUPTS[1:]])
    assert output.count("MISSED") == 3
    assert "+2 threads" in report.tabulate(bad)
    assert len(report.tabulate_interrupts(INTERRUPTS).splitlines()) == 3 + len(CLIENTS)


def test_the_picture_names_scenarios_and_clients(tmp_path: Path) -> None:
    """Every bar has its figure."""
    report.draw(tmp_path / "deadlines.svg", rows(), plan.QUICK, machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "deadlines.svg").getroot().itertext())
    for words in (*SCENARIOS, *CLIENTS, "3.00 s", "target 50 ms"):
        assert words in drawn


@pytest.mark.parametrize(
    ("client", "scenario"), [*(("ours", scenario) for scenario in SCENARIOS), *((peer, "silence") for peer in PEERS)]
)
def test_each_client_ends_each_call_and_leaves_nothing(urls: dict[str, str], client: str, scenario: str) -> None:
    """Ours never returns a speech from there, and holds no thread, file, permit, place or connection afterwards."""
    results = call_all(
        CallSpec(client=client, scenario=scenario, url=urls[scenario], deadline=0.1, callers=2, rounds=1)
    )
    assert len(results.took) == len(results.errors) == 2
    assert results.leaked == {}
    if client == "ours":
        assert set(results.errors) <= {"DeadlineExceeded", "QueueFull", "BulkheadFull", "Throttled", "RateLimited"}
