"""The adaptive limit: seeded worlds in fake time where it must find the capacity, or must not meddle."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.config import AdaptiveConfig
from cosyclient.policies.adaptive import AdaptiveLimit
from tests.policies.worlds import Network, Slots, batches, exponential, run

SEEDS = range(6)


def close_to(slots: int) -> float:
    """Return how far the mean limit may be from the true capacity: 20 %, and about one at small ones."""
    return max(1.25, 0.2 * slots)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("slots", [2, 8, 20])
def test_the_limit_finds_the_capacity_of_a_queue(slots: int, seed: int) -> None:
    """M/M/C, for 170 s after 30 s of learning; the service is hardly ever idle meanwhile."""
    dice = random.Random(seed)
    course = run(Slots(slots), exponential(dice), 200.0)
    assert course.mean(30.0) == pytest.approx(slots, abs=close_to(slots))
    assert course.audio(30.0, 200.0) * 0.25 >= 0.92 * slots * 170.0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("slots", [4, 8, 20])
def test_the_limit_follows_a_capacity_that_halves_and_doubles(slots: int, seed: int) -> None:
    """Within 30 s each: down to half, then up to four times that."""
    dice, service = random.Random(seed), Slots(slots)
    course = run(
        service,
        exponential(dice),
        180.0,
        most=60,
        events=[
            (60.0, lambda now: service.resize(slots // 2, now)),
            (120.0, lambda now: service.resize(2 * slots, now)),
        ],
    )
    assert course.mean(90.0, 120.0) == pytest.approx(slots / 2, abs=close_to(slots // 2))
    assert min(course.limits(60.0, 90.0)) <= slots / 2 + close_to(slots // 2)
    assert max(course.limits(120.0, 150.0)) >= 0.8 * 2 * slots


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("demand", [20, 50])
def test_a_network_is_not_strangled(demand: int, seed: int) -> None:
    """200 ms ± 10 % whatever is asked: what Little's Law needs stays allowed, whether a batch is of 1 text or of 64."""
    dice = random.Random(seed)
    course = run(Network(lambda: 0.2 * dice.lognormvariate(0.0, 0.1)), batches(dice), 60.0, most=50, demand=demand)
    allowed = [min(limit, demand) for limit in course.limits(3.0)]
    assert sum(allowed) >= 0.98 * demand * len(allowed)
    # 100 requests a second need 20; at the pool's own size a trial of less may cost a moment.
    assert min(allowed) >= 20


@pytest.mark.parametrize("seed", SEEDS)
def test_stragglers_do_not_look_like_a_queue(seed: int) -> None:
    """3 % of the attempts take ten times as long."""
    dice = random.Random(seed)

    def latency() -> float:
        return 0.2 * dice.lognormvariate(0.0, 0.05) * (10.0 if dice.random() < 0.03 else 1.0)

    course = run(Network(latency), batches(dice), 60.0, most=50)
    assert course.mean(5.0) >= 0.98 * 50


@pytest.mark.parametrize("seed", SEEDS)
def test_a_service_that_became_slower_for_everybody_is_not_starved(seed: int) -> None:
    """From 0.2 s to 0.4 s and no queue at all: the limit is back within 10 s."""
    dice = random.Random(seed)
    service = Network(lambda: 0.2 * dice.lognormvariate(0.0, 0.05))
    later = [(60.0, lambda _now: setattr(service, "latency", lambda: 0.4 * dice.lognormvariate(0.0, 0.05)))]
    course = run(service, batches(dice), 90.0, most=50, events=later)
    assert course.mean(70.0) >= 0.95 * 50


def test_the_limit_never_grows_while_the_client_is_the_limit() -> None:
    """Three in flight, never more: the limit doubles to four and stays."""
    course = run(Network(lambda: 0.2), batches(random.Random(1)), 60.0, demand=3)
    assert course.limits(1.0) == [4] * len(course.limits(1.0))


def test_long_texts_are_not_a_slow_server() -> None:
    """Ten minutes of one size, then sixteen times that: the service has a slot for each, and keeps them."""
    sizes = iter([4.0] * 400 + [64.0] * 10**6)
    course = run(Slots(40, 0.01), lambda: next(sizes), 60.0)
    assert course.mean(20.0) >= 0.95 * 40


# One decision at a time


def grown(limit: AdaptiveLimit, to: int) -> float:
    """Let *limit* grow to *to* on answers of 0.2 s, and return the instant it has."""
    now = 100.0
    while limit.limit < to:
        passages = [limit.leave(4.0, now) for _ in range(limit.limit)]
        now += 0.2
        for passage in passages:
            limit.arrive(passage, now)
    return now


def test_one_congestion_event_counts_once() -> None:
    """Forty refusals of what left before we slowed down cost a tenth; one that left since costs another."""
    limit = AdaptiveLimit(AdaptiveConfig(), most=40)
    now = grown(limit, 40)
    for passage in [limit.leave(4.0, now) for _ in range(40)]:
        limit.congest(passage, now + 0.1)
    assert limit.limit == 36
    limit.congest(limit.leave(4.0, now + 0.2), now + 0.3)
    assert limit.limit == 32


def test_congestion_ends_the_doubling() -> None:
    """Afterwards a window adds one, or a tenth."""
    limit = AdaptiveLimit(AdaptiveConfig(), most=40)
    now = grown(limit, 8)
    limit.congest(limit.leave(4.0, now), now + 0.1)
    assert limit.limit == 7
    for passage in [limit.leave(4.0, now + 0.2) for _ in range(7)]:
        limit.arrive(passage, now + 0.4)
    assert limit.limit == 8


