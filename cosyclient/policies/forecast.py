"""What an attempt will take that leaves now: from the audio in flight, and the pace at which audio comes back."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Final

from cosyclient.batch import NOTHING_KNOWN, Prospect

if TYPE_CHECKING:
    from cosyclient.config import AdaptiveConfig

_MEAN, _DEVIATION = 1 / 4, 1 / 2
"""Weights of the newest latency in the smoothed one, and of what it was beyond its forecast in the deviation."""
_SPAN: Final = 2.0
"""Latencies over which the throughput is measured, and after which an estimate is too old to refuse a text by."""
_SHORTEST: Final = 1.0
"""Seconds that span lasts at least."""
_BARREN: Final = 2
"""Attempts in a row that came to nothing after which the service counts as stuck."""
_SURELY: Final = 0.7
"""Share of the work in flight that a text surely waits for, the rest may be done already."""
_LEAST_MARGIN: Final = 0.25
"""Share of the forecast that a text must have left beyond it, however exact forecasts have been."""
_PATIENCE: Final = 4.0
"""Latencies that a read is given at least: a long queue is no reason to ask again."""


class Departure:
    """Note what was forecast for an attempt when it left; given back when it has ended."""

    __slots__ = ("forecast", "seconds", "started")

    def __init__(self, seconds: float, started: float, forecast: float) -> None:
        self.seconds = seconds
        self.started = started
        self.forecast = forecast


class Forecast:
    """Know an endpoint's pace; safe to share between threads, a pure function of what it is told when.

    By Little's Law an attempt takes the audio in flight over the audio per second that comes back, whatever the
    service does inside. That holds for a busy one; before, it is too long, which nobody is refused by.
    """

    def __init__(self, config: AdaptiveConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        # Guarded by _lock, like all below.
        self._in_flight = 0
        self._audio = 0.0
        # Audio seconds that came back, and the time anything was in flight, both fading with age.
        self._returned = self._busy = 0.0
        self._abandoned = 0.0
        self._abandoned_at = -math.inf
        self._looked_at = 0.0
        self._latency = self._deviation = 0.0
        self._answered_at = -math.inf
        # Attempts that came to nothing since the last that did not, when that last had a consequence, and what it was.
        self._barren = 0
        self._in_vain = False
        self._collapsed_at = -math.inf
        self._most = math.inf

    @property
    def throughput(self) -> float:
        """Return the audio seconds a second that come back while anything is in flight."""
        return self._returned / self._busy if self._busy else 0.0

    def leave(self, seconds: float, now: float) -> Departure:
        """Note that an attempt at *seconds* of audio leaves; `arrive` or `lose` ends it."""
        with self._lock:
            self._pass_locked(now)
            self._in_flight += 1
            self._audio += seconds
            return Departure(seconds, now, self._takes_locked())

    def arrive(self, departure: Departure, now: float) -> None:
        """Learn from an attempt that was answered in full."""
        with self._lock:
            self._end_locked(departure, departure.seconds, now)
            if self._barren >= _BARREN:
                # The service is back; nothing known from before says how fast it is.
                self._returned, self._busy, self._latency = departure.seconds, now - departure.started, 0.0
            if departure.started >= self._abandoned_at:
                # First come, first served: what was abandoned before this one left is done.
                self._returned += self._abandoned
                self._abandoned = 0.0
            self._barren = 0
            self._in_vain = False
            if departure.seconds > self._most / 2:
                self._most *= 2
            self._learn_locked(departure, now - departure.started)
            self._answered_at = now

    def lose(self, departure: Departure, returned: float, now: float, *, abandoned: bool) -> bool:
        """Learn from an attempt that failed with *returned* seconds of its audio there: it takes longer than that.

        The rest of one that we *abandoned* still keeps the service busy: it does not know that nobody waits. Return
        whether attempts come to nothing one after the other: the next one should be alone, and half as long.
        """
        with self._lock:
            self._end_locked(departure, returned, now)
            if now - departure.started > self._latency:
                self._learn_locked(departure, now - departure.started + self._deviation)
            if not abandoned:
                return False
            self._in_vain = True
            self._abandoned += departure.seconds - returned
            self._abandoned_at = max(self._abandoned_at, departure.started)
            if returned > departure.seconds / 2:
                self._barren = 0
            elif now - departure.started > _SHORTEST:
                # One taken back sooner tells of its caller only.
                self._barren += 1
            # Those that were in flight at a collapse tell of the same one.
            if self._barren < _BARREN or departure.started < self._collapsed_at:
                return False
            self._collapsed_at = now
            self._most = min(self._most, departure.seconds) / 2
            return True

    def prospect(self, now: float, *, granted: int = 1) -> Prospect:
        """Return what an attempt that leaves now may expect; a text is refused by fresh knowledge only.

        *granted* counts those that hold the right to be in flight, itself and those that leave at the same moment
        included.
        """
        config = self._config
        with self._lock:
            self._pass_locked(now)
            latency, throughput = self._latency, self.throughput
            if self._barren >= _BARREN:
                return Prospect(audio=self._most, newest_first=True, patience=_PATIENCE * latency)
            if not latency or not throughput:
                return NOTHING_KNOWN
            audio, leaving = self._most, 1
            busy = latency > config.batch_time
            if busy:
                # A service that takes long is busy, and what comes back is what it can do.
                audio = min(audio, config.batch_time * throughput)
                leaving = max(1, granted - self._in_flight)
            # A lone one is let through to see, or nothing would ever be learned again.
            if now - self._answered_at > (max(_SHORTEST, _SPAN * latency) if self._in_flight else _SHORTEST):
                return Prospect(audio=audio, newest_first=self._in_vain)
            give = config.margin * self._deviation
            ahead = (self._audio + self._abandoned) / throughput
            takes = ahead + leaving * min(audio, latency * throughput) / throughput
            return Prospect(
                audio=audio,
                least=max(0.0, latency - give, min(_SURELY * ahead, 2 * latency) if busy else 0.0),
                ample=takes + max(give, _LEAST_MARGIN * takes),
                patience=_PATIENCE * latency,
            )

    def _takes_locked(self) -> float:
        throughput = self.throughput
        return (self._audio + self._abandoned) / throughput if throughput else 0.0

    def _pass_locked(self, now: float) -> None:
        """Let the time since the last look fade what is older, and count it if anything was in flight."""
        drained = min(self._abandoned, self.throughput * (now - self._looked_at))
        self._abandoned -= drained
        elapsed = now - self._looked_at if self._in_flight else 0.0
        fade = math.exp(-elapsed / max(_SHORTEST, _SPAN * self._latency))
        # What is rendered for nobody does not come back, but is no less work.
        self._returned = self._returned * fade + (drained if elapsed else 0.0)
        self._busy = self._busy * fade + elapsed
        self._looked_at = now

    def _end_locked(self, departure: Departure, returned: float, now: float) -> None:
        self._pass_locked(now)
        self._returned += returned
        self._in_flight -= 1
        self._audio -= departure.seconds

    def _learn_locked(self, departure: Departure, latency: float) -> None:
        if not self._latency:
            self._latency = latency
            return
        self._latency += _MEAN * (latency - self._latency)
        if departure.forecast:
            self._deviation += _DEVIATION * (max(0.0, latency - departure.forecast) - self._deviation)

    def __repr__(self) -> str:
        return (
            f"<Forecast {self._latency:.3f} s ± {self._deviation:.3f} s, {self._audio:.0f} s of audio in flight,"
            f" {self.throughput:.0f} a second>"
        )
