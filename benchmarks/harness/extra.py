"""What the benchmarks' processes need: the packages that measure and draw, and the same modules everywhere."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

NEEDED = ("aiohttp", "matplotlib", "starlette", "uvicorn", "soundfile")


class ExtraMissing(RuntimeError):
    """Report that the extra ``bench`` is not installed."""


def require_extra(needed: tuple[str, ...] = NEEDED) -> None:
    """Raise `ExtraMissing`, which names the package and the remedy, unless all of *needed* can be imported."""
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise ExtraMissing(
            f"the benchmarks need {', '.join(missing)}, which is not installed: pip install '.[bench]' in the checkout"
        )


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a process that imports what this one does, with *more* laid over it."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path), **more}
