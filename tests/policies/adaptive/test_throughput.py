"""Throughput: audio that comes back a second, and what the service still has to render."""

from __future__ import annotations

import pytest

from cosyclient.policies.adaptive.throughput import Throughput


def busy(turns: int = 20) -> tuple[Throughput, float]:
    """Return one after *turns* attempts at 128 s, 2 s each, two in flight at any time; and the instant."""
    throughput, now = Throughput(), 0.0
    throughput.observe(now, 2.0)
    throughput.start(128.0)
    for _ in range(turns):
        throughput.start(128.0)
        now += 2.0
        throughput.observe(now, 2.0)
        throughput.finish(128.0, 128.0)
    return throughput, now


def test_it_counts_what_comes_back_while_anything_is_in_flight() -> None:
    """64 s of audio a second; a pause with nothing in flight changes nothing."""
    throughput, now = busy()
    assert throughput.rate == pytest.approx(64.0, rel=0.2)
    assert throughput.audio == 128.0
    throughput.observe(now + 2.0, 2.0)
    throughput.finish(128.0, 128.0)
    before = throughput.rate
    throughput.observe(now + 1000.0, 2.0)
    assert throughput.rate == before
    assert repr(throughput).startswith("<Throughput 0 s of audio in flight, ")


def test_nothing_is_known_at_first() -> None:
    """The rate is 0, not an error."""
    throughput = Throughput()
    throughput.observe(5.0, 0.0)
    assert (throughput.rate, throughput.audio, throughput.in_flight) == (0.0, 0.0, 0)


def test_a_clock_read_too_early_changes_nothing() -> None:
    """By another thread's time slice, or by an hour."""
    throughput, now = busy()
    before = throughput.rate
    throughput.observe(now - 3600.0, 2.0)
    assert (throughput.rate, throughput.audio) == (before, 128.0)


def test_it_follows_another_rate_within_few_latencies() -> None:
    """Half as fast: after three latencies the old rate has faded."""
    throughput, now = busy()
    for _ in range(3):
        throughput.start(128.0)
        now += 4.0
        throughput.observe(now, 4.0)
        throughput.finish(128.0, 128.0)
    assert throughput.rate == pytest.approx(32.0, rel=0.25)


def test_abandoned_work_is_work_until_it_is_done() -> None:
    """Cut off with 100 s missing: they drain at the service's rate, and count as rendered."""
    throughput, now = busy()
    throughput.finish(128.0, 28.0)
    throughput.abandon(100.0, now - 2.0)
    assert throughput.audio == 100.0
    throughput.start(64.0)
    throughput.observe(now + 1.0, 2.0)
    assert throughput.audio == pytest.approx(164.0 - throughput.rate, rel=0.1)


def test_an_answer_to_a_later_attempt_shows_that_it_is_done() -> None:
    """First come, first served; an answer to an earlier attempt shows nothing."""
    throughput, now = busy()
    throughput.finish(128.0, 0.0)
    throughput.abandon(128.0, now)
    throughput.record_answer(now - 1.0)
    assert throughput.audio == 128.0
    throughput.record_answer(now + 1.0)
    assert throughput.audio == 0.0


def test_a_service_that_had_stopped_is_measured_anew() -> None:
    """By the first attempt it answers."""
    throughput, _ = busy()
    throughput.restart(8.0, 4.0)
    assert throughput.rate == 2.0
