"""Queued texts: how many workers they claim, what a batch takes, and that nothing is counted twice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.models import Utterance, VoiceSettings
from cosyclient.pipeline.queue.batch import Batch, BatchLimits
from cosyclient.pipeline.queue.batcher import Batcher
from cosyclient.pipeline.queue.pending import PendingText
from cosyclient.policies.base import NO_ESTIMATE, Estimate
from cosyclient.testing import FakeClock

if TYPE_CHECKING:
    import threading

CALM = VoiceSettings(voice="calm")
LOUD = VoiceSettings(voice="loud")


def lane_of(batch: Batch) -> list[int]:
    """Return the lanes of a batch's texts, in order."""
    return [each.lane for each in batch.texts]


def make(
    texts: int = 64, *, workers: int = 4, body_bytes: int = 1 << 20, seconds: float = 1e9, linger: float = 0.0
) -> Batcher:
    limits = BatchLimits(max_texts=texts, body_bytes=body_bytes, audio_seconds=seconds)
    return Batcher(limits, workers=workers, clock=FakeClock(), linger=linger)


def pending_text(
    text: str = "hello", voice: VoiceSettings = CALM, *, weight: int = 10, until: float = 2000.0
) -> PendingText:
    made = PendingText(Utterance(text, voice), weight)
    made.deadline = until
    return made


def pending_texts(count: int, voice: VoiceSettings = CALM) -> list[PendingText]:
    return [pending_text(f"text {number}", voice) for number in range(count)]


def bulk(count: int, voice: VoiceSettings = CALM) -> list[PendingText]:
    return [PendingText(Utterance(f"bulk {number}", voice), 10, bulk=True) for number in range(count)]


def put(batcher: Batcher, waiting: list[PendingText]) -> int:
    """Queue *waiting* and return how many workers are claimed for it, as a dispatcher does."""
    wanted = batcher.enqueue(waiting)
    claimed = batcher.claim_workers()
    assert wanted == (claimed > 0)
    return claimed


def seal(batcher: Batcher, estimate: Estimate = NO_ESTIMATE) -> tuple[Batch, int]:
    """Seal as a seeking worker; return the batch and how many more workers are claimed for the rest."""
    batcher.wait_to_fill()
    batch = batcher.seal(estimate)
    assert batch is not None
    wanted = batcher.needs_workers
    claimed = batcher.claim_workers()
    assert wanted == (claimed > 0)
    return batch, claimed


def test_three_texts_claim_one_worker() -> None:
    """A worker is claimed per batch that could be sealed, not per text."""
    batcher = make()
    assert [put(batcher, [each]) for each in pending_texts(3)] == [1, 0, 0]
    batch, more = seal(batcher)
    assert len(batch.texts) == 3
    assert more == 0


def test_a_full_queue_claims_all_workers() -> None:
    """640 texts are ten batches for four workers, which continue until nothing is left."""
    batcher = make(workers=4)
    assert put(batcher, pending_texts(640)) == 4
    for _ in range(4):
        batch, more = seal(batcher)
        assert len(batch.texts) == 64
        assert more == 0
    assert batcher.continue_worker()
    assert len(seal(batcher)[0].texts) == 64


def test_texts_are_sealed_in_the_order_they_came() -> None:
    """A batch takes the oldest first."""
    batcher = make(2)
    waiting = pending_texts(3)
    put(batcher, waiting)
    first, _ = seal(batcher)
    second, _ = seal(batcher)
    assert first.texts + second.texts == waiting


def test_settings_do_not_mix_and_take_turns() -> None:
    """Each batch has one voice, and a long queue of one does not starve the other."""
    batcher = make(2)
    put(batcher, pending_texts(6, CALM) + pending_texts(1, LOUD))
    sealed = [seal(batcher)[0] for _ in range(4)]
    assert [batch.settings.voice for batch in sealed] == ["calm", "loud", "calm", "calm"]


