"""Late texts are sent once more: with the next batch, or after a moment by themselves; the first reply counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from cosyclient.clock import Deadline
from cosyclient.policies.breaker import CLOSED
from cosyclient.util.timers import DeadlineTimer

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.pipeline.calls.context import CallContext
    from cosyclient.pipeline.queue.batcher import Batcher
    from cosyclient.pipeline.queue.pending import PendingText
    from cosyclient.policies.hedge import HedgePolicy

_RESOLUTION: Final = 0.004
"""Seconds by which a late attempt may be noticed too late: its callers wait meanwhile."""
_COMPANY: Final = 0.25
"""Share of the delay that late texts wait for a batch to join, before they cost a request."""


class Hedgeable(Protocol):
    """Stand for an attempt that may turn out late."""

    def unanswered(self) -> list[PendingText]:
        """Return the texts it was sent with that are still without an answer."""


class HedgeCheck:
    """Mark when one attempt counts as late, or, without an attempt, when its texts have waited for a batch."""

    __slots__ = ("attempt", "deadline", "done", "scheduled")

    def __init__(self, attempt: Hedgeable | None, deadline: Deadline) -> None:
        self.attempt = attempt
        self.deadline = deadline
        self.done = False
        self.scheduled = False


class Hedger:
    """Time attempts on one timer thread, started when first needed, and queue the texts of late ones again.

    *start_workers* starts the workers that the queue is worth then.
    """

    def __init__(
        self, policy: HedgePolicy, context: CallContext, batcher: Batcher, start_workers: Callable[[], None]
    ) -> None:
        self.policy = policy
        self._context = context
        self._batcher = batcher
        self._start_workers = start_workers
        self._timer: DeadlineTimer[HedgeCheck] = DeadlineTimer(
            context.clock, self._check, name="cosyclient-hedge", resolution=_RESOLUTION
        )

    def start(self, attempt: Hedgeable, texts: int) -> HedgeCheck | None:
        """Count an *attempt* that is sent now with *texts* new texts; return what `finish` takes."""
        self.policy.record_sent(texts)
        delay = self.policy.delay
        if delay is None or not texts:
            return None
        check = HedgeCheck(attempt, Deadline.after(self._context.clock, delay))
        self._timer.add(check)
        return check

    def finish(self, check: HedgeCheck | None, latency: float | None) -> None:
        """Count the attempt's end; *latency* is given in seconds if it tells how fast the service is."""
        if check is not None:
            check.done = True
            check.attempt = None
            self._timer.discard(check)
        if latency is not None:
            self.policy.record_latency(latency)

    def close(self) -> None:
        """Stop the timer."""
        self._timer.close()

    def _check(self, check: HedgeCheck) -> None:
        attempt, check.attempt = check.attempt, None
        if attempt is None:
            self._start_workers()
            return
        late = attempt.unanswered()
        if not (late and self._allowed()):
            return
        late = late[: self.policy.withdraw_texts(len(late))]
        if late:
            self._batcher.requeue_front(late)
            wait = _COMPANY * (self.policy.delay or 0.0)
            self._timer.add(HedgeCheck(None, Deadline.after(self._context.clock, wait)))

    def _allowed(self) -> bool:
        """Return whether the service works, keeps up, and retries are few: an ailing one needs less load, not more."""
        budget, endpoint = self._context.budget, self._context.endpoint
        half_full = 2 * budget.available > budget.full
        return half_full and endpoint.breaker.state == CLOSED and not endpoint.concurrency.overloaded

    def __repr__(self) -> str:
        return f"<Hedger {self.policy!r}>"
