"""Measure what a failing service receives from each client: load amplification, probes, recovery after an outage."""

from __future__ import annotations

import math
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.results import announce, publish
from benchmarks.suites.storm.clients import CLIENTS, CallLog, LoadSpec, run_load
from benchmarks.suites.storm.plan import QUICK, SHARES, TARGET_AMPLIFICATION, TARGET_RECOVERY, Outage, Plan
from benchmarks.suites.storm.report import conclusions, draw, introduction, tabulate, tabulate_outage
from cosyclient.emulator import Emulator, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from benchmarks.harness.options import Options

_GOODPUT: Final = 0.99
_INTERVAL: Final = 0.2
"""Seconds between two readings of the service's counters during the outage."""
_IN_FLIGHT: Final = 0.5
"""Seconds after the breaker opened in which requests sent before may still arrive."""


def run(options: Options) -> None:
    """Measure, print the tables, and write ``storm.json`` and ``storm.svg``."""
    plan = QUICK if options.quick else Plan()
    about = announce("storm", introduction(plan, options.repeat))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(CLIENTS), mp_context=spawn) as processes:
        rows = [row for turn in range(options.repeat) for row in measure_shares(plan, options.audio, processes, turn)]
        rows = medians(rows)
        print(f"{tabulate(rows)}\n", flush=True)
        outages = measure_outage(plan, options.audio, processes)
    print(f"{tabulate_outage(outages)}\n\n{conclusions(rows, outages)}")
    figures = {
        "repeat": options.repeat,
        "parameters": {**asdict(plan), "clients": CLIENTS},
        "targets": {"amplification": TARGET_AMPLIFICATION, "seconds_beyond_the_open_time": TARGET_RECOVERY},
        "rows": rows,
        "outage": [{**asdict(each), "beyond": each.beyond} for each in outages],
    }
    publish("storm", options, about, figures, lambda path: draw(path, rows, outages, plan, about))


# A share of all requests fails


def measure_shares(plan: Plan, audio: str, processes: Executor, turn: int) -> list[dict[str, Any]]:
    """Return a row per client and share; in each round every client meets another share, so all run side by side."""
    rows = []
    with ExitStack() as stack:
        services = _services(stack, plan, [{"error": each} for each in SHARES], seed=turn)
        for round_ in range(len(SHARES)):
            met = {client: (round_ + place) % len(SHARES) for place, client in enumerate(CLIENTS)}
            for place in met.values():
                services[place].reset()
            running = {
                client: processes.submit(run_load, _load(plan, client, services[place], audio, plan.seconds))
                for client, place in met.items()
            }
            for client, place in met.items():
                log = running[client].result()
                rows.append(_row(client, SHARES[place], log, services[place].counters().requests))
    return rows


def _services(stack: ExitStack, plan: Plan, faults: Sequence[dict[str, float]], seed: int) -> list[Emulator]:
    with ThreadPoolExecutor(4) as starters:
        settings = [Settings(engine="tone", rtt=plan.rtt, fault=fault, seed=seed + n) for n, fault in enumerate(faults)]
        return [stack.enter_context(service) for service in list(starters.map(Emulator, settings))]


def _load(plan: Plan, client: str, service: Emulator, audio: str, seconds: float) -> LoadSpec:
    return LoadSpec(
        client=client, url=service.url, audio=audio, rate=plan.rate, seconds=seconds, open_for=plan.open_for
    )


def _row(client: str, failing: float, log: CallLog, requests: int) -> dict[str, Any]:
    errors, calls = log.errors, len(log.calls)
    return {
        "client": client,
        "share": failing,
        "calls": calls,
        "requests": requests,
        "amplification": requests / calls,
        "succeeded": log.succeeded,
        "circuit_open": errors["CircuitOpen"],
        "budget_spent": errors["RetryBudgetSpent"],
        "errors": dict(errors),
        "slept": log.slept,
    }


