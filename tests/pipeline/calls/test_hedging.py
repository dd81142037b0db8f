"""Late texts are sent once more: the first reply counts, the other attempt is aborted, and their number is bounded."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from cosyclient import ClientConfig, CosyClient, HedgeConfig, PacingConfig
from cosyclient.clock import Deadline
from cosyclient.emulator import Emulator, echo_text, running
from cosyclient.errors import CosyError
from cosyclient.models import Speech, Utterance, VoiceSettings
from cosyclient.pipeline.calls.hedging import Hedger
from cosyclient.pipeline.queue.batch import BatchLimits
from cosyclient.pipeline.queue.batcher import Batcher
from cosyclient.pipeline.queue.coalescer import Coalescer, Completion
from cosyclient.pipeline.queue.pending import PendingText, Waiter
from cosyclient.policies.breaker import CLOSED, OPEN
from cosyclient.policies.hedge import HedgePolicy
from cosyclient.testing import FakeClock
from tests.support.service import audio_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosyclient.pipeline.calls.context import CallContext

TIMEOUT = 60.0
CONFIG = ClientConfig(hedge=HedgeConfig(extra=0.1), pacing=PacingConfig(burst=1000))


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """Run a service whose audio carries its text."""
    with running(engine="echo") as emulator:
        yield emulator


@pytest.fixture
def hedging(service: Emulator) -> Iterator[CosyClient]:
    """Return a client that knows how fast the service is."""
    service.reset()
    with CosyClient(service.url, requests_per_second=1e4, config=CONFIG) as client:
        for number in range(60):
            client.synthesize(f"warm {number}")
        yield client


def test_a_text_that_hangs_is_answered_by_its_hedge(service: Emulator, hedging: CosyClient) -> None:
    """It costs one request on another connection; the one that hung is not used again, and nothing stays in use."""
    before, hedged = service.counters().requests, hedging.stats().hedged
    service.inject("hang")
    speech = hedging.synthesize("late", timeout=TIMEOUT)
    assert echo_text(speech.pcm()) == "late"
    assert service.counters().requests == before + 2
    assert hedging.stats().hedged == hedged + 1
    assert (hedging.stats().in_flight, hedging.stats().pending, hedging.stats().pool.in_use) == (0, 0, 0)
    for number in range(20):
        assert echo_text(hedging.synthesize(f"after {number}").pcm()) == f"after {number}"


def test_a_late_text_joins_the_next_batch(service: Emulator, hedging: CosyClient) -> None:
    """A shared request costs less than one of its own."""
    before = service.counters()
    service.inject("hang")
    late = hedging.submit("late", timeout=TIMEOUT)
    # In flight, not queued: otherwise the next text would share its request.
    while not hedging.stats().in_flight:
        time.sleep(0.001)
    number = 0
    while not late.done():
        hedging.synthesize(f"other {number}")
        number += 1
    assert echo_text(late.result().pcm()) == "late"
    after = service.counters()
    # On a busy machine others are late as well, and each may be sent once more.
    hedged = hedging.stats().hedged
    assert number + 2 <= after.texts - before.texts <= number + 1 + hedged
    assert after.requests - before.requests <= number + 1 + hedged


def test_a_failed_hedge_changes_nothing(service: Emulator, hedging: CosyClient) -> None:
    """Its error is not the text's: the late reply still comes."""
    hedged = hedging.stats().hedged
    service.inject("error", status=503, after=0.5)
    service.inject("error", status=400)
    assert echo_text(hedging.synthesize("late", timeout=TIMEOUT).pcm()) == "late"
    assert hedging.stats().hedged == hedged + 1


def test_closing_ends_both_attempts(service: Emulator, hedging: CosyClient) -> None:
    """Neither delays the other's end, and the timer's thread has ended."""
    hedged = hedging.stats().hedged
    service.inject("hang", count=2)
    future = hedging.submit("late", timeout=TIMEOUT)
    while hedging.stats().hedged == hedged:
        assert not future.done()
    hedging.close(drain=False)
    assert future.exception(TIMEOUT) is not None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cosyclient")]


def test_hedging_is_off_by_default(service: Emulator) -> None:
    """Every hedge is billed."""
    unpaced = ClientConfig(pacing=PacingConfig(burst=1000))
    with CosyClient(service.url, requests_per_second=1e4, config=unpaced) as client:
        for number in range(60):
            client.synthesize(f"text {number}")
        assert client.stats().hedged == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "cosyclient-hedge"]


