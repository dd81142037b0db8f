"""Pacing on a hand-set clock: the promise about every window of time, and what holds, drains and quotas do to it."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.errors import RateLimited
from cosyclient.policies.ratelimit.limiter import Limit, RateLimiter, Reservation

EPSILON = 1e-6


def make(rate: float = 10.0, burst: int = 3, **more: Any) -> RateLimiter:
    return RateLimiter(rate=rate, burst=burst, **more)


def reserve(limiter: RateLimiter, now: float, count: int) -> list[float]:
    """Return the instants of *count* reservations made at *now*, to the microsecond."""
    return [round(limiter.reserve(now).at, 6) for _ in range(count)]


def test_burst_leaves_at_once_then_the_pace() -> None:
    assert reserve(make(), 100.0, 6) == [100.0, 100.0, 100.0, 100.1, 100.2, 100.3]


def test_burst_fills_up_while_nothing_is_sent() -> None:
    limiter = make()
    reserve(limiter, 100.0, 3)
    assert reserve(limiter, 100.2, 3) == [100.2, 100.2, 100.3]
    assert reserve(limiter, 200.0, 4) == [200.0, 200.0, 200.0, 200.1]


def test_wait_is_never_negative() -> None:
    limiter = make(burst=1)
    limiter.reserve(5.0)
    reservation = limiter.reserve(5.0)
    assert [round(reservation.wait(now), 6) for now in (5.0, 5.05, 6.0)] == [0.1, 0.05, 0.0]


def test_refuses_early_and_takes_nothing() -> None:
    limiter = make(burst=1)
    limiter.reserve(5.0)
    with pytest.raises(RateLimited, match=r"in 0\.100 s, later than the 0\.050 s") as refusal:
        limiter.reserve(5.0, max_wait=0.05)
    assert refusal.value.retry_after == pytest.approx(0.1)
    assert not refusal.value.sent
    assert reserve(limiter, 5.0, 1) == [5.1]
    assert limiter.reserve(6.0, max_wait=0.0).at == 6.0


def test_wait_equal_to_the_limit_is_granted() -> None:
    limiter = RateLimiter(rate=2.0, burst=1)
    limiter.reserve(4.0)
    assert limiter.reserve(4.0, max_wait=0.5).at == 4.5


def test_cost_weighs() -> None:
    limiter = make(burst=5)
    assert limiter.reserve(0.0, cost=4).at == 0.0
    assert limiter.reserve(0.0, cost=3).at == pytest.approx(0.2)
    assert limiter.reserve(0.0, cost=0).at == 0.0
    assert limiter.reserve(0.0, cost=0.5).at == pytest.approx(0.25)


@pytest.mark.parametrize("cost", [3.5, -1.0, math.nan, math.inf])
def test_cost_beyond_the_burst_is_refused(cost: float) -> None:
    limiter = make(burst=3)
    with pytest.raises(RateLimited, match="can never be sent within a burst of 3"):
        limiter.reserve(0.0, cost=cost)
    assert reserve(limiter, 0.0, 4) == [0.0, 0.0, 0.0, 0.1]


def test_several_limits_hold_together() -> None:
    limiter = RateLimiter(rate=10.0, burst=10, also=[Limit(rate=100.0, burst=200.0)])  # sends, and characters
    assert limiter.reserve(0.0, costs=[150.0]).at == 0.0
    assert limiter.reserve(0.0, costs=[150.0]).at == pytest.approx(1.0)
    # A send without characters may overtake, as far as the sends' own limit lets it.
    assert limiter.reserve(0.0, costs=[0.0]).at == pytest.approx(0.2)
    with pytest.raises(RateLimited, match="burst of 200"):
        limiter.reserve(0.0, costs=[201.0])
    with pytest.raises(ValueError, match="zip"):
        limiter.reserve(0.0, costs=[1.0, 1.0])


def test_one_cost_goes_for_all_limits() -> None:
    limiter = RateLimiter(rate=10.0, burst=10, also=[Limit(rate=1.0, burst=2.0)])
    assert reserve(limiter, 0.0, 4) == [0.0, 0.0, 1.0, 2.0]


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 1), (-1.0, 1), (math.nan, 1), (-math.inf, 1), (1.0, 0)])
def test_senseless_limits_are_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="rate must be above 0 and burst at least 1"):
        RateLimiter(rate=rate, burst=burst)


# Cancelling


def test_newest_place_is_given_back() -> None:
    limiter = make(burst=1)
    places = [limiter.reserve(0.0) for _ in range(3)]
    limiter.cancel(places[2])
    limiter.cancel(places[2])
    assert reserve(limiter, 0.0, 1) == [0.2]


def test_places_given_back_newest_first_all_count() -> None:
    limiter = make(burst=1)
    places = [limiter.reserve(0.0) for _ in range(3)]
    for place in reversed(places):
        limiter.cancel(place)
    assert reserve(limiter, 0.0, 2) == [0.0, 0.1]


def test_place_with_others_behind_it_is_forfeited() -> None:
    limiter = make(burst=1)
    places = [limiter.reserve(0.0) for _ in range(3)]
    limiter.cancel(places[1])
    assert reserve(limiter, 0.0, 1) == [0.3]
    limiter.cancel(places[2])  # no longer the newest
    assert reserve(limiter, 0.0, 1) == [0.4]


@pytest.mark.parametrize("change", ["pause", "drain", "apply_quota"])
def test_place_from_before_a_change_is_forfeited(change: str) -> None:
    limiter, other = make(burst=2), make(burst=2)
    place = limiter.reserve(0.0)
    other.reserve(0.0)
    for each in (limiter, other):
        if change == "pause":
            each.pause(0.0, 1.0)
        elif change == "drain":
            each.drain(0.0)
        else:
            each.apply_quota(5.0, 1.0)
    limiter.cancel(place)
    assert reserve(limiter, 0.0, 3) == reserve(other, 0.0, 3)


# Drains


def test_drain_takes_the_burst() -> None:
    limiter = make()
    limiter.drain(100.0)
    assert reserve(limiter, 100.0, 3) == [100.1, 100.2, 100.3]


def test_drain_adds_nothing_to_an_empty_burst() -> None:
    limiter = make()
    reserve(limiter, 100.0, 5)
    limiter.drain(100.0)
    assert reserve(limiter, 100.0, 1) == [100.3]


# Refusals


def test_being_throttled_slows_down_and_ends_bursts() -> None:
    """Three tenths less at once, one send at a time, and nothing for one interval."""
    limiter = make()
    place = limiter.reserve(100.0)
    assert limiter.record_throttled(100.0, place, accepted=0) == "slowed"
    assert (round(limiter.rate, 6), limiter.slowed) == (7.0, True)
    assert [round(limiter.reserve(100.0).at - 100.0, 2) for _ in range(3)] == [0.14, 0.29, 0.43]


def test_refusals_of_what_left_before_are_one_piece_of_news() -> None:
    """A round trip of refusals stands for one mistake; the next one is sent at the lower rate."""
    limiter = make(rate=100.0, burst=10)
    places = [limiter.reserve(100.0) for _ in range(10)]
    assert [limiter.record_throttled(100.2, place, accepted=0) for place in places] == ["slowed"] + ["known"] * 9
    assert round(limiter.rate) == 70
    late = limiter.reserve(100.2)
    assert limiter.record_throttled(100.5, late, accepted=1) == "slowed"
    assert round(limiter.rate) == 70


def test_sleepers_ask_again_after_a_refusal() -> None:
    """Their places were given at a pace that has proved too fast; the order of waking is kept."""
    limiter = make(rate=100.0, burst=1)
    places = [limiter.reserve(100.0) for _ in range(5)]
    limiter.record_throttled(100.005, places[0], accepted=0)
    moved = [limiter.recheck(place, place.at) for place in places[1:]]
    gaps = [later.at - sooner.at for sooner, later in pairwise(moved)]
    assert moved[0].at == pytest.approx(100.005 + 1 / 70, abs=0.001)
    assert all(gap == pytest.approx(1 / 70, abs=0.001) for gap in gaps)
    assert [limiter.recheck(place, place.at) for place in moved] == moved
    with pytest.raises(RateLimited):
        limiter.recheck(places[1], 100.02, max_wait=0.001)


def test_recovery_brings_rate_and_burst_back() -> None:
    """Seconds later all is as before; only who has paused has saved up for the burst."""
    limiter, busy = make(), make()
    for each in (limiter, busy):
        each.record_throttled(100.0, each.reserve(100.0), accepted=0)
    assert reserve(limiter, 130.0, 4) == [130.0, 130.0, 130.0, 130.1]
    assert (limiter.rate, limiter.slowed) == (10.0, False)
    now = 100.0
    while busy.slowed:
        now = busy.reserve(now).at
    assert [round(busy.reserve(now).at - now, 6) for _ in range(3)] == [0.1, 0.2, 0.3]


def test_pause_that_was_asked_for_comes_before_the_recovery() -> None:
    """A long Retry-After must not end at full speed."""
    limiter = make(rate=10.0, burst=3)
    limiter.record_throttled(100.0, limiter.reserve(100.0), accepted=0)
    limiter.pause(100.0, 30.0)
    assert reserve(limiter, 100.0, 1) == [130.142857]
    assert round(limiter.rate, 6) == 7.0


def test_announced_quota_bounds_a_recovery() -> None:
    """The service's word and its refusals hold together; the lower one counts."""
    limiter = make(rate=100.0, burst=10)
    limiter.record_throttled(100.0, limiter.reserve(100.0), accepted=0)
    assert not limiter.apply_quota(90.0, 1.0)
    assert round(limiter.rate) == 70
    assert limiter.apply_quota(50.0, 1.0)
    assert limiter.rate == 50.0
    limiter.reserve(200.0)
    assert (limiter.rate, limiter.slowed) == (50.0, False)
    assert limiter.apply_quota(100.0, 1.0)
    assert limiter.rate == 100.0


