"""Texts that wait: how many workers they are worth, what a batch takes, and that nothing is counted twice."""

from __future__ import annotations

import math
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.batch import Batch, BatchLimits, Estimate, Flight
from cosyclient.batcher import Batcher
from cosyclient.clock import Deadline, SystemClock
from cosyclient.coalescer import Coalescer
from cosyclient.errors import ClientClosed
from cosyclient.models import Speech, Utterance, VoiceSettings
from cosyclient.testing import FakeClock
from cosyclient.waiters import SpeechFuture, Waiter
from tests.service import audio_of

CALM = VoiceSettings(voice="calm")
LOUD = VoiceSettings(voice="loud")


def lane_of(batch: Batch | None) -> list[int]:
    """Return the lanes of a batch's texts, in order."""
    assert batch is not None
    return [each.lane for each in batch.flights]


def make(
    texts: int = 64, *, workers: int = 4, body_bytes: int = 1 << 20, seconds: float = 1e9, linger: float = 0.0
) -> Batcher:
    limits = BatchLimits(texts=texts, body_bytes=body_bytes, seconds=seconds)
    return Batcher(limits, workers=workers, clock=FakeClock(), linger=linger)


def flight(text: str = "hello", voice: VoiceSettings = CALM, *, weight: int = 10, until: float = 2000.0) -> Flight:
    made = Flight(Utterance(text, voice), weight)
    made.until = until
    return made


def flights(count: int, voice: VoiceSettings = CALM) -> list[Flight]:
    return [flight(f"text {number}", voice) for number in range(count)]


def bulk(count: int, voice: VoiceSettings = CALM) -> list[Flight]:
    return [Flight(Utterance(f"bulk {number}", voice), 10, bulk=True) for number in range(count)]


def test_three_texts_wake_one_worker() -> None:
    """A worker is called per batch that could be sealed, not per text."""
    batcher = make()
    assert [batcher.put([each]) for each in flights(3)] == [1, 0, 0]
    batch, more = batcher.seal()
    assert batch is not None
    assert len(batch.flights) == 3
    assert more == 0


def test_a_full_queue_wakes_as_many_workers_as_there_are() -> None:
    """640 texts are ten batches, but four workers are all there are; they seek again until nothing is left."""
    batcher = make(workers=4)
    assert batcher.put(flights(640)) == 4
    for _ in range(4):
        batch, more = batcher.seal()
        assert batch is not None
        assert len(batch.flights) == 64
        assert more == 0
    assert batcher.again()
    assert batcher.seal()[0] is not None


def test_texts_travel_in_the_order_they_came() -> None:
    """A batch takes the oldest first."""
    batcher = make(2)
    waiting = flights(3)
    batcher.put(waiting)
    first, _ = batcher.seal()
    second, _ = batcher.seal()
    assert first is not None
    assert second is not None
    assert first.flights + second.flights == waiting


def test_settings_do_not_mix_and_take_turns() -> None:
    """Each batch has one voice, and a long queue of one does not starve the other."""
    batcher = make(2)
    batcher.put(flights(6, CALM) + flights(1, LOUD))
    sealed = [batcher.seal()[0] for _ in range(4)]
    assert [batch.settings.voice for batch in sealed if batch] == ["calm", "loud", "calm", "calm"]


class TestLanes:
    """Interactive texts go first; bulk fills what they leave."""

    def test_bulk_fills_the_room_an_interactive_batch_leaves(self) -> None:
        """Whoever came later but is waited for goes first, and the request leaves full."""
        batcher = make(4)
        batcher.put(bulk(6))
        batcher.put(flights(2))
        assert [lane_of(batcher.seal()[0]) for _ in range(2)] == [[0, 0, 1, 1], [1, 1, 1, 1]]
        assert batcher.queued == 0

    def test_bulk_of_another_voice_waits(self) -> None:
        """Settings never mix, whatever the lane."""
        batcher = make(4)
        batcher.put(bulk(2, LOUD))
        batcher.put(flights(1, CALM))
        assert [lane_of(batcher.seal()[0]) for _ in range(2)] == [[0], [1, 1]]

    def test_no_bulk_travels_while_interactive_batches_are_full(self) -> None:
        """Bulk takes what is left over, and nothing is."""
        batcher = make(2)
        batcher.put(bulk(2))
        batcher.put(flights(4))
        assert [lane_of(batcher.seal()[0]) for _ in range(3)] == [[0, 0], [0, 0], [1, 1]]

    def test_a_promoted_text_changes_lanes(self) -> None:
        """Somebody who cannot wait has asked for the same text; the workers called are still enough."""
        batcher = make(2)
        waiting = bulk(3)
        assert batcher.put(waiting) == 2
        batcher.promote(waiting[2])
        batcher.promote(waiting[2])
        first, _ = batcher.seal()
        assert first is not None
        assert first.flights == [waiting[2], waiting[0]]
        batcher.promote(waiting[0])
        second, more = batcher.seal()
        assert second is not None
        assert (second.flights, more) == ([waiting[1]], 0)

    def test_a_batch_takes_as_long_as_it_says(self) -> None:
        """The cap on audio holds for what the second lane adds, too."""
        seconds = flight().seconds
        batcher = make(9, seconds=2.5 * seconds)
        batcher.put([flight("hello"), *(Flight(Utterance(word, CALM), 1, bulk=True) for word in ("hallo", "salut"))])
        assert lane_of(batcher.seal()[0]) == [0, 1]


