"""Doubt the sample rate of a service that names none, by the lengths of its speeches.

A vocoder makes whole hops of samples, and each CosyVoice model has a hop length and a rate of its own (``hop_size`` in
its ``.yaml``). Lengths that are all whole hops of another rate's model, and not of the assumed one, give the rate away.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from cosyclient.events import SampleRateDoubted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosyclient.events import Events

# Lengths from elsewhere are whole hops of one model once in some hundred times, four times in a row practically never.
_MIN_SPEECHES: Final = 4
_MIN_CONTRADICTIONS: Final = 2


class SampleRateCheck:
    """Emits `SampleRateDoubted` once when the lengths of speeches show that an endpoint's rate is another than assumed.

    *hops* maps a rate to the samples of a hop at that rate; an empty one disables the check. Thread-safe.
    """

    def __init__(
        self, hops: Mapping[int, int], events: Events, endpoint: str, *, min_speeches: int = _MIN_SPEECHES
    ) -> None:
        self._hops = hops
        self._events = events
        self._endpoint = endpoint
        self._min_speeches = min_speeches
        self._lock = threading.Lock()
        # All guarded by _lock.
        self._speeches = 0
        self._whole_hops = dict.fromkeys(hops, 0)
        self._reported = not hops

    def record(self, samples: int, rate: int) -> None:
        """Count one speech of *samples* assumed to be at *rate*; emit the event if the rate is doubtful now."""
        if self._reported or rate not in self._hops or not samples:
            return
        with self._lock:
            self._speeches += 1
            for each, hop in self._hops.items():
                self._whole_hops[each] += samples % hop == 0
            likely = self._likely_locked(rate)
            if likely is None or self._reported:
                return
            self._reported, speeches = True, self._speeches
        self._events.emit(SampleRateDoubted(endpoint=self._endpoint, taken=rate, likely=likely, speeches=speeches))

    def _likely_locked(self, rate: int) -> int | None:
        """Return another rate of whose hops all lengths so far are multiples, if they contradict *rate*."""
        contradictions = self._speeches - self._whole_hops[rate]
        if self._speeches < self._min_speeches or contradictions < min(_MIN_CONTRADICTIONS, self._min_speeches):
            return None
        return next(
            (each for each, whole in self._whole_hops.items() if whole == self._speeches and each != rate), None
        )

    def __repr__(self) -> str:
        return f"<SampleRateCheck {self._speeches} speeches{', reported' if self._reported and self._hops else ''}>"
