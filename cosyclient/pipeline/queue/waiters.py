"""Those who wait for a speech: a thread that blocks, or a future that nobody may be watching."""

from __future__ import annotations

import math
import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from concurrent.futures._base import FINISHED, PENDING
from typing import TYPE_CHECKING, Final

from cosyclient.clock import closed_gate, open_gate, pass_gate
from cosyclient.errors import ClientClosed
from cosyclient.events import invoke_callback
from cosyclient.models import Speech

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cosyclient.clock import Clock, Deadline
    from cosyclient.errors import CosyError
    from cosyclient.pipeline.queue.batch import PendingText

# Above this a step waited for a thread that computes without pause: the interpreter takes turns of 5 ms.
_SLOW: Final = 0.0045
# So many are woken beside the next one then.
_BESIDE: Final = 7
# Above this the chain is broken: its thread was killed before it could pass the turn on.
_BROKEN: Final = 0.25
# Seconds after which a lock that is held for microseconds is held for ever.
_STUCK: Final = 1.0


class WakeupChain:
    """Wake the waiting threads of a client one after the other: each, once awake, wakes the next.

    Sixty-four threads woken at once fight for the interpreter, and most lose several times before they run: with
    1,500 calling threads that fight cost more than half of the client's speed, and a second chain a quarter. Where a
    thread of the user's computes without pause, each step costs one of its turns; some more are woken then, which
    share the next turn but wake nobody.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # All guarded by _lock.
        self._line: deque[Waiter] = deque()
        self._running = False
        self._last_wake = 0.0

    def start(self, waiters: Sequence[Waiter]) -> None:
        """Let *waiters*, whose results are there, be woken in their turn."""
        now = self._clock.now()
        with self._lock:
            for each in waiters:
                if each.chain is None:
                    self._line += [each]
                    each.chain = self
            if self._running and now - self._last_wake < _BROKEN:
                return
            self._running = True
            self._last_wake = now
            self._wake_locked()

    def wake_next(self) -> None:
        """Wake the next waiter; called by one that has just been woken."""
        now = self._clock.now()
        with self._lock:
            slow, self._last_wake = now - self._last_wake > _SLOW, now
            if slow:
                for _ in range(min(_BESIDE, len(self._line))):
                    self._line[0].wakes_next = False
                    self._line[0].wake()
                    del self._line[0]
            self._wake_locked()

    def _wake_locked(self) -> None:
        # Who left earlier will not pass on, so somebody else has to; see `Waiter.wait`.
        while self._line:
            there = self._line[0].wake()
            del self._line[0]
            if there:
                return
        self._running = False

    def __repr__(self) -> str:
        return f"<WakeupChain {len(self._line)} to wake, {'running' if self._running else 'at rest'}>"


class Waiter:
    """Stand for one caller's wish, until ``deadline``.

    ``text`` is set while the text is under way; several waiters may share one text. ``result`` is set once, by
    whoever took the waiter off its text. *notify* is called then. ``scheduled`` says whether a timer looks after
    the deadline. A lock made only by who really has to wait: a `Future` with its condition costs several times as
    much, and most speeches of a bulk call are there before anybody asks for them. ``chain`` is set when the result
    is there and this one is to be woken in its turn, and ``passes_on`` whether it is to wake the next one then. *bulk*
    is whether it belongs to a bulk call, which waits for a service that is down.
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
        """Return whether a thread waits for the result, is to be woken and nobody sees to that yet."""
        return self._gate is not None and self.chain is None

    def resolve(self, result: Speech | CosyError) -> None:
        """Hand over what became of the text."""
        if self.future is not None:
            self.future.resolve(result)
        # First the result, then a look at whether somebody waits; `wait` does it the other way round, so one sees the
        # other. The text knows its waiters: letting go of it frees the audio with its last user, not with the next
        # collection of cycles.
        self.result = result
        self.pending_text = None
        if self.notify is not None:
            self.notify(self)

    def wait(self) -> bool:
        """Block until the result is there or the deadline has passed; return whether it is. For one thread, once."""
        if self.result is not None:
            return True
        self._gate = gate = closed_gate()
        woken = True  # if interrupted: one that passes on without having been woken does no harm
        try:
            # Looked at again now that the gate can be seen: `resolve` does it the other way round.
            woken = self.result is None and pass_gate(gate, self.deadline.remaining)
        finally:
            # First the mark, then a look at the gate; `wake` does it the other way round, so that whenever the chain
            # arrives at least one of the two passes it on.
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
        """Open the gate; return whether somebody stands there, who will pass the chain on."""
        assert self._gate is not None  # noqa: S101 - `waits` said so
        open_gate(self._gate)
        return not self._stopped_waiting

    def __repr__(self) -> str:
        return f"<Waiter {'pending' if self.result is None else repr(self.result)}, {self.deadline!r}>"


