"""The memory benchmark: every job gets audio for its texts, and memory is recorded at even steps."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.suites import memory

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["nothing", "unordered", "submit"])
def test_every_job_gets_audio_for_its_texts(name: str, tmp_path: Path) -> None:
    """Each text once, memory recorded at even steps."""
    row = {"job": name, **memory.measure(name, 2000, "http://nowhere.invalid")}
    assert (row["finished"], row["failed"]) == (2000, 0)
    assert [count for count, _ in row["points"]] == list(range(10, 2001, 10))
    assert min(row["peak"], row["plateau"]) > 0
    assert "2,000" in memory.tabulate([row])
    memory.draw(tmp_path / "memory.svg", [row], machine.describe())
    assert "2,000 texts pass" in " ".join(ElementTree.parse(tmp_path / "memory.svg").getroot().itertext())


def test_a_job_through_a_socket_runs_in_its_own_process() -> None:
    """Batches of any size are answered in their size."""
    row = memory._measure_apart("socket", 500)
    assert (row["finished"], row["failed"]) == (500, 0)
