"""Figures and tables in plain text."""

from __future__ import annotations

from benchmarks.harness.tables import met, repeated, seconds, share, table


def test_units_follow_the_size() -> None:
    """Figures stay short."""
    assert [seconds(value) for value in (None, 12.3, 0.0123, 0.0000123)] == ["–", "12.30 s", "12 ms", "12 µs"]
    assert [share(value) for value in (None, 0.0, 0.002, 0.5)] == ["–", "0 %", "0.20 %", "50.0 %"]
    assert table(["a", "b\nc"], [["x", "10"]]).splitlines() == ["    b", "a   c", "-  --", "x  10"]


def test_a_missed_target_stands_out() -> None:
    """And a single run is called one."""
    assert (met(True), met(False)) == ("met", "MISSED")
    assert (repeated(1), repeated(3)) == ("one run", "medians of 3 runs, alternating")
