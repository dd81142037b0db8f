"""The rate after a refusal: lower at once, back to what the service seems to allow, and later beyond it (CUBIC).

         ceiling ┤                                 ╭──
                 │                               ╭─╯
          target ┤            ╭─────────────────╯      plateau: 4 s to 60 s
                 │        ╭───╯
    0.7 × target ┤  ╭─────╯
                 └──┴─────────┴─────────────────┴─────▶ time since the refusal

Pure in ``now``; it holds no lock and waits nowhere.
"""

from __future__ import annotations

import math
from typing import Final

_BETA: Final = 0.7
"""What is left of the rate after a refusal; this, the next and the floor are botocore's adaptive retry mode."""
_SCALE: Final = 0.4
_MIN_RATE: Final = 0.5
"""Sends a second that are always allowed."""
_SHORTEST_PLATEAU: Final = 4.0
_LONGEST_PLATEAU: Final = 60.0
_DOUBLING: Final = 8.0
"""Seconds in which the rate may double at most beyond the plateau: t³ would overrun a small quota."""
_PROBE_GAIN: Final = 0.2
"""Share of the way from the target to a refused higher rate by which the target is raised."""
_SAME: Final = 0.05
"""Share by which two targets may differ to count as the same."""
_FAR: Final = 1.2
"""Factor above the accepted rate beyond which the refused rate says nothing of the quota."""
_MIN_SPAN: Final = 1.0
_MIN_COUNT: Final = 10
"""Seconds and accepted sends from which on a measured rate is more than noise."""


class Cubic:
    """Give the rate at each instant after refusals; `RateLimiter` owns it and guards it by its lock.

    After a refusal the rate falls to 0.7 of the ``target``, returns to it along ``target - 0.4 × (k - t)³`` (RFC 9438),
    and goes beyond it along the other half of that curve. Between the two halves it stays on a plateau. Each refusal
    that confirms the target doubles the plateau, up to a minute: a known quota is probed rarely, and one that was
    raised is found in the end.

    A token bucket is empty whenever it refuses, so what was accepted between two refusals is what it was refilled with,
    or less if it was full in between. The accepted rate is therefore a lower bound of the quota, a refused rate an
    upper one.
    """

    def __init__(self, ceiling: float) -> None:
        self.ceiling = ceiling
        """The rate that is never exceeded, in sends a second."""
        self.target = ceiling
        """The rate it returns to: the quota as far as known."""
        self._refused_at = -math.inf  # the last refusal, or the end of the pause after it
        self._recovery = 0.0  # seconds from there to the plateau
        self._plateau = 0.0  # seconds that it lasts now
        self._confirmed_plateau = _SHORTEST_PLATEAU / 2.0  # seconds it lasted when the target was last confirmed
        self._confirmed_target = ceiling
        self._empty_at, self._accepted = -math.inf, 0  # when the bucket was empty, and the sends accepted until then
        self._refusals = 0  # since then

    def rate(self, now: float) -> float:
        """Return the sends a second to make at *now*."""
        elapsed = max(now - self._refused_at, 0.0) - self._recovery
        if elapsed < 0.0:
            rate = self.target + _SCALE * elapsed**3
        else:
            beyond = max(0.0, elapsed - self._plateau)
            # 2**t overflows long after t³ has passed every ceiling.
            endless = beyond > 64 * _DOUBLING
            doubling = math.inf if endless else self.target * (2.0 ** (beyond / _DOUBLING) - 1.0)
            rate = self.target + (math.inf if endless else min(_SCALE * beyond**3, doubling))
        return min(self.ceiling, max(_MIN_RATE, rate))

    def record_refused(self, now: float, accepted: int, *, paced: bool, sent: float = math.inf) -> None:
        """Slow down: a send made at the present rate was refused, or at *sent* a second where that is infinite.

        *accepted* counts all sends so far that were not refused; *paced* says whether they came as fast as was allowed,
        for otherwise their number tells nothing of the quota.
        """
        rate = self.rate(now)
        rate = rate if math.isfinite(rate) else max(_MIN_RATE, sent)
        probing = now - self._refused_at - self._recovery > self._plateau
        first = self._empty_at == -math.inf
        span, count = now - self._empty_at, accepted - self._accepted
        self._refusals += 1
        measured = span >= _MIN_SPAN and count >= _MIN_COUNT
        if first:
            target = rate
        elif not (probing or measured):
            # Too soon to tell anything new. Where most were accepted, the target stays: a service that refuses a few
            # sends whatever their rate must not stop the client, 0.7 by 0.7.
            target = self.target if count >= self._refusals else rate
        elif not paced:
            # Fewer came than were allowed: what was accepted may be far less than the quota.
            target = max(_BETA * self.target, (count / span + rate) / 2.0)
        elif probing:
            # The plateau was held, so the quota is higher; by how much depends on the size of an unknown bucket.
            target = self.target + _PROBE_GAIN * (rate - self.target)
        else:
            lower = count / span
            target = min(rate, lower if rate > _FAR * lower else (lower + rate) / 2.0)
        if first or probing or measured:
            self._empty_at, self._accepted, self._refusals = now, accepted, 0
        self._set_plateau(target, tentative=probing)
        self.target = max(_MIN_RATE, target)
        self._recovery = math.cbrt(self.target * (1.0 - _BETA) / _SCALE)
        self._refused_at = now

    def record_late_refusal(self) -> None:
        """Note one more refusal of a send made before it slowed down: it was not accepted then."""
        self._accepted -= 1
        self._refusals += 1

    def explore(self, now: float) -> None:
        """Raise the rate beyond the target from *now* on, without a plateau: refusals were not for the rate."""
        self._refused_at, self._plateau = now - self._recovery, 0.0

    def pause(self, until: float) -> None:
        """Begin the recovery at *until*, and measure from then on: nothing is sent before."""
        if until > self._refused_at > -math.inf:
            self._empty_at += until - self._refused_at
            self._refused_at = until

    def _set_plateau(self, target: float, *, tentative: bool) -> None:
        """Set how long the plateau at *target* will be."""
        if abs(target - self._confirmed_target) <= _SAME * self._confirmed_target:
            self._confirmed_plateau = min(2.0 * self._confirmed_plateau, _LONGEST_PLATEAU)
            self._plateau, self._confirmed_target = self._confirmed_plateau, target
            return
        self._plateau = _SHORTEST_PLATEAU
        if not tentative:
            self._confirmed_plateau, self._confirmed_target = _SHORTEST_PLATEAU, target

    def __repr__(self) -> str:
        return f"<Cubic back to {self.target:.4g}/s of {self.ceiling:g}/s, plateau {self._plateau:g} s>"
