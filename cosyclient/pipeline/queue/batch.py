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


class Holder(Protocol):
    """Be what a text knows of a call that carries it."""

    def cancel_if_unwanted(self) -> None:
        """Stop if none of its texts is wanted any more."""


class PendingText:
    """Carry one utterance; whoever asks for the same meanwhile waits for it too.

    ``waiters``, ``landed`` and ``calls`` are guarded by the coalescer's lock, ``queued``, ``lane`` and ``hedged`` by
    the batcher's. ``bulk`` says in which lane it began. ``until`` is the latest deadline (monotonic seconds) among the
    waiters. ``calls`` carry it now: one, or a second if it was ``hedged``; ``attempts`` are those of the first call so
    far, oldest first. ``held`` is why it waits for a service that is down, until ``not_before`` at least; it was sent
    ``in_vain`` so many times and ``tried`` so often before the first call.
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

    def __init__(self, utterance: Utterance, weight: int, *, bulk: bool = False) -> None:
        self.utterance = utterance
        self.key = utterance.key
        self.body_bytes = weight
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
        self.earlier_attempts = 0

    def __repr__(self) -> str:
        return f"<PendingText {self.utterance!r}, {len(self.waiters)} waiting>"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Say when a batch is full: by texts, by bytes of request body, by expected seconds of audio."""

    max_texts: int
    body_bytes: int
    audio_seconds: float


class Batch:
    """Collect texts that may share one request: open, until it says no or is sent.

    Legal: open → sealed. Illegal: anything back; a sealed batch is never added to.
    """

    __slots__ = ("_limits", "_max_audio_seconds", "audio_seconds", "body_bytes", "settings", "texts")

    def __init__(self, settings: VoiceSettings, limits: BatchLimits, estimate: Estimate = NO_ESTIMATE) -> None:
        self.settings = settings
        self.texts: list[PendingText] = []
        self._max_audio_seconds = min(limits.audio_seconds, estimate.max_audio)
        self.body_bytes = 0
        self.audio_seconds = 0.0
        self._limits = limits

    def add(self, text: PendingText) -> bool:
        """Take *text* along if there is room; a first one always fits, or it would wait for ever."""
        seconds = text.audio_seconds
        limits = self._limits
        if self.texts and (
            len(self.texts) >= limits.max_texts
            or self.body_bytes + text.body_bytes > limits.body_bytes
            or self.audio_seconds + seconds > self._max_audio_seconds
        ):
            return False
        self.texts.append(text)
        self.body_bytes += text.body_bytes
        self.audio_seconds += seconds
        return True

    @property
    def first_sends(self) -> int:
        """Return how many of its texts travel for the first time."""
        return sum(not text.hedged for text in self.texts)

    def __repr__(self) -> str:
        return f"<Batch {len(self.texts)}/{self._limits.max_texts} texts, {self.audio_seconds:.1f} s expected>"