class Attempt:
    """Stand for an attempt with unanswered texts."""

    def __init__(self, *texts: PendingText) -> None:
        self.texts = list(texts)

    def unanswered(self) -> list[PendingText]:
        return self.texts


def pending_text(text: str = "hello") -> PendingText:
    made = PendingText(Utterance(text, VoiceSettings()), 10)
    made.deadline = 2000.0
    return made


@pytest.mark.parametrize(
    ("state", "available", "overloaded"), [(OPEN, 9.0, False), (CLOSED, 5.0, False), (CLOSED, 9.0, True)]
)
def test_nothing_is_hedged_at_a_service_in_trouble(state: str, available: float, overloaded: bool) -> None:
    """Its breaker is open, half the retry budget is spent, or it has too much to do."""
    looked, queued = threading.Event(), threading.Event()

    class Endpoint:
        breaker = SimpleNamespace(state=state)

        @property
        def concurrency(self) -> SimpleNamespace:
            return SimpleNamespace(overloaded=overloaded)

    class Budget:
        full = 10.0

        @property
        def available(self) -> float:
            looked.set()
            return available

    context = SimpleNamespace(clock=FakeClock(), budget=Budget(), endpoint=Endpoint())
    batcher = SimpleNamespace(requeue_front=lambda _: queued.set())
    policy = HedgePolicy(HedgeConfig(extra=0.1))
    for _ in range(40):
        policy.record_latency(0.1)
    hedger = Hedger(policy, cast("CallContext", context), cast("Batcher", batcher), lambda: None)
    assert hedger.start(Attempt(pending_text()), 1) is not None
    assert looked.wait(TIMEOUT)
    hedger.close()
    assert not queued.is_set()
    assert repr(hedger) == f"<Hedger {policy!r}>"


class Holder:
    """Stand for a batch call."""

    endpoint = "http://x.test"

    def cancel_if_unwanted(self) -> None:
        pass


def complete(
    coalescer: Coalescer, result: Completion, call: Holder | None = None, *, final: bool = False
) -> list[Completion]:
    """Complete *result* and return the completions that ended a text."""
    ended: list[Completion] = []
    coalescer.complete([result], ended, call, final=final)
    return ended


class TestTwoCalls:
    """One text in two calls."""

    def test_an_error_waits_for_the_other_call(self) -> None:
        """The first call's error is dropped, the second's counts; a speech always counts."""
        coalescer, clock = Coalescer(), FakeClock()
        first, second, pending = Holder(), Holder(), pending_text()
        coalescer.start(pending, Waiter(Deadline.after(clock, 9.0)))
        coalescer.attach([pending], first)
        pending.hedged = True
        coalescer.attach([pending], second)
        error = CosyError("no")
        assert complete(coalescer, (pending, error), first) == []
        assert complete(coalescer, (pending, error)) == []
        coalescer.detach([pending], first)
        assert complete(coalescer, (pending, error), second) == [(pending, error)]

    def test_a_final_error_ends_the_text(self) -> None:
        """Closing the client ends the text, whatever calls carry it."""
        coalescer, clock = Coalescer(), FakeClock()
        pending = pending_text()
        coalescer.start(pending, Waiter(Deadline.after(clock, 9.0)))
        coalescer.attach([pending], Holder())
        pending.hedged = True
        completion = (pending, CosyError("closed"))
        assert complete(coalescer, completion, final=True) == [completion]

    def test_the_first_speech_counts(self) -> None:
        """The second finds the text done."""
        coalescer, clock = Coalescer(), FakeClock()
        pending = pending_text()
        coalescer.start(pending, Waiter(Deadline.after(clock, 9.0)))
        speech = Speech(audio=audio_of("hello"), format="wav", sample_rate=24000)
        assert complete(coalescer, (pending, speech)) == [(pending, speech)]
        assert complete(coalescer, (pending, speech)) == []

    def test_late_texts_go_first_and_once(self) -> None:
        """They are sealed before queued texts, start no worker by themselves, and are not queued a third time."""
        batcher = Batcher(BatchLimits(max_texts=4, body_bytes=1 << 20, audio_seconds=1e9), workers=4, clock=FakeClock())
        late, waiting = (
            [pending_text("a"), pending_text("b")],
            [pending_text("c"), pending_text("d"), pending_text("e")],
        )
        batcher.requeue_front(late)
        assert batcher.workers == 0
        assert batcher.enqueue(waiting)
        assert batcher.claim_workers() == 2
        batch = batcher.seal()
        assert batch is not None
        assert batch.texts == [*late, *waiting[:2]]
        assert batch.first_sends == 2
        batcher.requeue_front(late)
        assert batcher.queued == 1
