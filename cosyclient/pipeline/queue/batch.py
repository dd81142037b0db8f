"""The texts that share one request: how many fit; no lock, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cosyclient.policies.base import NO_ESTIMATE

if TYPE_CHECKING:
    from cosyclient.models import VoiceSettings
    from cosyclient.pipeline.queue.pending import PendingText
    from cosyclient.policies.base import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Say when a batch is full: by texts, by bytes of request body, by expected seconds of audio."""

    max_texts: int
    body_bytes: int
    audio_seconds: float


class Batch:
    """Collect texts that share one request and one set of voice settings.

    It is filled under the batcher's lock and sealed when it is taken from there; nothing is added later.
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
        """Add *text* if there is room; return whether there was. A first one always fits, or it would wait for ever."""
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
        """Return how many of its texts are sent for the first time, not as hedges."""
        return sum(not text.hedged for text in self.texts)

    def __repr__(self) -> str:
        return f"<Batch {len(self.texts)}/{self._limits.max_texts} texts, {self.audio_seconds:.1f} s expected>"
