"""Late texts board once more: with whoever leaves next, or after a moment by themselves; the first reply counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from cosyclient.clock import Deadline
from cosyclient.util.timers import DeadlineTimer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cosyclient.clock import Clock
    from cosyclient.pipeline.queue.batch import PendingText
    from cosyclient.policies.hedge import HedgePolicy

_RESOLUTION: Final = 0.004
"""Seconds by which an attempt may be noticed too late: they are seconds of somebody's wait."""
_COMPANY: Final = 0.25
"""Share of the delay for which late texts wait for somebody to leave with, before they cost a request."""


class Hedgeable(Protocol):
    """Stand for an attempt that may turn out late."""

    def unanswered(self) -> list[PendingText]:
        """Return the texts it was sent with that are still without an answer."""


class HedgeCheck:
    """Mark when one attempt is late, or when its texts have waited long enough for company."""

    __slots__ = ("attempt", "deadline", "done", "scheduled")

    def __init__(self, attempt: Hedgeable | None, deadline: Deadline) -> None:
        self.attempt = attempt
        self.deadline = deadline
        self.done = False
        self.scheduled = False


class Hedger:
    """Watch attempts from one timer thread, started when first needed, and let late texts board again.

    *allowed* tells whether the service is well enough for it, *board* queues texts once more, *leave* starts the
    workers that the queue is worth.
    """

    def __init__(
        self,
        policy: HedgePolicy,
        *,
        clock: Clock,
        allowed: Callable[[], bool],
        board: Callable[[Sequence[PendingText]], None],
        leave: Callable[[], None],
    ) -> None:
        self.policy = policy
        self._clock = clock
        self._allowed = allowed
        self._board = board
        self._leave = leave
        self._timer: DeadlineTimer[HedgeCheck] = DeadlineTimer(
            clock, self._check, name="cosyclient-hedge", resolution=_RESOLUTION
        )

    def start(self, attempt: Hedgeable, texts: int) -> HedgeCheck | None:
        """Note that *attempt* leaves now with *texts* new texts; return what `unwatch` wants back."""
        self.policy.record_sent(texts)
        delay = self.policy.delay
        if delay is None or not texts:
            return None
        watch = HedgeCheck(attempt, Deadline.after(self._clock, delay))
        self._timer.add(watch)
        return watch

    def finish(self, watch: HedgeCheck | None, latency: float | None) -> None:
        """Note that the attempt is over; *latency* is given if it tells how fast the service is."""
        if watch is not None:
            watch.done = True
            watch.attempt = None
            self._timer.discard(watch)
        if latency is not None:
            self.policy.record_latency(latency)

    def close(self) -> None:
        """Stop the timer."""
        self._timer.close()

    def _check(self, watch: HedgeCheck) -> None:
        attempt, watch.attempt = watch.attempt, None
        if attempt is None:
            self._leave()
            return
        late = attempt.unanswered()
        if not (late and self._allowed()):
            return
        late = late[: self.policy.withdraw_texts(len(late))]
        if late:
            self._board(late)
            patience = _COMPANY * (self.policy.delay or 0.0)
            self._timer.add(HedgeCheck(None, Deadline.after(self._clock, patience)))

    def __repr__(self) -> str:
        return f"<Hedger {self.policy!r}>"
