"""The adaptive limit, one decision at a time: what is evidence of overload, what is not, and what follows."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.config import AdaptiveConfig
from cosyclient.policies.adaptive import AdaptiveLimit
from cosyclient.policies.base import NO_ESTIMATE

if TYPE_CHECKING:
    from cosyclient.policies.adaptive import Sample

SPAN = 10.0


class Queue:
    """Serve 64 s of audio a second, first come, first served, to a client with a limit and attempts at 16 s each."""

    def __init__(self, limit: AdaptiveLimit, *, rate: float = 64.0, span: float = SPAN) -> None:
        self.limit = limit
        self.rate = rate
        self.span = span
        self.now = 100.0
        self._free_at = 0.0
        self._in_flight: list[tuple[float, Sample]] = []

    def fill(self, most: int = 40) -> None:
        """Send as many as the limit allows."""
        while len(self._in_flight) < min(most, self.limit.limit):
            self._free_at = max(self._free_at, self.now) + 16.0 / self.rate
            self._in_flight.append((self._free_at, self.limit.start(16.0, self.now, self.span)))

    def serve(self, count: int, most: int = 40) -> None:
        """Keep the limit reached while *count* attempts are answered."""
        for _ in range(count):
            self.fill(most)
            self.now, sample = self._in_flight.pop(0)
            self.limit.record_success(sample, self.now, 16.0)

    def drain(self) -> None:
        """Answer all that are in flight."""
        while self._in_flight:
            self.now, sample = self._in_flight.pop(0)
            self.limit.record_success(sample, self.now, 16.0)


def overloaded() -> Queue:
    """Return a queue whose limit has been reached for long."""
    queue = Queue(AdaptiveLimit(AdaptiveConfig(), max_limit=40))
    queue.serve(200)
    return queue


def run_round(
    limit: AdaptiveLimit, now: float, ending: str = "record_success", *, span: float = 0.2, count: int = 0
) -> float:
    """Let as many attempts as are allowed end in *span* seconds, and return the instant."""
    samples = [limit.start(4.0, now, SPAN) for _ in range(count or limit.limit)]
    for sample in samples:
        end(limit, ending, sample, now + span)
    return now + span


def end(limit: AdaptiveLimit, ending: str, sample: Sample, now: float) -> None:
    """End an attempt, with all its audio there or none."""
    getattr(limit, ending)(sample, now, sample.audio if ending == "record_success" else 0.0)


def test_the_configured_limit_holds_from_the_first_attempt() -> None:
    """All permits, no cap, no estimate."""
    limit = AdaptiveLimit(AdaptiveConfig(), max_limit=40)
    assert limit.limit == 40
    assert limit.estimate(5.0) is NO_ESTIMATE


def test_latency_that_grows_with_what_is_in_flight_is_evidence() -> None:
    """Ten seconds with forty in flight, a quarter of a second each: as many are left as take two seconds."""
    queue = overloaded()
    assert queue.limit.overloaded
    assert 6 <= queue.limit.limit <= 9
    estimate = queue.limit.estimate(queue.now)
    assert estimate.max_audio == pytest.approx(16.0, rel=0.1)
    assert 2.0 <= estimate.safe_latency <= 3.5
    assert queue.limit.start(16.0, queue.now).read_timeout == pytest.approx(8.0, rel=0.2)


def test_latency_that_texts_can_afford_is_no_evidence_however_much_it_has_grown() -> None:
    """Six in flight wait for each other for 1.5 s: that is below the tolerance."""
    queue = Queue(AdaptiveLimit(AdaptiveConfig(), max_limit=6))
    queue.serve(200)
    assert (queue.limit.limit, queue.limit.overloaded) == (6, False)


def test_latency_that_the_pool_was_sized_for_is_no_evidence() -> None:
    """A client short of processor time is slow by itself: texts with half a second do not change that."""
    for floor, limited in ((0.4, False), (0.0, True)):
        queue = Queue(AdaptiveLimit(AdaptiveConfig(), max_limit=10, latency_floor=floor), rate=640.0, span=0.5)
        queue.serve(200)
        assert queue.limit.overloaded is limited


@pytest.mark.parametrize("latency", [0.2, 3.0, 9.0])
def test_latency_alone_is_no_evidence(latency: float) -> None:
    """Nine seconds of ten, for one attempt as for forty: the service is slow, not overloaded."""
    limit, now = AdaptiveLimit(AdaptiveConfig(), max_limit=40), 100.0
    for count in [*range(1, 41), *range(40, 0, -1)]:
        now = run_round(limit, now, span=latency, count=count)
    assert limit.limit == 40
    assert limit.estimate(now).max_audio == math.inf


def test_a_service_that_becomes_slower_for_all_alike_is_no_evidence() -> None:
    """More is in flight then, since the load is the same; compared with before, that looks like a queue."""
    limit, now = AdaptiveLimit(AdaptiveConfig(), max_limit=40), 100.0
    for _ in range(60):
        now = run_round(limit, now, count=2)
    for count in [*range(2, 41, 2), *[40] * 4]:
        now = run_round(limit, now, span=4.0, count=count)
        assert limit.limit == 40
    assert not limit.overloaded


def test_where_the_load_does_not_vary_a_trial_halves_it() -> None:
    """Attempts that wait for each other from the beginning: with half of them the cause shows."""
    queue = Queue(AdaptiveLimit(AdaptiveConfig(), max_limit=40))
    queue.fill()
    least = 40
    for _ in range(200):
        queue.serve(1)
        least = min(least, queue.limit.limit)
    assert queue.limit.overloaded
    assert least <= 20
    assert queue.limit.estimate(queue.now).safe_latency <= 3.5


def test_attempts_that_could_not_be_answered_in_time_show_overload() -> None:
    """Three in a row, cut off before what was in flight could be rendered; not where others were answered between."""
    for answered in (False, True):
        limit, now = AdaptiveLimit(AdaptiveConfig(), max_limit=4), 100.0
        now = run_round(limit, now, span=1.0, count=10)
        samples = [limit.start(400.0, now, SPAN) for _ in range(4)]
        for number, sample in enumerate(samples):
            if answered and number:
                end(limit, "record_success", limit.start(4.0, now), now + 9.0)
            limit.record_timeout(sample, now + 10.0, 1.0)
        assert limit.overloaded is not answered


def test_reads_are_given_time_for_what_is_in_flight() -> None:
    """Before anything was measured, as long as the audio lasts; then four times what it takes as measured."""
    limit = AdaptiveLimit(AdaptiveConfig(), max_limit=40)
    assert [limit.start(6.0, 100.0).read_timeout for _ in range(3)] == [6.0, 12.0, 18.0]
    limit = AdaptiveLimit(AdaptiveConfig(), max_limit=40)
    now = run_round(limit, 100.0, span=0.5, count=20)
    sample = limit.start(16.0, now)
    assert sample.expected == pytest.approx(0.1)
    assert sample.read_timeout == pytest.approx(2.0)


def test_failures_that_come_back_at_once_are_no_evidence() -> None:
    """Whatever their share."""
    limit, now = AdaptiveLimit(AdaptiveConfig(), max_limit=40), 100.0
    for _ in range(50):
        now = run_round(limit, now)
        now = run_round(limit, now, "record_failure", span=0.002)
    assert limit.limit == 40


def test_cancelled_attempts_are_no_evidence() -> None:
    """Nor is the time they took; their audio counts as work until it must be done."""
    limit, now = AdaptiveLimit(AdaptiveConfig(), max_limit=40), 100.0
    now = run_round(limit, now)
    for _ in range(50):
        now = run_round(limit, now, "record_cancelled", span=3.0)
    assert limit.limit == 40
    assert " 0 s of audio in flight" not in repr(limit)
    run_round(limit, now)
    assert " 0 s of audio in flight" in repr(limit)


def test_a_lighter_load_lifts_the_limit() -> None:
    """As soon as it was not reached for two seconds."""
    queue = overloaded()
    queue.drain()
    for _ in range(20):
        queue.serve(1, most=1)
        queue.now += 0.5
    assert (queue.limit.limit, queue.limit.overloaded) == (40, False)
    assert queue.limit.estimate(queue.now).max_audio == math.inf


def test_a_faster_service_is_given_more_within_few_latencies() -> None:
    """Eight times as fast: what may be in flight doubles with every latency, until no limit is needed."""
    queue = overloaded()
    queue.rate *= 8
    before = queue.now
    while queue.limit.limit < 40:
        queue.serve(1)
    assert queue.now - before < 4.0


def test_half_the_throughput_halves_the_limit() -> None:
    """Half as many attempts take the same two seconds."""
    queue = overloaded()
    queue.rate /= 2
    queue.serve(60)
    assert queue.limit.estimate(queue.now).max_audio <= 11.0


def test_one_throttling_event_counts_once() -> None:
    """Forty refusals of what was sent before the first lower the limit by a tenth; one sent since, by another."""
    limit = AdaptiveLimit(AdaptiveConfig(), max_limit=40)
    now = run_round(limit, run_round(limit, 100.0), "record_throttled", span=0.1)
    assert limit.limit == 36
    assert limit.estimate(now).safe_latency == pytest.approx(0.2)
    now = run_round(limit, now + 0.1, "record_throttled", span=0.1)
    assert limit.limit == 32
    # And returns by a tenth per round that filled it.
    now = run_round(limit, now + 0.1)
    assert limit.limit == 35
    for _ in range(3):
        now = run_round(limit, now + 0.1, count=20)
    assert limit.limit == 35


def test_a_service_that_answers_nothing_is_tried_with_one_at_a_time() -> None:
    """Half as long as what failed, texts with most time left first; the first answer ends it."""
    limit = AdaptiveLimit(AdaptiveConfig(), max_limit=40)
    now = run_round(limit, run_round(limit, 100.0), "record_timeout", span=10.0)
    assert limit.limit == 1
    estimate = limit.estimate(now)
    assert (estimate.max_audio, estimate.safe_latency) == (2.0, math.inf)
    now = run_round(limit, now, "record_timeout", span=10.0)
    assert limit.estimate(now).max_audio == 1.0
    now = run_round(limit, now, span=0.5)
    assert limit.estimate(now).safe_latency < 10.0
    for _ in range(12):
        now = run_round(limit, now)
    assert limit.limit >= 30


def test_time_outs_while_others_are_answered_are_no_evidence() -> None:
    """A node that hangs behind a load balancer, or one slow attempt: the service works."""
    limit, now = AdaptiveLimit(AdaptiveConfig(), max_limit=40), 100.0
    for _ in range(30):
        hanging = [limit.start(4.0, now, SPAN) for _ in range(4)]
        for _ in range(30):
            now = run_round(limit, now, count=20)
        for sample in hanging:
            limit.record_timeout(sample, now)
    assert limit.limit == 40


def test_part_of_an_answer_counts_as_an_answer() -> None:
    """A call with less than a second says nothing: the service need not be stuck."""
    limit, now = AdaptiveLimit(AdaptiveConfig(), max_limit=40), 100.0
    for _ in range(5):
        for sample in [limit.start(64.0, now, SPAN) for _ in range(10)]:
            limit.record_timeout(sample, now + 10.0, 1.0)
        now = run_round(limit, now + 10.0, "record_timeout", span=0.5)
    assert limit.limit == 40


def test_only_noticeable_changes_are_reported() -> None:
    """By half or more since the last report."""
    limit = AdaptiveLimit(AdaptiveConfig(), max_limit=40)
    now, told = 100.0, []
    for _ in range(30):
        now = run_round(limit, now + 0.1, "record_throttled", span=0.1)
        told += [news] if (news := limit.take_change()) is not None else []
    assert [old for old, _ in told] == [40, *(new for _, new in told[:-1])]
    assert all(3 * new <= 2 * old for old, new in told)
    assert told[-1][1] <= 3


def test_a_clock_that_stands_still_is_no_error() -> None:
    """Answers in no time at all, as with a test's clock."""
    limit = AdaptiveLimit(AdaptiveConfig(), max_limit=8)
    for _ in range(50):
        run_round(limit, 0.0, span=0.0)
    assert limit.limit == 8


