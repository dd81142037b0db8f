"""How much of one bulk job may be under way: enough texts to fill every request in flight, within a bound of audio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cosyclient.models import VoiceSettings

# Bytes a second: 4 s of speech are 17 KB of Opus or 20 KB of MP3 in usual settings, up to 32 KB in good ones.
_COMPRESSED: Final = 8000.0
# What is useful is asked for once in so many looks: it costs as much as ten of them.
_FRESH: Final = 16
_SYLLABIC_SECONDS: Final = 0.2
_ALPHABETIC_SECONDS: Final = 0.065


class BulkWindow:
    """Count the texts of one bulk job that are under way or not yet read, and the audio they are expected to become.

    At most *texts*, and at most *audio_bytes* of audio unless that would hold back the first *least*: a request must
    be filled. *useful* says how many texts, and seconds of audio, the service can do with at the moment: what is sent
    on its way beyond that would only wait, and be late. Not thread-safe: one job, one thread.
    """

    def __init__(
        self,
        settings: VoiceSettings,
        *,
        texts: int,
        least: int,
        audio_bytes: int,
        useful: Callable[[], tuple[float, float]] = lambda: (math.inf, math.inf),
    ) -> None:
        self._texts = texts
        self._capacity = useful
        self._bounds = (math.inf, math.inf)
        self._asked = 0
        self._least = min(least, texts)
        self._audio_bytes = audio_bytes
        plain = settings.format in ("wav", "pcm")
        self._per_second = (2 * settings.sample_rate if plain else _COMPRESSED) / settings.speed
        self._count = 0
        self._expected_bytes = 0

    @property
    def has_room(self) -> bool:
        """Return whether another text may be sent on its way."""
        if self._count < self._least:
            return True
        if not self._asked % _FRESH:
            self._bounds = self._capacity()
        self._asked += 1
        texts, seconds = self._bounds
        return self._count < min(self._texts, texts) and self._expected_bytes < min(
            self._audio_bytes, seconds * self._per_second
        )

    @property
    def audio_seconds(self) -> float:
        """Return the seconds of audio under way or not yet read."""
        return self._expected_bytes / self._per_second

    def add(self, texts: Sequence[object]) -> None:
        """Count *texts* as under way."""
        self._count += len(texts)
        self._expected_bytes += sum(map(self._expects, texts))

    def remove(self, text: object) -> None:
        """Count *text* as read."""
        self._count -= 1
        self._expected_bytes -= self._expects(text)

    def _expects(self, text: object) -> int:
        if not isinstance(text, str):
            return 0  # refused as soon as it is looked at
        # Coarser than an utterance's own estimate, and cheap enough to be made twice for every text.
        return int(len(text) * (_ALPHABETIC_SECONDS if text.isascii() else _SYLLABIC_SECONDS) * self._per_second)

    def __repr__(self) -> str:
        return (
            f"<BulkWindow {self._count}/{self._texts} texts, "
            f"{self._expected_bytes / 1e6:.1f} of {self._audio_bytes / 1e6:.1f} MB expected>"
        )