class TestLanes:
    """Interactive texts go first; bulk fills what they leave."""

    def test_bulk_fills_the_room_an_interactive_batch_leaves(self) -> None:
        """Interactive texts go first although they came later, and the request is full."""
        batcher = make(4)
        put(batcher, bulk(6))
        put(batcher, pending_texts(2))
        assert [lane_of(seal(batcher)[0]) for _ in range(2)] == [[0, 0, 1, 1], [1, 1, 1, 1]]
        assert batcher.queued == 0

    def test_bulk_of_another_voice_waits(self) -> None:
        """Settings never mix, whatever the lane."""
        batcher = make(4)
        put(batcher, bulk(2, LOUD))
        put(batcher, pending_texts(1, CALM))
        assert [lane_of(seal(batcher)[0]) for _ in range(2)] == [[0], [1, 1]]

    def test_no_bulk_is_sealed_while_interactive_batches_are_full(self) -> None:
        """Bulk takes the room that is left, and there is none."""
        batcher = make(2)
        put(batcher, bulk(2))
        put(batcher, pending_texts(4))
        assert [lane_of(seal(batcher)[0]) for _ in range(3)] == [[0, 0], [0, 0], [1, 1]]

    def test_a_promoted_text_changes_lanes(self) -> None:
        """An interactive caller has asked for the same text; the claimed workers are still enough."""
        batcher = make(2)
        waiting = bulk(3)
        assert put(batcher, waiting) == 2
        batcher.promote(waiting[2])
        batcher.promote(waiting[2])
        first, _ = seal(batcher)
        assert first.texts == [waiting[2], waiting[0]]
        batcher.promote(waiting[0])
        second, more = seal(batcher)
        assert (second.texts, more) == ([waiting[1]], 0)

    def test_the_cap_on_audio_covers_both_lanes(self) -> None:
        """What the bulk lane adds counts as well."""
        seconds = pending_text().audio_seconds
        batcher = make(9, seconds=2.5 * seconds)
        put(
            batcher,
            [pending_text("hello"), *(PendingText(Utterance(word, CALM), 1, bulk=True) for word in ("hallo", "salut"))],
        )
        assert lane_of(seal(batcher)[0]) == [0, 1]


class TestEstimate:
    """What is known of the service decides which texts are sealed."""

    def test_a_batch_holds_no_more_audio_than_the_service_should_get_at_once(self) -> None:
        """The measured cap applies beside the configured one, and more workers are claimed."""
        seconds = pending_text().audio_seconds
        batcher = make(9, seconds=10 * seconds)
        put(batcher, [pending_text("hello"), pending_text("hallo"), pending_text("salut")])
        batch, more = seal(batcher, Estimate(max_audio=2.5 * seconds))
        assert [len(batch.texts), batcher.queued, more] == [2, 1, 1]

    def test_texts_short_of_time_fill_the_room_that_is_left(self) -> None:
        """They displace no other text, those with more time left go first, and none is rejected."""
        batcher = make(3)
        short, shorter, fine = (pending_text(f"until {until}", until=until) for until in (1005.0, 1003.0, 1030.0))
        put(batcher, [shorter, short, fine])
        batch, _ = seal(batcher, Estimate(safe_latency=6.0))
        assert batch.texts == [fine, short, shorter]

    def test_texts_short_of_time_are_sealed_after_those_with_enough(self) -> None:
        """They keep their positions, and go as soon as no other text would."""
        batcher = make(2)
        short = [pending_text(f"short {n}", until=1005.0) for n in range(2)]
        fine = [pending_text(f"fine {n}", until=1030.0) for n in range(3)]
        put(batcher, [*short, *fine])
        sealed = []
        for _ in range(3):
            batch = batcher.seal(Estimate(safe_latency=6.0), worker=False)
            assert batch is not None
            sealed.append(batch.texts)
        assert sealed == [fine[:2], [fine[2], short[0]], [short[1]]]
        assert batcher.queued == 0

    def test_a_hedged_text_is_sealed_first_whatever_its_time(self) -> None:
        """It is in flight already, and may be answered there."""
        batcher = make(1)
        again, fine = pending_text("again", until=1003.0), pending_text("fine", until=1030.0)
        put(batcher, [fine])
        batcher.requeue_front([again])
        batch, _ = seal(batcher, Estimate(safe_latency=6.0))
        assert batch.texts == [again]

    def test_where_no_text_has_enough_time_the_newest_goes_first(self) -> None:
        """It has most time left; the others keep their positions."""
        batcher = make(2)
        waiting = [pending_text(f"text {n}", until=1010.0 + n) for n in range(5)]
        put(batcher, waiting)
        batch, _ = seal(batcher, Estimate(safe_latency=math.inf))
        assert batch.texts == [waiting[4], waiting[3]]
        batch, _ = seal(batcher)
        assert batch.texts == waiting[:2]


def test_a_batch_cut_short_by_bytes_claims_another_worker() -> None:
    """Counting texts alone would leave the rest to a worker that may be busy for long."""
    batcher = make(body_bytes=25)
    assert put(batcher, pending_texts(3)) == 1
    batch, more = seal(batcher)
    assert len(batch.texts) == 2
    assert more == 1


