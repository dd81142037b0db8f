"""The rate after a refusal: the shape of its curve, how the target is estimated, and how long the plateau lasts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyclient.policies.ratelimit.cubic import Cubic

START = 1000.0


def slowed(target: float = 100.0, ceiling: float = 100.0) -> Cubic:
    """Return a curve whose recovery to *target* begins now."""
    cubic = Cubic(ceiling)
    cubic.target = target
    cubic.record_refused(START, 0, paced=True)
    return cubic


def test_the_rate_is_the_ceiling_before_the_first_refusal() -> None:
    """Without a refusal nothing is slowed, paused or not."""
    cubic = Cubic(100.0)
    cubic.pause(START)
    assert cubic.rate(START) == 100.0


def test_the_rate_falls_to_seven_tenths_and_returns_in_the_time_cubic_gives() -> None:
    """k = (w × 0.3 / 0.4)^(1/3) is 4.2 s for 100 sends a second."""
    cubic = slowed()
    assert cubic.rate(START) == pytest.approx(70.0)
    assert cubic.rate(START + 4.2172 / 2) == pytest.approx(100.0 - 30.0 / 8, abs=0.01)
    assert cubic.rate(START + 4.2172) == pytest.approx(100.0, abs=0.01)


def test_the_rate_stays_on_a_plateau_before_it_goes_beyond() -> None:
    """Then it grows by 0.4 t³, at most twofold in eight seconds, up to the ceiling."""
    cubic = slowed()
    cubic.record_refused(START + 2.0, 80, paced=True)  # 40 a second were accepted
    top = START + 2.0 + (40 * 0.75) ** (1 / 3)
    assert cubic.rate(top) == cubic.rate(top + 4.0) == pytest.approx(40.0)
    assert cubic.rate(top + 4.0 + 2.0) == pytest.approx(40.0 + 0.4 * 8)
    assert cubic.rate(top + 4.0 + 8.0) == pytest.approx(80.0)
    assert cubic.rate(top + 4.0 + 12.0) == cubic.rate(top + 1e6) == 100.0


def test_stray_refusals_do_not_stop_the_client() -> None:
    """One in fifty is refused whatever the rate: 0.7 of the target is kept, not 0.7 of 0.7 of it."""
    cubic, accepted = slowed(), 0
    for refusal in range(1, 200):
        accepted += 49
        cubic.record_refused(START + refusal * 0.01, accepted, paced=False)
        assert cubic.rate(START + refusal * 0.01) >= 70.0 * 0.7


def test_the_accepted_rate_is_taken_for_the_quota() -> None:
    """Far below the refused rate it decides alone; near it, both bounds count."""
    cubic = slowed()
    cubic.record_refused(START + 2.0, 80, paced=True)
    assert cubic.target == pytest.approx(40.0)
    assert cubic.rate(START + 2.0) == pytest.approx(28.0)
    near = slowed()
    refused = near.rate(START + 2.0)
    near.record_refused(START + 2.0, 180, paced=True)
    assert near.target == pytest.approx((90.0 + refused) / 2)
    assert 90.0 < refused < 100.0


def test_a_rate_that_cannot_be_measured_is_not_the_target() -> None:
    """Too few were accepted to tell their rate, and most were refused: then the refused one is the target."""
    cubic = slowed()
    for _ in range(9):
        cubic.record_late_refusal()
    refused = cubic.rate(START + 3.0)
    cubic.record_refused(START + 3.0, 0, paced=True)
    assert cubic.target == pytest.approx(refused)


def test_a_few_refusals_of_what_was_mostly_accepted_do_not_add_up() -> None:
    """0.7 by 0.7 within a second would stop the client, for a few refusals by chance."""
    cubic = slowed()
    for step, accepted in enumerate((3, 6, 9), start=1):
        cubic.record_refused(START + 0.1 * step, accepted, paced=True)
        assert cubic.target == 100.0


def test_a_refusal_soon_after_many_were_accepted_keeps_the_target() -> None:
    """The recovery begins again, to the same target."""
    cubic = slowed()
    cubic.record_refused(START + 0.5, 30, paced=True)
    assert cubic.target == 100.0
    assert cubic.rate(START + 0.5) == pytest.approx(70.0)


def test_an_unused_rate_is_not_lost_at_once() -> None:
    """What was accepted when less than allowed was sent is a lower bound: the target falls by three tenths at most."""
    cubic = slowed()
    cubic.record_refused(START + 3.0, 30, paced=False)
    assert cubic.target == pytest.approx(70.0)
    busier = slowed()
    refused = busier.rate(START + 3.0)
    busier.record_refused(START + 3.0, 240, paced=False)
    assert busier.target == pytest.approx((80.0 + refused) / 2)


def test_late_refusals_are_taken_off_what_was_accepted_before() -> None:
    """They do not count against what was accepted since."""
    cubic = slowed()
    for _ in range(20):
        cubic.record_late_refusal()
    cubic.record_refused(START + 2.0, 60, paced=True)
    assert cubic.target == pytest.approx(40.0)


def test_a_refusal_beyond_the_plateau_raises_the_target_a_little() -> None:
    """The plateau was accepted, so the quota is above it; the target rises by a fifth of the way."""
    cubic = slowed(ceiling=200.0)
    cubic.record_refused(START + 2.0, 80, paced=True)
    when = START + 2.0 + (40 * 0.75) ** (1 / 3) + 4.0 + 4.0
    refused = cubic.rate(when)
    assert refused == pytest.approx(40.0 + 40.0 * (2**0.5 - 1))
    cubic.record_refused(when, 10_000, paced=True)
    assert cubic.target == pytest.approx(40.0 + 0.2 * (refused - 40.0))


def test_each_confirmation_doubles_the_plateau_up_to_a_minute() -> None:
    """Known quotas are probed rarely; another one starts with the shortest plateau."""
    cubic = slowed()
    now, accepted, seen = START, 0, []
    for _ in range(7):
        now, accepted = now + 3.0, accepted + 120
        cubic.record_refused(now, accepted, paced=True)
        seen.append(float(repr(cubic).split()[-2]))
    assert seen == [4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    cubic.record_refused(now + 3.0, accepted + 60, paced=True)
    assert repr(cubic) == "<Cubic back to 20/s of 100/s, plateau 4 s>"


def test_a_pause_delays_the_recovery() -> None:
    """Its length does not count as time in which nothing was accepted."""
    cubic = slowed()
    cubic.pause(START + 10.0)
    assert cubic.rate(START + 9.0) == cubic.rate(START + 10.0) == pytest.approx(70.0)
    cubic.pause(START + 5.0)
    assert cubic.rate(START + 10.0) == pytest.approx(70.0)
    cubic.record_refused(START + 12.0, 80, paced=True)
    assert cubic.target == pytest.approx(40.0)


@given(
    st.floats(0.01, 1e5),
    st.lists(st.tuples(st.floats(0.0, 1e4), st.integers(0, 10_000), st.booleans()), max_size=30),
    st.floats(0.0, 1e9),
)
def test_the_rate_is_never_above_the_ceiling_nor_below_the_minimum(
    ceiling: float, refusals: list[tuple[float, int, bool]], later: float
) -> None:
    """Whatever is refused, and whenever; without refusals the rate only grows."""
    cubic, now, accepted = Cubic(ceiling), START, 0
    for gap, more, paced in refusals:
        now, accepted = now + gap, accepted + more
        cubic.record_refused(now, accepted, paced=paced)
        assert min(0.5, ceiling) <= cubic.rate(now) <= ceiling
    rates = [cubic.rate(now + later * step / 10) for step in range(11)]
    assert rates == sorted(rates)
    assert rates[-1] <= ceiling
