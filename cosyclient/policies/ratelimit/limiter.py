"""Pacing: at which instant may this be sent, so that no window of time ever sees more than the service promised?"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeGuard

from cosyclient.errors import RateLimited
from cosyclient.policies.ratelimit.cubic import Cubic
from cosyclient.policies.ratelimit.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Sequence


# A service's word is taken up to here; beyond, a slip in one header would silence the client for good.
_LONGEST_HOLD = 3600.0
_LONGEST_INTERVAL = 86400.0
# Up to this share of places that need no waiting, the sender counts as being as fast as it may.
_UNPACED = 0.1
_INSTANT = 1e-9
# Seconds and answers from which on an accepted rate is more than noise.
_SPAN = 1.0
_COUNT = 10


@dataclass(frozen=True, slots=True)
class Limit:
    """Allow *rate* units a second, of which *burst* may come at once after a pause; an infinite rate allows all."""

    rate: float
    burst: float

    def __post_init__(self) -> None:
        if not (self.rate > 0 and 1 <= self.burst < math.inf):
            raise ValueError(f"rate must be above 0 and burst at least 1, got {self.rate!r} and {self.burst!r}")


@dataclass(frozen=True, slots=True)
class Reservation:
    """Hold a place in the sending order: ``at`` is the monotonic instant from which it may be sent."""

    at: float
    _slot: float  # the same instant on the limiter's own clock, which stands still during holds
    _lag: float  # how long that clock had stood still when `at` was computed
    _serial: int
    _weights: tuple[float, ...]  # what it took from each limit
    _leaves: bool = field(compare=False)  # whether it has been let go, see `_leave_locked`
    _before: tuple[int, tuple[float, ...], float]  # what `cancel` puts back: newest serial, tats, share of `_gone`
    _below: bool | None = field(compare=False)  # how it counts, see `Refusals`; None if it had not to wait for the rate

    def wait(self, now: float) -> float:
        """Return the seconds until it may be sent, 0 when it may be sent now."""
        return max(0.0, self.at - now)

    def __repr__(self) -> str:
        return f"<Reservation {self._serial} at {self.at:.3f}>"


class RateLimiter:
    """Spread sends to *rate* a second with bursts of *burst*, first come, first served; safe to share between threads.

    GCRA (ITU-T I.371) with one theoretical arrival time per limit: ``tat = max(at, tat) + cost / rate`` and
    ``at = max(now, tat - burst / rate)``, so no window of W seconds holds more than ``rate × W + burst``. *also*
    names further limits that every send must meet, such as requests a minute or characters a second. It waits
    nowhere: sleep until ``at``, `recheck`, send. An infinite *rate* makes nobody wait until the service announces a
    limit or refuses.
    """

    def __init__(self, *, rate: float, burst: int, also: Sequence[Limit] = ()) -> None:
        self.configured = float(rate)
        """The rate asked for at construction; ``rate`` is never above it."""
        self._bursts = (float(burst), *(limit.burst for limit in also))
        self._lock = threading.Lock()  # guards everything below
        self._limits = [Limit(float(rate), float(burst)), *also]
        # On the limiter's own clock, see `hold`. All tats lie in the past of a limiter never used.
        self._tats = [-math.inf] * len(self._limits)
        self._latest = -math.inf  # the latest instant known: of a call or a grant
        self._lag = 0.0  # how long the own clock has stood still, for all holds together
        self._resume = -math.inf  # the instant until which it stands still
        self._stands_at = -math.inf  # what it showed when it last stopped
        self._serial = self._newest = 0
        self._ceiling = self._limits[0]  # what was configured or announced
        self._cubic = Cubic(self._ceiling.rate)
        self._slowed = False  # whether the cubic's rate is in effect
        self._void = 0  # places up to this serial were given at a rate that was refused
        self._unpaced = 0  # places since then that needed no waiting
        self._gone = -math.inf  # the theoretical arrival time of what really left
        self._late = float(burst)  # how many late ones may leave at once
        self._refusals = Refusals()
        self._chance = False  # whether they come by chance
        # A bucket that refuses is empty: what is accepted from then on is what refills it, never more than the quota.
        self._proven = 0.0  # the highest such rate so far
        self._empty_at = math.inf  # when it was last empty, with the serial of then, and what was accepted since
        self._empty_serial = self._accepted = 0

    @property
    def rate(self) -> float:
        """Return the sends a second in effect, lowered by what the service announced or refused."""
        return self._limits[0].rate

    @property
    def slowed(self) -> bool:
        """Return whether it is slower than configured or announced, because the service refused a send."""
        return self._slowed

    def reserve(
        self, now: float, *, max_wait: float = math.inf, cost: float = 1.0, costs: Sequence[float] | None = None
    ) -> Reservation:
        """Take a place in the sending order and return the instant it stands for.

        *cost* is what it takes from every limit, unless *costs* names one per limit of *also*. Raises `RateLimited`
        at once, and takes nothing, when that instant is more than *max_wait* seconds away (``retry_after`` says how
        far) or when a cost exceeds its limit's burst.
        """
        weights = (cost,) * len(self._bursts) if costs is None else (cost, *costs)
        for weight, burst in zip(weights, self._bursts, strict=True):
            if not 0.0 <= weight <= burst:
                raise RateLimited(f"a cost of {weight:g} can never be sent within a burst of {burst:g}")
        with self._lock:
            if self._slowed:
                self._recover_locked(now)
            slot = own = self._own_locked(now)
            for limit, tat, weight in zip(self._limits, self._tats, weights, strict=True):
                if weight:
                    slot = max(slot, tat + (weight - limit.burst) / limit.rate)
            # The own clock's present is now, or the end of a hold.
            at = max(now, self._resume, slot + self._lag if slot > own else now)
            gone = self._gone
            if at <= now and (late := self._leave_locked(now, weights[0])):
                at = now + late
            if at - now <= max_wait:
                before = (self._newest, tuple(self._tats), self._gone - max(gone, now) if self._gone > gone else 0.0)
                # Who need not wait does not ask as fast as is allowed: it is not the rate that this tells of.
                below = self.rate <= self._proven if at > now else None
                place = Reservation(at, slot, self._lag, self._serial + 1, weights, at <= now, before, below)
                tats = [
                    max(slot, tat) + weight / limit.rate if weight else tat
                    for limit, tat, weight in zip(self._limits, self._tats, weights, strict=True)
                ]
                self._latest = max(self._latest, own, slot)
                self._unpaced += at <= now
                self._tats = tats
                self._serial += 1
                self._newest = self._serial
                return place
        raise _too_late(at - now, max_wait)

    def cancel(self, reservation: Reservation) -> None:
        """Give back a place that will not be used.

        Only the newest place can be given back (then the one before it is the newest). Any other is forfeited:
        those behind it know their instants already, and a place handed out anew between them could meet theirs.
        """
        with self._lock:
            if reservation._serial == self._newest:
                newest, before, gone = reservation._before
                tats = list(before)
                self._newest = newest
                self._tats = tats
                self._gone -= gone

    def pause(self, now: float, seconds: float) -> None:
        """Grant nothing before *seconds* from *now*, and only the pace, no burst, from then on (429 with Retry-After).

        The limiter's own clock stands still meanwhile, so everybody in the order moves back by the hold and keeps
        the distance to the others. No positive number only drains; more than an hour counts as one.
        """
        seconds = min(seconds, _LONGEST_HOLD)
        if not seconds > 0.0:
            self.drain(now)
            return
        with self._lock:
            own = self._own_locked(now)
            end = now + seconds
            if end > self._resume:
                self._lag += end - max(now, self._resume)
                self._resume, self._stands_at = end, own
            # One token is left, so that the first may leave at the end of the hold.
            self._empty_locked(own, left=1.0)
            self._cubic.pause(end)

    def recheck(self, reservation: Reservation, now: float, *, max_wait: float = math.inf) -> Reservation:
        """Return *reservation* as it stands after any hold or refusal since; call it on waking, before sending.

        Send when its ``at`` has come, else sleep on. One that was due when the hold began goes to the end of the
        order: the others of its burst are due too, and must not all leave when the hold ends. So does one from before
        a refusal, whose pace was too fast. Raises `RateLimited` when it moved more than *max_wait* seconds away; the
        place is gone then.
        """
        with self._lock:
            if reservation._serial > self._void:
                at, due = reservation.at, False
                if reservation._lag != self._lag:
                    due = reservation._slot <= self._stands_at
                    at = max(self._resume, reservation._slot + self._lag)
                if not due:
                    leaves = reservation._leaves
                    if at <= now and not leaves:
                        late = self._leave_locked(now, reservation._weights[0])
                        at, leaves = (now + late, False) if late else (at, True)
                    if at - now > max_wait:
                        raise _too_late(at - now, max_wait)
                    return replace(reservation, at=at, _lag=self._lag, _leaves=leaves)
        cost, *costs = reservation._weights
        return self.reserve(now, max_wait=max_wait, cost=cost, costs=costs)

    def drain(self, now: float) -> None:
        """Empty the burst: the next send waits one interval (429 without Retry-After)."""
        with self._lock:
            self._empty_locked(self._own_locked(now), left=0.0)

    def record_success(self, reservation: Reservation) -> None:
        """Note that the send made with *place* was answered in full."""
        # Without the lock where there is nothing to count: a client that is never refused comes through here.
        if self._empty_at < math.inf:
            with self._lock:
                self._accepted += reservation._serial > self._empty_serial
                if reservation._below is not None:
                    self._refusals.record(below=reservation._below, refused=False)

    def record_throttled(
        self, now: float, reservation: Reservation, *, accepted: int, sent: float = math.inf
    ) -> Literal["slowed", "known", "chance"]:
        """Slow down because the service refused the send made with *place*; return whether that is so.

        The refusals of all that left before it slowed down are one piece of news, ``known`` from the first on.
        *accepted* counts all sends so far that were not refused, *sent* is how many a second there were of late, which
        is what was refused where no rate was known. The rate falls to 0.7 of what the service seems to
        allow and returns to that, and later beyond it, by CUBIC; until it is the old one again, there are no bursts.

        A refusal at a rate that the service has proved to accept is ``chance``; where refusals come by chance, all are,
        and it looks for more, heedless of them.
        """
        with self._lock:
            if reservation._below is not None:
                self._refusals.record(below=reservation._below, refused=True)
            chance, self._chance = self._chance, self._refusals.by_chance
            if self._chance:
                if not chance:
                    self._cubic.explore(now)
                return "chance"
            if reservation._below:
                if not self._refusals.many_below:
                    return "chance"
                # The quota is another one now.
                self._proven, self._refusals = 0.0, Refusals()
            if reservation._serial <= self._void:
                self._cubic.record_late_refusal()
                return "known"
            span = now - self._empty_at
            if span >= _SPAN and self._accepted >= _COUNT:
                self._proven = max(self._proven, self._accepted / span)
            self._empty_at, self._empty_serial, self._accepted = now, self._serial, 0
            given = self._serial - self._void
            self._cubic.record_refused(now, accepted, paced=self._unpaced <= _UNPACED * given, sent=sent)
            own = self._own_locked(now)
            self._slowed, self._void, self._unpaced = True, self._serial, 0
            self._limits[0] = Limit(self._cubic.rate(now), 1.0)
            # Whoever sleeps on a place from before asks again on waking: the order begins anew.
            self._tats[0] = self._latest = own
            self._empty_locked(own, left=0.0)
            return "slowed"

    def apply_quota(self, limit: float | None, window: float | None) -> bool:
        """Heed the quota the service announced, *limit* sends per *window* seconds; return whether the rate changed.

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
        ceiling, late = Limit(rate, min(self._bursts[0], max(1.0, math.floor(limit)))), max(1.0, limit / 2.0)
        if ceiling == self._ceiling and late == self._late:
            return False
        with self._lock:
            # Half of what the service takes at once: its bucket is not full when we are late.
            self._late = late
            if ceiling == self._ceiling:
                return False
            old, self._ceiling = self._limits[0].rate, ceiling
            self._cubic.ceiling = rate
            if self._slowed:
                self._change_locked(Limit(min(old, rate), 1.0))
            else:
                self._change_locked(ceiling)
            return old != self._limits[0].rate

    def _leave_locked(self, now: float, weight: float) -> float:
        """Let one go at *now*, or return the seconds to wait because a crowd of late ones has just left.

        The places keep the pace, but sleepers wake late, and a stalled process wakes them all at once.
        """
        limit = self._limits[0]
        gone = max(now, self._gone) + weight / limit.rate
        late = gone - max(weight, limit.burst, self._late) / limit.rate - now
        if late > _INSTANT:
            return late
        self._gone = gone
        return 0.0

    def _recover_locked(self, now: float) -> None:
        rate = self._cubic.rate(now)
        if rate < self._ceiling.rate:
            self._limits[0] = Limit(rate, 1.0)
        else:
            self._slowed = False
            self._change_locked(self._ceiling)

    def _change_locked(self, limit: Limit) -> None:
        old, self._limits[0] = self._limits[0], limit
        if self._latest > -math.inf:
            # Nobody gains tokens by a change: what was left at the latest instant promised is left still.
            owed = max(0.0, self._tats[0] - self._latest)
            left = old.burst - (owed * old.rate if owed else 0.0)
            self._tats[0] = self._latest + (limit.burst - min(left, limit.burst)) / limit.rate
        self._newest = 0

    def _own_locked(self, now: float) -> float:
        return self._stands_at if now < self._resume else max(self._stands_at, now - self._lag)

    def _empty_locked(self, own: float, *, left: float) -> None:
        for index, limit in enumerate(self._limits):
            self._tats[index] = max(self._tats[index], own + (limit.burst - left) / limit.rate)
        self._latest = max(self._latest, own)
        self._newest = 0  # a place from before can no longer be given back by restoring the tats

    def __repr__(self) -> str:
        slowed = ", slowed" if self._slowed else ""
        return f"<RateLimiter {self.rate:.4g}/s of {self.configured:g}/s, burst {self._limits[0].burst:g}{slowed}>"


def _too_late(wait: float, max_wait: float) -> RateLimited:
    return RateLimited(
        f"the next send would be in {wait:.3f} s, later than the {max_wait:.3f} s there are", retry_after=wait
    )


def _sensible(value: float | None) -> TypeGuard[float]:
    return value is not None and 0.0 < value < math.inf
