"""Whether samples have the rate they are taken for: a vocoder makes whole hops, and each model has a hop of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from cosyclient.events import SampleRateDoubted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosyclient.events import Events

# Other makers of samples hit the hop of one model once in some hundred times, and four times running in no lifetime.
_SPEECHES: Final = 4
_AGAINST: Final = 2


class SampleRateCheck:
    """Doubt the rate of a service that names none, once: every length is in whole hops of another rate, and not of it.

    *hops* is the samples of a hop by rate.
    """

    def __init__(
        self, hops: Mapping[int, int], events: Events, endpoint: str, *, min_speeches: int = _SPEECHES
    ) -> None:
        self._hops = hops
        self._events = events
        self._endpoint = endpoint
        self._least = min_speeches
        self._lock = threading.Lock()
        # All guarded by _lock.
        self._heard = 0
        self._whole = dict.fromkeys(hops, 0)
        self._told = not hops

    def record(self, samples: int, rate: int) -> None:
        """Take the length of one speech that was taken to be of *rate*, and tell if it is to be doubted."""
        if self._told or rate not in self._hops or not samples:
            return
        with self._lock:
            self._heard += 1
            for each, hop in self._hops.items():
                self._whole[each] += samples % hop == 0
            likely = self._likely_locked(rate)
            if likely is None or self._told:
                return
            self._told, heard = True, self._heard
        self._events.emit(SampleRateDoubted(endpoint=self._endpoint, taken=rate, likely=likely, speeches=heard))

    def _likely_locked(self, rate: int) -> int | None:
        """Return the rate that all lengths so far are of, if they are not of *rate*."""
        against = self._heard - self._whole[rate]
        if self._heard < self._least or against < min(_AGAINST, self._least):
            return None
        return next((each for each, whole in self._whole.items() if whole == self._heard and each != rate), None)

    def __repr__(self) -> str:
        return f"<RateWatch {self._heard} speeches{', told' if self._told and self._hops else ''}>"
