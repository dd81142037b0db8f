"""A text on its way and the batch it travels in; pure, no lock, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from cosyclient.policies.base import NO_ESTIMATE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosyclient.errors import Attempt, CosyError
    from cosyclient.models import Utterance, VoiceSettings
    from cosyclient.pipeline.queue.waiters import Waiter
    from cosyclient.policies.base import Estimate

Lane: TypeAlias = Literal[0, 1]
INTERACTIVE: Final = 0
"""The lane of texts that somebody waits for; it goes first."""
BULK: Final = 1
"""The lane of texts that fill what the other leaves."""


class Carrier(Protocol):
    """Be what a flight knows of a call that carries it."""

    def reconsider(self) -> None:
        """Stop if none of its flights is wanted any more."""


class Flight:
    """Carry one utterance; whoever asks for the same meanwhile waits for it too.

    ``waiters``, ``landed`` and ``calls`` are guarded by the coalescer's lock, ``queued``, ``lane`` and ``hedged`` by
    the batcher's. ``bulk`` says in which lane it began. ``until`` is the latest deadline (monotonic seconds) among the
    waiters. ``calls`` carry it now: one, or a second if it was ``hedged``; ``attempts`` are those of the first call so
    far, oldest first. ``held`` is why it waits for a service that is down, until ``not_before`` at least; it was sent
    ``in_vain`` so many times and ``tried`` so often before the first call.
    """

    __slots__ = (
        "attempts",
        "bulk",
        "calls",
        "hedged",
        "held",
        "in_vain",
        "key",
        "landed",
        "lane",
        "not_before",
        "queued",
        "queued_at",
        "seconds",
        "tried",
        "until",
        "utterance",
        "waiters",
        "weight",
    )

    def __init__(self, utterance: Utterance, weight: int, *, bulk: bool = False) -> None:
        self.utterance = utterance
        self.key = utterance.key
        self.weight = weight
        self.bulk = bulk
        self.lane: Lane = BULK if bulk else INTERACTIVE
        self.seconds = utterance.expected_seconds
        self.waiters: list[Waiter] = []
        self.until = float("-inf")
        self.queued_at = 0.0
        self.queued = False
        self.attempts: Sequence[Attempt] = ()
        self.calls: tuple[Carrier, ...] = ()
        self.hedged = False
        self.landed = False
        self.held: CosyError | None = None
        self.not_before = 0.0
        self.in_vain = 0
        self.tried = 0

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

    __slots__ = ("_limits", "_most_seconds", "body_bytes", "flights", "seconds", "settings")

    def __init__(self, settings: VoiceSettings, limits: BatchLimits, estimate: Estimate = NO_ESTIMATE) -> None:
        self.settings = settings
        self.flights: list[Flight] = []
        self._most_seconds = min(limits.seconds, estimate.audio)
        self.body_bytes = 0
        self.seconds = 0.0
        self._limits = limits

    def add(self, flight: Flight) -> bool:
        """Take *flight* along if there is room; a first one always fits, or it would wait for ever."""
        seconds = flight.seconds
        limits = self._limits
        if self.flights and (
            len(self.flights) >= limits.texts
            or self.body_bytes + flight.weight > limits.body_bytes
            or self.seconds + seconds > self._most_seconds
        ):
            return False
        self.flights.append(flight)
        self.body_bytes += flight.weight
        self.seconds += seconds
        return True

    @property
    def news(self) -> int:
        """Return how many of its texts travel for the first time."""
        return sum(not flight.hedged for flight in self.flights)

    def __repr__(self) -> str:
        return f"<Batch {len(self.flights)}/{self._limits.texts} texts, {self.seconds:.1f} s expected>"
