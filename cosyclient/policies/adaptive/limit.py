"""How many attempts may be in flight: as many as configured, until there is evidence that the service has too much.

Evidence is latency that has grown with what was in flight (`LatencyModel.grown`) and is more than texts can afford,
time-outs with no answer to anybody, and throttling. Latency alone, failures that come back at once, and what an idle or
cold service left unmeasured are none; without evidence this limits nothing.

On evidence, the audio in flight is kept at ``throughput × target latency`` (Little's Law), in attempts of an eighth of
that. As long as attempts come back within the target, more is allowed than is in flight. A service that became slower
by itself has more in flight for that, which looks like a queue where both are seen together: so the growth must show
once more, among the next attempts alone; if all of those found as much in flight, half of it is taken away to see.
Throttling is answered by AIMD, as TCP and Netflix's concurrency-limits do.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Final

from cosyclient.policies.adaptive.latency_model import LatencyModel
from cosyclient.policies.adaptive.throughput import Throughput
from cosyclient.policies.base import NO_ESTIMATE, Estimate

if TYPE_CHECKING:
    from cosyclient.config import AdaptiveConfig

_AFFORDABLE: Final = 0.25
"""Share of the time its texts were given that an attempt may take without being too slow for them."""
_PARTS: Final = 8
"""Attempts into which what may be in flight is divided under overload: a service may serve each on one processor."""
_NEWEST: Final = 0.25
"""Weight of the newest attempt in what is smoothed."""
_FRUITLESS: Final = 2
"""Attempts in a row without any answer after which the service counts as stuck."""
_CUT_OFF: Final = 3
"""Attempts in a row that were cut off, as was to be expected, after which it is overload."""
_SHORTEST_TRY: Final = 1.0
_LONGER: Final = 2.0
"""Seconds, and usual latencies, below which an attempt without an answer tells of its caller only."""
_RELEASED: Final = 2.0
"""Seconds after which a limit that held nobody back is lifted."""
_EARLY: Final = 0.5
_SECOND: Final = 16
"""Share of the target latency from which on growth is looked for, and the attempts among which it must show again."""
_TRIED: Final = 0.5
"""Share of what was in flight that is left to see whether that makes attempts quicker."""
_EASY: Final = 0.6
"""Share of the target latency up to which attempts do not need a limit that no longer binds."""
_MARGIN: Final = 1.25
"""How many times what an attempt will take a text should have left, to go before others."""
_READ_LATENCIES: Final = 4.0
"""Latencies that a read is given at least: a long queue is no reason to ask again."""
_NOTICEABLE: Final = 3
"""Permits by which a limit must have moved to be told: small ones move by one or two all the time."""
_INSTANT: Final = 1e-6
"""Seconds that an attempt takes at least: a clock that stood still would make all others infinitely slow."""


class Sample:
    """Note under what circumstances an attempt left; given back to the limit when it has ended.

    ``beside`` are the seconds of audio in flight beside it, ``given`` those that its most impatient text was given in
    all, ``expected`` those that all audio in flight takes at the pace measured so far, 0 if none was, ``read_timeout``
    those that each read should be given at least. ``idle`` seconds of it were somebody else's, such as the listener's
    of a stream; set it before. ``in_flight`` says whether the limit counts it.
    """

    __slots__ = ("audio", "expected", "idle", "in_flight", "other_audio", "read_timeout", "started", "time_limit")

    def __init__(
        self,
        audio: float,
        beside: float,
        started: float,
        given: float,
        *,
        expected: float = 0.0,
        read_timeout: float = 0.0,
    ) -> None:
        self.audio = audio
        self.other_audio = beside
        self.started = started
        self.time_limit = given
        self.expected = expected
        self.read_timeout = read_timeout
        self.idle = 0.0
        self.in_flight = False


class AdaptiveLimit:
    """Move the limit between 1 and *most*; safe to share between threads, a pure function of what it is told when.

    Latencies up to *floor* seconds are never too slow: the pool was sized for them, and a client short of processor
    time, whose own threads wait for each other, would take itself for a slow service.
    """

    def __init__(self, config: AdaptiveConfig, *, max_limit: int, latency_floor: float = 0.0) -> None:
        self._config = config
        self._most = max_limit
        self._floor = latency_floor
        self._lock = threading.Lock()
        # Guarded by _lock, like all below.
        self._model = LatencyModel()
        self._throughput = Throughput()
        self._latency = 0.0
        self._answered_at = -math.inf
        self._fruitless = self._cut_off = 0
        self._overloaded = False
        self._stuck_at = -math.inf
        # What is learned since growth was first seen, to see whether it is seen again.
        self._second: LatencyModel | None = None
        # The seconds of audio that may be in flight while that is tried with less.
        self._trial: float | None = None
        # Under overload: the latency aimed at, how many times that attempts take, and what one may carry.
        self._target: float | None = None
        self._slowness = 0.0
        self._own_cap = self._halved_cap = math.inf
        # The limit that throttling left, and when it last did.
        self._throttled_limit = float(max_limit)
        self._throttled_at = -math.inf
        self._limit = max_limit
        # Whether the limit is reached, and when it last was.
        self._full = False
        self._full_at = -math.inf
        self._told = max_limit

    @property
    def limit(self) -> int:
        """Return how many attempts may be in flight."""
        return self._limit

    @property
    def overloaded(self) -> bool:
        """Return whether there is evidence that the service has more to do than it can."""
        return self._overloaded

    def start(
        self, audio: float, now: float, time_limit: float = math.inf, *, into: list[Sample] | None = None
    ) -> Sample:
        """Note that an attempt at *audio* seconds leaves, whose most impatient text was *given* so many in all.

        Exactly one of the five below ends it, with the seconds of audio that were *returned*. The sample is put *into*
        a list before it counts, so that whoever is interrupted here can end it.
        """
        with self._lock:
            self._observe_locked(now)
            beside, rate = self._throughput.audio, self._throughput.rate
            in_flight = audio + beside
            expected = in_flight / rate if rate else 0.0
            # As long as nothing was measured, a service may render as slowly as it is spoken.
            queue = min(in_flight, _READ_LATENCIES * expected) if rate else in_flight
            read_timeout = max(queue, _READ_LATENCIES * self._latency)
            sample = Sample(audio, beside, now, time_limit, expected=expected, read_timeout=read_timeout)
            if into is not None:
                into += [sample]
            self._throughput.start(audio)
            sample.in_flight = True
            self._settle_locked(now)
            return sample

    def record_success(self, sample: Sample, now: float, returned: float) -> None:
        """Learn from an attempt that was answered in full."""
        with self._lock:
            latency = self._end_locked(sample, now, returned)
            self._throughput.record_answer(sample.started)
            if self._fruitless >= _FRUITLESS:
                # It is back; nothing known from before says how fast it is.
                self._throughput.restart(returned, latency)
                self._latency = latency
            self._fruitless = self._cut_off = 0
            self._answered_at = now
            if sample.audio > self._halved_cap / 2:
                self._halved_cap *= 2
            limit = self._throttled_limit
            if limit < self._most and self._full_at >= sample.started:
                self._throttled_limit = min(float(self._most), limit + max(1.0, self._config.step * limit) / limit)
            self._learn_locked(sample, latency)
            self._settle_locked(now)

    def record_throttled(self, sample: Sample, now: float, returned: float = 0.0) -> None:
        """Back off from a service that asked for less; once for all that left before it did."""
        with self._lock:
            self._end_locked(sample, now, returned)
            if sample.started > self._throttled_at:
                self._throttled_at = now
                self._throttled_limit = max(1.0, self._config.backoff * min(self._limit, self._throttled_limit))
            self._settle_locked(now)

    def record_timeout(self, sample: Sample, now: float, returned: float = 0.0) -> None:
        """Learn from an attempt cut off by its deadline or a time-out.

        Some in a row that could not be there in time, at the pace at which audio comes back, show overload. If nobody
        at all was answered meanwhile, the service is stuck: one attempt at a time then, half as long as those that
        failed, until one succeeds.
        """
        with self._lock:
            latency = self._end_locked(sample, now, returned)
            self._throughput.abandon(sample.audio - returned, sample.started)
            if returned:
                self._fruitless, self._answered_at = 0, now
                if not self._latency:
                    self._learn_locked(sample, latency)
            elif latency > max(_SHORTEST_TRY, _LONGER * self._latency) and self._answered_at <= sample.started:
                self._fruitless += 1
                # Those that were in flight when it got stuck tell of the same event.
                if self._fruitless >= _FRUITLESS and sample.started >= self._stuck_at:
                    self._stuck_at = now
                    self._overloaded = True
                    self._halved_cap = max(1.0, min(self._halved_cap, sample.audio) / 2)
            if sample.expected > latency > _SHORTEST_TRY and self._target is not None:
                self._cut_off += 1
                self._overloaded |= self._cut_off >= _CUT_OFF
            self._learn_at_least_locked(sample, latency)
            self._settle_locked(now)

    def record_cancelled(self, sample: Sample, now: float, returned: float = 0.0) -> None:
        """End an attempt that nobody wanted any more: it tells nothing, but the rest of it is work for the service."""
        with self._lock:
            self._end_locked(sample, now, returned)
            self._throughput.abandon(sample.audio - returned, sample.started)
            self._settle_locked(now)

    def record_failure(self, sample: Sample, now: float, returned: float = 0.0) -> None:
        """End an attempt that failed otherwise: at once, that says nothing of the load; late, it shows slowness."""
        with self._lock:
            self._learn_at_least_locked(sample, self._end_locked(sample, now, returned))
            self._settle_locked(now)

    def estimate(self, now: float) -> Estimate:
        """Return what an attempt that leaves now should know."""
        with self._lock:
            if not self._latency and not self._fruitless:
                return NO_ESTIMATE
            self._throughput.observe(now, self._latency)
            audio, needed = math.inf, self._latency
            if self._fruitless >= _FRUITLESS:
                # Nobody makes it as it is, so whoever has most time left goes first.
                audio, needed = self._halved_cap, math.inf
            elif self._overloaded and (rate := self._throughput.rate):
                audio = self._cap_locked()
                needed = _MARGIN * (self._throughput.audio + audio) / rate
            return Estimate(max_audio=audio, safe_latency=needed)

    def take_change(self) -> tuple[int, int] | None:
        """Return the old and the new limit if it has moved by 3, and a factor of 1.5, or more since the last news."""
        with self._lock:
            old, new = self._told, self._limit
            if abs(new - old) < _NOTICEABLE or (new * 2 < old * 3 and new * 3 > old * 2):
                return None
            self._told = new
            return old, new

    def _observe_locked(self, now: float) -> None:
        self._throughput.observe(now, self._latency)
        if self._full:
            self._full_at = now

    def _end_locked(self, sample: Sample, now: float, returned: float) -> float:
        """Note that an attempt has ended, and return the seconds that it took."""
        self._observe_locked(now)
        self._throughput.finish(sample.audio, returned)
        sample.in_flight = False
        return max(now - sample.started - sample.idle, _INSTANT)

    def _learn_at_least_locked(self, sample: Sample, latency: float) -> None:
        """Learn from an attempt that would have taken longer, if already that is more than was to be expected."""
        if self._latency and latency > max(self._latency, self._model.expect(sample.audio, sample.other_audio)):
            # Not of what is usual: reads would be given longer for one that hangs.
            usual = self._latency
            self._learn_locked(sample, latency)
            self._latency = usual

    def _learn_locked(self, sample: Sample, latency: float) -> None:
        self._latency += (latency - self._latency) * (_NEWEST if self._latency else 1.0)
        self._model.add(sample.audio, sample.other_audio, latency)
        affordable = max(self._floor, min(self._config.tolerance, _AFFORDABLE * sample.time_limit))
        own = self._model.own
        self._own_cap = affordable / own if own else math.inf
        # What it takes alone cannot be called a queue; yet what leaves no time to wait in ours is too slow.
        alone = self._model.unloaded(sample.audio)
        target = max(affordable, min(2.0 * alone, max(sample.time_limit / 2.0, _MARGIN * alone)), _INSTANT)
        self._target = target if self._target is None else self._target + _NEWEST * (target - self._target)
        self._slowness += _NEWEST * (latency / target - self._slowness)
        if not self._overloaded:
            self._suspect_locked(sample, latency)

    def _suspect_locked(self, sample: Sample, latency: float) -> None:
        """Find out whether there is overload."""
        second = self._second
        if second is None:
            # Looked for early, so that it is found by the time it matters.
            if self._slowness > _EARLY and self._model.queueing:
                self._second = LatencyModel()
            return
        second.add(sample.audio, sample.other_audio, latency)
        if second.count < _SECOND:
            return
        if second.queueing_share > 0.5 and self._slowness > 1.0:
            self._overloaded, self._second, self._trial = True, None, None
        elif second.queueing_share <= 0.5 and second.load_varied:
            # It is slower for all alike: what was learned before is no longer so.
            self._model, self._second, self._trial = second, None, None
        elif self._slowness < _EARLY:
            self._second = self._trial = None
        elif self._slowness > 1.0 and self._trial is None:
            self._trial = _TRIED * self._throughput.audio

    def _settle_locked(self, now: float) -> None:
        """Lift what holds nobody back, and set the limit."""
        idle = now - self._full_at > _RELEASED
        if idle and now - self._throttled_at > _RELEASED:
            self._throttled_limit = float(self._most)
        needless = idle or (self._slowness < _EASY and self._bound_locked() >= self._most)
        if self._overloaded and self._fruitless < _FRUITLESS and needless:
            self._overloaded = False
            self._halved_cap = math.inf
        if idle:
            self._trial = None
        bound = min(float(self._most), self._throttled_limit)
        if self._overloaded or self._trial is not None:
            bound = min(bound, self._bound_locked())
        self._limit = max(1, int(bound))
        self._full = self._throughput.in_flight >= self._limit

    def _bound_locked(self) -> float:
        """Return how many attempts make up the audio that may be in flight: those that are, and what still fits."""
        if self._fruitless >= _FRUITLESS or not self._target:
            return 1.0
        allowed = self._throughput.rate * self._target if self._trial is None else self._trial
        if not 0.0 < allowed < math.inf:
            return 1.0
        free = (allowed - self._throughput.audio) * _PARTS / allowed
        # One that is long, or hangs, must not keep all others waiting.
        return max(2.0, self._throughput.in_flight + math.floor(max(-self._most, min(self._most, free))))

    def _cap_locked(self) -> float:
        allowed = self._throughput.rate * (self._target or 0.0)
        return min(self._own_cap, self._halved_cap, allowed / _PARTS)

    def __repr__(self) -> str:
        state = "stuck" if self._fruitless >= _FRUITLESS else "overloaded" if self._overloaded else "free"
        return (
            f"<AdaptiveLimit {self._throughput.in_flight} of {self._limit} (1 to {self._most}), {state},"
            f" {self._throughput!r}, {self._model!r}>"
        )
