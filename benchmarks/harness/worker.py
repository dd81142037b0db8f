"""Put one client under load in a process of its own, against a gateway that answers from memory.

A load comes in on stdin, figures go out on stdout.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.harness import machine
from benchmarks.harness.gateway import gateway
from benchmarks.harness.loads import LoadSpec, run_load
from benchmarks.harness.processes import read_parameters, run_module, send_mark
from benchmarks.harness.results import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness.gateway import Gateway, GatewayCounters, GatewaySpec


def measure(load: LoadSpec, service: GatewaySpec, *, without: Sequence[str] = ()) -> Run:
    """Return one run of the *load*, in a process that cannot import *without*, with what a fresh gateway saw of it."""
    with gateway(service) as front:
        if load.confined:
            machine.confine(front.pid, machine.part_cores()[1])
        readings: list[_Reading] = []
        figures = run_module(
            "benchmarks.harness.worker",
            asdict(replace(load, url=front.url)),
            on_mark=lambda: readings.append(_read(front)),
            without=without,
        )
    before, after = readings
    return Run(
        **figures,
        requests=after.counters.requests - before.counters.requests,
        throttled=after.counters.rate_limited - before.counters.rate_limited,
        early_throttled=before.counters.rate_limited,
        refused=after.counters.connections_refused,
        service_cpu=machine.share_of_core(before.cpu, after.cpu, after.at - before.at),
    )


class _Reading(NamedTuple):
    at: float
    counters: GatewayCounters
    cpu: float | None


def _read(front: Gateway) -> _Reading:
    return _Reading(time.monotonic(), front.counters(), machine.cpu_seconds(front.pid))


def main() -> None:
    """Read the load, run it, print the figures."""
    load = LoadSpec(**read_parameters())
    if load.confined:
        machine.confine(0, machine.part_cores()[0])
    print(json.dumps(run_load(load, send_mark)), flush=True)


if __name__ == "__main__":
    main()