def test_limit_without_a_window_is_a_bucket() -> None:
    """Envoy's local rate limit tells the size of its bucket and no window: no rate can be read from it."""
    limiter = make(rate=100.0, burst=10)
    assert not limiter.apply_quota(6.0, None)
    assert limiter.rate == 100.0
    assert reserve(limiter, 0.0, 7) == [0.0] * 6 + [0.01]
    assert not limiter.apply_quota(60.0, None)
    assert reserve(limiter, 10.0, 11) == [10.0] * 10 + [10.01]


# Late sleepers


def test_a_stalled_process_does_not_make_up_for_it_at_once() -> None:
    """Twenty wake half a second late: as many as the burst leave, the others keep the pace from there."""
    limiter = make(rate=100.0, burst=10)
    places = [limiter.reserve(0.0) for _ in range(30)][10:]
    woken = [limiter.recheck(place, 0.7) for place in places]
    assert [place.wait(0.7) == 0.0 for place in woken] == [True] * 10 + [False] * 10
    assert {round(place.wait(0.7), 6) for place in woken[10:]} == {0.01}
    now, left = 0.7, woken[10:]
    while left:
        now = min(place.at for place in left)
        left = [moved for place in left if (moved := limiter.recheck(place, now)).wait(now) > 0.0]
    assert now == pytest.approx(0.8)


