"""The deadlines benchmark's arithmetic and words, and that each client meets its services as it should. Counts only."""

from __future__ import annotations

import multiprocessing
import threading
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.suites.deadlines import run as deadlines
from benchmarks.suites.deadlines.clients import CLIENTS, SCENARIOS, Ends, Order, call_all, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    """Run the services in a thread of this process."""
    ours, theirs = multiprocessing.Pipe()
    serving = threading.Thread(target=serve, args=(1.0, theirs))
    serving.start()
    yield ours.recv()
    ours.close()
    serving.join(60.0)
    theirs.close()
    assert not serving.is_alive()


def rows(worst: float = 0.51, leaked: dict[str, int] | None = None) -> list[dict[str, object]]:
    """Return a row per scenario and client; ours took *worst* seconds at most and left *leaked* behind."""
    return [
        deadlines.row_of(
            scenario,
            client,
            Ends(
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
STOPS = [{"client": name, "stops": 3, "median": 0.001, "worst": 0.002, "gone": 0.1} for name in CLIENTS]


def test_overshoot_is_what_a_call_took_beyond_its_deadline() -> None:
    """A call that ended early overshoots by less than nothing."""
    row = rows()[0]
    assert (row["scenario"], row["client"], row["calls"]) == ("no SYN", "ours", 3)
    assert row["median"] == pytest.approx(0.002)
    assert row["worst"] == pytest.approx(0.01)
    assert row["errors"] == {"DeadlineExceeded": 3}


def test_the_table_and_the_conclusions_say_what_is_missed() -> None:
    """A target that is missed is named so, and so is what was left behind."""
    lines = deadlines.tabulate(rows()).splitlines()
    assert len(lines) == 3 + len(SCENARIOS) * len(CLIENTS)
    assert " ".join(lines[3].split()) == "no SYN ours 3 2 ms 10 ms yes nothing 3 DeadlineExceeded"
    assert "MISSED" not in deadlines.conclusions(rows(), STOPS)
    assert "–100 ms" in deadlines.tabulate(rows(worst=0.3)[:1])
    bad = rows(worst=0.6, leaked={"threads": 2})
    told = deadlines.conclusions(bad, [{**STOPS[0], "worst": 0.7}, *STOPS[1:]])
    assert told.count("MISSED") == 3
    assert "+2 threads" in deadlines.tabulate(bad)
    assert len(deadlines.tabulate_stops(STOPS).splitlines()) == 3 + len(CLIENTS)


def test_the_picture_names_scenarios_and_clients(tmp_path: Path) -> None:
    """Every bar has its figure."""
    deadlines.draw(tmp_path / "deadlines.svg", rows(), deadlines.QUICK, machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "deadlines.svg").getroot().itertext())
    for words in (*SCENARIOS, *CLIENTS, "3.00 s", "target 50 ms"):
        assert words in drawn


@pytest.mark.parametrize(
    ("client", "scenario"), [*(("ours", scenario) for scenario in SCENARIOS), *((peer, "silence") for peer in PEERS)]
)
def test_each_client_ends_each_call_and_leaves_nothing(urls: dict[str, str], client: str, scenario: str) -> None:
    """Ours never brings a speech from there, and holds no thread, file, permit, place or connection afterwards."""
    ends = call_all(Order(client=client, scenario=scenario, url=urls[scenario], deadline=0.1, callers=2, rounds=1))
    assert len(ends.took) == len(ends.errors) == 2
    assert ends.leaked == {}
    if client == "ours":
        assert set(ends.errors) <= {"DeadlineExceeded", "QueueFull", "BulkheadFull", "Throttled", "RateLimited"}
