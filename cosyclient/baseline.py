"""What an attempt takes when it waits for nobody, by the seconds of audio it asks for; pure arithmetic, no clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_FADE: Final = 0.2
"""Share of the older evidence for the slope that fades with as much of new."""
_DRIFT: Final = 0.1
"""Weight of the newest size in the usual one."""


class Baseline:
    """Predict the latency of an attempt that finds the service idle: ``fixed + per_second * seconds``.

    A service behind a network takes about as long for one text as for sixty-four; one behind a GPU takes time for
    every second of audio. The slope is read from the attempts of one window among themselves, because what they wait
    does not depend on their own size; the level is the quickest that windows were. Guarded by its owner's lock.
    """

    def __init__(self) -> None:
        self._usual = 0.0
        self._level = 0.0
        self._together = self._spread = 0.0
        self.per_second = 0.0
        """Seconds that each further second of audio takes."""

    @property
    def known(self) -> bool:
        """Return whether there is anything to predict from."""
        return self._level > 0

    @property
    def usual(self) -> float:
        """Return the latency of an attempt of the usual size."""
        return self._level

    @property
    def fixed(self) -> float:
        """Return the seconds that every attempt takes."""
        return self._level - self.per_second * self._usual

    def expect(self, seconds: float) -> float:
        """Return the latency of an attempt at *seconds* of audio."""
        return self._level + self.per_second * (seconds - self._usual)

    def learn(self, samples: Sequence[tuple[float, float]]) -> None:
        """Learn the slope from a window of *samples*, seconds of audio and latency; the first one gives the level."""
        count = len(samples)
        mean = math.fsum(seconds for seconds, _ in samples) / count
        latency = math.fsum(taken for _, taken in samples) / count
        spread = math.fsum((seconds - mean) ** 2 for seconds, _ in samples)
        # Attempts of one size say nothing of others: the less they differ, the less of what was known fades.
        fade = 1 - _FADE * spread / (spread + self._spread) if spread else 1.0
        self._spread = fade * self._spread + spread
        self._together = fade * self._together + math.fsum(
            (seconds - mean) * (taken - latency) for seconds, taken in samples
        )
        if not self.known:
            self._usual, self._level = mean, latency
        # The level stands for the usual size: it moves along the slope as that does.
        step = _DRIFT * (mean - self._usual)
        self._usual += step
        self._level += self.per_second * step
        if self._spread:
            self.per_second = max(0.0, self._together / self._spread)
        # The part that does not depend on the size cannot be below zero.
        self.per_second = min(self.per_second, self._level / self._usual)

    def scale(self, factor: float) -> None:
        """Take everything for *factor* times as slow as before."""
        self._level *= factor
        self.per_second *= factor

    def __repr__(self) -> str:
        return f"<Baseline {self.fixed:.3f} s + {self.per_second:.4f} s per second of audio>"
