"""The report benchmark: its table, its conclusions, its picture, and one run of it. Counts only."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from benchmarks.harness import machine
from benchmarks.peers import PEERS
from benchmarks.suites import report
from tests.benchmarks.test_results import RUN

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.harness.results import Row

NOTHING = replace(RUN, finished=0, rate=0.0, peak=0.0, latency_mean=None, latency_p50=None, latency_p99=None)
PLAN = report.Plan(rtt=0.0, texts=150, callers=4, seconds=0.5, warm_up=0.1)


def rows() -> list[Row]:
    """Return one synthetic row per client; "a" has finished nothing, and "d" with frames ran three times."""
    found = {name: [RUN] for name in report.Plan().peers}
    found["a"] = [NOTHING]
    found["d frames"] = [RUN, replace(RUN, rate=40.0), replace(RUN, rate=60.0)]
    return [report.row_of(name, runs) for name, runs in found.items()]


def test_the_table_shows_every_client_and_every_figure() -> None:
    """Columns line up; what is not there is a dash."""
    lines = report.tabulate(rows()).splitlines()
    assert [line.split()[0] for line in lines[3:]] == [*PEERS, "c", "d"]
    assert "–" in lines[3 + list(PEERS).index("a")]
    assert (
        " ".join(lines[-1].split())
        == "d frames synthesize 30 40 20 to 60 250 ms 1.50 s 12 10 20.0 % 90 7 3 5 ms 2.00 %"
    )


def test_conclusions_name_ratios_errors_and_a_service_that_was_slow() -> None:
    """A ratio to nothing is a dash, not an infinity."""
    busy = replace(RUN, service_cpu=0.97)
    found = [replace(row, runs=[busy]) if row.name in ("raw", "c") else row for row in rows()]
    output = report.conclusions(found, report.Plan())
    assert "c/a –" in output
    assert "d/bare 1.0" in output
    assert "d/raw" not in output
    assert "a 20 EmptyPoolError (after 5.00 s on average)" in output
    assert "of a core or more in c: it may be what was slow" in output


def test_document_and_picture_hold_the_figures(tmp_path: Path) -> None:
    """Machines read the one, people the other."""
    document = report.document(rows(), report.Plan())
    assert document["rows"][-1]["median"]["rate"] == 40.0
    assert len(document["rows"][-1]["runs"]) == 3
    assert (document["parameters"]["bound"], document["ratios"]["c/a"]) == (6400.0, None)
    report.draw(tmp_path / "report.svg", rows(), report.Plan(), machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "report.svg").getroot().itertext())
    for label in ("(a) one text a request", "(d frames) synthesize", "quota 6,400", "20.0 %", "1.50 s"):
        assert label in drawn


def test_each_client_runs_in_a_process_of_its_own() -> None:
    """Figures of the client and of the gateway come together in one run."""
    done = report.measure_one(replace(PLAN, burst=20), "c")
    assert (done.asked, done.finished, done.requests, done.throttled) == (150, 150, 3, 0)
    assert done.error_rate == 0


def test_the_service_alone_has_no_limit() -> None:
    """What it can is measured without a quota and without a delay."""
    done = report.measure_one(replace(PLAN, rtt=60.0, burst=1, rate=0.1), "raw")
    assert (done.throttled, done.errors) == (0, {})
    assert done.requests > 50
