"""The rate limiter on a hand-set clock: no span of time exceeds the quota, whatever pauses, drains and refusals do."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.errors import RateLimited
from cosyclient.policies.ratelimit.limiter import RateLimiter, Reservation

EPSILON = 1e-6


def make(rate: float = 10.0, burst: int = 3) -> RateLimiter:
    return RateLimiter(rate=rate, burst=burst)


def reserve(limiter: RateLimiter, now: float, count: int) -> list[float]:
    """Return the instants of *count* reservations made at *now*, to the microsecond."""
    return [round(limiter.reserve(now).at, 6) for _ in range(count)]


def test_the_burst_is_sent_at_once_then_the_pace() -> None:
    assert reserve(make(), 100.0, 6) == [100.0, 100.0, 100.0, 100.1, 100.2, 100.3]


def test_the_burst_refills_while_nothing_is_sent() -> None:
    limiter = make()
    reserve(limiter, 100.0, 3)
    assert reserve(limiter, 100.2, 3) == [100.2, 100.2, 100.3]
    assert reserve(limiter, 200.0, 4) == [200.0, 200.0, 200.0, 200.1]


def test_a_wait_is_never_negative() -> None:
    limiter = make(burst=1)
    limiter.reserve(5.0)
    reservation = limiter.reserve(5.0)
    assert [round(reservation.delay(now), 6) for now in (5.0, 5.05, 6.0)] == [0.1, 0.05, 0.0]


def test_a_wait_beyond_the_limit_is_rejected_and_reserves_nothing() -> None:
    limiter = make(burst=1)
    limiter.reserve(5.0)
    with pytest.raises(RateLimited, match=r"in 0\.100 s, later than the 0\.050 s") as refusal:
        limiter.reserve(5.0, max_wait=0.05)
    assert refusal.value.retry_after == pytest.approx(0.1)
    assert not refusal.value.sent
    assert reserve(limiter, 5.0, 1) == [5.1]
    assert limiter.reserve(6.0, max_wait=0.0).at == 6.0


def test_a_wait_equal_to_the_limit_is_accepted() -> None:
    limiter = RateLimiter(rate=2.0, burst=1)
    limiter.reserve(4.0)
    assert limiter.reserve(4.0, max_wait=0.5).at == 4.5


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 1), (-1.0, 1), (math.nan, 1), (-math.inf, 1), (1.0, 0)])
def test_senseless_limits_are_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="rate must be above 0 and burst at least 1"):
        RateLimiter(rate=rate, burst=burst)


# Cancelling


def test_the_newest_reservation_is_given_back() -> None:
    limiter = make(burst=1)
    reservations = [limiter.reserve(0.0) for _ in range(3)]
    limiter.cancel(reservations[2])
    limiter.cancel(reservations[2])
    assert reserve(limiter, 0.0, 1) == [0.2]


def test_reservations_given_back_newest_first_all_count() -> None:
    limiter = make(burst=1)
    reservations = [limiter.reserve(0.0) for _ in range(3)]
    for reservation in reversed(reservations):
        limiter.cancel(reservation)
    assert reserve(limiter, 0.0, 2) == [0.0, 0.1]


def test_a_reservation_with_others_behind_it_is_forfeited() -> None:
    limiter = make(burst=1)
    reservations = [limiter.reserve(0.0) for _ in range(3)]
    limiter.cancel(reservations[1])
    assert reserve(limiter, 0.0, 1) == [0.3]
    limiter.cancel(reservations[2])  # no longer the newest
    assert reserve(limiter, 0.0, 1) == [0.4]


@pytest.mark.parametrize("change", ["pause", "drain", "apply_quota"])
def test_a_reservation_from_before_a_change_is_forfeited(change: str) -> None:
    limiter, other = make(burst=2), make(burst=2)
    reservation = limiter.reserve(0.0)
    other.reserve(0.0)
    for each in (limiter, other):
        if change == "pause":
            each.pause(0.0, 1.0)
        elif change == "drain":
            each.drain(0.0)
        else:
            each.apply_quota(5.0, 1.0)
    limiter.cancel(reservation)
    assert reserve(limiter, 0.0, 3) == reserve(other, 0.0, 3)


# Drains


def test_a_drain_empties_the_burst() -> None:
    limiter = make()
    limiter.drain(100.0)
    assert reserve(limiter, 100.0, 3) == [100.1, 100.2, 100.3]


def test_a_drain_changes_nothing_where_the_burst_is_empty() -> None:
    limiter = make()
    reserve(limiter, 100.0, 5)
    limiter.drain(100.0)
    assert reserve(limiter, 100.0, 1) == [100.3]


# Refusals


def test_a_refusal_slows_down_and_ends_bursts() -> None:
    """The rate falls by three tenths, sends come one at a time, the first after one interval."""
    limiter = make()
    reservation = limiter.reserve(100.0)
    assert limiter.record_throttled(100.0, reservation, accepted=0) == "slowed"
    assert (round(limiter.rate, 6), limiter.slowed) == (7.0, True)
    assert [round(limiter.reserve(100.0).at - 100.0, 2) for _ in range(3)] == [0.14, 0.29, 0.43]


def test_refusals_of_what_was_sent_before_count_once() -> None:
    """Requests sent within one round trip are refused together; the next one is sent at the lower rate."""
    limiter = make(rate=100.0, burst=10)
    reservations = [limiter.reserve(100.0) for _ in range(10)]
    verdicts = [limiter.record_throttled(100.2, each, accepted=0) for each in reservations]
    assert verdicts == ["slowed"] + ["known"] * 9
    assert round(limiter.rate) == 70
    late = limiter.reserve(100.2)
    assert limiter.record_throttled(100.5, late, accepted=1) == "slowed"
    assert round(limiter.rate) == 70


def test_sleepers_reserve_again_after_a_refusal() -> None:
    """Their reservations were made at a pace that was too fast; the order of waking is kept."""
    limiter = make(rate=100.0, burst=1)
    reservations = [limiter.reserve(100.0) for _ in range(5)]
    limiter.record_throttled(100.005, reservations[0], accepted=0)
    moved = [limiter.recheck(reservation, reservation.at) for reservation in reservations[1:]]
    gaps = [later.at - sooner.at for sooner, later in pairwise(moved)]
    assert moved[0].at == pytest.approx(100.005 + 1 / 70, abs=0.001)
    assert all(gap == pytest.approx(1 / 70, abs=0.001) for gap in gaps)
    assert [limiter.recheck(reservation, reservation.at) for reservation in moved] == moved
    with pytest.raises(RateLimited):
        limiter.recheck(reservations[1], 100.02, max_wait=0.001)


def test_a_recovery_restores_rate_and_burst() -> None:
    """Seconds later all is as before; only a limiter that has paused has tokens for the burst."""
    limiter, busy = make(), make()
    for each in (limiter, busy):
        each.record_throttled(100.0, each.reserve(100.0), accepted=0)
    assert reserve(limiter, 130.0, 4) == [130.0, 130.0, 130.0, 130.1]
    assert (limiter.rate, limiter.slowed) == (10.0, False)
    now = 100.0
    while busy.slowed:
        now = busy.reserve(now).at
    assert [round(busy.reserve(now).at - now, 6) for _ in range(3)] == [0.1, 0.2, 0.3]


def test_the_recovery_begins_after_the_pause() -> None:
    """A long Retry-After must not end at the full rate."""
    limiter = make(rate=10.0, burst=3)
    limiter.record_throttled(100.0, limiter.reserve(100.0), accepted=0)
    limiter.pause(100.0, 30.0)
    assert reserve(limiter, 100.0, 1) == [130.142857]
    assert round(limiter.rate, 6) == 7.0


def test_a_reported_quota_bounds_a_recovery() -> None:
    """The quota that the service reports and its refusals both count; the lower rate is in effect."""
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


def test_a_limit_without_a_window_is_the_size_of_a_bucket() -> None:
    """Envoy's local rate limit reports the size of its bucket and no window: no rate can be read from it."""
    limiter = make(rate=100.0, burst=10)
    assert not limiter.apply_quota(6.0, None)
    assert limiter.rate == 100.0
    assert reserve(limiter, 0.0, 7) == [0.0] * 6 + [0.01]
    assert not limiter.apply_quota(60.0, None)
    assert reserve(limiter, 10.0, 11) == [10.0] * 10 + [10.01]


