"""Who waits for a pending text: a thread or a future, each woken, failed or cancelled exactly once."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from cosyclient.clock import Deadline, SystemClock
from cosyclient.errors import ClientClosed, CosyError
from cosyclient.models import Speech
from cosyclient.pipeline.queue.pending import SpeechFuture, Waiter
from cosyclient.testing import FakeClock
from tests.support.service import audio_of

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULT = CosyError("what became of it")


class TimeLimit(Exception):
    """What a task queue raises in a signal's handler."""


@pytest.fixture
def raises(request: pytest.FixtureRequest) -> Iterator[type[BaseException]]:
    """Have the alarm's handler raise what the test is parametrized with."""

    def handler(*_: object) -> None:
        raise request.param

    before = signal.signal(signal.SIGALRM, handler)
    yield request.param
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("raises", [TimeLimit, SystemExit, KeyboardInterrupt], indirect=True)
def test_an_interrupt_amid_a_callback_is_raised_and_the_others_are_told(raises: type[BaseException]) -> None:
    """The thread that sends a text calls others' callbacks: an interrupt is its own, not theirs."""
    future, told = SpeechFuture(lambda _: None), list[object]()
    future.add_done_callback(lambda _: signal.raise_signal(signal.SIGALRM))
    future.add_done_callback(told.append)
    with pytest.raises(raises):
        future.resolve(RESULT)
    assert told == [future]
    future.resolve(RESULT)
    assert told == [future]


def test_an_interrupt_before_the_callbacks_leaves_them_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted delivery is done once more: the result is there by then, the callbacks have not heard."""
    future, told = SpeechFuture(lambda _: None), list[object]()
    future.add_done_callback(told.append)

    def interrupted(_: SpeechFuture) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SpeechFuture, "_invoke_callbacks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            future.resolve(RESULT)
    assert future.done()
    future.resolve(RESULT)
    assert told == [future]
    future.resolve(RESULT)
    assert told == [future]


def waiter(until: float) -> Waiter:
    return Waiter(Deadline(until, FakeClock()))


def speech(text: str = "hello") -> Speech:
    return Speech(audio=audio_of(text), format="wav", sample_rate=24000)


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

    def test_its_future_is_resolved(self) -> None:
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
    def test_a_future_fails_after_a_fork_unless_it_was_done(self, done: bool) -> None:
        """In a forked child a pending future fails, a finished one keeps its speech, callbacks stay with the parent."""
        called: list[object] = []
        mine = SpeechFuture(lambda _: None)
        if done:
            mine.set_result(speech())
        else:
            mine.add_done_callback(called.append)
        mine.reset_after_fork()
        assert (mine.exception(0) is None) is done
        assert called == []
