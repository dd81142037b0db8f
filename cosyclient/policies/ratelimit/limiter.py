"""Pacing: the instant at which the next request may be sent, so that no span of time sees more than the quota.

A caller reserves an instant, sleeps until then, rechecks, sends, and records what came of it:

    reserve ──▶ (sleep) ──▶ recheck ──its instant has come──▶ send ──▶ record_success | record_throttled
                   ▲            │
                   └─it moved───┘          cancel: the reservation is not used

All arithmetic is pure in ``now``; the limiter itself waits nowhere.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeGuard

from cosyclient.errors import RateLimited
from cosyclient.policies.ratelimit.cubic import Cubic
from cosyclient.policies.ratelimit.refusals import Refusals

_LONGEST_PAUSE: Final = 3600.0
"""Seconds of a service's Retry-After that are respected: more is taken for a slip in one header."""
_LONGEST_INTERVAL: Final = 86400.0
"""Seconds between two sends beyond which an announced quota is taken for nonsense."""
_UNPACED_SHARE: Final = 0.1
"""Share of reservations without a wait up to which the sender counts as being as fast as the pace allows."""
_ROUNDING: Final = 1e-9
"""Seconds of lateness that are put down to floating-point arithmetic."""
_MIN_SPAN: Final = 1.0
_MIN_COUNT: Final = 10
"""Seconds and answers from which on an accepted rate is more than noise."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Allow *rate* sends a second, of which *burst* may come at once after a pause; an infinite rate allows all."""

    rate: float
    burst: float

    def __post_init__(self) -> None:
        if not (self.rate > 0 and 1 <= self.burst < math.inf):
            raise ValueError(f"rate must be above 0 and burst at least 1, got {self.rate!r} and {self.burst!r}")


# Never changed, but not frozen: that costs a microsecond a request.
@dataclass(slots=True)
class Reservation:
    """Hold a place in the sending order: ``at`` is the monotonic instant from which its request may be sent."""

    at: float
    _own_at: float  # the same instant on the limiter's own clock, which stands still during pauses
    _lag: float  # how long that clock had stood still when `at` was computed
    _serial: int
    _cleared: bool = field(compare=False)  # whether `_clear_locked` has let it be sent
    _undo: tuple[int, float, float]  # what `cancel` restores: newest serial, arrival time, share of `_cleared_arrival`
    _below_proven: bool | None = field(compare=False)  # how `Refusals` counts it; None if it had no wait for the rate

    def delay(self, now: float) -> float:
        """Return the seconds until it may be sent, 0 when it may be sent now."""
        return max(0.0, self.at - now)

    def __repr__(self) -> str:
        return f"<Reservation {self._serial} at {self.at:.3f}>"


