"""What the chaos benchmark runs, and its targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TARGETS: Final = {"wrong": 0, "unexplained": 0, "unaccounted": 0, "held": 0, "findings": 0, "leaked": 0}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Define how long, how many call at once, and whether they are interrupted."""

    seconds: float = 200.0
    callers: int = 10
    interrupts: bool = True


QUICK: Final = Plan(seconds=20.0)
