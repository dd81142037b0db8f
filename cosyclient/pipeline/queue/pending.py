"""Pending texts, and who waits for them: a thread that blocks, or a future that nobody may be watching."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import CancelledError, Future
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from cosyclient.clock import SLICE, closed_gate, open_gate, pass_gate
from cosyclient.errors import ClientClosed
from cosyclient.events import invoke_callback
from cosyclient.models import Speech

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cosyclient.clock import Deadline
    from cosyclient.errors import Attempt, CosyError
    from cosyclient.models import Utterance
    from cosyclient.pipeline.queue.wakeups import WakeupChain

# Seconds after which a lock that is held for microseconds is held for ever.
_STUCK: Final = 1.0

Lane: TypeAlias = Literal[0, 1]
INTERACTIVE: Final = 0
"""The lane of texts that somebody waits for; it goes first."""
BULK: Final = 1
"""The lane of texts that fill what the other leaves."""


MAX_KEPT: Final = 16
"""Attempts of earlier calls that a text keeps: one that waits a day for a service is tried thousands of times."""


class Holder(Protocol):
    """Stand for a call that carries pending texts."""

    @property
    def endpoint(self) -> str:
        """Return the name of the endpoint it was sent to last."""

    def cancel_if_unwanted(self) -> None:
        """Abort the attempt if none of its texts is wanted any more."""


class PendingText:
    """Hold one utterance that was accepted and is not done; equal texts that are submitted meanwhile share it.

    Guarded by the coalescer's lock: ``waiters``; ``deadline``, the latest of theirs (monotonic seconds); ``done``;
    ``calls``, those that carry it now: one, or a second if it was ``hedged``. Guarded by the batcher's lock:
    ``queued``, ``lane``, ``hedged``. ``bulk`` is whether it began in the bulk lane. ``attempts`` are those of the first
    of its present calls so far, oldest first. Set by `Outage`, under its lock while it holds the text: ``outage_error``
    is why the text waits, until ``not_before`` at least; ``failed_sends`` counts the sends that got no answer,
    ``earlier_attempts`` are the last attempts of calls before the present ones.
    """

    __slots__ = (
        "attempts",
        "audio_seconds",
        "body_bytes",
        "bulk",
        "calls",
        "deadline",
        "done",
        "earlier_attempts",
        "failed_sends",
        "hedged",
        "key",
        "lane",
        "not_before",
        "outage_error",
        "queued",
        "queued_at",
        "utterance",
        "waiters",
    )

    def __init__(self, utterance: Utterance, body_bytes: int, *, bulk: bool = False) -> None:
        self.utterance = utterance
        self.key = utterance.key
        self.body_bytes = body_bytes
        self.bulk = bulk
        self.lane: Lane = BULK if bulk else INTERACTIVE
        self.audio_seconds = utterance.expected_seconds
        self.waiters: list[Waiter] = []
        self.deadline = float("-inf")
        self.queued_at = 0.0
        self.queued = False
        self.attempts: Sequence[Attempt] = ()
        self.calls: tuple[Holder, ...] = ()
        self.hedged = False
        self.done = False
        self.outage_error: CosyError | None = None
        self.not_before = 0.0
        self.failed_sends = 0
        self.earlier_attempts: tuple[Attempt, ...] = ()

    @property
    def earlier_count(self) -> int:
        """Return how many attempts the calls before the present ones made, those no longer kept included."""
        return self.earlier_attempts[-1].number if self.earlier_attempts else 0

    def all_attempts(self, latest: Sequence[Attempt]) -> tuple[Attempt, ...]:
        """Return the kept attempts of earlier calls and the *latest*, of one call, numbered on from those."""
        count = self.earlier_count
        if not count:
            return tuple(latest)
        return (*self.earlier_attempts, *(replace(made, number=count + n) for n, made in enumerate(latest, 1)))

    def attempts_to_keep(self, latest: Sequence[Attempt]) -> tuple[Attempt, ...]:
        """Return what `earlier_attempts` becomes once the call of the *latest* is over: the last `MAX_KEPT` of all."""
        return self.all_attempts(latest)[-MAX_KEPT:]

    def __repr__(self) -> str:
        return f"<PendingText {self.utterance!r}, {len(self.waiters)} waiting>"


class Waiter:
    """Wait for what becomes of one caller's text, until ``deadline``.

    ``pending_text`` is set while the text is pending; several waiters may share one. ``result`` is set once, by the
    thread that took the waiter off its text, and *notify* is called then. ``scheduled`` belongs to the timer that looks
    after the deadline. ``chain`` is set when the result is there and the thread is to be woken in its turn,
    ``wakes_next`` whether it wakes the next one then. *bulk* is whether it belongs to a bulk call, which waits for a
    service that is down. A lock is made only by a thread that really has to wait: a `Future` with its condition costs
    several times as much, and most speeches of a bulk call are there before anybody asks for them.
    """

    __slots__ = (
        "_gate",
        "_stopped_waiting",
        "bulk",
        "chain",
        "deadline",
        "future",
        "notify",
        "pending_text",
        "result",
        "scheduled",
        "wakes_next",
    )

    def __init__(
        self,
        deadline: Deadline,
        *,
        bulk: bool = False,
        future: SpeechFuture | None = None,
        notify: Callable[[Waiter], None] | None = None,
    ) -> None:
        self.deadline = deadline
        self.bulk = bulk
        self.pending_text: PendingText | None = None
        self.future = future
        self.notify = notify
        self.result: Speech | CosyError | None = None
        self.scheduled = False
        self.chain: WakeupChain | None = None
        self.wakes_next = True
        self._gate: threading.Lock | None = None
        self._stopped_waiting = False
        if future is not None:
            future.waiter = self

    @property
    def done(self) -> bool:
        """Return whether the result is there."""
        return self.result is not None

    @property
    def needs_wakeup(self) -> bool:
        """Return whether a thread waits for the result and no chain is to wake it yet."""
        return self._gate is not None and self.chain is None

    def resolve(self, result: Speech | CosyError) -> None:
        """Set the result, notify, and let go of the text."""
        if self.future is not None:
            self.future.resolve(result)
        # First the result, then a look for the lock; `wait` does it the other way round, so one sees the other. The
        # text refers to its waiters: letting go of it frees the audio with its last user, not with the next collection
        # of cycles.
        self.result = result
        self.pending_text = None
        if self.notify is not None:
            self.notify(self)

    def wait(self) -> bool:
        """Block until the result is there or the deadline has passed; return whether it is. For one thread, once."""
        if self.result is not None:
            return True
        self._gate = gate = closed_gate()
        woken = True  # if interrupted: waking the next without having been woken does no harm
        try:
            # Looked at again now that the lock can be seen: `resolve` does it the other way round. And once a slice: a
            # chain whose thread was killed wakes nobody until the next reply.
            left, passed = self.deadline.remaining, False
            while self.result is None and not passed and left > 0:
                passed = pass_gate(gate, min(left, SLICE))
                left -= SLICE
            woken = passed
        finally:
            # First the mark, then a look at the lock; `wake` does it the other way round, so that at least one of the
            # two wakes the next.
            self._stopped_waiting = True
            try:
                if (woken or gate.acquire(blocking=False)) and self.chain is not None and self.wakes_next:
                    self.chain.wake_next()
            except BaseException:
                # Once too often does no harm.
                if self.chain is not None:
                    self.chain.wake_next()
                raise
        return self.result is not None

    def wake(self) -> bool:
        """Wake the thread; return whether it was still waiting, so that it will wake the next."""
        assert self._gate is not None  # noqa: S101 - `needs_wakeup` checked it
        open_gate(self._gate)
        return not self._stopped_waiting

    def __repr__(self) -> str:
        return f"<Waiter {'pending' if self.result is None else repr(self.result)}, {self.deadline!r}>"


class SpeechFuture(Future[Speech]):
    """A future as `CosyClient.submit` returns it: cancelling it takes back a text that nobody else waits for.

    Threads wait at gates of their own, so its ``_condition``, which only `concurrent.futures.wait` and `as_completed`
    acquire beside this class, is a lock alone: a condition costs a fifth of what accepting a text costs, and would stay
    locked after an interrupt. `wait` acquires it again while it holds it, as may a signal handler.
    """

    _result: Speech | None = None
    _exception: CosyError | None = None
    _locked_since: float | None = None

    def __init__(self, abandon: Callable[[Waiter], bool]) -> None:
        # Not that of the base class, which makes a condition.
        self._condition = threading.RLock()  # type: ignore[assignment]
        self._state = PENDING
        self._waiters: list[Any] = []
        self._done_callbacks: list[Callable[[Future[Speech]], object]] = []
        self._gates: set[threading.Lock] = set()
        self._abandon = abandon
        self.waiter: Waiter | None = None

    @property
    def ended_with(self) -> Speech | CosyError | None:
        """Return the result as it was set, None as long as there is none."""
        return self._result or self._exception

    def result(self, timeout: float | None = None) -> Speech:
        """Return the speech, or raise what became of it; raises `TimeoutError` after *timeout* seconds."""
        ended = self._await(timeout)
        if isinstance(ended, Speech):
            return ended
        try:
            raise ended
        finally:
            # The error's traceback holds this frame.
            del ended, self

    def exception(self, timeout: float | None = None) -> CosyError | None:
        """Return what it failed with, or None; raises `TimeoutError` after *timeout* seconds."""
        ended = self._await(timeout)
        return None if isinstance(ended, Speech) else ended

    def _await(self, timeout: float | None) -> Speech | CosyError:
        """Return the result; raises `TimeoutError`, or `CancelledError` where the future was cancelled."""
        if self._state == PENDING:
            gate = closed_gate()
            try:
                self._gates.add(gate)
                # Looked at now that the gate can be seen; `_invoke_callbacks` does it the other way round.
                if self._state == PENDING:
                    pass_gate(gate, math.inf if timeout is None else timeout)
            finally:
                self._gates.discard(gate)
            if self._state == PENDING:
                raise TimeoutError
        if (ended := self.ended_with) is None:
            raise CancelledError
        return ended

    def _invoke_callbacks(self) -> None:
        # Overrides that of concurrent.futures, where an interrupt in one callback skips all that follow: called once
        # the future is done or cancelled, and again if that was interrupted.
        try:
            for gate in tuple(self._gates):
                open_gate(gate)
            while self._done_callbacks:
                invoke_callback(self._done_callbacks.pop(0), self)
        except BaseException:
            self._invoke_callbacks()
            raise

    def is_locked(self) -> bool:
        """Return whether another thread holds the lock: who has others to resolve does so first."""
        if self._condition.acquire(blocking=False):
            self._condition.release()
            return False
        self._locked_since = self._locked_since or time.monotonic()
        return True

    def resolve(self, result: Speech | CosyError) -> None:
        """Resolve with *result*, unless it was cancelled; again only runs the callbacks that have not been run."""
        self.waiter = None
        if isinstance(result, Speech):
            self._end(FINISHED, result, None)
        else:
            self._end(FINISHED, None, result)

    def _end(self, state: str, speech: Speech | None, error: CosyError | None) -> None:
        # A thread that was interrupted within `concurrent.futures.wait` holds this lock for ever, with those of all its
        # futures: the second is for all of a reply together. No other thread holds one for long.
        waited = 0.0 if self._locked_since is None else time.monotonic() - self._locked_since
        if self._condition.acquire(timeout=max(0.0, _STUCK - waited)):
            self._condition.release()
        else:
            self._condition = threading.RLock()  # type: ignore[assignment]
        with self._condition:
            if self._state == PENDING:
                # No call before all is set: an interrupt finds all of it done or nothing.
                self._result, self._exception, self._state = speech, error, state
                kind = "cancelled" if state != FINISHED else "result" if error is None else "exception"
                for each in self._waiters:
                    getattr(each, f"add_{kind}")(self)
        self._invoke_callbacks()

    def cancel(self) -> bool:
        """Give the text up; if nobody else waits for it, it is not sent, or its attempt is aborted."""
        waiter = self.waiter
        if self._state == PENDING and waiter is not None:
            # What has become of the text by now is decided in one place; twice does no harm.
            try:
                self._cancel(waiter)
            except BaseException:
                self._cancel(waiter)
                raise
        return self._state == CANCELLED_AND_NOTIFIED

    def _cancel(self, waiter: Waiter) -> None:
        if self._abandon(waiter):
            self.waiter = None
            self._end(CANCELLED_AND_NOTIFIED, None, None)

    def cancel_if_unsent(self) -> bool:
        """Cancel unless the text is in flight; return whether that was done."""
        waiter = self.waiter
        text = waiter.pending_text if waiter is not None else None
        if text is None or text.hedged or not (text.queued or text.outage_error is not None):
            return False
        return self.cancel()

    def reset_after_fork(self) -> None:
        """Fail in a forked child, where the threads that would have resolved this future do not exist."""
        # The lock may be held by such a thread, and callbacks belong to the parent, which will run them.
        self._condition = threading.RLock()  # type: ignore[assignment]
        self._done_callbacks = []
        self.resolve(ClientClosed("the process was forked while this text was under way; submit it again"))
