"""Run one peer in a process of its own: an order comes in on stdin, figures go out on stdout, one line of JSON each.

A line before the measured part and one after it let the parent read the service's counters; the child waits for a
line in return, so that no request slips in between.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness import machine
from benchmarks.harness.extra import environment
from benchmarks.harness.loads import Order, drive

if TYPE_CHECKING:
    from collections.abc import Callable

_MARK: Final = "mark\n"
_TAIL: Final = 4000


class WorkerFailed(RuntimeError):
    """Report that a peer's process ended without figures."""


def run(order: Order, mark: Callable[[], object]) -> dict[str, Any]:
    """Drive a peer in a fresh process and return its figures; *mark* is called as the measured part begins and ends."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(),
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            try:
                print(json.dumps(asdict(order)), file=process.stdin, flush=True)
                while (last := process.stdout.readline()) == _MARK:
                    mark()
                    print(file=process.stdin, flush=True)
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

    machine.confine(0, machine.part_cores()[0])

    def mark() -> None:
        print(_MARK, end="", flush=True)
        sys.stdin.readline()

    print(json.dumps(drive(Order(**json.loads(sys.stdin.readline())), mark)), flush=True)


if __name__ == "__main__":
    main()
