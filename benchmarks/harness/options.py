"""Hold what the command line asks of every benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_OUTPUT: Final = Path(__file__).parents[1] / "results"
FORMATS: Final = ("opus", "mp3")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Say how long, how often, where to, and in which audio format."""

    quick: bool = False
    repeat: int = 1
    output: Path = DEFAULT_OUTPUT
    audio: str = FORMATS[0]
    seconds: float | None = None
    """How long ``chaos`` goes on; None leaves it to the benchmark."""
    seed: int | None = None
    """What ``chaos`` draws its phases from; None draws that, too."""
