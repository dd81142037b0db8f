"""What attempts take when they wait for nobody, and what a window of them says; pure arithmetic, no clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_FADE: Final = 0.2
"""Share of the older evidence for the slope that fades with as much of new."""
_CLEARLY: Final = 1.5
"""Standard errors beyond which two readings differ."""
_FEW: Final = 4
"""Fewer attempts than this have no stragglers among them."""
_OUTLIERS: Final = 10
"""One in so many is left out as a straggler."""
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


class Reading:
    """Hold what a window of attempts says: how long they took, how far their mean may be off, and what follows.

    *samples* are seconds of audio and latency, *ahead* is how many attempts were in flight as each left, on average.
    Judged by the baseline as it is known when asked, so that readings of different times can be compared.
    """

    __slots__ = ("_ahead", "_baseline", "_error", "_seconds", "latency", "samples")

    def __init__(self, samples: Sequence[tuple[float, float]], baseline: Baseline, ahead: float) -> None:
        samples = self.samples = _without_stragglers(samples, baseline)
        count = len(samples)
        self._baseline = baseline
        self._ahead = ahead
        self._seconds = math.fsum(seconds for seconds, _ in samples) / count
        self.latency = math.fsum(taken for _, taken in samples) / count
        wait = self.latency - self.expected
        squares = math.fsum((taken - baseline.expect(seconds) - wait) ** 2 for seconds, taken in samples)
        self._error = math.sqrt(squares) / count

    @property
    def expected(self) -> float:
        """Return how long such attempts take alone, as far as is known by now."""
        return self._baseline.expect(self._seconds)

    @property
    def slowness(self) -> float:
        """Return how many times as long as that they took."""
        return self.latency / self.expected

    @property
    def error(self) -> float:
        """Return the slowness's standard error."""
        return self._error / self.expected

    @property
    def waiting(self) -> float:
        """Return how many of the attempts in flight waited at the service."""
        return self._ahead * (1 - 1 / max(1.0, self.slowness))

    @property
    def surely_waiting(self) -> float:
        """Return how many waited at least."""
        return self._ahead * (1 - 1 / max(1.0, self.slowness - self.error))

    def differs_from(self, other: Reading, factor: float) -> bool:
        """Return whether this slowness is clearly above or below *factor* times the *other*."""
        return abs(self.slowness - factor * other.slowness) > _CLEARLY * math.hypot(self.error, factor * other.error)

    def __repr__(self) -> str:
        return f"<Reading {self.slowness:.2f} ± {self.error:.2f} times {self.expected:.3f} s>"


def _without_stragglers(samples: Sequence[tuple[float, float]], baseline: Baseline) -> Sequence[tuple[float, float]]:
    """Return the samples but for the tenth that took longest for their size, one at least."""
    if len(samples) < _FEW:
        return samples
    ordered = sorted(samples, key=lambda sample: sample[1] - baseline.expect(sample[0]))
    return ordered[: len(ordered) - max(1, len(ordered) // _OUTLIERS)]
