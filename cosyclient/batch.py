"""A text on its way, those who wait for it, and the batch it travels in; pure, no lock, no clock."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cosyclient.errors import ClientClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.clock import Deadline
    from cosyclient.models import Speech, Utterance, VoiceSettings


class Waiter(Future["Speech"]):
    """Stand for one caller's wish: a future that also knows its deadline and can be taken back.

    ``flight`` is set once the text has been accepted; several waiters may share one flight. ``watched`` says whether
    a timer looks after the deadline.
    """

    def __init__(self, deadline: Deadline, abandon: Callable[[Waiter], None]) -> None:
        super().__init__()
        self.deadline = deadline
        self.flight: Flight | None = None
        self.watched = False
        self._abandon = abandon

    def cancel(self) -> bool:
        """Take the wish back; a text nobody else waits for is not sent if it has not left yet."""
        cancelled = super().cancel()
        if cancelled:
            self._abandon(self)
        return cancelled

    def withdraw(self) -> bool:
        """Cancel unless the text has already been sent."""
        flight = self.flight
        return flight is not None and flight.queued and self.cancel()

    def orphan(self) -> None:
        """Fail in a forked child, where the threads that would have resolved this future do not exist."""
        # The lock may be held by such a thread, and callbacks belong to the parent, which will run them.
        self._condition = threading.Condition()
        self._done_callbacks: list[Callable[[Future[Speech]], object]] = []
        if not self.done():
            self.set_exception(ClientClosed("the process was forked while this text was under way; submit it again"))


class Flight:
    """Carry one utterance; whoever asks for the same meanwhile waits for it too.

    ``waiters`` and ``landed`` are guarded by the coalescer's lock, ``queued`` by the batcher's. ``until`` is the
    latest deadline (monotonic seconds) among the waiters. ``abandoned`` is set by the call that carries it, to hear
    that nobody waits for it any more.
    """

    __slots__ = ("abandoned", "landed", "queued", "queued_at", "until", "utterance", "waiters", "weight")

    def __init__(self, utterance: Utterance, weight: int) -> None:
        self.utterance = utterance
        self.weight = weight
        self.waiters: list[Waiter] = []
        self.until = float("-inf")
        self.queued_at = 0.0
        self.queued = False
        self.abandoned: Callable[[], None] | None = None
        self.landed = False

    def __repr__(self) -> str:
        return f"<Flight {self.utterance!r}, {len(self.waiters)} waiting>"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Say when a batch is full: by texts, by bytes of request body, by expected seconds of audio."""

    texts: int
    body_bytes: int
    seconds: float


class Batch:
    """Collect flights that may share one request: open, until it says no or is sent.

    Legal: open → sealed. Illegal: anything back; a sealed batch is never added to.
    """

    __slots__ = ("_limits", "body_bytes", "flights", "seconds", "settings")

    def __init__(self, settings: VoiceSettings, limits: BatchLimits) -> None:
        self.settings = settings
        self.flights: list[Flight] = []
        self.body_bytes = 0
        self.seconds = 0.0
        self._limits = limits

    def add(self, flight: Flight) -> bool:
        """Take *flight* along if there is room; a first one always fits, or it would wait for ever."""
        seconds = flight.utterance.expected_seconds
        limits = self._limits
        if self.flights and (
            len(self.flights) >= limits.texts
            or self.body_bytes + flight.weight > limits.body_bytes
            or self.seconds + seconds > limits.seconds
        ):
            return False
        self.flights.append(flight)
        self.body_bytes += flight.weight
        self.seconds += seconds
        return True

    def __repr__(self) -> str:
        return f"<Batch {len(self.flights)}/{self._limits.texts} texts, {self.seconds:.1f} s expected>"
