"""Equal texts that are pending are sent once, and each waiter keeps its own deadline."""

from __future__ import annotations

from cosyclient.clock import Deadline
from cosyclient.models import Speech, Utterance, VoiceSettings
from cosyclient.pipeline.queue.coalescer import Coalescer, Completion
from cosyclient.pipeline.queue.pending import PendingText, Waiter
from cosyclient.testing import FakeClock
from tests.support.service import audio_of

CALM = VoiceSettings(voice="calm")


def pending_text(
    text: str = "hello", voice: VoiceSettings = CALM, *, weight: int = 10, until: float = 2000.0
) -> PendingText:
    made = PendingText(Utterance(text, voice), weight)
    made.deadline = until
    return made


def waiter(until: float) -> Waiter:
    return Waiter(Deadline(until, FakeClock()))


def complete(coalescer: Coalescer, results: list[Completion]) -> list[Completion]:
    """Complete the texts of *results* and return those that had not ended before."""
    ended: list[Completion] = []
    coalescer.complete(results, ended)
    return ended


def speech(text: str = "hello") -> Speech:
    return Speech(audio=audio_of(text), format="wav", sample_rate=24000)


class TestCoalescer:
    """Equal texts that are pending are sent once."""

    def test_an_equal_text_joins_the_first(self) -> None:
        """One text, two waiters, the later deadline."""
        coalescer = Coalescer()
        first, second, pending = waiter(5.0), waiter(9.0), pending_text(until=float("-inf"))
        assert coalescer.join(pending.utterance, first) is None
        assert coalescer.start(pending, first) is pending
        assert coalescer.join(Utterance("hello", VoiceSettings(voice="calm")), second) is pending
        assert pending.deadline == 9.0
        completion = (pending, speech())
        assert complete(coalescer, [completion]) == [completion]
        assert pending.waiters == [first, second]
        assert complete(coalescer, [completion]) == []
        assert (coalescer.accepted, coalescer.succeeded, coalescer.failed) == (2, 1, 0)
        assert repr(coalescer) == "<Coalescer 0 pending>"

    def test_of_two_equal_texts_that_start_at_once_one_leads(self) -> None:
        """Both callers found no text and start one: the second joins the first's."""
        coalescer = Coalescer()
        first, second, late = pending_text(), pending_text(), waiter(5.0)
        assert coalescer.start(first, waiter(5.0)) is first
        assert coalescer.start(second, late) is first
        assert late.pending_text is first

    def test_the_text_goes_on_when_its_leader_abandons_it(self) -> None:
        """It belongs to all its waiters: it ends with the last, and its deadline follows those that are left."""
        coalescer = Coalescer()
        leader, follower, pending = waiter(9.0), waiter(5.0), pending_text()
        coalescer.start(pending, leader)
        coalescer.join(pending.utterance, follower)
        assert coalescer.abandon(leader) == (True, None)
        assert pending.deadline == 5.0
        assert coalescer.abandon(leader) == (True, None)
        assert pending.waiters == [follower]
        # After an interrupt the waiter abandons once more with the same result, and nothing is counted twice.
        for _ in range(2):
            assert coalescer.abandon(follower) == (True, pending)
        assert (coalescer.accepted, coalescer.succeeded, coalescer.failed) == (2, 0, 1)
        assert complete(coalescer, [(pending, speech())]) == []
        assert coalescer.join(pending.utterance, waiter(1.0)) is None

    def test_a_waiter_that_abandons_a_completed_text_is_resolved_by_the_completion(self) -> None:
        """Exactly one of the two resolves it."""
        coalescer, own, pending = Coalescer(), waiter(9.0), pending_text()
        assert coalescer.abandon(own) == (False, None)
        coalescer.start(pending, own)
        completion = (pending, speech())
        assert complete(coalescer, [completion]) == [completion]
        assert coalescer.abandon(own) == (False, None)
        assert pending.waiters == [own]

    def test_a_completion_interrupted_halfway_is_finished_by_the_same_call(self) -> None:
        """What has ended is in the list, and the second try adds the rest."""
        coalescer = Coalescer()
        pending = [pending_text("one"), pending_text("two")]
        for each in pending:
            coalescer.start(each, waiter(9.0))
        completions: list[Completion] = [(each, speech()) for each in pending]
        ended: list[Completion] = []
        coalescer.complete(completions[:1], ended)
        coalescer.complete(completions, ended)
        assert ended == completions
        assert (coalescer.succeeded, coalescer.pending()) == (2, [])

    def test_without_coalescing_every_text_is_sent(self) -> None:
        """Equal texts are sent apart where the option is off."""
        coalescer = Coalescer(single_flight=False)
        one, other = pending_text(), pending_text()
        assert coalescer.start(one, waiter(1.0)) is one
        assert coalescer.join(one.utterance, waiter(1.0)) is None
        assert coalescer.start(other, waiter(1.0)) is other
        assert set(coalescer.pending()) == {one, other}
