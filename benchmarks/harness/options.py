"""The options that the command line gives to every benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_OUTPUT: Final = Path(__file__).parents[1] / "results"
FORMATS: Final = ("opus", "mp3")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Hold how long and how often to measure, where to write, and which compressed audio to ask for."""

    quick: bool = False
    repeat: int = 1
    output: Path = DEFAULT_OUTPUT
    audio: str = FORMATS[0]
    seconds: float | None = None
    """How long ``chaos`` runs; None is its default."""
    seed: int | None = None
    """The seed of the phases of ``chaos``; None chooses one at random."""
