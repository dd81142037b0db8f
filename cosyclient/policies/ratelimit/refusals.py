"""Whether a service refuses because too much was sent, or by chance: the refused shares at two rates, compared."""

from __future__ import annotations

from typing import Final

_MEMORY: Final = 800
"""Sends of one kind after which half of what was counted is forgotten."""
_MIN_SENDS: Final = 50
"""Sends of each kind below which nothing is decided."""
_MIN_REFUSALS: Final = 4
"""Refusals of sends below the proven rate, with fewer of which nothing is put down to chance."""
_MAX_SHARE: Final = 0.25
"""A larger share of refusals is never put down to chance."""
_ALIKE: Final = 1.5
_LEEWAY: Final = 0.003
"""Factor and addition within which two shares count as alike."""
_NEWEST: Final = 1 / 16
_MANY: Final = 0.4
"""Weight of the newest answer in the smoothed share of refusals, and the share that is more than chance brings."""
_SUDDEN: Final = 0.15
"""How far that share may be above twice the long one without something having changed."""


class Refusals:
    """Tell refusals by chance from refusals of too high a rate; `RateLimiter` owns it and guards it by its lock.

    A quota refuses what exceeds it and nothing that is below. A service that refuses some requests for other reasons (a
    sick node, a quota that others use up) refuses the same share of either; a lower rate only makes the client slow
    then.
    """

    def __init__(self) -> None:
        # Indexed by whether the send was made below the proven rate.
        self._sent = [0.0, 0.0]
        self._refused = [0.0, 0.0]
        self._recent = 0.0

    def record(self, *, below: bool, refused: bool) -> None:
        """Count the answer to a send made *below* the rate that the service has proved to accept, or above it."""
        self._sent[below] += 1.0
        self._refused[below] += refused
        if self._sent[below] > _MEMORY:
            self._sent[below] /= 2.0
            self._refused[below] /= 2.0
        if below:
            self._recent += _NEWEST * (refused - self._recent)

    @property
    def many_below(self) -> bool:
        """Return whether many were refused lately below the proven rate: what was accepted once no longer is."""
        return self._recent > _MANY

    @property
    def by_chance(self) -> bool:
        """Return whether the shares refused below and above are alike, not large, and not suddenly larger."""
        (sent, sent_below), (refused, refused_below) = self._sent, self._refused
        if sent < _MIN_SENDS or sent_below < _MIN_SENDS or refused_below < _MIN_REFUSALS:
            return False
        share, share_below = refused / sent, refused_below / sent_below
        steady = self._recent <= 2.0 * share_below + _SUDDEN
        return steady and share <= min(_MAX_SHARE, _ALIKE * share_below + _LEEWAY)

    def __repr__(self) -> str:
        (sent, sent_below), (refused, refused_below) = self._sent, self._refused
        return f"<Refusals {refused:.0f} of {sent:.0f}, below {refused_below:.0f} of {sent_below:.0f}>"
