"""How many attempts may be in flight: as many as configured, until there is evidence of overload.

    free ──queueing is confirmed──▶ overloaded ──attempts are fast, or fewer than the limit──▶ free
    free or overloaded ──time-outs and no answer at all──▶ stuck ──an answer──▶ overloaded

Evidence is latency that has grown with what was in flight (`LatencyModel.queueing`) and is more than texts can afford,
time-outs while nothing at all is answered, and throttling. Latency alone, failures that come back at once, and what an
idle or cold service left unmeasured are none; without evidence nothing is limited.

Under overload the audio in flight is kept at ``throughput × target latency`` (Little's Law), in attempts of an eighth
of that. As long as attempts come back within the target, more is allowed than is in flight. A service that became
slower by itself has more in flight for that reason, which looks like a queue where both are seen together: so the
growth must show once more, among the next attempts alone; if all of those found as much in flight, the limit is halved
for a trial. Throttling is answered by AIMD, as TCP and Netflix's concurrency-limits do.

`start` issues a `Sample` for each attempt; exactly one of the ``record_...`` methods ends it.
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

_AFFORDABLE_SHARE: Final = 0.25
"""Share of its texts' time limit that an attempt may take without being too slow for them."""
_PARTS: Final = 8
"""Attempts into which the allowed audio is divided under overload: a service may serve each on one processor."""
_NEWEST: Final = 0.25
"""Weight of the newest attempt in what is smoothed."""
_STUCK_AFTER: Final = 2
"""Attempts in a row without any answer after which the service counts as stuck."""
_MAX_CUT_OFF: Final = 3
"""Attempts in a row that were cut off, as was to be expected, after which it is overload."""
_MIN_ATTEMPT: Final = 1.0
_MIN_USUAL_LATENCIES: Final = 2.0
"""Seconds, and usual latencies, below which an attempt without an answer says nothing of the service."""
_LIFTED_AFTER: Final = 2.0
"""Seconds after which a limit that was not reached is lifted."""
_SUSPICIOUS: Final = 0.5
_CONFIRMING: Final = 16
"""Share of the target latency from which on growth is looked for, and the attempts among which it must show again."""
_TRIAL_SHARE: Final = 0.5
"""Share of what was in flight that a trial leaves, to see whether that makes attempts faster."""
_EASY_SHARE: Final = 0.6
"""Share of the target latency up to which attempts do not need a limit that no longer binds."""
_MARGIN: Final = 1.25
"""How many times the expected latency a text should have left to be sent before others."""
_READ_LATENCIES: Final = 4.0
"""Latencies that a read is given at least: a long queue is no reason to try again."""
_NOTICEABLE: Final = 3
"""Permits by which a limit must have changed to be reported: small ones change by one or two all the time."""
_SHORTEST_LATENCY: Final = 1e-6
"""Seconds that an attempt takes at least: with a clock that stood still all others would seem infinitely slow."""


class Sample:
    """Hold the circumstances in which an attempt was sent; `AdaptiveLimit.start` issues it, a ``record_...`` ends it.

    ``other_audio`` are the seconds of audio of other attempts in flight, ``time_limit`` those between call and deadline
    of its most urgent text, ``expected`` those that all audio in flight takes at the throughput measured so far (0 if
    none was), ``read_timeout`` those that each read should be given at least. ``listener_seconds`` of it were not the
    service's, such as a slow listener's; set it before the end. ``in_flight`` says whether the limit counts it.
    """

    __slots__ = (
        "audio",
        "expected",
        "in_flight",
        "listener_seconds",
        "other_audio",
        "read_timeout",
        "started",
        "time_limit",
    )

    def __init__(
        self,
        audio: float,
        other_audio: float,
        started: float,
        time_limit: float,
        *,
        expected: float = 0.0,
        read_timeout: float = 0.0,
    ) -> None:
        self.audio = audio
        self.other_audio = other_audio
        self.started = started
        self.time_limit = time_limit
        self.expected = expected
        self.read_timeout = read_timeout
        self.listener_seconds = 0.0
        self.in_flight = False