# Late sleepers


def test_a_stalled_process_does_not_send_all_that_is_late_at_once() -> None:
    """Twenty threads wake half a second late: as many as the burst send, the others keep the pace from there."""
    limiter = make(rate=100.0, burst=10)
    reservations = [limiter.reserve(0.0) for _ in range(30)][10:]
    woken = [limiter.recheck(reservation, 0.7) for reservation in reservations]
    assert [reservation.delay(0.7) == 0.0 for reservation in woken] == [True] * 10 + [False] * 10
    assert {round(reservation.delay(0.7), 6) for reservation in woken[10:]} == {0.01}
    now, left = 0.7, woken[10:]
    while left:
        now = min(reservation.at for reservation in left)
        left = [moved for reservation in left if (moved := limiter.recheck(reservation, now)).delay(now) > 0.0]
    assert now == pytest.approx(0.8)


def test_late_sends_may_use_half_of_what_the_service_takes_at_once() -> None:
    """A bucket of 100 allows more late sends at once than one of 6."""
    limits: list[tuple[float, float | None]] = [(100.0, 1.0), (100.0, None), (6.0, None)]
    sent_at_once = []
    for limit, window in limits:
        limiter = make(rate=100.0, burst=10)
        limiter.apply_quota(limit, window)
        reservations = [limiter.reserve(0.0) for _ in range(90)][10:]
        sent_at_once.append(sum(limiter.recheck(reservation, 5.0).delay(5.0) == 0.0 for reservation in reservations))
    assert sent_at_once == [50, 50, 6]