def test_a_batch_keeps_to_its_audio_seconds_but_always_takes_one() -> None:
    """A text that exceeds the cap is sent alone."""
    batch = Batch(CALM, BatchLimits(max_texts=9, body_bytes=1, audio_seconds=0.001))
    assert batch.add(pending_text("a long first text", weight=100))
    assert not batch.add(pending_text("x", weight=0))
    assert repr(batch) == "<Batch 1/9 texts, 1.1 s expected>"


def test_a_discarded_text_is_not_sealed() -> None:
    """It may be in the middle; the others keep their order, and the claimed workers are still enough."""
    batcher = make(2)
    waiting = pending_texts(3)
    put(batcher, waiting)
    assert batcher.discard(waiting[1])
    assert not batcher.discard(waiting[1])
    batch, more = seal(batcher)
    assert batch.texts == [waiting[0], waiting[2]]
    assert more == 0
    assert batcher.queued == 0


def test_a_worker_that_finds_nothing_is_released() -> None:
    """`next_deadline` and `seal` find nothing and change nothing; afterwards no worker is counted."""
    batcher = make()
    waiting = pending_texts(1)
    assert put(batcher, waiting) == 1
    batcher.discard(waiting[0])
    assert batcher.next_deadline() is None
    assert batcher.seal() is None
    assert (batcher.workers, batcher.idle) == (1, False)
    batcher.release_worker()
    assert batcher.idle
    assert repr(batcher) == "<Batcher 0 queued, 0/4 workers, 0 seeking>"


def test_only_due_texts_are_popped() -> None:
    """A refusal for one deadline leaves texts that can wait longer."""
    batcher = make()
    soon, late = pending_text("soon", until=10.0), pending_text("late", until=99.0)
    put(batcher, [soon, late])
    assert batcher.next_deadline() == 10.0
    assert batcher.pop_due(10.0) == [soon]
    assert batcher.next_deadline() == 99.0


def test_linger_waits_for_more_texts_and_no_longer() -> None:
    """A short batch waits so long since its oldest text."""
    clock = FakeClock()
    batcher = Batcher(BatchLimits(max_texts=2, body_bytes=99, audio_seconds=9.0), workers=1, clock=clock, linger=0.5)
    put(batcher, pending_texts(1))
    before = clock.now()
    seal(batcher)
    assert clock.now() == before + 0.5


def test_linger_is_over_as_soon_as_the_batch_is_full() -> None:
    """The text that fills it opens the gate; the clock does not advance."""

    class Arrival(FakeClock):
        def wait(self, gate: threading.Lock, seconds: float) -> bool:
            batcher.enqueue([pending_text("company")])
            return super().wait(gate, seconds)

    clock = Arrival()
    batcher = Batcher(BatchLimits(max_texts=2, body_bytes=99, audio_seconds=9.0), workers=1, clock=clock, linger=0.5)
    put(batcher, pending_texts(1))
    before = clock.now()
    assert [each.utterance.text for each in seal(batcher)[0].texts] == ["text 0", "company"]
    assert clock.now() == before


def test_texts_that_are_queued_or_done_are_not_queued_again() -> None:
    """A thread that was interrupted puts them back without knowing how far it came."""
    batcher = make()
    waiting, gone = pending_texts(3), pending_text("gone")
    gone.done = True
    assert put(batcher, [*waiting, gone]) == 1
    assert put(batcher, [*waiting, gone]) == 0
    assert batcher.queued == 3
    assert seal(batcher)[0].texts == waiting


def test_a_sealed_batch_can_be_put_back_whole() -> None:
    """It is in the list before it is filled, so an interrupted thread finds all that it took."""
    batcher = make(2)
    waiting = pending_texts(3)
    put(batcher, waiting)
    sealed: list[Batch] = []
    batch = batcher.seal(worker=False, into=sealed)
    assert batch is not None
    assert sealed == [batch]
    put(batcher, batch.texts)
    batcher.seal(worker=False, into=sealed)
    batcher.seal(worker=False, into=sealed)
    assert [each.texts for each in sealed] == [waiting[:2], [waiting[2], waiting[0]], [waiting[1]]]