class AdaptiveLimit:
    """Move the limit between 1 and *max_limit*; safe to share between threads, pure in ``now``.

    Latencies up to *latency_floor* seconds are never too slow: the pool was sized for them, and a client short of
    processor time, whose own threads wait for each other, would take itself for a slow service.
    """

    def __init__(self, config: AdaptiveConfig, *, max_limit: int, latency_floor: float = 0.0) -> None:
        self._config = config
        self._max_limit = max_limit
        self._latency_floor = latency_floor
        self._lock = threading.Lock()
        # Guarded by _lock, like all below.
        self._model = LatencyModel()
        self._throughput = Throughput()
        self._latency = 0.0
        self._last_answer_at = -math.inf
        self._unanswered = self._cut_off = 0
        self._overloaded = False
        self._stuck_at = -math.inf
        # Attempts since growth was first seen, to see whether it is seen again.
        self._confirmation: LatencyModel | None = None
        # The seconds of audio that may be in flight during a trial.
        self._trial_audio: float | None = None
        # Under overload: the latency aimed at, how many times that attempts take, and the audio that one may carry.
        self._target: float | None = None
        self._slowness = 0.0
        self._affordable_audio = self._stuck_audio = math.inf
        # The limit that throttling left, and when it last did.
        self._throttled_limit = float(max_limit)
        self._throttled_at = -math.inf
        self._limit = max_limit
        # Whether the limit is reached, and when it last was.
        self._full = False
        self._full_at = -math.inf
        self._reported = max_limit

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
        """Note that an attempt at *audio* seconds is sent, whose most urgent text has a *time_limit* of so many.

        Exactly one of the five methods below ends it, with the seconds of audio that were *returned*. The sample is
        appended to *into* before it counts, so that a caller interrupted here can end it.
        """
        with self._lock:
            self._observe_locked(now)
            other_audio, rate = self._throughput.audio, self._throughput.rate
            in_flight = audio + other_audio
            expected = in_flight / rate if rate else 0.0
            # As long as nothing was measured, a service may need as long as the audio lasts.
            queue = min(in_flight, _READ_LATENCIES * expected) if rate else in_flight
            read_timeout = max(queue, _READ_LATENCIES * self._latency)
            sample = Sample(audio, other_audio, now, time_limit, expected=expected, read_timeout=read_timeout)
            if into is not None:
                into += [sample]
            self._throughput.start(audio)
            sample.in_flight = True
            self._update_locked(now)
            return sample

    def record_success(self, sample: Sample, now: float, returned: float) -> None:
        """End an attempt that was answered in full, and learn from it."""
        with self._lock:
            latency = self._finish_locked(sample, now, returned)
            self._throughput.record_answer(sample.started)
            if self._unanswered >= _STUCK_AFTER:
                # The service is back; nothing known from before says how fast it is.
                self._throughput.restart(returned, latency)
                self._latency = latency
            self._unanswered = self._cut_off = 0
            self._last_answer_at = now
            if sample.audio > self._stuck_audio / 2:
                self._stuck_audio *= 2
            limit = self._throttled_limit
            if limit < self._max_limit and self._full_at >= sample.started:
                self._throttled_limit = min(float(self._max_limit), limit + max(1.0, self._config.step * limit) / limit)
            self._add_locked(sample, latency)
            self._update_locked(now)

    def record_throttled(self, sample: Sample, now: float, returned: float = 0.0) -> None:
        """End an attempt that was refused as too much, and lower the limit; once for all that were sent before that."""
        with self._lock:
            self._finish_locked(sample, now, returned)
            if sample.started > self._throttled_at:
                self._throttled_at = now
                self._throttled_limit = max(1.0, self._config.backoff * min(self._limit, self._throttled_limit))
            self._update_locked(now)

    def record_timeout(self, sample: Sample, now: float, returned: float = 0.0) -> None:
        """End an attempt that was cut off by its deadline or a time-out, and learn from it.

        Some in a row that could not be answered in time, at the throughput measured, show overload. If nothing at all
        was answered meanwhile, the service is stuck: one attempt at a time then, half as long as those that failed,
        until one succeeds.
        """
        with self._lock:
            latency = self._finish_locked(sample, now, returned)
            self._throughput.abandon(sample.audio - returned, sample.started)
            if returned:
                self._unanswered, self._last_answer_at = 0, now
                if not self._latency:
                    self._add_locked(sample, latency)
            elif (
                latency > max(_MIN_ATTEMPT, _MIN_USUAL_LATENCIES * self._latency)
                and self._last_answer_at <= sample.started
            ):
                self._unanswered += 1
                # Those that were in flight when it got stuck belong to the same event.
                if self._unanswered >= _STUCK_AFTER and sample.started >= self._stuck_at:
                    self._stuck_at = now
                    self._overloaded = True
                    self._stuck_audio = max(1.0, min(self._stuck_audio, sample.audio) / 2)
            if sample.expected > latency > _MIN_ATTEMPT and self._target is not None:
                self._cut_off += 1
                self._overloaded |= self._cut_off >= _MAX_CUT_OFF
            self._add_if_slow_locked(sample, latency)
            self._update_locked(now)

    def record_cancelled(self, sample: Sample, now: float, returned: float = 0.0) -> None:
        """End an attempt that was cancelled: nothing is learnt, but its rest is still work for the service."""
        with self._lock:
            self._finish_locked(sample, now, returned)
            self._throughput.abandon(sample.audio - returned, sample.started)
            self._update_locked(now)

    def record_failure(self, sample: Sample, now: float, returned: float = 0.0) -> None:
        """End an attempt that failed otherwise: a fast failure says nothing of the load, a late one shows slowness."""
        with self._lock:
            self._add_if_slow_locked(sample, self._finish_locked(sample, now, returned))
            self._update_locked(now)

    def estimate(self, now: float) -> Estimate:
        """Return what an attempt that is sent now should carry."""
        with self._lock:
            if not self._latency and not self._unanswered:
                return NO_ESTIMATE
            self._throughput.observe(now, self._latency)
            audio, needed = math.inf, self._latency
            if self._unanswered >= _STUCK_AFTER:
                # None is fast enough as it is, so texts with most time left go first.
                audio, needed = self._stuck_audio, math.inf
            elif self._overloaded and (rate := self._throughput.rate):
                audio = self._audio_cap_locked()
                needed = _MARGIN * (self._throughput.audio + audio) / rate
            return Estimate(max_audio=audio, safe_latency=needed)

    def take_change(self) -> tuple[int, int] | None:
        """Return the old and the new limit if it has changed by 3, and a factor of 1.5, or more since last reported."""
        with self._lock:
            old, new = self._reported, self._limit
            if abs(new - old) < _NOTICEABLE or (new * 2 < old * 3 and new * 3 > old * 2):
                return None
            self._reported = new
            return old, new

    def _observe_locked(self, now: float) -> None:
        self._throughput.observe(now, self._latency)
        if self._full:
            self._full_at = now

    def _finish_locked(self, sample: Sample, now: float, returned: float) -> float:
        """Note that an attempt has ended, and return the seconds that it took."""
        self._observe_locked(now)
        self._throughput.finish(sample.audio, returned)
        sample.in_flight = False
        return max(now - sample.started - sample.listener_seconds, _SHORTEST_LATENCY)

    def _add_if_slow_locked(self, sample: Sample, latency: float) -> None:
        """Learn from an attempt that was cut short, if it took longer than expected even so."""
        if self._latency and latency > max(self._latency, self._model.expect(sample.audio, sample.other_audio)):
            # The usual latency stays: reads would be given longer for one attempt that hangs.
            usual = self._latency
            self._add_locked(sample, latency)
            self._latency = usual

    def _add_locked(self, sample: Sample, latency: float) -> None:
        self._latency += (latency - self._latency) * (_NEWEST if self._latency else 1.0)
        self._model.add(sample.audio, sample.other_audio, latency)
        affordable = max(self._latency_floor, min(self._config.tolerance, _AFFORDABLE_SHARE * sample.time_limit))
        own = self._model.own
        self._affordable_audio = affordable / own if own else math.inf
        # The latency without other attempts is no queue; but it is too slow if it leaves no time to wait in ours.
        alone = self._model.unloaded(sample.audio)
        target = max(affordable, min(2.0 * alone, max(sample.time_limit / 2.0, _MARGIN * alone)), _SHORTEST_LATENCY)
        self._target = target if self._target is None else self._target + _NEWEST * (target - self._target)
        self._slowness += _NEWEST * (latency / target - self._slowness)
        if not self._overloaded:
            self._detect_locked(sample, latency)

    def _detect_locked(self, sample: Sample, latency: float) -> None:
        """Decide whether there is overload: growth seen in all attempts must be confirmed by the next ones alone."""
        confirmation = self._confirmation
        if confirmation is None:
            # Looked for early, so that it is confirmed by the time it matters.
            if self._slowness > _SUSPICIOUS and self._model.queueing:
                self._confirmation = LatencyModel()
            return
        confirmation.add(sample.audio, sample.other_audio, latency)
        if confirmation.count < _CONFIRMING:
            return
        if confirmation.queueing_share > 0.5 and self._slowness > 1.0:
            self._overloaded, self._confirmation, self._trial_audio = True, None, None
        elif confirmation.queueing_share <= 0.5 and confirmation.load_varied:
            # The service is slower for all attempts alike: the old model no longer holds.
            self._model, self._confirmation, self._trial_audio = confirmation, None, None
        elif self._slowness < _SUSPICIOUS:
            self._confirmation = self._trial_audio = None
        elif self._slowness > 1.0 and self._trial_audio is None:
            self._trial_audio = _TRIAL_SHARE * self._throughput.audio

    def _update_locked(self, now: float) -> None:
        """Lift a limit that is not reached or not needed, and set the limit."""
        idle = now - self._full_at > _LIFTED_AFTER
        if idle and now - self._throttled_at > _LIFTED_AFTER:
            self._throttled_limit = float(self._max_limit)
        needless = idle or (self._slowness < _EASY_SHARE and self._allowed_attempts_locked() >= self._max_limit)
        if self._overloaded and self._unanswered < _STUCK_AFTER and needless:
            self._overloaded = False
            self._stuck_audio = math.inf
        if idle:
            self._trial_audio = None
        bound = min(float(self._max_limit), self._throttled_limit)
        if self._overloaded or self._trial_audio is not None:
            bound = min(bound, self._allowed_attempts_locked())
        self._limit = max(1, int(bound))
        self._full = self._throughput.in_flight >= self._limit

    def _allowed_attempts_locked(self) -> float:
        """Return how many attempts the allowed audio makes: those in flight, and as many as still fit."""
        if self._unanswered >= _STUCK_AFTER or not self._target:
            return 1.0
        allowed = self._throughput.rate * self._target if self._trial_audio is None else self._trial_audio
        if not 0.0 < allowed < math.inf:
            return 1.0
        free = (allowed - self._throughput.audio) * _PARTS / allowed
        # One long or hanging attempt must not keep all others waiting.
        return max(2.0, self._throughput.in_flight + math.floor(max(-self._max_limit, min(self._max_limit, free))))

    def _audio_cap_locked(self) -> float:
        allowed = self._throughput.rate * (self._target or 0.0)
        return min(self._affordable_audio, self._stuck_audio, allowed / _PARTS)

    def __repr__(self) -> str:
        state = "stuck" if self._unanswered >= _STUCK_AFTER else "overloaded" if self._overloaded else "free"
        return (
            f"<AdaptiveLimit {self._throughput.in_flight} of {self._limit} (1 to {self._max_limit}), {state},"
            f" {self._throughput!r}, {self._model!r}>"
        )
