"""What the quota benchmark runs, and the records of its runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from benchmarks.harness.prepared import BATCH
from benchmarks.harness.results import Row, Run, medians

if TYPE_CHECKING:
    from collections.abc import Sequence

ASSUMED_RATE: Final = 100.0
"""Requests a second that every client is configured for, or assumes."""
ROUND_TRIP: Final = 0.2
CONNECTIONS: Final = 50


@dataclass(frozen=True, kw_only=True)
class Case:
    """Describe one row: which client, under which load, against which gateway."""

    name: str
    label: str
    peer: str
    load: str
    callers: int = 1
    rate: float = ASSUMED_RATE
    """Requests a second that the gateway admits."""
    bucket: int = 100
    calls: float = 0.0
    """Calls a second, where the load has a fixed rate."""
    warm_up: float = 5.0

    @property
    def ours(self) -> bool:
        """Return whether it is cosyclient."""
        return self.peer == "d"

    @property
    def bound(self) -> float:
        """Return the texts per second that are possible."""
        return min(self.rate * BATCH, self.calls or self.rate * BATCH)


_STRICT: Final = Case(
    name="strict60",
    label="submit, gateway at 60/s",
    peer="d",
    load="submit",
    callers=3840,
    rate=60.0,
    bucket=60,
    warm_up=10.0,
)
CASES: Final = (
    Case(name="threads", label="1,750 threads synthesize", peer="d", load="callers", callers=1750),
    Case(name="submit", label="one caller submits", peer="d", load="submit", callers=3840),
    Case(name="open", label="3,000 synthesize/s", peer="d", load="open", callers=900, calls=3000.0),
    _STRICT,
    replace(_STRICT, name="strict6", label="the same, its bucket 6", bucket=6),
    Case(name="asyncio200", label="asyncio, 200 at once", peer="b", load="stream"),
    Case(name="asyncio20", label="asyncio, 20 at once", peer="b20", load="stream"),
)
QUICK: Final = tuple(
    replace(each, warm_up=each.warm_up / 2) for each in CASES if each.name not in ("strict6", "asyncio20")
)


@dataclass(frozen=True, kw_only=True)
class GatewayRun(Run):
    """Add what the gateway saw; ``requests``, ``throttled`` and ``refused`` are its counts as well."""

    early_throttled: float
    """Requests it refused before the measured part."""
    gateway_cpu: float | None
    """Share of one core that it used."""
    used: float
    """Share of its quota of requests that was used."""

    @property
    def refused_share(self) -> float:
        """Return the share of the requests that was refused with 429."""
        return self.throttled / self.requests if self.requests else 0.0


@dataclass(frozen=True, kw_only=True)
class GatewayRow(Row):
    """Hold the runs of one case."""

    runs: Sequence[GatewayRun]

    @property
    def median(self) -> GatewayRun:
        """Return the medians over the runs."""
        return medians(self.runs)