def test_what_the_pool_was_sized_for_is_no_congestion() -> None:
    """Latency that grows with the limit, as a busy client's own does, holds nothing back as long as it is small."""
    limits = {calm: AdaptiveLimit(AdaptiveConfig(), most=40, calm=calm) for calm in (0.0, 0.4)}
    for limit in limits.values():
        now = 100.0
        for _ in range(200):
            passages = [limit.leave(4.0, now) for _ in range(limit.limit)]
            now += 0.15 + 0.006 * len(passages)
            for passage in passages:
                limit.arrive(passage, now)
    assert limits[0.4].limit == 40
    assert limits[0.0].limit < 40


def test_refusals_count_in_the_calm_too() -> None:
    """A quick service that refuses has had enough; the way back is by steps."""
    limit = AdaptiveLimit(AdaptiveConfig(), most=40, calm=0.4)
    now = grown(limit, 40)
    limit.congest(limit.leave(4.0, now), now + 0.1)
    assert limit.limit == 36
    for passage in [limit.leave(4.0, now + 0.2) for _ in range(36)]:
        limit.arrive(passage, now + 0.4)
    assert limit.limit == 39


def test_an_attempt_broken_off_early_tells_nothing() -> None:
    """Callers who change their minds do not move the limit; it is the permits that count."""
    limit = AdaptiveLimit(AdaptiveConfig(), most=40)
    now = grown(limit, 16)
    for _ in range(100):
        limit.lose(limit.leave(4.0, now), now + 0.01)
    assert limit.limit == 16
    assert repr(limit).startswith("<AdaptiveLimit 0 of 16 ")


def test_an_attempt_our_deadline_cut_off_took_that_long_at_least() -> None:
    """Nothing but time-outs of ours, five times the usual: the limit shrinks although nobody refused."""
    limit = AdaptiveLimit(AdaptiveConfig(), most=40)
    now = grown(limit, 32)
    for passage in [limit.leave(4.0, now) for _ in range(32)]:
        limit.lose(passage, now + 1.0)
    assert limit.limit == 27


def test_a_service_that_answers_nobody_is_tried_one_at_a_time() -> None:
    """And found again by doubling, as at the start."""
    limit = AdaptiveLimit(AdaptiveConfig(), most=40)
    now = grown(limit, 32)
    assert limit.collapse(limit.leave(4.0, now), now + 10.0) == (32, 1)
    assert limit.limit == 1
    assert grown(limit, 32) > now


def test_only_noticeable_moves_are_told() -> None:
    """By half or more since the last word of it."""
    limit = AdaptiveLimit(AdaptiveConfig(), most=20)
    now, told = 100.0, []
    for _ in range(40):
        passages = [limit.leave(4.0, now) for _ in range(limit.limit)]
        now += 0.2
        told += [news for passage in passages if (news := limit.arrive(passage, now)) is not None]
    assert told == [(2, 4), (4, 8), (8, 16)]


def test_a_clock_that_stands_still_breaks_nothing() -> None:
    """Answers in no time at all, as a test's clock may have it."""
    limit = AdaptiveLimit(AdaptiveConfig(), most=8)
    for _ in range(50):
        limit.arrive(limit.leave(4.0, 0.0), 0.0)
    assert limit.limit == 2


@settings(deadline=None)
@given(
    st.integers(1, 50),
    st.lists(
        st.tuples(
            st.sampled_from(["arrive", "congest", "lose", "collapse"]), st.floats(0.0, 60.0), st.floats(0.1, 500)
        ),
        max_size=120,
    ),
)
def test_whatever_happens_the_limit_stays_within_its_bounds(most: int, script: list[tuple[str, float, float]]) -> None:
    """Between 1 and the pool's size, and the same script makes the same limits."""

    def play() -> list[int]:
        limit, now, seen = AdaptiveLimit(AdaptiveConfig(), most=most), 0.0, []
        for ending, span, seconds in script:
            passages = [limit.leave(seconds, now) for _ in range(limit.limit)]
            now += span
            for passage in passages:
                getattr(limit, ending)(passage, now)
            seen.append(limit.limit)
        return seen

    limits = play()
    assert limits == play()
    assert all(1 <= each <= most for each in limits)


def test_threads_may_share_it() -> None:
    """Eight threads, four thousand attempts: none is counted twice or lost."""
    limit = AdaptiveLimit(AdaptiveConfig(), most=40)

    def work(number: int) -> None:
        for turn in range(500):
            ending = (limit.arrive, limit.congest, limit.lose)[(number + turn) % 3]
            ending(limit.leave(4.0, float(turn)), turn + 0.2)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert f"0 of {limit.limit} (1 to 40)" in repr(limit)


def test_it_reads_like_a_status_line() -> None:
    """In flight, limit, bounds, and what an attempt takes alone."""
    limit = AdaptiveLimit(AdaptiveConfig(), most=40)
    assert repr(limit) == "<AdaptiveLimit 0 of 2 (1 to 40), <Baseline 0.000 s + 0.0000 s per second of audio>>"
    now = grown(limit, 4)
    limit.leave(4.0, now)
    assert repr(limit) == "<AdaptiveLimit 1 of 4 (1 to 40), <Baseline 0.200 s + 0.0000 s per second of audio>>"
