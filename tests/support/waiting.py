"""Wait for conditions and programs, with a bound, and never for a fixed time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
GENEROUS = 60.0
# Python 3.12 and later warn of every fork with threads alive, which these tests do on purpose.
FORK_IS_MEANT = "ignore:This process:DeprecationWarning"
_WARNINGS = ("-W", "error::ResourceWarning", "-W", FORK_IS_MEANT)


def eventually(holds: Callable[[], object], what: str) -> None:
    """Return as soon as *holds*; fail when it does not within a minute."""
    end = time.monotonic() + GENEROUS
    while not holds():
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.005)


def start(program: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start one of the programs beside this file, with every unclosed file and socket reported on its stderr."""
    return subprocess.Popen(
        [sys.executable, *_WARNINGS, "-m", f"tests.integration.programs.{program}", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for *process*; return its exit code, stdout and stderr."""
    try:
        output, errors = process.communicate(timeout=GENEROUS)
    except BaseException:
        # With its children, which hold its pipes open.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return process.returncode, output, errors
