"""What attempts take alone: the line is found, from windows that were crowded, too, and readings compare."""

from __future__ import annotations

import random

import pytest

from cosyclient.baseline import Baseline, Reading


def learned(samples: list[tuple[float, float]]) -> Baseline:
    """Return a baseline that has seen one window."""
    baseline = Baseline()
    baseline.learn(samples)
    return baseline


def test_a_gpu_takes_time_for_every_second_of_audio() -> None:
    """0.1 s and 0.06 s a second; the network in between costs once."""
    baseline = learned([(seconds, 0.1 + 0.06 * seconds) for seconds in (2.0, 4.0, 8.0, 64.0)])
    assert baseline.known
    assert [baseline.fixed, baseline.per_second] == pytest.approx([0.1, 0.06])
    assert baseline.expect(256.0) == pytest.approx(0.1 + 0.06 * 256)
    assert repr(baseline) == "<Baseline 0.100 s + 0.0600 s per second of audio>"


def test_a_network_takes_as_long_for_one_text_as_for_sixty_four() -> None:
    """The slope is nothing."""
    baseline = learned([(4.0, 0.2), (256.0, 0.2), (100.0, 0.2)])
    assert [baseline.expect(4.0), baseline.expect(256.0)] == pytest.approx([0.2, 0.2])


def test_what_a_window_waited_does_not_change_the_slope() -> None:
    """Three seconds of waiting, the same for all sizes, leave what a second of audio costs."""
    baseline = learned([(seconds, 0.1 + 0.06 * seconds) for seconds in (2.0, 4.0, 8.0, 64.0)])
    for _ in range(50):
        baseline.learn([(seconds, 3.1 + 0.06 * seconds) for seconds in (2.0, 4.0, 8.0, 64.0)])
    assert baseline.per_second == pytest.approx(0.06)
    assert baseline.expect(20.0) == pytest.approx(0.1 + 0.06 * 20.0)


def test_attempts_of_one_size_leave_what_was_known_of_others() -> None:
    """A thousand noisy windows of full batches do not make the slope noise."""
    dice = random.Random(1)
    baseline = learned([(seconds, 0.06 * seconds) for seconds in (4.0, 8.0, 64.0, 128.0)])
    for _ in range(1000):
        baseline.learn([(128.0 + dice.uniform(-1, 1), 7.68 + dice.uniform(0.0, 4.0)) for _ in range(5)])
    assert baseline.per_second == pytest.approx(0.06, rel=0.2)


def test_the_part_that_is_the_same_for_all_sizes_is_never_below_zero() -> None:
    """Steeper than in proportion is noise."""
    baseline = learned([(4.0, 0.1), (8.0, 1.0)])
    assert baseline.fixed == pytest.approx(0.0)
    assert baseline.expect(1.0) >= 0.0


def test_everything_scales_together() -> None:
    """A service that became half as fast."""
    baseline = learned([(4.0, 1.0), (8.0, 1.5)])
    baseline.scale(2.0)
    assert [baseline.fixed, baseline.per_second] == pytest.approx([1.0, 0.25])


def test_a_reading_says_how_many_wait() -> None:
    """Ten in flight that take twice as long as alone: five of them wait."""
    baseline = learned([(4.0, 0.5), (8.0, 0.5)])
    reading = Reading([(4.0, 1.0), (8.0, 1.0), (4.0, 1.0)], baseline, ahead=10.0)
    assert (reading.slowness, reading.waiting, reading.surely_waiting) == (2.0, 5.0, 5.0)
    assert repr(reading) == "<Reading 2.00 ± 0.00 times 0.500 s>"


def test_a_reading_leaves_the_slowest_out_and_knows_its_error() -> None:
    """One straggler in five; of what is left the mean may be off, and so fewer surely wait."""
    baseline = learned([(4.0, 1.0), (8.0, 1.0)])
    reading = Reading([(4.0, 1.0), (4.0, 2.0), (4.0, 3.0), (4.0, 2.0), (4.0, 40.0)], baseline, ahead=10.0)
    assert len(reading.samples) == 4
    assert reading.slowness == 2.0
    assert reading.error == pytest.approx((2**0.5) / 4)
    assert 0 < reading.surely_waiting < reading.waiting


def test_readings_of_different_times_are_compared_by_what_is_known_now() -> None:
    """Half the latency is clearly half the slowness, whatever the baseline was taken for meanwhile."""
    baseline = learned([(4.0, 1.0), (8.0, 1.0)])
    before = Reading([(4.0, 4.0), (4.0, 4.1), (4.0, 3.9)], baseline, ahead=10.0)
    baseline.scale(0.5)
    after = Reading([(4.0, 2.0), (4.0, 2.1), (4.0, 1.9)], baseline, ahead=10.0)
    assert after.differs_from(before, 1.0)
    assert not after.differs_from(before, 0.5)