ENDINGS = ["record_success", "record_throttled", "record_timeout", "record_cancelled", "record_failure"]


@settings(deadline=None)
@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.sampled_from(ENDINGS), st.floats(0.0, 60.0), st.floats(0.0, 500)), max_size=120),
)
def test_whatever_happens_the_limit_stays_within_its_bounds(most: int, script: list[tuple[str, float, float]]) -> None:
    """Between 1 and the pool's size, with estimates that make sense; and the same script makes the same limits."""

    def play() -> list[int]:
        limit, now, seen = AdaptiveLimit(AdaptiveConfig(), max_limit=most), 0.0, []
        for ending, span, audio in script:
            samples = [limit.start(audio, now, SPAN) for _ in range(limit.limit)]
            now += span
            for sample in samples:
                end(limit, ending, sample, now)
            estimate = limit.estimate(now)
            assert estimate.max_audio >= 0.0
            assert estimate.safe_latency >= 0.0
            seen.append(limit.limit)
        return seen

    limits = play()
    assert limits == play()
    assert all(1 <= each <= most for each in limits)


def test_threads_may_share_it() -> None:
    """Eight threads, four thousand attempts: none is counted twice or lost."""
    limit = AdaptiveLimit(AdaptiveConfig(), max_limit=40)

    def work(number: int) -> None:
        for turns in range(500):
            ending = ENDINGS[(number + turns) % len(ENDINGS)]
            end(limit, ending, limit.start(4.0, float(turns)), turns + 0.2)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert f"0 of {limit.limit} (1 to 40)" in repr(limit)


def test_it_reads_like_a_status_line() -> None:
    """In flight, limit, bounds, state, and what is known of the service."""
    limit = AdaptiveLimit(AdaptiveConfig(), max_limit=40)
    limit.start(4.0, 100.0)
    assert repr(limit) == (
        "<AdaptiveLimit 1 of 40 (1 to 40), free, <Throughput 4 s of audio in flight, 0 a second>, "
        "<LatencyModel 0.000 s + 0.0000 s per second of audio + 0.0000 s per second of other audio>>"
    )
