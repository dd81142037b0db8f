"""Flow control: a permit for every text that was accepted and is not done, and what happens when all are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cosyclient.errors import QueueFull
from cosyclient.policies.bulkhead import Bulkhead

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cosyclient.clock import Clock, Deadline
    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.pipeline.queue.pending import PendingText


class Submission(Protocol):
    """Be asked by `FlowController.acquire` when no permit is free."""

    def before_waiting(self) -> None:
        """Send the texts that were held back for a fuller batch: their permits are what is waited for."""

    def may_wait(self) -> bool:
        """Return whether the calling thread may wait; a worker would wait for itself."""

    def run_waiting_batch(self) -> bool:
        """Send one waiting batch on the calling thread; return whether one was waiting."""


class FlowController:
    """Issue permits to be pending, so that back-pressure falls on the caller.

    A bulk text takes a second one, of a smaller number, so that bulk calls leave some for interactive ones. When all
    are taken the overflow policy decides: reject, block, or have the calling thread send a waiting batch itself.
    """

    def __init__(self, settings: ResolvedConfig, clock: Clock) -> None:
        self._all = Bulkhead(settings.max_pending, clock, name="queue", full_error=QueueFull)
        self._bulk = Bulkhead(settings.bulk_pending, clock, name="bulk queue", full_error=QueueFull)
        self._overflow = settings.config.queue.overflow

    @property
    def in_use(self) -> int:
        """Return how many texts hold a permit."""
        return self._all.in_use

    def acquire(self, text: PendingText, deadline: Deadline, submission: Submission) -> None:
        """Take the permits of *text*, waiting at most until *deadline*.

        Raises `QueueFull` or `ClientClosed`; the caller must `release` whatever is raised.
        """
        if text.bulk:
            self._acquire(self._bulk, text, deadline, submission)
        self._acquire(self._all, text, deadline, submission)

    def try_acquire_all(self, texts: Sequence[PendingText]) -> bool:
        """Take the permits of all *texts*, which are of one call, if that needs no wait; return whether they are taken.

        The caller must `release` them if an exception comes meanwhile.
        """
        if not texts or not texts[0].bulk:
            return self._all.try_acquire_all(texts)
        if not self._bulk.try_acquire_all(texts):
            return False
        if self._all.try_acquire_all(texts):
            return True
        self._bulk.release_all(texts)
        return False

    def release(self, texts: Collection[PendingText]) -> None:
        """Give back the permits of *texts*, where they hold any."""
        self._all.release_all(texts)
        # Interactive texts need not wait for this lock.
        if bulk := [text for text in texts if text.bulk]:
            self._bulk.release_all(bulk)

    def close(self) -> None:
        """Fail all callers that wait for a permit, now and later."""
        self._bulk.close()
        self._all.close()

    def _acquire(self, permits: Bulkhead, text: PendingText, deadline: Deadline, submission: Submission) -> None:
        if permits.try_acquire(text):
            return
        submission.before_waiting()
        if self._overflow == "reject" or not submission.may_wait():
            bulk = permits is self._bulk
            raise QueueFull(
                f"queue: full, {permits.limit} texts{' of bulk calls' if bulk else ''} are pending; slow down, or "
                f"raise queue.max_pending{' or queue.bulk_share' if bulk else ''}"
            )
        while self._overflow == "caller_runs" and submission.run_waiting_batch():
            if permits.try_acquire(text):
                return
        permits.acquire(deadline, text)

    def __repr__(self) -> str:
        return f"<FlowController {self._all!r} {self._bulk!r}>"
