"""How long attempts take, by their own audio and by the other audio in flight: a linear regression that fades."""

from __future__ import annotations

import math
from typing import Final

_MEMORY: Final = 64
"""Attempts after which an older one counts a third (1/e) of a new one."""
_MIN_ATTEMPTS: Final = 6
"""Attempts below which no slope is estimated."""
_VARIATION: Final = 0.15
"""Share of its mean by which the other audio must vary between attempts for its effect to be measured."""
_CERTAINTY: Final = 5.0
"""Standard errors by which a slope must be above zero. Jitter alone hardly ever gets there; a queue does at once."""


class LatencyModel:
    """Fit ``latency = fixed + own × audio + slope × other audio in flight``; pure, no clock.

    `AdaptiveLimit` owns it, guards it by its lock and adds every attempt that ended. A service that keeps up has a
    slope of zero, however slow, jittery or proportional to the text it is; where attempts wait for each other it is one
    over the seconds of audio rendered a second, wherever the service queues. What both could explain is put down to the
    attempt's own audio.
    """

    def __init__(self) -> None:
        self.count = 0
        """Attempts added so far."""
        self._weight = 0.0
        self._mean_audio = self._mean_other_audio = self._mean_latency = 0.0
        # Weighted means of the products of deviations: a audio, b other audio, y latency.
        self._aa = self._bb = self._yy = self._ab = self._ay = self._by = 0.0
        self._fixed = self._own = self._slope = 0.0
        self._queueing = False

    @property
    def own(self) -> float:
        """Return the seconds that each second of its own audio adds to an attempt."""
        return self._own

    @property
    def queueing(self) -> bool:
        """Return whether it is certain that at least half of the latency was spent waiting for other attempts."""
        return self._queueing

    @property
    def queueing_share(self) -> float:
        """Return the share of the latency that was probably spent waiting for other attempts."""
        return self._slope * self._mean_other_audio / self._mean_latency if self._mean_latency else 0.0

    @property
    def load_varied(self) -> bool:
        """Return whether the other audio varied between attempts, so that its effect can be measured."""
        return self._bb > (_VARIATION * self._mean_other_audio) ** 2

    def unloaded(self, audio: float) -> float:
        """Return the seconds that an attempt at *audio* seconds takes with nothing else in flight."""
        return self._fixed + self._own * audio

    def expect(self, audio: float, other_audio: float) -> float:
        """Return the seconds that an attempt at *audio* seconds takes with *other_audio* seconds in flight."""
        return self.unloaded(audio) + self._slope * other_audio

    def add(self, audio: float, other_audio: float, latency: float) -> None:
        """Add one attempt that took *latency* seconds."""
        self.count += 1
        self._weight = self._weight * (1.0 - 1.0 / _MEMORY) + 1.0
        share = 1.0 / self._weight
        a, b, y = audio - self._mean_audio, other_audio - self._mean_other_audio, latency - self._mean_latency
        self._mean_audio += share * a
        self._mean_other_audio += share * b
        self._mean_latency += share * y
        kept = 1.0 - share
        self._aa = kept * (self._aa + share * a * a)
        self._bb = kept * (self._bb + share * b * b)
        self._yy = kept * (self._yy + share * y * y)
        self._ab = kept * (self._ab + share * a * b)
        self._ay = kept * (self._ay + share * a * y)
        self._by = kept * (self._by + share * b * y)
        self._fit()

    def _fit(self) -> None:
        slope = certain = 0.0
        aa = self._aa
        per_audio, explained = (self._ab / aa, self._ay / aa) if aa > 1e-6 * self._mean_audio**2 else (0.0, 0.0)
        # The variation of the other audio, and of the latency, that the attempt's own audio does not explain.
        spread = self._bb - per_audio * self._ab
        if self._weight > _MIN_ATTEMPTS and spread > 1e-9 * self._bb:
            together = self._by - per_audio * self._ay
            slope = max(0.0, together / spread)
            unexplained = max(0.0, self._yy - explained * self._ay - slope * together)
            error = math.sqrt(unexplained / (self._weight - 3.0) / spread)
            certain = max(0.0, slope - _CERTAINTY * error)
        self._slope = slope
        self._queueing = 2.0 * certain * self._mean_other_audio > self._mean_latency > 0.0
        self._own = max(0.0, explained - slope * per_audio)
        self._fixed = max(0.0, self._mean_latency - self._own * self._mean_audio - slope * self._mean_other_audio)

    def __repr__(self) -> str:
        return (
            f"<LatencyModel {self._fixed:.3f} s + {self._own:.4f} s per second of audio"
            f" + {self._slope:.4f} s per second of other audio>"
        )