def test_late_ones_may_use_half_of_what_the_service_takes_at_once() -> None:
    """A bucket of 100 forgives a stall that one of 6 does not."""
    limits: list[tuple[float, float | None]] = [(100.0, 1.0), (100.0, None), (6.0, None)]
    leaving = []
    for limit, window in limits:
        limiter = make(rate=100.0, burst=10)
        limiter.apply_quota(limit, window)
        places = [limiter.reserve(0.0) for _ in range(90)][10:]
        leaving.append(sum(limiter.recheck(place, 5.0).wait(5.0) == 0.0 for place in places))
    assert leaving == [50, 50, 6]


# Holds


def test_hold_lets_nothing_go_and_then_only_the_pace() -> None:
    limiter = make()
    limiter.pause(100.0, 2.0)
    assert reserve(limiter, 100.0, 2) == [102.0, 102.1]
    assert reserve(limiter, 101.9, 1) == [102.2]
    assert reserve(limiter, 110.0, 4) == [110.0, 110.0, 110.0, 110.1]


def test_hold_is_told_as_retry_after() -> None:
    limiter = make()
    limiter.pause(100.0, 2.0)
    with pytest.raises(RateLimited) as refusal:
        limiter.reserve(100.5, max_wait=1.0)
    assert refusal.value.retry_after == pytest.approx(1.5)


