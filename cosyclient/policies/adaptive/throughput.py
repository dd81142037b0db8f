"""How much audio is in flight at a service, and how much of it comes back a second."""

from __future__ import annotations

import math
from typing import Final

_SHORTEST_WINDOW: Final = 1.0
_LONGEST_WINDOW: Final = 10.0
"""Seconds between which the window lies over which the throughput is measured: about one latency."""


class Throughput:
    """Measure the seconds of audio that come back a second; pure in ``now``.

    `AdaptiveLimit` owns it and guards it by its lock; it calls `observe` first, then `start` or `finish`.

    While a service has more to do than it can this is its capacity; before, it is the load, which says nothing of what
    the service could do. Abandoned work, for which the client has stopped waiting, keeps a service busy all the same.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        """Attempts in flight."""
        self._audio = 0.0
        self._abandoned = 0.0
        self._abandoned_until = -math.inf
        # Audio that came back, and the time anything was in flight, both fading with age.
        self._returned = self._busy = 0.0
        self._observed_at = 0.0
        self._window = _SHORTEST_WINDOW

    @property
    def rate(self) -> float:
        """Return the seconds of audio that come back a second while anything is in flight."""
        return self._returned / self._busy if self._busy else 0.0

    @property
    def audio(self) -> float:
        """Return the seconds of audio that the service has to render for this client, abandoned ones included."""
        return self._audio + self._abandoned

    def observe(self, now: float, window: float) -> None:
        """Account for the time since the last call; measure over a *window* of so many seconds from *now* on."""
        passed = now - self._observed_at
        # Threads read the clock before they get here: a slightly older instant is the newest one.
        if passed > 0.0:
            drained = min(self._abandoned, self.rate * passed) if self._abandoned else 0.0
            self._abandoned -= drained
            if self.in_flight:
                fade = math.exp(-passed / self._window)
                # What is rendered for no caller does not come back, but is no less work.
                self._returned = self._returned * fade + drained
                self._busy = self._busy * fade + passed
            self._observed_at = now
        self._window = min(_LONGEST_WINDOW, max(_SHORTEST_WINDOW, window))

    def start(self, audio: float) -> None:
        """Note that an attempt at *audio* seconds is sent."""
        self.in_flight += 1
        self._audio += audio

    def finish(self, audio: float, returned: float) -> None:
        """Note that an attempt at *audio* seconds has ended, with *returned* of them there."""
        self.in_flight -= 1
        self._audio -= audio
        self._returned += returned
        if self._audio < 0.0 or not self.in_flight:
            self._audio = 0.0

    def abandon(self, audio: float, started: float) -> None:
        """Note that the client stopped waiting for *audio* seconds of an attempt that was *started* then."""
        # A stream may have brought more than was expected of it.
        self._abandoned += max(0.0, audio)
        self._abandoned_until = max(self._abandoned_until, started)

    def record_answer(self, started: float) -> None:
        """Note an answer to an attempt that was *started* then: what was abandoned before it is done (first come)."""
        if started >= self._abandoned_until:
            self._returned += self._abandoned
            self._abandoned = 0.0

    def restart(self, audio: float, seconds: float) -> None:
        """Forget the past of a service that had stopped, and begin with *audio* that took *seconds*."""
        self._returned, self._busy = audio, seconds

    def __repr__(self) -> str:
        return f"<Throughput {self.audio:.0f} s of audio in flight, {self.rate:.0f} a second>"
