"""Fill a quota that a real Envoy enforces, and find out one that is stricter than configured."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.harness import machine
from benchmarks.harness.gateway import GatewaySpec, gateway
from benchmarks.harness.loads import LoadSpec
from benchmarks.harness.results import announce, publish
from benchmarks.harness.tables import number, share
from benchmarks.harness.worker import run_worker
from benchmarks.suites.quota.plan import CASES, CONNECTIONS, QUICK, ROUND_TRIP, Case, GatewayRow, GatewayRun
from benchmarks.suites.quota.report import conclusions, draw, introduction, tabulate
from cosyclient.emulator import running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness.gateway import Gateway, GatewayCounters
    from benchmarks.harness.options import Options
    from cosyclient.emulator import Emulator


def run(options: Options) -> None:
    """Measure, print the table, and write ``quota.json`` and ``quota.svg``."""
    seconds = 2.0 if options.quick else 60.0
    cases = QUICK if options.quick else CASES
    about = announce("quota", introduction(seconds, cases, options))
    rows = measure(cases, seconds, options)
    print(f"\n{tabulate(cases, rows)}\n\n{conclusions(cases, rows)}")
    figures = {
        "repeat": options.repeat,
        "parameters": {"seconds": seconds, "audio": options.audio, "cases": [asdict(each) for each in cases]},
        "rows": [row.document() for row in rows],
    }
    publish("quota", options, about, figures, lambda path: draw(path, cases, rows, about))


def measure(cases: Sequence[Case], seconds: float, options: Options) -> list[GatewayRow]:
    """Return a row per case; each run is a fresh client against a fresh Envoy, before the same emulator."""
    runs: dict[str, list[GatewayRun]] = {each.name: [] for each in cases}
    with running(engine="tone", rtt=ROUND_TRIP) as service:
        machine.confine(service.pid, machine.part_cores()[1])
        for turn in range(1, options.repeat + 1):
            for each in cases:
                done = measure_one(service, each, seconds, options.audio)
                runs[each.name].append(done)
                print(
                    f"  run {turn}/{options.repeat} {each.name:11}{number(done.rate):>7} texts/s, "
                    f"{share(done.refused_share)} refused, {share(done.error_rate)} errors",
                    flush=True,
                )
    return [GatewayRow(name=each.name, label=each.label, sentence=each.load, runs=runs[each.name]) for each in cases]


def measure_one(service: Emulator, case: Case, seconds: float, audio: str) -> GatewayRun:
    """Return one run of so many measured *seconds*, in a process of its own, with what Envoy and the service saw."""
    service.reset()
    gateway_spec = GatewaySpec(upstream=service.url, rate=case.rate, bucket=case.bucket, connections=CONNECTIONS)
    with gateway(gateway_spec) as front:
        machine.confine(front.pid, machine.part_cores()[1])
        spec = LoadSpec(
            peer=case.peer,
            url=front.url,
            audio=audio,
            texts=0,
            callers=case.callers,
            seconds=seconds,
            warm_up=case.warm_up,
            pause=0.0,
            load=case.load,
            rate=case.calls,
        )
        readings: list[_Reading] = []
        figures = run_worker(spec, lambda: readings.append(_read(front, service)))
    before, after = readings
    elapsed = after.at - before.at
    requests = after.counters.requests - before.counters.requests
    throttled = after.counters.rate_limited - before.counters.rate_limited
    return GatewayRun(
        **figures,
        requests=requests,
        throttled=throttled,
        connections=after.counters.connections,
        refused=after.counters.connections_refused,
        service_cpu=machine.share_of_core(before.service_cpu, after.service_cpu, elapsed),
        early_throttled=before.counters.rate_limited,
        gateway_cpu=machine.share_of_core(before.gateway_cpu, after.gateway_cpu, elapsed),
        used=(requests - throttled) / elapsed / case.rate,
    )


class _Reading(NamedTuple):
    at: float
    counters: GatewayCounters
    gateway_cpu: float | None
    service_cpu: float | None


def _read(front: Gateway, service: Emulator) -> _Reading:
    cpu = machine.cpu_seconds(front.pid), machine.cpu_seconds(service.pid)
    return _Reading(time.monotonic(), front.counters(), *cpu)
