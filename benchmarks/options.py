"""Hold what the command line asks of every benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_OUTPUT: Final = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Say how long, how often and where to."""

    quick: bool = False
    repeat: int = 1
    output: Path = DEFAULT_OUTPUT
