"""The tails benchmark's load, arithmetic and report. Counts only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from benchmarks.harness import machine
from benchmarks.suites import tails
from benchmarks.suites.tails import BESIDE, CASES, QUICK

if TYPE_CHECKING:
    from pathlib import Path

FIGURES: dict[str, Any] = {
    "counted": 100,
    "errors": 0,
    "p50": 0.1,
    "p99": 0.2,
    "p999": 0.5,
    "lowest": 0.2,
    "highest": 0.3,
}


def rows(hedged: float = 0.25, extra: float = 0.01) -> list[dict[str, Any]]:
    """Return a row per case; the hedged one has that p99 and that share of extra requests."""
    found = []
    for case in CASES:
        p99 = {"none": 0.2, "stragglers, hedged": hedged}.get(case.name, 1.0)
        more = {"requests": 50, "extra_requests": extra if case.extra else 0.0, "extra_texts": 0.0}
        found.append({"case": case.name, "sentence": case.sentence, **FIGURES, "p99": p99, **more})
    return found


def beside(bulk: float = 0.3) -> list[dict[str, Any]]:
    """Return a row for what runs beside the interactive calls; beside the bulk job they have that p99."""
    return [
        {"beside": name, **FIGURES, "p99": bulk if name == "beside bulk" else 0.2, "bulk_rate": 0.0} for name in BESIDE
    ]


def test_calls_are_made_when_they_are_due_and_the_warm_up_is_not_counted() -> None:
    """Failed calls have no latency."""
    asked: list[str] = []

    def call(text: str) -> None:
        asked.append(text)
        if len(asked) % 4 == 0:
            raise ValueError

    figures = tails._open_load(call, 200.0, 4, 0.1, 0.2)
    assert figures["all"] == len(asked) == 60
    assert 35 <= figures["counted"] <= 40
    assert 0 < figures["errors"] < figures["counted"]
    assert 0 <= figures["p50"] <= figures["p99"] <= figures["p999"]


def test_a_job_runs_beside_only_where_it_has_a_priority() -> None:
    """It ends with the block."""
    assert BESIDE == {"alone": None, "beside bulk": "bulk", "beside equals": "interactive"}
    row = tails.measure_beside("beside bulk", tails.Plan(warm_up=0.2, beside_rtt=0.01, beside_seconds=0.3), 1)
    assert row["bulk_rate"] > 0
    assert (row["errors"], len(row["runs"])) == (0, 1)


def test_tables_and_conclusions_name_what_is_missed() -> None:
    """Each target is met or missed by its own figure."""
    assert len(tails.tabulate(rows()).splitlines()) == 4 + len(CASES) - 1
    assert "1.25" in tails.tabulate(rows())
    assert "1.50" in tails.tabulate_beside(beside())
    assert tails.conclusions(rows(), beside()).count("met: ") == 3
    assert tails.conclusions(rows(hedged=0.4, extra=0.1), beside(bulk=0.5)).count("MISSED: ") == 3
    assert "3 % of the requests" in tails.introduction(QUICK, 1)


def test_the_picture_names_every_case(tmp_path: Path) -> None:
    """Each with its figures."""
    tails.draw(tmp_path / "tails.svg", rows(), beside(), QUICK, machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "tails.svg").getroot().itertext())
    for label in (*(case.name for case in CASES), *BESIDE, "250 ms"):
        assert label in drawn