def test_a_caller_that_sends_a_batch_is_no_worker_but_is_waited_for() -> None:
    """All workers can be claimed meanwhile, and the batcher is not idle until the caller has ended."""
    batcher = make(workers=1)
    batcher.add_inline("caller")
    assert put(batcher, pending_texts(1)) == 1
    assert batcher.seal(worker=False) is not None
    assert batcher.workers == 1
    assert put(batcher, pending_texts(1)) == 0  # the worker claimed before has not sealed yet
    assert seal(batcher) is not None
    assert not batcher.continue_worker()
    assert not batcher.idle
    assert not batcher.wait_idle(batcher._clock.now() + 1.0)
    batcher.end_inline("caller")
    batcher.end_inline("caller")
    assert batcher.wait_idle(batcher._clock.now())


def test_a_lone_text_is_sent_by_its_caller_unless_others_are_queued() -> None:
    """Queued texts would share its request; where a request holds one text, they do not count."""
    for texts, may in ((2, False), (1, True)):
        batcher = make(texts)
        assert batcher.begin_inline("first")
        assert not batcher.idle
        batcher.end_inline("first")
        put(batcher, pending_texts(1))
        assert batcher.begin_inline("second") is may
        batcher.end_inline("second")
        seal(batcher)
        assert not batcher.continue_worker()
        assert batcher.idle
    assert not make(linger=0.1).begin_inline("third")


class TestWhileCallersAreWoken:
    """Most of them come back with their next text: a short batch waits for these, but never for long."""

    def test_a_text_waits_one_turn_of_the_interpreter_at_most(self) -> None:
        """The woken thread may compute, or have been killed: the text waits 5 ms and no longer."""
        batcher = make()
        batcher.wakeups.running = True
        put(batcher, pending_texts(1))
        before = batcher._clock.now()
        seal(batcher)
        assert batcher._clock.now() == pytest.approx(before + 0.005)

    def test_a_text_is_sent_once_all_are_awake(self) -> None:
        """The end of the chain opens the gate; the clock does not advance."""

        class LastWoken(FakeClock):
            def wait(self, gate: threading.Lock, seconds: float) -> bool:
                batcher.enqueue([pending_text("of a woken caller")])
                batcher.wakeups.wake_next()
                return super().wait(gate, seconds)

        clock = LastWoken()
        batcher = Batcher(BatchLimits(max_texts=3, body_bytes=99, audio_seconds=9.0), workers=1, clock=clock)
        batcher.wakeups.running = True
        put(batcher, pending_texts(1))
        before = clock.now()
        assert [each.utterance.text for each in seal(batcher)[0].texts] == ["text 0", "of a woken caller"]
        assert clock.now() == before

    def test_a_full_batch_does_not_wait(self) -> None:
        """Nor does the text of a service that takes one a request."""
        for size in (1, 4):
            batcher = make(size)
            batcher.wakeups.running = True
            put(batcher, pending_texts(size))
            before = batcher._clock.now()
            seal(batcher)
            assert batcher._clock.now() == before

    def test_a_caller_does_not_send_alone(self) -> None:
        """Its text goes to the queue, unless a request holds one text."""
        for size, may in ((64, False), (1, True)):
            batcher = make(size)
            batcher.wakeups.running = True
            assert batcher.begin_inline("caller") is may


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
def test_every_text_is_sealed_exactly_once(
    steps: list[tuple[str, int, VoiceSettings | None]], size: int, workers: int
) -> None:
    """Whatever the order of events, no text is lost, none is sealed twice, and no worker is left over."""
    batcher = make(size, workers=workers)
    claimed, put, sealed, gone = 0, [], [], []
    busy = 0

    def turn() -> None:
        nonlocal claimed, busy
        if claimed:
            claimed -= 1
            batch = batcher.seal()
            claimed += batcher.claim_workers()
            if batch is None:
                batcher.release_worker()
            else:
                assert 1 <= len(batch.texts) <= size
                sealed.extend(batch.texts)
                busy += 1
        elif busy:
            busy -= 1
            claimed += batcher.continue_worker()

    for kind, count, voice in steps:
        if kind == "put" and voice is not None:
            fresh = pending_texts(count, voice)
            put.extend(fresh)
            wanted = batcher.enqueue(fresh)
            more = batcher.claim_workers()
            assert wanted == (more > 0)
            claimed += more
        elif kind == "work":
            for _ in range(count):
                turn()
        elif put and batcher.discard(put[count % len(put)]):
            gone.append(put[count % len(put)])
        assert batcher.workers == claimed + busy <= workers
    while claimed or busy:
        turn()
    assert len(sealed) == len(set(sealed))
    assert set(sealed) | set(gone) == set(put)
    assert not set(sealed) & set(gone)
    assert repr(batcher) == f"<Batcher 0 queued, 0/{workers} workers, 0 seeking>"