def test_sleepers_move_behind_the_hold_and_keep_their_distance() -> None:
    limiter = make()
    places = [limiter.reserve(100.0) for _ in range(6)][3:]
    limiter.pause(100.05, 2.0)
    newcomer = limiter.reserve(100.06)
    moved = [limiter.recheck(place, place.at) for place in places]
    assert [round(place.at, 6) for place in moved] == [102.1, 102.2, 102.3]
    assert round(newcomer.at, 6) == 102.4
    assert [limiter.recheck(place, place.at) for place in moved] == moved


def test_sleeper_who_overslept_the_hold_keeps_the_same_place() -> None:
    limiter = make()
    place = [limiter.reserve(100.0) for _ in range(4)][3]
    limiter.pause(100.05, 2.0)
    moved = limiter.recheck(place, 105.0)
    assert moved.at == pytest.approx(102.1)
    assert moved.wait(105.0) == 0.0


def test_those_due_when_the_hold_began_do_not_all_leave_when_it_ends() -> None:
    limiter = make()
    burst = [limiter.reserve(100.0) for _ in range(3)]
    limiter.pause(100.0, 2.0)
    moved = [limiter.recheck(place, 100.0) for place in burst]
    assert [round(place.at, 6) for place in moved] == [102.1, 102.2, 102.3]


def test_recheck_refuses_a_place_beyond_the_deadline() -> None:
    limiter = make()
    places = [limiter.reserve(100.0) for _ in range(4)]
    limiter.pause(100.0, 20.0)
    for place, wait in ((places[0], 20.2), (places[3], 20.1)):  # one was due, the other was not
        with pytest.raises(RateLimited) as refusal:
            limiter.recheck(place, 100.0, max_wait=5.0)
        assert refusal.value.retry_after == pytest.approx(wait)


def test_due_place_keeps_its_costs_when_it_moves() -> None:
    limiter = RateLimiter(rate=10.0, burst=10, also=[Limit(rate=100.0, burst=200.0)])
    place = limiter.reserve(0.0, cost=1.0, costs=[150.0])
    limiter.pause(0.0, 1.0)
    # One token of each limit is there at the end of the hold; 149 characters more take 1.49 s.
    assert limiter.recheck(place, 0.0).at == pytest.approx(2.49)


def test_holds_do_not_add_up() -> None:
    limiter = make()
    for now, seconds in [(100.0, 2.0), (100.5, 1.0), (101.0, 1.5)]:
        limiter.pause(now, seconds)
    assert reserve(limiter, 101.0, 2) == [102.5, 102.6]


def test_second_hold_moves_sleepers_once_more() -> None:
    limiter = make(burst=1)
    place = [limiter.reserve(100.0) for _ in range(2)][1]
    limiter.pause(100.0, 1.0)
    place = limiter.recheck(place, 100.1)
    assert place.at == pytest.approx(101.1)
    limiter.pause(101.05, 1.0)
    assert limiter.recheck(place, 101.1).at == pytest.approx(102.1)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, -math.inf])
def test_senseless_hold_drains(seconds: float) -> None:
    limiter = make()
    limiter.pause(100.0, seconds)
    assert reserve(limiter, 100.0, 2) == [100.1, 100.2]


@pytest.mark.parametrize("seconds", [1e9, math.inf])
def test_absurd_hold_ends_after_an_hour(seconds: float) -> None:
    limiter = make()
    limiter.pause(100.0, seconds)
    assert reserve(limiter, 100.0, 1) == [3700.0]


