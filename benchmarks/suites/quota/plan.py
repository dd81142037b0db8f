"""What the quota benchmark runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from benchmarks.harness.prepared import BATCH

ASSUMED_RATE: Final = 100.0
"""Requests a second that every client is configured for, or assumes."""
ROUND_TRIP: Final = 0.2
CONNECTIONS: Final = 50


@dataclass(frozen=True, kw_only=True)
class Case:
    """Describe one row: which client, under which load, against which gateway."""

    name: str
    label: str
    peer: str = "d"
    load: str
    callers: int = 1
    plain: bool = True
    """Whether it gets JSON with WAV, or frames with compressed audio."""
    rate: float | None = ASSUMED_RATE
    """Requests a second that the gateway admits; None is any number, at once, over any number of connections."""
    bucket: int = 100
    calls: float = 0.0
    """Calls a second, where the load has a fixed rate."""
    warm_up: float = 5.0
    goal: float = 0.95
    """Share of what is allowed that is to become audio."""

    @property
    def ours(self) -> bool:
        """Return whether it is cosyclient."""
        return self.peer == "d"

    @property
    def strict(self) -> bool:
        """Return whether the gateway admits less than the client was told."""
        return self.rate is not None and self.rate < ASSUMED_RATE

    @property
    def bound(self) -> float | None:
        """Return the texts per second that are possible, if there is a bound."""
        return self.calls or (None if self.rate is None else self.rate * BATCH)


_MANY: Final = Case(name="many", label="synthesize_many", load="many", goal=0.97)
_SUBMIT: Final = Case(name="submit", label="one caller submits", load="submit", callers=3840)
_THREADS: Final = Case(name="threads", label="1,750 threads synthesize", load="callers", callers=1750)
_STRICT: Final = replace(_SUBMIT, name="strict60", label="submit, gateway at 60/s", rate=60.0, bucket=60, warm_up=10.0)
CASES: Final = (
    Case(name="raw", label="the service alone, no quota", peer="raw", load="drain", callers=50, rate=None),
    Case(name="bare", label="bare loop, 20 threads", peer="bare", load="bare", callers=20),
    _MANY,
    _SUBMIT,
    _THREADS,
    Case(name="open", label="3,000 synthesize/s", load="open", callers=900, calls=3000.0),
    _STRICT,
    replace(_STRICT, name="strict6", label="the same, its bucket 6", bucket=6),
    Case(name="asyncio200", label="asyncio, 200 at once", peer="b", load="stream"),
    *(
        replace(each, name=f"{each.name}_frames", label=f"{each.label}, frames", plain=False, goal=0.99)
        for each in (_MANY, _SUBMIT, _THREADS)
    ),
)
QUICK: Final = tuple(
    replace(each, warm_up=each.warm_up / 2)
    for each in CASES
    if each.plain and each.name not in ("strict6", "bare", "asyncio200")
)
