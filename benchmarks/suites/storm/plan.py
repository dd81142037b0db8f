"""What the storm benchmark runs, its targets, and the record of an outage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARES: Final = (0.01, 0.10, 0.25, 0.50, 0.90, 1.00)
"""The shares of all requests that fail."""
TARGET_AMPLIFICATION: Final = 1.1
"""Load amplification where half or more fails."""
TARGET_RECOVERY: Final = 5.0
"""Seconds from the service's recovery to 99 % goodput, not counting the time the breaker is still open."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Define how many calls a second there are, and how long each part takes."""

    rate: float = 40.0
    rtt: float = 0.05
    seconds: float = 25.0
    open_for: float = 30.0
    healthy: float = 30.0
    """As long as the breaker's window: at first, successes in it keep the breaker closed."""
    outage: float = 60.0
    after: float = 45.0


QUICK: Final = Plan(seconds=1.2, open_for=1.5, healthy=1.5, outage=3.0, after=2.5)


@dataclass(frozen=True, kw_only=True)
class Outage:
    """Hold what one client does in an outage; spans in seconds."""

    client: str
    requests: int
    """Requests that reached the failing service."""
    requests_open: int | None
    """Those after the breaker had first opened."""
    probes: int | None
    """Probes that the half-open breaker was allowed meanwhile."""
    calls: int
    """Calls made during the outage."""
    recovery: float | None
    """Seconds from the service's recovery until 99 % goodput, or None if that never came."""
    still_open: float
    """Seconds of them in which the breaker was still open."""
    failed_after: int
    """Calls made after the recovery that failed."""
    goodput: Sequence[tuple[float, float]]
    """Share of the calls made in each second, counted from the beginning of the outage, that succeeded."""

    @property
    def beyond(self) -> float | None:
        """Return the seconds until 99 % goodput, without those in which the breaker was still open."""
        return None if self.recovery is None else max(0.0, self.recovery - self.still_open)