class TestEstimate:
    """What is known of the service decides who travels."""

    def test_a_batch_holds_no_more_audio_than_the_service_should_get_at_once(self) -> None:
        """The cap that was measured holds beside the one that was set, and calls more workers."""
        seconds = flight().seconds
        batcher = make(9, seconds=10 * seconds)
        batcher.put([flight("hello"), flight("hallo"), flight("salut")])
        batch, more = batcher.seal(Estimate(audio=2.5 * seconds))
        assert batch is not None
        assert [len(batch.flights), batcher.queued, more] == [2, 1, 1]

    def test_texts_short_of_time_travel_where_there_is_room(self) -> None:
        """Nobody loses his place to them, whoever has more time left goes first, and nobody is refused."""
        batcher = make(3)
        short, shorter, fine = (flight(f"until {until}", until=until) for until in (1005.0, 1003.0, 1030.0))
        batcher.put([shorter, short, fine])
        batch, _ = batcher.seal(Estimate(needed=6.0))
        assert batch is not None
        assert batch.flights == [fine, short, shorter]

    def test_texts_short_of_time_let_those_go_first_that_make_it(self) -> None:
        """Passed over is not refused: they keep their places, and go as soon as nobody else would."""
        batcher = make(2)
        short = [flight(f"short {n}", until=1005.0) for n in range(2)]
        fine = [flight(f"fine {n}", until=1030.0) for n in range(3)]
        batcher.put([*short, *fine])
        sealed = []
        for _ in range(3):
            batcher.enlist()
            batch, _ = batcher.seal(Estimate(needed=6.0))
            assert batch is not None
            sealed.append(batch.flights)
        assert sealed == [fine[:2], [fine[2], short[0]], [short[1]]]
        assert batcher.queued == 0

    def test_a_text_that_travels_once_more_is_passed_over_by_nobody(self) -> None:
        """It is under way already, and may be answered there."""
        batcher = make(1)
        again, fine = flight("again", until=1003.0), flight("fine", until=1030.0)
        batcher.put([fine])
        batcher.put_again([again])
        batcher.enlist()
        batch, _ = batcher.seal(Estimate(needed=6.0))
        assert batch is not None
        assert batch.flights == [again]

    def test_where_nothing_comes_back_in_time_the_newest_goes_first(self) -> None:
        """It has most time left; the others keep their places."""
        batcher = make(2)
        waiting = [flight(f"text {n}", until=1010.0 + n) for n in range(5)]
        batcher.put(waiting)
        batch, _ = batcher.seal(Estimate(needed=math.inf))
        assert batch is not None
        assert batch.flights == [waiting[4], waiting[3]]
        batch, _ = batcher.seal()
        assert batch is not None
        assert batch.flights == waiting[:2]


def test_a_batch_cut_short_by_bytes_calls_another_worker() -> None:
    """Counting texts alone would leave what did not fit to a worker that may be busy for long."""
    batcher = make(body_bytes=25)
    assert batcher.put(flights(3)) == 1
    batch, more = batcher.seal()
    assert batch is not None
    assert len(batch.flights) == 2
    assert more == 1


