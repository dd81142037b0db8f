"""Those who wait for a speech: a thread that blocks, or a future that nobody may be watching."""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING

from cosyclient.errors import ClientClosed
from cosyclient.events import logger
from cosyclient.models import Speech

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.batch import Flight
    from cosyclient.clock import Deadline
    from cosyclient.errors import CosyError


class Waiter:
    """Stand for one caller's wish, until ``deadline``.

    ``flight`` is set while the text is under way; several waiters may share one flight. ``result`` is set once, by
    whoever took the waiter off its flight. *notify* is called then. ``watched`` says whether a timer looks after
    the deadline. A lock made only by who really has to wait: a `Future` with its condition costs several times as
    much, and most speeches of a bulk call are there before anybody asks for them.
    """

    __slots__ = ("_gate", "deadline", "flight", "future", "notify", "result", "watched")

    def __init__(
        self,
        deadline: Deadline,
        *,
        future: SpeechFuture | None = None,
        notify: Callable[[Waiter], None] | None = None,
    ) -> None:
        self.deadline = deadline
        self.flight: Flight | None = None
        self.future = future
        self.notify = notify
        self.result: Speech | CosyError | None = None
        self.watched = False
        self._gate: threading.Lock | None = None
        if future is not None:
            future.waiter = self

    @property
    def done(self) -> bool:
        """Return whether the result is there."""
        return self.result is not None

    def resolve(self, result: Speech | CosyError) -> None:
        """Hand over what became of the text."""
        # First the result, then a look at the gate; `wait` does it the other way round, so one sees the other.
        self.result = result
        # The flight knows its waiters: letting go of it frees the audio with its last user, not with the next
        # collection of cycles.
        self.flight = None
        if self._gate is not None:
            self._gate.release()
        if self.future is not None:
            self.future.deliver(result)
        if self.notify is not None:
            self.notify(self)

    def wait(self) -> bool:
        """Block until the result is there or the deadline has passed; return whether it is. For one thread, once."""
        if self.result is not None:
            return True
        gate = threading.Lock()
        gate.acquire()
        self._gate = gate
        return self.result is not None or gate.acquire(timeout=min(self.deadline.remaining, threading.TIMEOUT_MAX))

    def __repr__(self) -> str:
        return f"<Waiter {'pending' if self.result is None else repr(self.result)}, {self.deadline!r}>"


class SpeechFuture(Future[Speech]):
    """Be what `CosyClient.submit` returns: a future that can also be taken back."""

    def __init__(self, abandon: Callable[[Waiter], object]) -> None:
        super().__init__()
        self.waiter: Waiter | None = None
        self._abandon = abandon

    def deliver(self, result: Speech | CosyError) -> None:
        """Resolve with *result*, unless it was cancelled a moment ago."""
        self.waiter = None
        try:
            if isinstance(result, Speech):
                self.set_result(result)
            else:
                self.set_exception(result)
        except InvalidStateError:
            # Its owner has his answer.
            return
        except (SystemExit, GeneratorExit):
            # Out of a callback: concurrent.futures lets these through. They must not end the thread that has the
            # other texts of the batch, or other deadlines, still to look after.
            logger.exception("a callback of %r raised", self)

    def cancel(self) -> bool:
        """Take the wish back; a text nobody else waits for is not sent, or its attempt is broken off."""
        waiter = self.waiter
        cancelled = super().cancel()
        if cancelled and waiter is not None:
            self.waiter = None
            self._abandon(waiter)
        return cancelled

    def withdraw(self) -> bool:
        """Cancel unless the text has already been sent."""
        waiter = self.waiter
        flight = waiter.flight if waiter is not None else None
        return flight is not None and flight.queued and self.cancel()

    def orphan(self) -> None:
        """Fail in a forked child, where the threads that would have resolved this future do not exist."""
        # The lock may be held by such a thread, and callbacks belong to the parent, which will run them.
        self._condition = threading.Condition()
        self._done_callbacks: list[Callable[[Future[Speech]], object]] = []
        self.deliver(ClientClosed("the process was forked while this text was under way; submit it again"))
