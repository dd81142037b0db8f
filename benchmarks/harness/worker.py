"""Put one peer under load in a process of its own: a load comes in on stdin, figures go out on stdout."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchmarks.harness import machine
from benchmarks.harness.loads import LoadSpec, run_load
from benchmarks.harness.processes import read_parameters, run_module, send_mark

if TYPE_CHECKING:
    from collections.abc import Callable


def run_worker(spec: LoadSpec, on_mark: Callable[[], object]) -> dict[str, Any]:
    """Run the load in a fresh process; *on_mark* is called as the measured part begins and as it ends."""
    return run_module("benchmarks.harness.worker", asdict(spec), on_mark=on_mark)


def main() -> None:
    """Read the load, run it on the client's own core, print the figures."""
    machine.confine(0, machine.part_cores()[0])
    print(json.dumps(run_load(LoadSpec(**read_parameters()), send_mark)), flush=True)


if __name__ == "__main__":
    main()