# Pauses


def test_a_pause_lets_nothing_be_sent_and_then_only_the_pace() -> None:
    limiter = make()
    limiter.pause(100.0, 2.0)
    assert reserve(limiter, 100.0, 2) == [102.0, 102.1]
    assert reserve(limiter, 101.9, 1) == [102.2]
    assert reserve(limiter, 110.0, 4) == [110.0, 110.0, 110.0, 110.1]


def test_the_error_during_a_pause_says_how_long_it_lasts() -> None:
    limiter = make()
    limiter.pause(100.0, 2.0)
    with pytest.raises(RateLimited) as refusal:
        limiter.reserve(100.5, max_wait=1.0)
    assert refusal.value.retry_after == pytest.approx(1.5)


def test_reservations_move_behind_the_pause_and_keep_their_distance() -> None:
    limiter = make()
    reservations = [limiter.reserve(100.0) for _ in range(6)][3:]
    limiter.pause(100.05, 2.0)
    newcomer = limiter.reserve(100.06)
    moved = [limiter.recheck(reservation, reservation.at) for reservation in reservations]
    assert [round(reservation.at, 6) for reservation in moved] == [102.1, 102.2, 102.3]
    assert round(newcomer.at, 6) == 102.4
    assert [limiter.recheck(reservation, reservation.at) for reservation in moved] == moved


def test_a_thread_that_wakes_after_the_pause_keeps_its_reservation() -> None:
    limiter = make()
    reservation = [limiter.reserve(100.0) for _ in range(4)][3]
    limiter.pause(100.05, 2.0)
    moved = limiter.recheck(reservation, 105.0)
    assert moved.at == pytest.approx(102.1)
    assert moved.delay(105.0) == 0.0


def test_those_due_when_the_pause_began_are_not_all_sent_when_it_ends() -> None:
    limiter = make()
    burst = [limiter.reserve(100.0) for _ in range(3)]
    limiter.pause(100.0, 2.0)
    moved = [limiter.recheck(reservation, 100.0) for reservation in burst]
    assert [round(reservation.at, 6) for reservation in moved] == [102.1, 102.2, 102.3]