def test_a_batch_keeps_to_its_audio_seconds_but_always_takes_one() -> None:
    """A text that alone exceeds the cap still travels, alone."""
    batch = Batch(CALM, BatchLimits(texts=9, body_bytes=1, seconds=0.001))
    assert batch.add(flight("a long first text", weight=100))
    assert not batch.add(flight("x", weight=0))
    assert repr(batch) == "<Batch 1/9 texts, 1.1 s expected>"


def test_a_discarded_text_does_not_travel() -> None:
    """Taken out of the middle; the others keep their order and the workers are still enough."""
    batcher = make(2)
    waiting = flights(3)
    batcher.put(waiting)
    assert batcher.discard(waiting[1])
    assert not batcher.discard(waiting[1])
    batch, more = batcher.seal()
    assert batch is not None
    assert batch.flights == [waiting[0], waiting[2]]
    assert more == 0
    assert batcher.queued == 0


def test_a_worker_that_finds_nothing_is_dismissed() -> None:
    """`head` and `seal` both end a worker's turn when there is nothing left."""
    batcher = make()
    waiting = flights(1)
    batcher.put(waiting)
    batcher.discard(waiting[0])
    assert batcher.head() is None
    assert batcher.workers == 0
    assert repr(batcher) == "<Batcher 0 queued, 0/4 workers, 0 seeking>"


def test_only_what_is_due_is_taken() -> None:
    """A refusal that concerns one deadline leaves those who can wait longer."""
    batcher = make()
    soon, late = flight("soon", until=10.0), flight("late", until=99.0)
    batcher.put([soon, late])
    assert batcher.head() == 10.0
    assert batcher.take_due(10.0) == [soon]
    assert batcher.head() == 99.0


def test_linger_waits_for_company_and_no_longer() -> None:
    """With linger set, a short batch waits that long since its oldest text, on the clock."""
    clock = FakeClock()
    batcher = Batcher(BatchLimits(texts=2, body_bytes=99, seconds=9.0), workers=1, clock=clock, linger=0.5)
    batcher.put(flights(1))
    before = clock.now()
    batch, _ = batcher.seal()
    assert batch is not None
    assert clock.now() == before + 0.5


def test_a_caller_that_runs_beyond_the_limit_leaves_nobody_behind() -> None:
    """Who came while the extra worker stood in the way is called for when it leaves."""
    batcher = make(workers=1)
    batcher.enlist()
    assert batcher.put(flights(1)) == 0
    batcher.seal()
    assert batcher.put(flights(1)) == 0
    batcher.leave()
    assert batcher.call() == 1


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(1, 9), st.sampled_from([CALM, LOUD])),
            st.tuples(st.just("work"), st.integers(1, 3), st.none()),
            st.tuples(st.just("discard"), st.integers(0, 30), st.none()),
        ),
        max_size=40,
    ),
    size=st.integers(1, 4),
    workers=st.integers(1, 3),
)
def test_every_text_travels_exactly_once(
    steps: list[tuple[str, int, VoiceSettings | None]], size: int, workers: int
) -> None:
    """Whatever the order of events, no text is lost, none travels twice, and no worker is left over."""
    batcher = make(size, workers=workers)
    called, put, sealed, gone = 0, [], [], []
    busy = 0

    def turn() -> None:
        nonlocal called, busy
        if called:
            called -= 1
            batch, more = batcher.seal()
            called += more
            if batch is not None:
                assert 1 <= len(batch.flights) <= size
                sealed.extend(batch.flights)
                busy += 1
        elif busy:
            busy -= 1
            called += batcher.again()

    for kind, count, voice in steps:
        if kind == "put" and voice is not None:
            fresh = flights(count, voice)
            put.extend(fresh)
            called += batcher.put(fresh)
        elif kind == "work":
            for _ in range(count):
                turn()
        elif put and batcher.discard(put[count % len(put)]):
            gone.append(put[count % len(put)])
        assert batcher.workers == called + busy <= workers
    while called or busy:
        turn()
    assert len(sealed) == len(set(sealed))
    assert set(sealed) | set(gone) == set(put)
    assert not set(sealed) & set(gone)
    assert repr(batcher) == f"<Batcher 0 queued, 0/{workers} workers, 0 seeking>"


def waiter(until: float) -> Waiter:
    return Waiter(Deadline(until, FakeClock()))


def speech(text: str = "hello") -> Speech:
    return Speech(audio=audio_of(text), format="wav", sample_rate=24000)


