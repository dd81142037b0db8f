"""The overhead benchmark: its goals, its parts are the client's, its tables and its picture. Counts only."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.harness.prepared import Replies, wav
from benchmarks.harness.results import Row, Run
from benchmarks.suites.overhead import stack, wire
from benchmarks.suites.overhead.run import draw, introduction

if TYPE_CHECKING:
    from pathlib import Path

RUN = Run(
    asked=10_000,
    finished=10_000,
    elapsed=1.0,
    rate=10_000.0,
    peak=10_000.0,
    latency_mean=0.1,
    latency_p50=0.1,
    latency_p99=0.2,
    failed_mean=None,
    threads=50,
    callers=1,
    cpu=0.5,
    requests=160,
    throttled=0,
    early_throttled=0,
    refused=0,
    service_cpu=0.2,
)
ROW: dict[str, Any] = {
    "wire": "frames, wav of 4 s",
    "load": "batch",
    "goal": 50e-6,
    "cpu": 40e-6,
    "lowest": 38e-6,
    "highest": 45e-6,
    "wall": 60e-6,
    "encode": 1e-6,
    "decode": 9e-6,
}
ROWS = [
    {**ROW, "wire": stack.PLAIN_WIRE, "goal": None},
    ROW,
    {**ROW, "load": "lone", "goal": 250e-6, "cpu": 300e-6, "highest": 320e-6},
]


def rows() -> list[Row]:
    """Return rows that are as good as the bare loop, but for those of ``submit``; without fast half as good."""
    runs = {each.name: RUN if each.fast else replace(RUN, rate=5_000.0) for each in wire.CASES}
    runs["submit"] = replace(RUN, rate=6_000.0, cpu=1.5)
    return [Row(name=each.name, label=each.label, sentence="", runs=[runs[each.name]]) for each in wire.CASES]


def test_goals_are_multiples_of_the_bare_loop_and_of_the_same_with_fast() -> None:
    """Each is judged; a miss stands out."""
    lines = wire.conclusions(rows()).splitlines()
    assert len(lines) == 6
    assert lines[0] == (
        "synthesize_many: processor time at most 2 × the bare loop's: 1.00, met; "
        "texts/s at least 0.8 × the bare loop's: 1.00, met."
    )
    assert lines[1].endswith(
        "2.5 × the bare loop's: 3.00, MISSED; texts/s at least 0.65 × the bare loop's: 0.60, MISSED."
    )
    assert lines[3] == "synthesize_many, no fast: texts/s at least 0.6 × those with fast: 0.50, MISSED."
    assert lines[4].endswith("0.83, met.")


def test_the_first_table_has_the_services_own_capacity_and_the_bare_loop_on_top() -> None:
    """Every row beside the bare loop."""
    lines = [" ".join(line.split()) for line in wire.tabulate(rows()).splitlines()[3:]]
    assert [line.partition(" 10,000")[0] for line in lines[:2]] == ["the service alone", "bare loop, 50 threads"]
    assert lines[3] == "submit 6,000 – 0.60 ≥ 0.65 150 µs 3.00 ≤ 2.5 1.50 0.20 62 0 %"
    assert lines[5].startswith("synthesize_many, no fast 5,000 – 0.50 50 µs 1.00 0.50")
    assert wire.document(rows())[3]["times_rate"] == pytest.approx(0.6)


@pytest.mark.parametrize("load", ["batch", "lone"])
@pytest.mark.parametrize("form", ["json", "frames"])
def test_the_whole_stack_and_its_parts_are_measured(load: str, form: str) -> None:
    """Every text becomes audio, or the client would raise."""
    replies = Replies(form, wav(192_000), duration_ms=4000)
    figures = {**stack.measure(load, "wav", replies, 640, 1), **stack.parts(load, "wav", replies, 640, 1)}
    assert figures.keys() == {"cpu", "lowest", "highest", "wall", "encode", "decode"}
    assert all(value > 0 for value in figures.values())


def test_the_plain_wire_comes_first_without_a_socket_too() -> None:
    """And WAV and compressed audio in frames."""
    found = stack.wires("mp3")
    assert list(found) == [stack.PLAIN_WIRE, "frames, wav of 4 s", "frames, mp3 of 4 s"]
    assert [replies.media_type.partition("-frames")[1] for _, replies in found.values()] == ["", "-frames", "-frames"]


def test_the_second_table_names_what_was_missed() -> None:
    """The rest is what the protocol does not account for."""
    assert stack.rest(ROW) == pytest.approx(30e-6)
    plain, first, second = (" ".join(line.split()) for line in stack.tabulate(ROWS).splitlines()[2:])
    assert plain == "JSON, wav of 0.4 s batch 40 µs 38 µs to 45 µs 1 µs 9 µs 30 µs 60 µs"
    assert first == "frames, wav of 4 s batch 40 µs 38 µs to 45 µs ≤ 50 µs met 1 µs 9 µs 30 µs 60 µs"
    assert second == "frames, wav of 4 s lone 300 µs 38 µs to 320 µs ≤ 250 µs MISSED 1 µs 9 µs 290 µs 60 µs"


def test_the_picture_shows_clients_parts_and_targets(tmp_path: Path) -> None:
    """A bar a row."""
    draw(tmp_path / "overhead.svg", rows(), ROWS, machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "overhead.svg").getroot().itertext())
    labels = [each.label for each in wire.CASES if each.name != "raw"]
    for words in (
        *labels,
        "target 50 µs",
        "target 250 µs",
        "6,000 (≥ 6,500)",
        "150 (≤ 125)",
        "300 µs",
        "encoding",
        "decoding",
        "all the rest",
    ):
        assert words in drawn


def test_the_introduction_says_how_long_and_how_often() -> None:
    """Of both tables."""
    output = introduction(4.0, 2.0, 3, 25_600, 5)
    assert "4 s after 2 s of warm-up, each run in a fresh process; medians of 3 runs, alternating." in output
    assert "Medians of 5 runs, after one uncounted." in output
