"""What the overload benchmark runs, its targets, and the records of its runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.suites.overload.clients import MEAN_SECONDS
from benchmarks.suites.overload.jobs import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGET_GOODPUT: Final = 0.95
"""Goodput as a share of capacity."""
TARGET_LESS: Final = 15.0
TARGET_MORE: Final = 2.0
"""Seconds within which less, or more, capacity is used."""
TARGET_SLOWDOWN: Final = 1.3
"""Time a job takes where the service keeps up, over that without adaptation."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Define what the service can do, how many calls it gets, and how long."""

    gpus: int = 4
    rtf: float = 0.06
    rtt: float = 0.01
    deadline: float = 10.0
    loads: tuple[float, ...] = (1.0, 2.0, 5.0)
    warm_up: float = 20.0
    seconds: float = 40.0
    repeat: int = 1
    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    changing: float = 2.0
    """Load while the capacity changes, over the first capacity."""
    phases: tuple[int, ...] = (4, 2, 4, 8)
    """GPUs of each phase."""
    phase: float = 45.0
    at_once: bool = False
    """Whether the changes are measured beside the loads, to save time."""

    @property
    def capacity(self) -> float:
        """Return the audio seconds per second that all GPUs render."""
        return self.gpus / self.rtf

    @property
    def rate(self) -> float:
        """Return the calls per second that use the whole capacity."""
        return self.capacity / MEAN_SECONDS


QUICK: Final = Plan(
    loads=(2.0, 5.0),
    warm_up=3.0,
    seconds=5.0,
    repeat=1,
    phases=(4, 2, 4),
    phase=5.0,
    at_once=True,
    scenarios=("idle, then submits", "cold, single calls", "cold, one batch", "flaky, 20 %"),
)


@dataclass(frozen=True, kw_only=True)
class HealthyRow:
    """Hold how long one client takes for the job of one scenario in which the service keeps up."""

    client: str
    scenario: str
    seconds: float
    """Median of the runs."""
    fastest: float
    slowest: float
    lost: int
    """Texts without audio, of all runs together."""
    exhausted: int
    """Those of them that every try had failed for."""
    texts: int
    """Texts asked for in all runs together."""
    requests: int
    """Requests of the median run."""
    errors: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class LoadRow:
    """Hold one client's figures under one load."""

    client: str
    load: float
    goodput: float
    """Audio seconds per second that came back within the deadline, over the capacity."""
    lowest: float
    highest: float
    asked: int
    """Calls, warm-up included, as in the next three."""
    lost: float
    """Share of the calls that brought no audio in time."""
    wasted: float
    """Share of the GPUs' work that was done for clients that had left."""
    requests: int
    latency: float | None
    """Median seconds of the calls that succeeded."""
    errors: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class CapacityRow:
    """Hold what one client does as the capacity changes."""

    client: str
    goodput: Sequence[float]
    """Audio seconds delivered in time in each second, over the first capacity."""
    steady: Sequence[float]
    """The same over the capacity of its phase, in the second half of each phase."""
    followed: Sequence[float | None]
    """Seconds after each change until the new capacity (or the load) was used, or None if it never was."""
    limits: Sequence[tuple[float, int]]
    """The client's limit of attempts in flight: seconds since the warm-up, and the limit."""
