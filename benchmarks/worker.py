"""Run one peer in a process of its own: an order comes in on stdin, two lines of JSON go out on stdout.

The first line says that the measured part begins, so that the parent can ask the service for its counters then; the
second carries the figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from benchmarks.drives import Order, drive

if TYPE_CHECKING:
    from collections.abc import Callable

_TAIL: Final = 4000


class WorkerFailed(RuntimeError):
    """Report that a peer's process ended without figures."""


def run(order: Order, begin: Callable[[], object]) -> dict[str, Any]:
    """Drive a peer in a fresh process and return its figures; *begin* is called when the measured part begins."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            try:
                process.stdin.write(json.dumps(asdict(order)))
                process.stdin.close()
                if process.stdout.readline():
                    begin()
                last = process.stdout.readline()
            except BaseException:
                process.kill()
                raise
        errors.seek(0)
        said = errors.read()
    if process.returncode or not last:
        raise WorkerFailed(f"the process of peer {order.peer} ended with {process.returncode}:\n{said[-_TAIL:]}")
    figures: dict[str, Any] = json.loads(last)
    return figures


def main() -> None:
    """Read the order, drive the peer, write the figures."""

    def begin() -> None:
        print("begin", flush=True)

    print(json.dumps(drive(Order(**json.load(sys.stdin)), begin)), flush=True)


if __name__ == "__main__":
    main()
