"""Read how much memory this process holds, and the most it ever held."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_STATUS: Final = Path("/proc/self/status")


def resident_bytes() -> int:
    """Return the resident memory of this process now."""
    return _field("VmRSS")


def peak_bytes() -> int:
    """Return the most resident memory this process has had."""
    return _field("VmHWM")


def _field(name: str) -> int:
    with _STATUS.open() as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