def medians(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per client and share: the median of each figure, and the spread of the amplification."""
    found = []
    for client in CLIENTS:
        for failing in SHARES:
            runs = [row for row in rows if (row["client"], row["share"]) == (client, failing)]
            figures = {name: median(run[name] for run in runs) for name, value in runs[0].items() if _is_figure(value)}
            factors = [run["amplification"] for run in runs]
            found.append({**runs[0], **figures, "lowest": min(factors), "highest": max(factors)})
    return found


def _is_figure(value: object) -> bool:
    return isinstance(value, (int, float))


# Everything fails for a while


def measure_outage(plan: Plan, audio: str, processes: Executor) -> list[Outage]:
    """Return what each client does in an outage; all at once, each with a service of its own."""
    with ExitStack() as stack:
        services = dict(zip(CLIENTS, _services(stack, plan, [{}] * len(CLIENTS), seed=0), strict=True))
        whole = plan.healthy + plan.outage + plan.after
        running = {
            client: processes.submit(run_load, _load(plan, client, service, audio, whole))
            for client, service in services.items()
        }
        # The first seconds go to starting the processes.
        while not all(service.counters().requests for service in services.values()):
            time.sleep(_INTERVAL)
        time.sleep(plan.healthy)
        with ThreadPoolExecutor(len(services)) as threads:
            began = time.monotonic()
            list(threads.map(lambda service: service.inject("error", count=100_000, status=500), services.values()))
            before = {client: service.counters().requests for client, service in services.items()}
            readings: dict[str, list[tuple[float, int]]] = {client: [] for client in services}
            while time.monotonic() < began + plan.outage:
                for client, counted in zip(
                    services, threads.map(lambda each: each.counters(), services.values()), strict=True
                ):
                    readings[client].append((time.monotonic(), counted.requests - before[client]))
                time.sleep(_INTERVAL)
            list(threads.map(lambda service: service.reset(), services.values()))
            ended = time.monotonic()
        return [outage_of(client, running[client].result(), readings[client], began, ended) for client in services]


def outage_of(client: str, log: CallLog, readings: Sequence[tuple[float, int]], began: float, ended: float) -> Outage:
    """Return the record of an outage from *began* to *ended*, given the *log* and the service's requests over time."""
    opened = [at for at, state in log.changes if state == "open"]
    requests = readings[-1][1]
    requests_open = probes = None
    if opened:
        requests_open = requests - next((count for at, count in readings if at >= opened[0] + _IN_FLIGHT), requests)
        probes = 5 * sum(opened[0] < at < ended for at, state in log.changes if state == "half-open")
    half_open = [at for at, state in log.changes if state == "half-open" and at >= ended]
    was_open = bool(half_open) and [state for at, state in log.changes if at < ended][-1:] == ["open"]
    return Outage(
        client=client,
        requests=requests,
        requests_open=requests_open,
        probes=probes,
        calls=sum(began <= call.made < ended for call in log.calls),
        recovery=recovery(log, ended),
        still_open=half_open[0] - ended if was_open else 0.0,
        failed_after=sum(bool(call.error) and call.made >= ended for call in log.calls),
        goodput=goodput(log, began),
    )


def recovery(log: CallLog, ended: float) -> float | None:
    """Return the seconds after *ended* from which on 99 % of the calls made, in all and in the next second, succeed."""
    calls = sorted(call for call in log.calls if call.made >= ended)
    last = calls[-1].made if calls else ended
    for step in range(int((last - ended) * 10)):
        since = ended + step / 10
        rest = [not call.error for call in calls if call.made >= since]
        soon = [not call.error for call in calls if since <= call.made < since + 1.0]
        if rest and soon and min(sum(rest) / len(rest), sum(soon) / len(soon)) >= _GOODPUT:
            return step / 10
    return None


def goodput(log: CallLog, began: float) -> list[tuple[float, float]]:
    """Return for each second, counted from *began*, the share of the calls made then that succeeded."""
    seconds: dict[int, list[bool]] = {}
    for call in log.calls:
        seconds.setdefault(math.floor(call.made - began), []).append(not call.error)
    return [(float(second), sum(ends) / len(ends)) for second, ends in sorted(seconds.items())]