def test_recheck_rejects_a_reservation_beyond_the_deadline() -> None:
    limiter = make()
    reservations = [limiter.reserve(100.0) for _ in range(4)]
    limiter.pause(100.0, 20.0)
    for reservation, wait in ((reservations[0], 20.2), (reservations[3], 20.1)):  # one was due, the other was not
        with pytest.raises(RateLimited) as refusal:
            limiter.recheck(reservation, 100.0, max_wait=5.0)
        assert refusal.value.retry_after == pytest.approx(wait)


def test_overlapping_pauses_do_not_add_up() -> None:
    limiter = make()
    for now, seconds in [(100.0, 2.0), (100.5, 1.0), (101.0, 1.5)]:
        limiter.pause(now, seconds)
    assert reserve(limiter, 101.0, 2) == [102.5, 102.6]


def test_a_second_pause_moves_reservations_once_more() -> None:
    limiter = make(burst=1)
    reservation = [limiter.reserve(100.0) for _ in range(2)][1]
    limiter.pause(100.0, 1.0)
    reservation = limiter.recheck(reservation, 100.1)
    assert reservation.at == pytest.approx(101.1)
    limiter.pause(101.05, 1.0)
    assert limiter.recheck(reservation, 101.1).at == pytest.approx(102.1)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, -math.inf])
def test_a_pause_of_no_positive_length_drains(seconds: float) -> None:
    limiter = make()
    limiter.pause(100.0, seconds)
    assert reserve(limiter, 100.0, 2) == [100.1, 100.2]


@pytest.mark.parametrize("seconds", [1e9, math.inf])
def test_an_absurd_pause_ends_after_an_hour(seconds: float) -> None:
    limiter = make()
    limiter.pause(100.0, seconds)
    assert reserve(limiter, 100.0, 1) == [3700.0]


# The service's own quota


def test_a_reported_quota_lowers_the_rate_and_never_lifts_it_above_the_configured() -> None:
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
def test_a_senseless_quota_is_ignored(limit: float | None, window: float | None) -> None:
    limiter = make()
    assert not limiter.apply_quota(limit, window)
    assert limiter.rate == 10.0


def test_a_quota_smaller_than_the_burst_lowers_it() -> None:
    limiter = make(rate=100.0, burst=10)
    limiter.apply_quota(2.0, 1.0)
    assert reserve(limiter, 0.0, 4) == [0.0, 0.0, 0.5, 1.0]


def test_a_lower_rate_starts_behind_the_reservations_already_made() -> None:
    limiter = make(burst=1)
    assert reserve(limiter, 0.0, 3) == [0.0, 0.1, 0.2]
    limiter.apply_quota(1.0, 1.0)
    assert reserve(limiter, 0.0, 2) == [1.2, 2.2]


def test_a_quota_that_goes_up_and_down_yields_no_tokens() -> None:
    limiter = make(rate=100.0, burst=10)
    assert reserve(limiter, 0.0, 10) == [0.0] * 10
    for _ in range(5):
        limiter.apply_quota(1.0, 1.0)
        limiter.apply_quota(100.0, 1.0)
    assert reserve(limiter, 0.0, 1) == [0.01]
    limiter.apply_quota(1.0, 1.0)
    assert reserve(limiter, 10.0, 1) == [10.0]
    limiter.apply_quota(100.0, 1.0)  # the burst is ten again, but there are no tokens for it yet
    assert reserve(limiter, 10.0, 1) == [10.01]


def test_repr_reads_like_a_status_line() -> None:
    limiter = make(rate=100.0, burst=10)
    assert repr(limiter) == "<RateLimiter 100/s of 100/s, burst 10>"
    limiter.apply_quota(50.0, 1.0)
    assert repr(limiter) == "<RateLimiter 50/s of 100/s, burst 10>"
    limiter.record_throttled(0.0, limiter.reserve(0.0), accepted=0)
    assert repr(limiter) == "<RateLimiter 35/s of 100/s, burst 1, slowed>"
    assert repr(limiter.reserve(12.5)) == "<Reservation 2 at 12.500>"