class SpeechFuture(Future[Speech]):
    """Be what `CosyClient.submit` returns: a future that can also be taken back.

    Waiting for it may be interrupted: a plain future's condition is left locked by that, for all who come later.
    """

    def __init__(self, abandon: Callable[[Waiter], object]) -> None:
        super().__init__()
        self.waiter: Waiter | None = None
        self._abandon = abandon
        self._resolved_with: Speech | CosyError | None = None
        self._gates: set[threading.Lock] = set()

    def result(self, timeout: float | None = None) -> Speech:
        """Return the speech, or raise what became of it; raises `TimeoutError` after *timeout* seconds."""
        told = self._await(timeout)
        if isinstance(told, Speech):
            return told
        if told is None:
            return super().result(0)  # cancelled, or not done
        try:
            raise told
        finally:
            # The error's traceback holds this frame.
            del told, self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what it failed with, or None; raises `TimeoutError` after *timeout* seconds."""
        told = self._await(timeout)
        return super().exception(0) if told is None else None if isinstance(told, Speech) else told

    def _await(self, timeout: float | None) -> Speech | CosyError | None:
        gate = closed_gate()
        try:
            self._gates.add(gate)
            # Looked at now that the gate can be seen; who opens it does it the other way round.
            if self._state == PENDING:
                pass_gate(gate, math.inf if timeout is None else timeout)
            return self._resolved_with if self._state == FINISHED else None
        finally:
            self._gates.discard(gate)

    def _invoke_callbacks(self) -> None:
        # Of concurrent.futures, which lets the first interrupt keep all that follow from being told: called once it is
        # done or cancelled, and again if that was interrupted.
        try:
            for gate in tuple(self._gates):
                open_gate(gate)
            while self._done_callbacks:
                invoke_callback(self._done_callbacks.pop(0), self)
        except BaseException:
            self._invoke_callbacks()
            raise

    def resolve(self, result: Speech | CosyError) -> None:
        """Resolve with *result*, unless it has been resolved or was cancelled a moment ago."""
        self.waiter = None
        # A thread that was interrupted on its way into `result` holds this lock for ever; no other holds it for long.
        if self._condition.acquire(timeout=_STUCK):
            self._condition.release()
        else:
            self._condition = threading.Condition()
        # Out of a callback concurrent.futures lets through what is no Exception: that must not end the thread that has
        # other texts of the batch, or other deadlines, still to look after.
        invoke_callback(self._resolve_once, result)

    def _resolve_once(self, result: Speech | CosyError) -> None:
        if self._state == PENDING:
            self._resolved_with = result
        try:
            if isinstance(result, Speech):
                self.set_result(result)
            else:
                self.set_exception(result)
        except InvalidStateError:
            # Its owner has his answer; whoever is to be called back may not have it, after an interrupt.
            if self._state == FINISHED:
                self._invoke_callbacks()

    def cancel(self) -> bool:
        """Take the wish back; a text nobody else waits for is not sent, or its attempt is broken off."""
        waiter = self.waiter
        cancelled = super().cancel()
        if cancelled and waiter is not None:
            self.waiter = None
            self._abandon(waiter)
        return cancelled

    def cancel_if_unsent(self) -> bool:
        """Cancel unless the text is being sent."""
        waiter = self.waiter
        text = waiter.pending_text if waiter is not None else None
        if text is None or text.hedged or not (text.queued or text.outage_error is not None):
            return False
        return self.cancel()

    def reset_after_fork(self) -> None:
        """Fail in a forked child, where the threads that would have resolved this future do not exist."""
        # The lock may be held by such a thread, and callbacks belong to the parent, which will run them.
        self._condition = threading.Condition()
        self._done_callbacks: list[Callable[[Future[Speech]], object]] = []
        self.resolve(ClientClosed("the process was forked while this text was under way; submit it again"))
