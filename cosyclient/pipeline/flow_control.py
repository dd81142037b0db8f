"""The queue's places: one for every text that was accepted and has not landed, and what happens when all are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosyclient.errors import QueueFull
from cosyclient.policies.bulkhead import Bulkhead

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cosyclient.clock import Clock, Deadline
    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.pipeline.queue.batch import PendingText


class FlowController:
    """Give out places; bulk needs one of its own as well, so that some are left for others.

    When all are taken the overflow policy decides: refuse, wait, or have the caller *carry* a waiting batch himself,
    which returns whether there was one. Whoever *may_not_wait* is refused at once: a worker could wait for itself.
    """

    def __init__(
        self,
        settings: ResolvedConfig,
        clock: Clock,
        *,
        carry: Callable[[], bool],
        may_not_wait: Callable[[], bool],
    ) -> None:
        self._all = Bulkhead(settings.max_pending, clock, name="queue", full_error=QueueFull)
        self._bulk = Bulkhead(settings.bulk_pending, clock, name="bulk queue", full_error=QueueFull)
        self._overflow = settings.config.queue.overflow
        self._carry = carry
        self._may_not_wait = may_not_wait

    @property
    def in_use(self) -> int:
        """Return how many texts hold a place."""
        return self._all.in_use

    def acquire(self, pending: PendingText, deadline: Deadline, before_waiting: Callable[[], None]) -> None:
        """Take *pending*'s place, calling *before_waiting* if that is not to be had at once.

        Raises `QueueFull`, or `ClientClosed`. Whatever it raises, the caller is to `give_back` then.
        """
        if pending.bulk:
            self._acquire(self._bulk, pending, deadline, before_waiting)
        self._acquire(self._all, pending, deadline, before_waiting)

    def release(self, accepted: Collection[PendingText]) -> None:
        """Give the places of *accepted* back, where they hold any."""
        self._all.release_all(accepted)
        # Looked at rather than tried: interactive texts need not wait for this lock.
        if any(pending.bulk for pending in accepted):
            self._bulk.release_all(accepted)

    def close(self) -> None:
        """Refuse whoever waits for a place, and all who come."""
        self._bulk.close()
        self._all.close()

    def _acquire(
        self, places: Bulkhead, pending: PendingText, deadline: Deadline, before_waiting: Callable[[], None]
    ) -> None:
        if places.try_acquire(pending):
            return
        before_waiting()
        if self._overflow == "reject" or self._may_not_wait():
            raise QueueFull(f"queue: all {places.limit} places are taken; slow down or raise queue.max_pending")
        while self._overflow == "caller_runs" and self._carry():
            if places.try_acquire(pending):
                return
        places.acquire(deadline, pending)

    def __repr__(self) -> str:
        return f"<FlowController {self._all!r} {self._bulk!r}>"