class RateLimiter:
    """Spread sends to *rate* a second with bursts of *burst*, first come, first served; safe to share between threads.

    GCRA (ITU-T I.371) with one theoretical arrival time: ``arrival = max(at, arrival) + 1 / rate`` and
    ``at = max(now, arrival + (1 - burst) / rate)``, so no span of W seconds holds more than ``rate × W + burst``.
    With an infinite *rate* nothing waits until the service announces a limit or refuses.
    """

    def __init__(self, *, rate: float, burst: int) -> None:
        self.configured = float(rate)
        """The rate asked for at construction; ``rate`` is never above it."""
        self._burst = float(burst)
        self._lock = threading.Lock()  # guards everything below
        self._limit = Limit(float(rate), float(burst))
        # On the limiter's own clock, see `pause`. It lies in the past of a limiter never used.
        self._arrival = -math.inf
        self._latest = -math.inf  # the latest instant known, of a call or a reservation
        self._lag = 0.0  # how long the own clock has stood still, for all pauses together
        self._resumes_at = -math.inf  # the instant until which it stands still
        self._stopped_at = -math.inf  # what it showed when it last stopped
        self._serial = self._newest = 0
        self._ceiling = self._limit  # what was configured or announced
        self._cubic = Cubic(self._ceiling.rate)
        self._slowed = False  # whether the cubic's rate is in effect
        self._void = 0  # reservations up to this serial were made at a rate that was refused
        self._unpaced = 0  # reservations since then that needed no waiting
        self._cleared_arrival = -math.inf  # the theoretical arrival time by what was really sent
        self._late_burst = float(burst)  # how many late ones may be sent at once
        self._refusals = Refusals()
        self._by_chance = False  # whether they come by chance
        # A bucket that refuses is empty: what is accepted from then on is what refills it, never more than the quota.
        self._proven_rate = 0.0  # the highest such rate so far
        self._empty_at = math.inf  # when it was last empty, with the serial of then, and what was accepted since
        self._empty_serial = self._accepted = 0

    @property
    def rate(self) -> float:
        """Return the sends a second in effect, lowered by what the service announced or refused."""
        return self._limit.rate

    @property
    def slowed(self) -> bool:
        """Return whether it is slower than configured or announced, because the service refused a send."""
        return self._slowed

    def reserve(self, now: float, *, max_wait: float = math.inf) -> Reservation:
        """Reserve the next instant at which a request may be sent; `recheck` it after the wait.

        Raises `RateLimited` at once, and reserves nothing, when that instant is more than *max_wait* seconds away
        (``retry_after`` says how far).
        """
        with self._lock:
            if self._slowed:
                self._recover_locked(now)
            limit, arrival = self._limit, self._arrival
            own = self._own_time_locked(now)
            own_at = max(own, arrival + (1.0 - limit.burst) / limit.rate)
            # The own clock's present is now, or the end of a pause.
            at = max(now, self._resumes_at, own_at + self._lag if own_at > own else now)
            cleared = self._cleared_arrival
            if at <= now and (late := self._clear_locked(now)):
                at = now + late
            if at - now <= max_wait:
                share = self._cleared_arrival - max(cleared, now) if self._cleared_arrival > cleared else 0.0
                undo = (self._newest, arrival, share)
                # Without a wait it was not sent as fast as is allowed: a refusal then tells nothing of the rate.
                below = self.rate <= self._proven_rate if at > now else None
                reservation = Reservation(at, own_at, self._lag, self._serial + 1, at <= now, undo, below)
                arrival = max(own_at, arrival) + 1.0 / limit.rate
                self._latest = max(self._latest, own, own_at)
                self._unpaced += at <= now
                self._arrival = arrival
                self._serial += 1
                self._newest = self._serial
                return reservation
        raise _too_late(at - now, max_wait)

    def cancel(self, reservation: Reservation) -> None:
        """Give back a reservation that will not be used.

        Only the newest one can be given back (then the one before it is the newest). Any other is forfeited: those
        behind it know their instants already, and an instant handed out anew between them could meet theirs.
        """
        with self._lock:
            if reservation._serial == self._newest:
                newest, arrival, share = reservation._undo
                self._newest = newest
                self._arrival = arrival
                self._cleared_arrival -= share

    def pause(self, now: float, seconds: float) -> None:
        """Let nothing be sent before *seconds* from *now*, and only the pace, no burst, from then on (Retry-After).

        The limiter's own clock stands still meanwhile, so every reservation moves back by the pause and keeps its
        distance to the others. No positive number only drains; more than an hour counts as one.
        """
        seconds = min(seconds, _LONGEST_PAUSE)
        if not seconds > 0.0:
            self.drain(now)
            return
        with self._lock:
            own = self._own_time_locked(now)
            end = now + seconds
            if end > self._resumes_at:
                self._lag += end - max(now, self._resumes_at)
                self._resumes_at, self._stopped_at = end, own
            # One token is left, so that the first may be sent at the end of the pause.
            self._empty_locked(own, left=1.0)
            self._cubic.pause(end)

    def recheck(self, reservation: Reservation, now: float, *, max_wait: float = math.inf) -> Reservation:
        """Return *reservation* as it stands after any pause or refusal since; call it on waking, before sending.

        Send when its ``at`` has come, else sleep on. One that was due when the pause began goes to the end of the
        order: the others of its burst are due too, and must not all be sent when the pause ends. So does one from
        before a refusal, whose pace was too fast. Raises `RateLimited` when it moved more than *max_wait* seconds
        away; the reservation is gone then.
        """
        with self._lock:
            if reservation._serial > self._void:
                at, due = reservation.at, False
                if reservation._lag != self._lag:
                    due = reservation._own_at <= self._stopped_at
                    at = max(self._resumes_at, reservation._own_at + self._lag)
                if not due:
                    cleared = reservation._cleared
                    if at <= now and not cleared:
                        late = self._clear_locked(now)
                        at, cleared = (now + late, False) if late else (at, True)
                    if at - now > max_wait:
                        raise _too_late(at - now, max_wait)
                    return replace(reservation, at=at, _lag=self._lag, _cleared=cleared)
        return self.reserve(now, max_wait=max_wait)

    def drain(self, now: float) -> None:
        """Empty the burst: the next send waits one interval (429 without Retry-After)."""
        with self._lock:
            self._empty_locked(self._own_time_locked(now), left=0.0)

    def record_success(self, reservation: Reservation) -> None:
        """Note that the request sent with *reservation* was answered in full."""
        # Without the lock where there is nothing to count: a client that is never refused comes through here.
        if self._empty_at < math.inf:
            with self._lock:
                self._accepted += reservation._serial > self._empty_serial
                if reservation._below_proven is not None:
                    self._refusals.record(below=reservation._below_proven, refused=False)

    def record_throttled(
        self, now: float, reservation: Reservation, *, accepted: int, sent: float = math.inf
    ) -> Literal["slowed", "known", "chance"]:
        """Slow down because the service refused the request sent with *reservation*; return what the refusal was.

        The refusals of all that were sent before it slowed down count once: they are ``known`` from the second on.
        *accepted* counts all sends so far that were not refused, *sent* is how many a second there were of late, which
        is the rate that was refused where none was set. The rate falls to 0.7 of what the service seems to allow and
        returns to that, and later beyond it, by `Cubic`; until it is the old one again, there are no bursts.

        A refusal at a rate that the service has proved to accept is ``chance``; where refusals come by chance, all are,
        and the limiter looks for a higher rate in spite of them.
        """
        with self._lock:
            if reservation._below_proven is not None:
                self._refusals.record(below=reservation._below_proven, refused=True)
            was_chance, self._by_chance = self._by_chance, self._refusals.by_chance
            if self._by_chance:
                if not was_chance:
                    self._cubic.explore(now)
                return "chance"
            if reservation._below_proven:
                if not self._refusals.many_below:
                    return "chance"
                # The quota is another one now.
                self._proven_rate, self._refusals = 0.0, Refusals()
            if reservation._serial <= self._void:
                self._cubic.record_late_refusal()
                return "known"
            span = now - self._empty_at
            if span >= _MIN_SPAN and self._accepted >= _MIN_COUNT:
                self._proven_rate = max(self._proven_rate, self._accepted / span)
            self._empty_at, self._empty_serial, self._accepted = now, self._serial, 0
            made = self._serial - self._void
            self._cubic.record_refused(now, accepted, paced=self._unpaced <= _UNPACED_SHARE * made, sent=sent)
            own = self._own_time_locked(now)
            self._slowed, self._void, self._unpaced = True, self._serial, 0
            self._limit = Limit(self._cubic.rate(now), 1.0)
            # A thread that sleeps on a reservation from before rechecks on waking: the order begins anew.
            self._arrival = self._latest = own
            self._empty_locked(own, left=0.0)
            return "slowed"

    def apply_quota(self, limit: float | None, window: float | None) -> bool:
        """Keep to the quota the service reports, *limit* sends per *window* seconds; return whether the rate changed.

        It lowers the rate, and lifts what an earlier one lowered, but never above the configured rate. Nonsense
        (missing, not positive, not finite, less than one a day) is ignored. A limit without a window may be the size
        of a bucket (Envoy's local rate limit) or belong to any window: all it tells is the largest burst.
        """
        if not _sensible(limit):
            return False
        rate = self._ceiling.rate
        if window is not None:
            if not _sensible(window) or limit / window * _LONGEST_INTERVAL < 1.0:
                return False
            rate = min(self.configured, limit / window)
        ceiling, late_burst = Limit(rate, min(self._burst, max(1.0, math.floor(limit)))), max(1.0, limit / 2.0)
        if ceiling == self._ceiling and late_burst == self._late_burst:
            return False
        with self._lock:
            # Half of what the service takes at once: its bucket is not full when sends are late.
            self._late_burst = late_burst
            if ceiling == self._ceiling:
                return False
            old, self._ceiling = self._limit.rate, ceiling
            self._cubic.ceiling = rate
            if self._slowed:
                self._change_locked(Limit(min(old, rate), 1.0))
            else:
                self._change_locked(ceiling)
            return old != self._limit.rate

    def _clear_locked(self, now: float) -> float:
        """Let one request be sent at *now*, or return the seconds to wait because many late ones have just been.

        The reservations keep the pace, but threads wake late, and a stalled process wakes all of them at once.
        """
        limit = self._limit
        arrival = max(now, self._cleared_arrival) + 1.0 / limit.rate
        late = arrival - max(limit.burst, self._late_burst) / limit.rate - now
        if late > _ROUNDING:
            return late
        self._cleared_arrival = arrival
        return 0.0

    def _recover_locked(self, now: float) -> None:
        rate = self._cubic.rate(now)
        if rate < self._ceiling.rate:
            self._limit = Limit(rate, 1.0)
        else:
            self._slowed = False
            self._change_locked(self._ceiling)

    def _change_locked(self, limit: Limit) -> None:
        old, self._limit = self._limit, limit
        if self._latest > -math.inf:
            # A change gives no tokens away: what was left at the latest instant promised is left still.
            owed = max(0.0, self._arrival - self._latest)
            left = old.burst - (owed * old.rate if owed else 0.0)
            self._arrival = self._latest + (limit.burst - min(left, limit.burst)) / limit.rate
        self._newest = 0

    def _own_time_locked(self, now: float) -> float:
        return self._stopped_at if now < self._resumes_at else max(self._stopped_at, now - self._lag)

    def _empty_locked(self, own: float, *, left: float) -> None:
        self._arrival = max(self._arrival, own + (self._limit.burst - left) / self._limit.rate)
        self._latest = max(self._latest, own)
        self._newest = 0  # a reservation from before can no longer be given back by restoring the arrival time

    def __repr__(self) -> str:
        slowed = ", slowed" if self._slowed else ""
        return f"<RateLimiter {self.rate:.4g}/s of {self.configured:g}/s, burst {self._limit.burst:g}{slowed}>"


def _too_late(wait: float, max_wait: float) -> RateLimited:
    return RateLimited(
        f"the next send would be in {wait:.3f} s, later than the {max_wait:.3f} s there are", retry_after=wait
    )


def _sensible(value: float | None) -> TypeGuard[float]:
    return value is not None and 0.0 < value < math.inf