# The quota is kept, whatever happens

gaps = st.sampled_from([0.0, 0.0, 0.001, 0.05, 0.1, 0.3, 1.0, 5.0]) | st.floats(0.0, 3.0)
steps = st.tuples(
    gaps,
    st.sampled_from(["reserve", "reserve", "reserve", "cancel", "pause", "drain", "apply_quota", "refuse"]),
    st.floats(0.0, 3.0),
)


class Senders:
    """Send through one limiter on their own clock: sleepers wake exactly when they are due, recheck and send."""

    def __init__(self, limiter: RateLimiter) -> None:
        self.limiter = limiter
        self.now = 1000.0
        self.asleep: list[Reservation] = []
        self.sent: list[float] = []  # instants, in order of sending
        self.last: Reservation | None = None  # the reservation of the latest of them

    def advance(self, to: float) -> None:
        while due := [each for each in self.asleep if each.at <= to]:
            reservation = min(due, key=lambda each: each.at)
            self.now = max(self.now, reservation.at)
            self.asleep.remove(reservation)
            reservation = self.limiter.recheck(reservation, self.now)
            if reservation.at <= self.now:
                self.sent.append(reservation.at)
                self.last = reservation
            else:
                self.asleep.append(reservation)
        self.now = to

    def reserve(self) -> None:
        self.asleep.append(self.limiter.reserve(self.now))
        self.advance(self.now)

    def finish(self) -> None:
        while self.asleep:
            self.advance(max(each.at for each in self.asleep))


def check_quota(sent: list[float], rate: float, burst: float) -> None:
    """Check every span that begins with a send."""
    assert sent == sorted(sent)
    for first, start in enumerate(sent):
        for count, at in enumerate(sent[first:], 1):
            assert count <= rate * (at - start) + burst + EPSILON


@settings(max_examples=300, deadline=None)
@given(
    rate=st.sampled_from([0.5, 1.0, 10.0, 100.0]),
    burst=st.integers(1, 12),
    script=st.lists(steps, max_size=50),
)
def test_no_window_has_more_than_rate_and_burst(
    rate: float, burst: int, script: list[tuple[float, str, float]]
) -> None:
    senders = Senders(RateLimiter(rate=rate, burst=burst))
    paused_until: list[tuple[int, float]] = []  # how many were sent when a pause began, and the pause's end
    for gap, step, number in script:
        senders.advance(senders.now + gap)
        if step == "reserve":
            senders.reserve()
        elif step == "cancel" and senders.asleep:
            reservation = senders.asleep.pop(int(number * 10) % len(senders.asleep))
            senders.limiter.cancel(reservation)
        elif step == "pause":
            senders.limiter.pause(senders.now, number)
            if number > 0.0:
                paused_until.append((len(senders.sent), senders.now + number))
        elif step == "drain":
            senders.limiter.drain(senders.now)
        elif step == "apply_quota":
            senders.limiter.apply_quota(rate * number, 1.0)
        elif step == "refuse" and senders.last is not None:
            senders.limiter.record_throttled(senders.now, senders.last, accepted=len(senders.sent) - 1)
    senders.finish()
    check_quota(senders.sent, rate, burst)
    for count, end in paused_until:
        assert all(at >= end for at in senders.sent[count:])


@settings(deadline=None)
@given(st.lists(gaps, max_size=40))
def test_first_come_is_first_served(script: list[float]) -> None:
    limiter = make()
    now, instants = 0.0, []
    for gap in script:
        now += gap
        instants.append(limiter.reserve(now).at)
    assert instants == sorted(instants)


@settings(deadline=None)
@given(st.lists(gaps, max_size=40))
def test_nothing_waits_longer_than_a_token_bucket_requires(script: list[float]) -> None:
    """Tokens counted one by one: with a token there is no wait."""
    limiter = make()
    now = last = 0.0
    tokens = 3.0
    for gap in script:
        now += gap
        tokens, last = min(3.0, tokens + (now - last) * 10.0), now
        reservation = limiter.reserve(now)
        tokens -= 1.0
        assert reservation.delay(now) == pytest.approx(max(0.0, -tokens / 10.0), abs=EPSILON)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0.0, 0.3)), max_size=40))
