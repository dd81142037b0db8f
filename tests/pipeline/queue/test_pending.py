"""Waiters of a pending text, threads and futures: each is woken, failed or cancelled exactly once."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, CancelledError, as_completed, wait
from typing import TYPE_CHECKING

import pytest

from cosyclient.clock import Deadline, SystemClock
from cosyclient.errors import Attempt, ClientClosed, CosyError
from cosyclient.models import Speech, Utterance, VoiceSettings
from cosyclient.pipeline.queue.pending import MAX_KEPT, PendingText, SpeechFuture, Waiter
from cosyclient.testing import FakeClock
from tests.support.service import audio_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESULT = CosyError("the result")


class TimeLimit(Exception):
    """Stand for what a task queue raises in a signal's handler."""


@pytest.fixture
def raises(request: pytest.FixtureRequest) -> Iterator[type[BaseException]]:
    """Have the alarm's handler raise what the test is parametrized with."""

    def handler(*_: object) -> None:
        raise request.param

    before = signal.signal(signal.SIGALRM, handler)
    yield request.param
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("raises", [TimeLimit, SystemExit, KeyboardInterrupt], indirect=True)
def test_an_interrupt_in_a_callback_is_raised_and_the_other_callbacks_run(raises: type[BaseException]) -> None:
    """The thread that sends a text runs callbacks of other callers: the interrupt is for that thread, not for them."""
    future, called = SpeechFuture(lambda _: False), list[object]()
    future.add_done_callback(lambda _: signal.raise_signal(signal.SIGALRM))
    future.add_done_callback(called.append)
    with pytest.raises(raises):
        future.resolve(RESULT)
    assert called == [future]
    future.resolve(RESULT)
    assert called == [future]


