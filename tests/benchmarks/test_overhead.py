"""The overhead benchmark: its parts are the client's, its table and its picture show what was measured. Counts only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.suites.overhead import draw, measure, parts, rest, tabulate
from cosyclient.audio import wav_bytes

if TYPE_CHECKING:
    from pathlib import Path

ROW: dict[str, Any] = {
    "audio": "wav",
    "load": "batch",
    "goal": 50e-6,
    "cpu": 40e-6,
    "lowest": 38e-6,
    "highest": 45e-6,
    "wall": 60e-6,
    "encode": 1e-6,
    "decode": 9e-6,
}
ROWS = [ROW, {**ROW, "load": "lone", "goal": 250e-6, "cpu": 300e-6, "highest": 320e-6}]


@pytest.mark.parametrize("load", ["batch", "lone"])
def test_the_whole_stack_and_its_parts_are_measured(load: str) -> None:
    """Every text becomes audio, or the client would raise."""
    sound = wav_bytes(bytes(range(250)) * 768, 24000, 1)
    figures = {**measure(load, "wav", sound, 640, 1), **parts(load, "wav", sound, 640, 1)}
    assert figures.keys() == {"cpu", "lowest", "highest", "wall", "encode", "decode"}
    assert all(value > 0 for value in figures.values())


def test_the_table_names_what_was_missed() -> None:
    """The rest is what the protocol does not account for."""
    assert rest(ROW) == pytest.approx(30e-6)
    first, second = (" ".join(line.split()) for line in tabulate(ROWS).splitlines()[2:])
    assert first == "wav batch 40 µs 38 µs to 45 µs 50 µs yes 1 µs 9 µs 30 µs 60 µs"
    assert second == "wav lone 300 µs 38 µs to 320 µs 250 µs NO 1 µs 9 µs 290 µs 60 µs"


def test_the_picture_shows_parts_and_targets(tmp_path: Path) -> None:
    """A bar a row."""
    draw(tmp_path / "overhead.svg", ROWS, machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "overhead.svg").getroot().itertext())
    for words in ("target 50 µs", "target 250 µs", "40 µs", "300 µs", "encoding", "decoding", "all the rest", "wav"):
        assert words in drawn