def test_what_is_really_sent_keeps_the_quota_however_late_it_is(script: list[tuple[int, float]]) -> None:
    """No span of time sees more than rate and burst, though all threads wake only after each stall."""
    limiter, now = make(rate=10.0, burst=3), 1000.0
    asleep: list[Reservation] = []
    sent: list[float] = []
    for newcomers, stall in [*script, *[(0, 0.4)] * 200]:
        now += stall
        reservations = [limiter.recheck(each, now) if each.at <= now else each for each in asleep]
        reservations += [limiter.reserve(now) for _ in range(newcomers)]
        sent += [now for each in reservations if each.at <= now]
        asleep = [each for each in reservations if each.at > now]
    assert len(sent) == sum(newcomers for newcomers, _ in script)
    check_quota(sent, 10.0, 3.0)


# No quota


def test_without_a_quota_nothing_waits() -> None:
    """However many come at one instant; a reservation given back and a recheck change nothing."""
    limiter = make(rate=math.inf, burst=1)
    assert reserve(limiter, 5.0, 1000) == [5.0] * 1000
    reservation = limiter.reserve(6.0)
    assert limiter.recheck(reservation, 6.0).at == 6.0
    limiter.cancel(reservation)
    assert reserve(limiter, 6.0, 3) == [6.0] * 3
    assert repr(limiter) == "<RateLimiter inf/s of inf/s, burst 1>"


def test_without_a_quota_a_pause_is_kept() -> None:
    """A Retry-After delays all, and afterwards none."""
    limiter = make(rate=math.inf, burst=1)
    limiter.reserve(5.0)
    limiter.pause(5.0, 2.0)
    assert reserve(limiter, 6.0, 3) == [7.0] * 3
    assert reserve(limiter, 8.0, 3) == [8.0] * 3


def test_without_a_quota_a_reported_one_counts() -> None:
    """The burst counts as well."""
    limiter = make(rate=math.inf, burst=2)
    reserve(limiter, 5.0, 10)
    assert limiter.apply_quota(10.0, 1.0)
    assert limiter.rate == 10.0
    assert reserve(limiter, 6.0, 4) == [6.0, 6.0, 6.1, 6.2]


def test_without_a_quota_a_refusal_slows_down_from_what_was_sent() -> None:
    """To 0.7 of that, and back to no limit in the end."""
    limiter = make(rate=math.inf, burst=1)
    reservation = [limiter.reserve(5.0) for _ in range(50)][-1]
    assert limiter.record_throttled(5.2, reservation, accepted=10, sent=50.0) == "slowed"
    assert round(limiter.rate, 6) == 35.0
    limiter.reserve(3000.0)
    assert (limiter.rate, limiter.slowed) == (math.inf, False)


@given(st.lists(st.tuples(st.sampled_from("rhtadc"), st.floats(0.0, 5.0)), max_size=60), st.integers(1, 5))
@settings(deadline=None)
def test_without_a_quota_every_instant_is_finite(steps: list[tuple[str, float]], burst: int) -> None:
    """Whatever happens in whatever order, each reservation is a number, and near."""
    limiter, now, sent = make(rate=math.inf, burst=burst), 0.0, 0
    reservation = limiter.reserve(now)
    for step, span in steps:
        now += span
        if step == "r":
            reservation, sent = limiter.reserve(now), sent + 1
        elif step == "h":
            limiter.pause(now, span)
        elif step == "t":
            limiter.record_throttled(now, reservation, accepted=sent, sent=1.0 + span)
        elif step == "a":
            limiter.apply_quota(1.0 + span, 1.0 if span > 1.0 else None)
        elif step == "d":
            limiter.drain(now)
        else:
            limiter.cancel(reservation)
        assert limiter.rate > 0.0
        assert 0.0 <= limiter.recheck(reservation, now).delay(now) < 1000.0