# The service's own quota


def test_quota_lowers_the_rate_and_never_lifts_it_above_the_configured() -> None:
    limiter = make(rate=100.0, burst=10)
    assert limiter.apply_quota(50.0, 1.0)
    assert (limiter.rate, limiter.configured) == (50.0, 100.0)
    assert not limiter.apply_quota(50.0, 1.0)
    assert limiter.apply_quota(6000.0, 60.0)
    assert limiter.rate == 100.0
    assert not limiter.apply_quota(1000.0, 1.0)
    assert limiter.rate == 100.0


@pytest.mark.parametrize(
    ("limit", "window"),
    [
        (None, None),
        (None, 1.0),
        (1.0, None),
        (math.nan, 1.0),
        (1.0, math.nan),
        (0.0, 1.0),
        (1.0, 0.0),
        (-5.0, 1.0),
        (5.0, -1.0),
        (math.inf, 1.0),
        (1.0, math.inf),
        (1e-300, 1e300),
        (1.0, 86401.0),
    ],
)
def test_senseless_quota_is_ignored(limit: float | None, window: float | None) -> None:
    limiter = make()
    assert not limiter.apply_quota(limit, window)
    assert limiter.rate == 10.0


def test_quota_smaller_than_the_burst_lowers_it() -> None:
    limiter = make(rate=100.0, burst=10)
    limiter.apply_quota(2.0, 1.0)
    assert reserve(limiter, 0.0, 4) == [0.0, 0.0, 0.5, 1.0]


def test_lower_rate_starts_behind_the_places_already_promised() -> None:
    limiter = make(burst=1)
    assert reserve(limiter, 0.0, 3) == [0.0, 0.1, 0.2]
    limiter.apply_quota(1.0, 1.0)
    assert reserve(limiter, 0.0, 2) == [1.2, 2.2]


def test_swinging_quota_yields_no_tokens() -> None:
    limiter = make(rate=100.0, burst=10)
    assert reserve(limiter, 0.0, 10) == [0.0] * 10
    for _ in range(5):
        limiter.apply_quota(1.0, 1.0)
        limiter.apply_quota(100.0, 1.0)
    assert reserve(limiter, 0.0, 1) == [0.01]
    limiter.apply_quota(1.0, 1.0)
    assert reserve(limiter, 10.0, 1) == [10.0]
    limiter.apply_quota(100.0, 1.0)  # the burst is ten again, but nobody has saved up for it
    assert reserve(limiter, 10.0, 1) == [10.01]


def test_repr_reads_like_a_status_line() -> None:
    limiter = make(rate=100.0, burst=10)
    assert repr(limiter) == "<RateLimiter 100/s of 100/s, burst 10>"
    limiter.apply_quota(50.0, 1.0)
    assert repr(limiter) == "<RateLimiter 50/s of 100/s, burst 10>"
    limiter.record_throttled(0.0, limiter.reserve(0.0), accepted=0)
    assert repr(limiter) == "<RateLimiter 35/s of 100/s, burst 1, slowed>"
    assert repr(limiter.reserve(12.5)) == "<Reservation 2 at 12.500>"


# What is promised, whatever happens

gaps = st.sampled_from([0.0, 0.0, 0.001, 0.05, 0.1, 0.3, 1.0, 5.0]) | st.floats(0.0, 3.0)
steps = st.tuples(
    gaps,
    st.sampled_from(["reserve", "reserve", "reserve", "cancel", "pause", "drain", "apply_quota", "refuse"]),
    st.floats(0.0, 3.0),
)


