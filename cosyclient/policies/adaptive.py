"""How many attempts an endpoint may have in flight, learned from what they meet there.

AIMD: times 0.9 when the service throttles, is overloaded or lets an attempt time out, a step up per window when the
limit was what held us back. A service that queues for ever refuses nothing, so latency bounds it as well: how many of
our attempts wait is judged as TCP Vegas does, by the time they take beyond what their audio takes anyway.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from cosyclient.baseline import Baseline, Reading

if TYPE_CHECKING:
    from cosyclient.config import AdaptiveConfig

_FALL, _RISE = 0.25, 0.05
"""Weights of a window that was quicker, or slower, than the baseline said."""
_LONE: Final = 0.25
"""Weight of an attempt that had the service to itself."""
_SHARE: Final = 0.5
"""Share of the change in latency that pure queueing would bring, at which our own attempts count as what waits."""
_TRIED, _GROWN = 0.8, 1.25
"""How far the limit must have moved for a comparison of two readings to tell anything."""
_ENOUGH: Final = 30
"""Attempts after which a comparison is concluded, clear or not."""
_PATIENCE: Final = 5.0
"""Seconds that a limit is held before a smaller one is tried; doubled each time that it had been worth holding."""
_INSTANT: Final = 1e-6
"""Seconds that an attempt takes at least: a clock that stood still would make all others infinitely slow."""


class Passage:
    """Note under what circumstances an attempt left; given back to the limit when it has ended."""

    __slots__ = ("ahead", "seconds", "started", "window")

    def __init__(self, seconds: float, started: float, ahead: int, window: int) -> None:
        self.seconds = seconds
        self.started = started
        self.ahead = ahead
        self.window = window


class AdaptiveLimit:
    """Move the limit between 1 and *most*; safe to share between threads, a pure function of what it is told when.

    A decision waits for a window of attempts that all left after the last one, so that each limit is judged by its
    own latencies. What an attempt would take alone is never known for certain, so every larger move is a trial too. A
    limit lowered for latency's sake that does not bring the latency down: what waits is not ours (a slower service,
    other clients, jitter) and counts as the service's own time from then on. One raised that only brings it up: the
    baseline was taken in a crowd. A limit that is merely held is tried smaller now and then.

    Below *calm* seconds latency is no matter: the pool was sized for it, and a client short of processor time, whose
    own threads wait for each other, would take itself for a slow service.
    """

    def __init__(self, config: AdaptiveConfig, *, most: int, calm: float = 0.0) -> None:
        self._config = config
        self._most = most
        self._calm = calm
        self._lock = threading.Lock()
        # Guarded by _lock, like all below.
        self._limit = float(min(config.initial, most))
        self._in_flight = 0
        self._baseline = Baseline()
        self._slow_start = True
        # The window under way: its number, whether the limit was reached, and what has ended of those that left in it.
        self._window = 0
        self._filled = False
        self._samples: list[tuple[float, float]] = []
        self._ahead = 0
        self._cut_at = -math.inf
        # What a smaller limit, and a larger one, are being compared with.
        self._tried: _Trial | None = None
        self._grown: _Trial | None = None
        self._confirmed_at = -math.inf
        self._patience = _PATIENCE
        self._told = self.limit

    @property
    def limit(self) -> int:
        """Return how many attempts may be in flight."""
        return max(1, int(self._limit))

    def leave(self, seconds: float, now: float) -> Passage:
        """Note that an attempt at *seconds* of audio leaves; exactly one of the four below ends it.

        They return the old and the new limit when it has moved by half or more since that was last told.
        """
        with self._lock:
            self._in_flight += 1
            self._filled |= self._in_flight >= self.limit
            return Passage(seconds, now, self._in_flight, self._window)

    def arrive(self, passage: Passage, now: float) -> tuple[int, int] | None:
        """Learn from an attempt that was answered in full."""
        with self._lock:
            self._in_flight -= 1
            self._arrived_locked(passage, now)
            return self._news_locked()

    def congest(self, passage: Passage, now: float) -> tuple[int, int] | None:
        """Back off from a service that throttled, was overloaded or let an attempt time out; once per event."""
        with self._lock:
            self._in_flight -= 1
            self._slow_start = False
            # Those that left before we slowed down tell of the same event.
            if passage.started > self._cut_at:
                self._cut_at = now
                self._tried = self._grown = None
                self._move_locked(self._limit * self._config.backoff)
            return self._news_locked()

    def collapse(self, _: Passage, now: float) -> tuple[int, int] | None:
        """Begin anew with a limit of 1: attempts come to nothing one after the other."""
        with self._lock:
            self._in_flight -= 1
            self._cut_at = now
            self._tried = self._grown = None
            self._baseline = Baseline()
            self._slow_start = True
            self._move_locked(1.0)
            return self._news_locked()

    def lose(self, passage: Passage, now: float) -> tuple[int, int] | None:
        """End an attempt that tells little: broken off by us, or failed for another reason.

        One that had taken longer than expected by then still shows how slow the service is, at least.
        """
        with self._lock:
            self._in_flight -= 1
            if self._baseline.known and now - passage.started > self._baseline.expect(passage.seconds):
                self._arrived_locked(passage, now)
            return self._news_locked()

    def _news_locked(self) -> tuple[int, int] | None:
        """Return the old and the new limit if it is half as much again as was last told, or two thirds."""
        old, new = self._told, self.limit
        if new * 2 < old * 3 and new * 3 > old * 2:
            return None
        self._told = new
        return old, new

    def _arrived_locked(self, passage: Passage, now: float) -> None:
        seconds, taken = passage.seconds, max(now - passage.started, _INSTANT)
        if self._baseline.known and passage.ahead == 1:
            # A straggler counts, but not as what it is.
            self._baseline.scale(1 + _LONE * min(1.0, taken / self._baseline.expect(seconds) - 1))
        if passage.window != self._window:
            return
        self._samples.append((seconds, taken))
        self._ahead += passage.ahead
        if len(self._samples) >= max(min(self._config.window, 2 * self._limit), self._limit / 2):
            self._decide_locked(now)

    def _decide_locked(self, now: float) -> None:
        baseline = self._baseline
        if not baseline.known:
            baseline.learn(self._samples)
        reading = Reading(self._samples, baseline, self._ahead / len(self._samples))
        if reading.latency <= self._calm:
            self._rest_locked(reading)
            return
        tried = self._tried
        if tried is not None and self._limit <= max(1.0, _TRIED * tried.limit):
            self._conclude_locked(tried, reading, now)
            return
        if self._slow_start:
            baseline.scale(min(1.0, reading.slowness + 2 * reading.error))
        elif reading.slowness + 2 * reading.error < 1:
            baseline.scale(1 - _FALL * (1 - reading.slowness - 2 * reading.error))
        elif reading.waiting < self._low:
            baseline.scale(1 + _RISE * (reading.slowness - 1))
        baseline.learn(reading.samples)
        self._adjust_locked(reading, now)

    def _rest_locked(self, reading: Reading) -> None:
        """Let the limit grow, if it holds us back, and end all trials: nothing is slow enough to matter."""
        self._baseline.learn(reading.samples)
        origin = self._limit if self._tried is None else self._tried.origin
        self._tried = self._grown = None
        self._move_locked(origin + self._step(origin) if self._filled else origin)

    def _conclude_locked(self, tried: _Trial, reading: Reading, now: float) -> None:
        """End the trial of a lower limit, unless noise hides the answer still: did the latency follow?"""
        factor = 1 - _SHARE * (1 - self._limit / tried.limit)
        clear = reading.differs_from(tried.reading, factor)
        idle = reading.waiting < self._low
        if not (clear or idle or len(reading.samples) >= _ENOUGH):
            return
        self._tried = None
        self._confirmed_at = now
        if tried.recheck and idle and not clear:
            # Here nobody waits, so what the limit held had been worth it.
            self._patience = min(2 * self._patience, self._config.recheck)
            self._baseline.scale(reading.slowness)
            self._move_locked(tried.origin)
        elif reading.slowness <= factor * tried.reading.slowness:
            self._patience = min(2 * self._patience, self._config.recheck)
            self._baseline.scale(min(1.0, reading.slowness))
            self._adjust_locked(reading, now)
        elif tried.limit == tried.origin and self._limit > 1:
            # Perhaps the service changed meanwhile: once more.
            self._tried = tried._replace(limit=self._limit, reading=reading)
            self._move_locked(self._limit * self._config.shrink)
        else:
            # Fewer of us, and no quicker: it is not our attempts that wait.
            self._patience = _PATIENCE
            self._baseline.scale(reading.slowness)
            self._move_locked(tried.origin)

    def _adjust_locked(self, reading: Reading, now: float) -> None:
        config, limit = self._config, self._limit
        # At first, in doubt, on; later the limit is left only for a better one.
        if (reading.surely_waiting if self._slow_start else reading.waiting) < self._low:
            self._tried = None
            self._confirmed_at = now
            grown = self._grown
            if grown is not None and limit >= _GROWN * grown.limit:
                factor = 1 + _SHARE * (limit / grown.limit - 1)
                # Where answers are few, waiting for certainty would take minutes.
                if reading.latency > config.batch_time or reading.differs_from(grown.reading, factor):
                    self._grown = None
                    if reading.slowness > factor * grown.reading.slowness:
                        self._return_locked(grown, reading)
                        return
            if not self._filled:
                self._move_locked(limit)
                return
            self._grown = self._grown or _Trial(limit, limit, reading, False)
            self._move_locked(limit + self._step(limit))
            return
        self._slow_start = False
        if reading.surely_waiting > 2 * self._low:
            self._grown = None
            self._tried = self._tried or _Trial(limit, limit, reading, False)
            self._move_locked(max(limit * config.shrink, limit - reading.waiting + self._low))
        elif self._filled and now - self._confirmed_at > self._patience:
            self._grown = None
            self._tried = _Trial(limit, limit, reading, True)
            self._move_locked(limit * config.shrink)
        else:
            self._tried = None
            self._move_locked(limit)

    def _return_locked(self, grown: _Trial, reading: Reading) -> None:
        """Go back to a limit above which there was only more waiting, which the baseline took for the service."""
        self._slow_start = False
        waiting = min(2 * self._low, 0.5 * self._limit)
        self._baseline.scale(reading.slowness * (1 - waiting / self._limit))
        self._patience = _PATIENCE
        self._move_locked(grown.limit)

    @property
    def _low(self) -> float:
        return self._config.queue + self._config.queue_share * self._limit

    def _step(self, limit: float) -> float:
        return limit if self._slow_start else max(1.0, limit * self._config.step)

    def _move_locked(self, limit: float) -> None:
        """Set the limit and begin the next window."""
        self._limit = max(1.0, min(float(self._most), limit))
        self._window += 1
        self._samples = []
        self._ahead = 0
        self._filled = False

    def __repr__(self) -> str:
        return f"<AdaptiveLimit {self._in_flight} of {self.limit} (1 to {self._most}), {self._baseline!r}>"


class _Trial(NamedTuple):
    """Hold what a trial is compared with: the limit to go back to, the one of the *reading*, and why it was begun."""

    origin: float
    limit: float
    reading: Reading
    recheck: bool
