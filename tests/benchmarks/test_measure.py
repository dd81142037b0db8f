"""Recorded endings and their figures, and what a process holds."""

from __future__ import annotations

import pytest

from benchmarks.harness.measure import (
    Ending,
    Usage,
    mean,
    peak,
    peak_bytes,
    percentile,
    resident_bytes,
    resources,
    settled,
    summary,
)


def test_figures_count_texts_and_leave_failed_ones_out_of_latency() -> None:
    """Weights are texts, not requests; errors are counted by kind."""
    endings = [Ending(1.0, 0.1, 64, ""), Ending(1.9, 0.3, 64, ""), Ending(2.5, 9.0, 2, "Oops"), Ending(3.5, 0.5, 2, "")]
    figures = summary(endings, 5.0)
    assert (figures["asked"], figures["finished"], figures["rate"]) == (132, 130, 26.0)
    assert figures["peak"] == 128
    assert figures["errors"] == {"Oops": 2}
    assert figures["latency_mean"] == pytest.approx((64 * 0.1 + 64 * 0.3 + 2 * 0.5) / 130)
    assert (figures["latency_p50"], figures["latency_p99"], figures["failed_mean"]) == (0.3, 0.5, 9.0)


def test_figures_of_nothing_are_nothing() -> None:
    """A client that finished nothing has a rate of 0 and no latency."""
    assert (peak([]), percentile([], 0.99), mean([]), summary([], 1.0)["rate"]) == (0, None, None, 0)


def test_resident_memory_is_read() -> None:
    """Both are bytes: an interpreter holds more than a megabyte of them."""
    assert min(peak_bytes(), resident_bytes()) > 1 << 20


def test_what_a_process_holds_is_waited_for() -> None:
    """As soon as it is what is wanted, or when the time is over."""
    counts = iter([{"threads": 3}, {"threads": 2}, {"threads": 1}])
    assert settled(lambda: next(counts), {"threads": 1}, 10.0) == {"threads": 1}
    assert settled(lambda: {"threads": 2}, {"threads": 1}, 0.0) == {"threads": 2}
    assert min(resources().values()) > 0


def test_usage_counts_from_its_start() -> None:
    """Its own thread is not counted."""
    with Usage(interval=0.001) as usage:
        usage.start_over()
        assert usage.cpu >= 0
    assert repr(usage).startswith(f"<Usage {usage.threads} threads")