class World:
    """Send through one limiter on a clock of its own: sleepers wake exactly when they are due, recheck and send."""

    def __init__(self, limiter: RateLimiter) -> None:
        self.limiter = limiter
        self.now = 1000.0
        self.asleep: list[tuple[Reservation, float]] = []
        self.sent: list[tuple[float, float]] = []  # instant and cost, in order of sending
        self.last: Reservation | None = None  # the place of the latest of them

    def advance(self, to: float) -> None:
        while due := [entry for entry in self.asleep if entry[0].at <= to]:
            entry = min(due, key=lambda each: each[0].at)
            place, cost = entry
            self.now = max(self.now, place.at)
            self.asleep.remove(entry)
            place = self.limiter.recheck(place, self.now)
            if place.at <= self.now:
                self.sent.append((place.at, cost))
                self.last = place
            else:
                self.asleep.append((place, cost))
        self.now = to

    def reserve(self, cost: float) -> None:
        self.asleep.append((self.limiter.reserve(self.now, cost=cost), cost))
        self.advance(self.now)

    def finish(self) -> None:
        while self.asleep:
            self.advance(max(place.at for place, _ in self.asleep))

    def check(self, rate: float, burst: float) -> None:
        instants = [at for at, _ in self.sent]
        assert instants == sorted(instants)
        for first, start in enumerate(instants):
            granted = 0.0
            for at, cost in self.sent[first:]:
                granted += cost
                assert granted <= rate * (at - start) + burst + EPSILON


@settings(max_examples=300, deadline=None)
@given(
    rate=st.sampled_from([0.5, 1.0, 10.0, 100.0]),
    burst=st.integers(1, 12),
    script=st.lists(steps, max_size=50),
    weighted=st.booleans(),
)
def test_no_window_has_more_than_rate_and_burst(
    rate: float, burst: int, script: list[tuple[float, str, float]], weighted: bool
) -> None:
    world = World(RateLimiter(rate=rate, burst=burst))
    closed_until: list[tuple[int, float]] = []  # what was sent when a hold began, and the hold's end
    for gap, step, number in script:
        world.advance(world.now + gap)
        if step == "reserve":
            world.reserve(min(number, float(burst)) if weighted else 1.0)
        elif step == "cancel" and world.asleep:
            place, _ = world.asleep.pop(int(number * 10) % len(world.asleep))
            world.limiter.cancel(place)
        elif step == "pause":
            world.limiter.pause(world.now, number)
            if number > 0.0:
                closed_until.append((len(world.sent), world.now + number))
        elif step == "drain":
            world.limiter.drain(world.now)
        elif step == "apply_quota":
            world.limiter.apply_quota(rate * number, 1.0)
        elif step == "refuse" and world.last is not None:
            world.limiter.record_throttled(world.now, world.last, accepted=len(world.sent) - 1)
    world.finish()
    world.check(rate, burst)
    for count, end in closed_until:
        assert all(at >= end for at, _ in world.sent[count:])


@settings(deadline=None)
@given(st.lists(st.tuples(gaps, st.floats(0.0, 5.0)), max_size=40))
def test_several_limits_are_each_kept(script: list[tuple[float, float]]) -> None:
    sends, weight = Limit(2.0, 3.0), Limit(1.5, 5.0)
    limiter = RateLimiter(rate=sends.rate, burst=3, also=[weight])
    now, places = 0.0, []
    for gap, cost in script:
        now += gap
        places.append((limiter.reserve(now, costs=[cost]).at, 1.0, cost))
    for limit, column in ((sends, 1), (weight, 2)):
        world = World(limiter)
        world.sent = [(place[0], place[column]) for place in sorted(places)]
        world.check(limit.rate, limit.burst)


@settings(deadline=None)
@given(st.lists(st.tuples(gaps, st.floats(0.0, 3.0)), max_size=40))
def test_first_come_is_first_served(script: list[tuple[float, float]]) -> None:
    limiter = make()
    now, instants = 0.0, []
    for gap, cost in script:
        now += gap
        instants.append(limiter.reserve(now, cost=max(0.01, cost)).at)
    assert instants == sorted(instants)


@settings(deadline=None)
@given(st.lists(gaps, max_size=40))
def test_nothing_is_held_back_without_need(script: list[float]) -> None:
    """Count tokens the naive way: whoever finds one leaves at once."""
    limiter = make()
    now = last = 0.0
    tokens = 3.0
    for gap in script:
        now += gap
        tokens, last = min(3.0, tokens + (now - last) * 10.0), now
        place = limiter.reserve(now)
        tokens -= 1.0
        assert place.wait(now) == pytest.approx(max(0.0, -tokens / 10.0), abs=EPSILON)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0.0, 0.3)), max_size=40))
