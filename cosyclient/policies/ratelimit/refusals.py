"""What a service refuses: because too much was asked, or by chance."""

from __future__ import annotations

from typing import Final

_MEMORY: Final = 800
"""Sends of one kind after which half of what was counted is forgotten."""
_FEWEST: Final = 50
"""Sends of each kind below which nothing is said."""
_REFUSED: Final = 4
"""Refusals of sends below, with fewer of which nothing is put down to chance."""
_LARGEST: Final = 0.25
"""A larger share of refusals never is."""
_ALIKE: Final = 1.5
_LEEWAY: Final = 0.003
"""Factor and addition within which two shares count as alike."""
_NEWEST: Final = 1 / 16
_MANY: Final = 0.4
"""Weight of the newest answer in the smoothed share of refusals, and the share that is more than chance brings."""
_SUDDEN: Final = 0.15
"""How far that share may be above twice the long one without something having changed."""


class Refusals:
    """Tell whether refusals come by chance, or because too much was asked; guarded by its owner's lock.

    A quota refuses what exceeds it and nothing that is below. A service that refuses some requests for other reasons (a
    sick node, a quota that others use up) refuses the same share of either, and asking for less only makes the caller
    slow.
    """

    def __init__(self) -> None:
        # By whether the send was below what had been accepted before.
        self._sent = [0.0, 0.0]
        self._refused = [0.0, 0.0]
        self._recent = 0.0

    def record(self, *, below: bool, refused: bool) -> None:
        """Count what became of a send that asked for what had been accepted *below* any doubt, or for more."""
        self._sent[below] += 1.0
        self._refused[below] += refused
        if self._sent[below] > _MEMORY:
            self._sent[below] /= 2.0
            self._refused[below] /= 2.0
        if below:
            self._recent += _NEWEST * (refused - self._recent)

    @property
    def many_below(self) -> bool:
        """Return whether many are refused of late although they were below: what had been accepted no longer is."""
        return self._recent > _MANY

    @property
    def by_chance(self) -> bool:
        """Return whether about the same share is refused below and above, not a large one, and not of a sudden."""
        (sent, sent_below), (refused, refused_below) = self._sent, self._refused
        if sent < _FEWEST or sent_below < _FEWEST or refused_below < _REFUSED:
            return False
        share, share_below = refused / sent, refused_below / sent_below
        steady = self._recent <= 2.0 * share_below + _SUDDEN
        return steady and share <= min(_LARGEST, _ALIKE * share_below + _LEEWAY)

    def __repr__(self) -> str:
        (sent, sent_below), (refused, refused_below) = self._sent, self._refused
        return f"<Refusals {refused:.0f} of {sent:.0f}, below {refused_below:.0f} of {sent_below:.0f}>"