class TestCoalescer:
    """Equal texts under way travel once."""

    def test_a_second_wish_joins_the_first(self) -> None:
        """One flight, two waiters, the later deadline."""
        coalescer = Coalescer()
        first, second, carried = waiter(5.0), waiter(9.0), flight(until=float("-inf"))
        assert coalescer.follow(carried.utterance, first) is None
        assert coalescer.lead(carried, first) is carried
        assert coalescer.follow(Utterance("hello", VoiceSettings(voice="calm")), second) is carried
        assert carried.until == 9.0
        landing = (carried, speech())
        assert coalescer.land([landing]) == [landing]
        assert carried.waiters == [first, second]
        assert coalescer.land([landing]) == []
        assert (coalescer.boarded, coalescer.spoken, coalescer.failed) == (2, 1, 0)
        assert repr(coalescer) == "<Coalescer 0 aloft>"

    def test_a_race_to_lead_has_one_winner(self) -> None:
        """Both looked, neither found a flight, both bring one: the second joins the first's."""
        coalescer = Coalescer()
        mine, other, late = flight(), flight(), waiter(5.0)
        assert coalescer.lead(mine, waiter(5.0)) is mine
        assert coalescer.lead(other, late) is mine
        assert late.flight is mine

    def test_the_flight_goes_on_when_its_leader_gives_up(self) -> None:
        """It belongs to all its waiters; it ends with the last, and its deadline follows who is left."""
        coalescer = Coalescer()
        leader, follower, carried = waiter(9.0), waiter(5.0), flight()
        coalescer.lead(carried, leader)
        coalescer.follow(carried.utterance, follower)
        assert coalescer.leave(leader) == (True, None)
        assert carried.until == 5.0
        assert coalescer.leave(leader) == (False, None)
        assert coalescer.leave(follower) == (True, carried)
        assert coalescer.land([(carried, speech())]) == []
        assert coalescer.follow(carried.utterance, waiter(1.0)) is None

    def test_without_single_flight_every_wish_travels(self) -> None:
        """The knob is off: equal texts are separate flights."""
        coalescer = Coalescer(single_flight=False)
        one, other = flight(), flight()
        assert coalescer.lead(one, waiter(1.0)) is one
        assert coalescer.follow(one.utterance, waiter(1.0)) is None
        assert coalescer.lead(other, waiter(1.0)) is other
        assert set(coalescer.aloft()) == {one, other}


class TestWaiter:
    """Those who wait."""

    def test_a_result_that_is_there_is_not_waited_for(self) -> None:
        """Not even by making a lock."""
        mine, made = waiter(0.0), speech()
        mine.resolve(made)
        assert mine.wait()
        assert mine.result is made

    def test_a_deadline_that_has_passed_ends_the_wait(self) -> None:
        """And says that nothing came."""
        mine = waiter(0.0)
        assert not mine.wait()
        assert "pending" in repr(mine)

    def test_whoever_blocks_is_woken(self) -> None:
        """By another thread, whichever of the two comes first."""
        for _ in range(200):
            mine, made = Waiter(Deadline.after(SystemClock(), 60.0)), speech()
            resolver = threading.Thread(target=mine.resolve, args=(made,))
            resolver.start()
            assert mine.wait()
            assert mine.result is made
            resolver.join()

    def test_its_future_hears_of_it(self) -> None:
        """A speech, an error, or nothing any more after `cancel`."""
        given_up: list[Waiter] = []
        for result in (speech(), ClientClosed("no")):
            future = SpeechFuture(given_up.append)
            Waiter(Deadline(0.0, FakeClock()), future=future).resolve(result)
            assert (future.exception(0) or future.result(0)) is result
            assert not future.cancel()
        cancelled = SpeechFuture(given_up.append)
        mine = Waiter(Deadline(0.0, FakeClock()), future=cancelled)
        assert cancelled.cancel()
        assert cancelled.cancel()
        assert given_up == [mine]
        mine.resolve(speech())
        assert cancelled.cancelled()

    @pytest.mark.parametrize("done", [True, False])
    def test_an_orphan_fails_unless_it_was_done(self, done: bool) -> None:
        """In a forked child a pending future fails, a finished one keeps its speech, callbacks stay with the parent."""
        called: list[object] = []
        mine = SpeechFuture(lambda _: None)
        if done:
            mine.set_result(speech())
        else:
            mine.add_done_callback(called.append)
        mine.orphan()
        assert (mine.exception(0) is None) is done
        assert called == []
