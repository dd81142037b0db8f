"""How fast to send after a refusal, and how to find out what the service really allows: CUBIC, pure arithmetic."""

from __future__ import annotations

import math
from typing import Final

_BETA: Final = 0.7
"""What is left of the rate after a refusal; this, the next and the floor are botocore's adaptive retry mode."""
_SCALE: Final = 0.4
_FLOOR: Final = 0.5
"""Sends a second that are always allowed."""
_SHORTEST_PLATEAU: Final = 4.0
_LONGEST_PLATEAU: Final = 60.0
_DOUBLING: Final = 8.0
"""Seconds in which the rate may double at most while it looks for more: a small quota must not be overrun by t³."""
_STEP: Final = 0.2
"""Share of the way from the plateau to the rate that was refused which is believed to be allowed."""
_SAME: Final = 0.05
_FAR: Final = 1.2
_SPAN: Final = 1.0
_COUNT: Final = 10
"""Seconds and accepted sends from which on a measured rate is more than noise."""


class Cubic:
    """Give the rate at each instant after refusals; guarded by its owner's lock.

    After a refusal the rate falls to 0.7 of the ``target``, returns to it along ``target - 0.4 × (k - t)³`` (RFC 9438),
    and goes beyond it along the other half of that curve. Between the two halves it stays on a plateau. Each refusal
    that finds the target confirmed doubles the plateau, up to a minute: a known quota is tried rarely, one that was
    lifted is found in the end.

    What makes a good target is that a token bucket is empty whenever it refuses: what was accepted between two
    refusals is what it was refilled with, and less only if it was full in between. So the accepted rate is a lower
    bound of the quota, a refused rate an upper one.
    """

    def __init__(self, ceiling: float) -> None:
        self.ceiling = ceiling
        """The rate that is never exceeded, in sends a second."""
        self.target = ceiling
        """The rate it returns to: the quota as far as known."""
        self._since = -math.inf  # the last refusal, or the end of the pause after it
        self._return = 0.0  # seconds from there to the plateau
        self._plateau = 0.0  # how long that is now
        self._patience = _SHORTEST_PLATEAU / 2.0  # how long it was when last confirmed
        self._confirmed = ceiling
        self._base = (-math.inf, 0)  # an instant at which the bucket was empty, and the sends accepted until then
        self._refused = 0  # refusals since then

    def rate(self, now: float) -> float:
        """Return the sends a second to make at *now*."""
        away = max(now - self._since, 0.0) - self._return
        if away < 0.0:
            rate = self.target + _SCALE * away**3
        else:
            beyond = max(0.0, away - self._plateau)
            # Where t³ has long passed every ceiling, 2**t need not be asked for.
            endless = beyond > 64 * _DOUBLING
            doubling = math.inf if endless else self.target * (2.0 ** (beyond / _DOUBLING) - 1.0)
            rate = self.target + (math.inf if endless else min(_SCALE * beyond**3, doubling))
        return min(self.ceiling, max(_FLOOR, rate))

    def record_refused(self, now: float, accepted: int, *, paced: bool, sent: float = math.inf) -> None:
        """Slow down: a send made at the present rate was refused, or at *sent* a second where that is infinite.

        *accepted* counts all sends so far that were not; *paced* says whether they came as fast as was allowed, for
        otherwise their number tells nothing of the quota.
        """
        rate = self.rate(now)
        rate = rate if math.isfinite(rate) else max(_FLOOR, sent)
        probing = now - self._since - self._return > self._plateau
        began, before = self._base
        span, count = now - began, accepted - before
        self._refused += 1
        measured = span >= _SPAN and count >= _COUNT
        if began == -math.inf:
            target = rate
        elif not (probing or measured):
            # Too soon to tell anything new. Where most were accepted, once more from the bottom: a service that refuses
            # a few sends whatever their rate must not bring us to a standstill, 0.7 upon 0.7.
            target = self.target if count >= self._refused else rate
        elif not paced:
            # Fewer came than were allowed: what was accepted may be far less than the quota.
            target = max(_BETA * self.target, (count / span + rate) / 2.0)
        elif probing:
            # The plateau was held, so the quota is higher; by how much depends on a bucket nobody knows.
            target = self.target + _STEP * (rate - self.target)
        else:
            lower = count / span
            target = min(rate, lower if rate > _FAR * lower else (lower + rate) / 2.0)
        if began == -math.inf or probing or measured:
            self._base, self._refused = (now, accepted), 0
        self._stay(target, tentative=probing)
        self.target = max(_FLOOR, target)
        self._return = math.cbrt(self.target * (1.0 - _BETA) / _SCALE)
        self._since = now

    def record_late_refusal(self) -> None:
        """Note one more refusal of a send made before it slowed down: it was not accepted then."""
        began, accepted = self._base
        self._base = (began, accepted - 1)
        self._refused += 1

    def explore(self, now: float) -> None:
        """Look for more from the target on, without staying there: what was refused was not for the rate."""
        self._since, self._plateau = now - self._return, 0.0

    def pause(self, until: float) -> None:
        """Begin the way back at *until*, and measure from then on: nothing is sent before."""
        if until > self._since > -math.inf:
            began, accepted = self._base
            self._base = (began + until - self._since, accepted)
            self._since = until

    def _stay(self, target: float, *, tentative: bool) -> None:
        """Set how long the plateau at *target* will be."""
        if abs(target - self._confirmed) <= _SAME * self._confirmed:
            self._patience = min(2.0 * self._patience, _LONGEST_PLATEAU)
            self._plateau, self._confirmed = self._patience, target
            return
        self._plateau = _SHORTEST_PLATEAU
        if not tentative:
            self._patience, self._confirmed = _SHORTEST_PLATEAU, target

    def __repr__(self) -> str:
        return f"<Cubic back to {self.target:.4g}/s of {self.ceiling:g}/s, plateau {self._plateau:g} s>"