def test_after_an_interrupt_before_the_callbacks_they_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`resolve` is called again: the result is set by then, but no callback has run."""
    future, called = SpeechFuture(lambda _: False), list[object]()
    future.add_done_callback(called.append)

    def interrupted(_: SpeechFuture) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SpeechFuture, "_invoke_callbacks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            future.resolve(RESULT)
    assert future.done()
    future.resolve(RESULT)
    assert called == [future]
    future.resolve(RESULT)
    assert called == [future]


def waiter(until: float) -> Waiter:
    return Waiter(Deadline(until, FakeClock()))


def speech(text: str = "hello") -> Speech:
    return Speech(audio=audio_of(text), format="wav", sample_rate=24000)


class TestWaiter:
    """One waiter of a pending text."""

    def test_a_result_that_is_set_is_not_waited_for(self) -> None:
        """No lock is made."""
        own, made = waiter(0.0), speech()
        own.resolve(made)
        assert own.wait()
        assert own.result is made

    def test_a_deadline_that_has_passed_ends_the_wait(self) -> None:
        """`wait` returns that there is no result."""
        own = waiter(0.0)
        assert not own.wait()
        assert "pending" in repr(own)

    def test_a_blocked_thread_is_woken(self) -> None:
        """By another thread, whichever of the two is first."""
        for _ in range(200):
            own, made = Waiter(Deadline.after(SystemClock(), 60.0)), speech()
            resolver = threading.Thread(target=own.resolve, args=(made,))
            resolver.start()
            assert own.wait()
            assert own.result is made
            resolver.join()

    def test_a_result_is_seen_though_nobody_wakes_its_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The thread whose turn it was to wake it may have been killed: it is seen a second later, not at the end."""
        own, waits = Waiter(Deadline.after(FakeClock(), 60.0)), list[float]()

        def resolved_meanwhile(_: threading.Lock, seconds: float) -> bool:
            waits.append(seconds)
            own.resolve(RESULT)
            return False

        monkeypatch.setattr("cosyclient.pipeline.queue.pending.pass_gate", resolved_meanwhile)
        assert own.wait()
        assert waits == [1.0]

    def test_the_future_of_a_waiter_is_resolved(self) -> None:
        """With a speech or an error; after `cancel` it stays cancelled."""
        abandoned: list[Waiter] = []

        def abandon(waiter: Waiter) -> bool:
            abandoned.append(waiter)
            return True

        for result in (speech(), ClientClosed("no")):
            future = SpeechFuture(abandon)
            Waiter(Deadline(0.0, FakeClock()), future=future).resolve(result)
            assert (future.exception(0) or future.result(0)) is result
            assert not future.cancel()
        cancelled = SpeechFuture(abandon)
        own = Waiter(Deadline(0.0, FakeClock()), future=cancelled)
        assert cancelled.cancel()
        assert cancelled.cancel()
        assert abandoned == [own]
        own.resolve(speech())
        assert cancelled.cancelled()

    @pytest.mark.parametrize("read", [SpeechFuture.result, SpeechFuture.exception])
    def test_a_future_without_a_result_raises_what_any_future_does(self, read: Callable[..., object]) -> None:
        """`TimeoutError` while it is pending, also if nothing is waited for; `CancelledError` once it is cancelled."""
        future = SpeechFuture(lambda _: True)
        Waiter(Deadline(0.0, FakeClock()), future=future)
        for timeout in (0, 0.001):
            with pytest.raises(TimeoutError):
                read(future, timeout)
        assert future.cancel()
        with pytest.raises(CancelledError):
            read(future, 0)

    def test_the_waiting_functions_of_the_standard_library_see_every_end(self) -> None:
        """`concurrent.futures.wait` and `as_completed`, before the end and after it; a cancelled future has ended."""
        own = [SpeechFuture(lambda _: True) for _ in range(3)]
        for future in own:
            Waiter(Deadline(0.0, FakeClock()), future=future)
        seen: list[list[object]] = []
        watchers = [
            threading.Thread(target=lambda: seen.append(list(as_completed(own, timeout=60.0)))),
            threading.Thread(target=lambda: seen.append(list(wait(own, timeout=60.0).done))),
        ]
        for thread in watchers:
            thread.start()
        while not all(len(future._waiters) == 2 for future in own):
            time.sleep(0.001)
        own[0].resolve(speech())
        own[1].resolve(RESULT)
        assert own[2].cancel()
        for thread in watchers:
            thread.join()
        assert [set(each) for each in seen] == [set(own), set(own)]
        assert set(as_completed(own, timeout=0.0)) == wait(own, timeout=0.0).done == set(own)
        assert [future._waiters for future in own] == [[], [], []]

    @pytest.mark.parametrize("end", [speech(), RESULT], ids=["speech", "error"])
    def test_waiting_for_the_first_error_ends(self, end: Speech | CosyError) -> None:
        """`wait` looks at the results while it holds every future's lock."""
        own = [SpeechFuture(lambda _: True) for _ in range(2)]
        own[0].resolve(end)
        found: list[object] = []
        waiting = threading.Thread(target=lambda: found.append(wait(own, 0.0, FIRST_EXCEPTION).done), daemon=True)
        waiting.start()
        waiting.join(30)
        assert found == [{own[0]}]

    def test_a_signal_handler_may_use_a_future_that_its_thread_is_using(self) -> None:
        """It runs in the middle of `concurrent.futures.wait`, say, which has acquired the future's lock."""
        future = SpeechFuture(lambda _: True)
        Waiter(Deadline(0.0, FakeClock()), future=future)
        seen: list[object] = []

        def handler() -> None:
            with future._condition:
                seen.extend((future.done(), repr(future), wait([future], timeout=0.0).done))
                future.add_done_callback(seen.append)
                seen.append(future.cancel())

        thread = threading.Thread(target=handler, daemon=True)
        thread.start()
        thread.join(60.0)
        assert seen == [False, seen[1], set(), future, True]

    def test_locks_that_are_left_held_cost_a_second_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """All those of a reply are looked at first, and each is waited for only until a second has passed since."""
        now = 100.0

        class LeftHeld:
            """Pass for a lock that its thread never releases."""

            def acquire(self, *, blocking: bool = True, timeout: float = 0.0) -> bool:
                nonlocal now
                now += timeout
                return False

        monkeypatch.setattr(time, "monotonic", lambda: now)
        own = [SpeechFuture(lambda _: True) for _ in range(64)]
        for future in own:
            future._condition = LeftHeld()  # type: ignore[assignment]
        assert all(future.is_locked() for future in own)
        for future in own:
            future.resolve(RESULT)
        assert now == 101.0
        assert all(future.exception(0) is RESULT for future in own)

    @pytest.mark.parametrize("done", [True, False])
    def test_a_future_fails_after_a_fork_unless_it_was_done(self, done: bool) -> None:
        """In a forked child a pending future fails, a finished one keeps its speech, callbacks stay with the parent."""
        called: list[object] = []
        own = SpeechFuture(lambda _: False)
        if done:
            own.resolve(speech())
        else:
            own.add_done_callback(called.append)
        own.reset_after_fork()
        assert (own.exception(0) is None) is done
        assert called == []


def test_a_text_that_is_tried_for_a_day_keeps_its_last_attempts_and_the_count_of_all() -> None:
    """Each holds an error: thousands of them would fill the memory of a job that waits for its service."""
    text = PendingText(Utterance("hello", VoiceSettings()), 10)
    assert text.earlier_count == 0
    for _ in range(1000):
        made = [Attempt(number, "http://x.test", 0.0, 0.1, CosyError("down")) for number in (1, 2, 3)]
        text.earlier_attempts = text.attempts_to_keep(made)
    assert text.earlier_count == 3000
    numbers = [attempt.number for attempt in text.all_attempts(made)]
    assert numbers == list(range(3000 - MAX_KEPT + 1, 3004))