def test_what_really_leaves_keeps_the_promise_however_late_it_is(script: list[tuple[int, float]]) -> None:
    """A window of time never sees more than rate and burst, though everybody wakes only after each stall."""
    limiter, now = make(rate=10.0, burst=3), 1000.0
    asleep: list[Reservation] = []
    world = World(limiter)
    for newcomers, stall in [*script, *[(0, 0.4)] * 200]:
        now += stall
        places = [limiter.recheck(place, now) if place.at <= now else place for place in asleep]
        places += [limiter.reserve(now) for _ in range(newcomers)]
        world.sent += [(now, 1.0) for place in places if place.at <= now]
        asleep = [place for place in places if place.at > now]
    assert len(world.sent) == sum(newcomers for newcomers, _ in script)
    world.check(10.0, 3.0)


# No quota


def test_without_a_quota_nobody_waits() -> None:
    """However many at one instant; a place given back and a recheck change nothing."""
    limiter = make(rate=math.inf, burst=1)
    assert reserve(limiter, 5.0, 1000) == [5.0] * 1000
    place = limiter.reserve(6.0)
    assert limiter.recheck(place, 6.0).at == 6.0
    limiter.cancel(place)
    assert reserve(limiter, 6.0, 3) == [6.0] * 3
    assert repr(limiter) == "<RateLimiter inf/s of inf/s, burst 1>"


def test_without_a_quota_a_pause_is_kept() -> None:
    """A Retry-After holds everybody, and then nobody."""
    limiter = make(rate=math.inf, burst=1)
    limiter.reserve(5.0)
    limiter.pause(5.0, 2.0)
    assert reserve(limiter, 6.0, 3) == [7.0] * 3
    assert reserve(limiter, 8.0, 3) == [8.0] * 3


def test_without_a_quota_an_announced_one_counts() -> None:
    """And goes again with the announcement."""
    limiter = make(rate=math.inf, burst=2)
    reserve(limiter, 5.0, 10)
    assert limiter.apply_quota(10.0, 1.0)
    assert limiter.rate == 10.0
    assert reserve(limiter, 6.0, 4) == [6.0, 6.0, 6.1, 6.2]


def test_without_a_quota_a_refusal_slows_down_from_what_was_sent() -> None:
    """To 0.7 of that, and back to no limit in the end."""
    limiter = make(rate=math.inf, burst=1)
    place = [limiter.reserve(5.0) for _ in range(50)][-1]
    assert limiter.record_throttled(5.2, place, accepted=10, sent=50.0) == "slowed"
    assert round(limiter.rate, 6) == 35.0
    limiter.reserve(3000.0)
    assert (limiter.rate, limiter.slowed) == (math.inf, False)


@given(st.lists(st.tuples(st.sampled_from("rhtadc"), st.floats(0.0, 5.0)), max_size=60), st.integers(1, 5))
@settings(deadline=None)
def test_without_a_quota_no_instant_is_nonsense(steps: list[tuple[str, float]], burst: int) -> None:
    """Whatever happens in whatever order, each place is a number, and near."""
    limiter, now, sent = make(rate=math.inf, burst=burst), 0.0, 0
    place = limiter.reserve(now)
    for step, span in steps:
        now += span
        if step == "r":
            place, sent = limiter.reserve(now), sent + 1
        elif step == "h":
            limiter.pause(now, span)
        elif step == "t":
            limiter.record_throttled(now, place, accepted=sent, sent=1.0 + span)
        elif step == "a":
            limiter.apply_quota(1.0 + span, 1.0 if span > 1.0 else None)
        elif step == "d":
            limiter.drain(now)
        else:
            limiter.cancel(place)
        assert limiter.rate > 0.0
        assert 0.0 <= limiter.recheck(place, now).wait(now) < 1000.0
