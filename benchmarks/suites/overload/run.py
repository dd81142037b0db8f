"""Measure what adapting to a service does: nothing where it keeps up, and goodput where a GPU is the limit."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.harness.results import announce, publish
from benchmarks.harness.texts import CHARACTERS
from benchmarks.suites.overload.clients import CLIENTS, LoadResult, LoadSpec, run_load
from benchmarks.suites.overload.jobs import SCENARIOS, JobResult, JobSpec, job_texts, run_job
from benchmarks.suites.overload.plan import (
    QUICK,
    TARGET_GOODPUT,
    TARGET_LESS,
    TARGET_MORE,
    TARGET_SLOWDOWN,
    CapacityRow,
    HealthyRow,
    LoadRow,
    Plan,
)
from benchmarks.suites.overload.report import (
    conclusions,
    draw,
    introduction,
    tabulate_capacity,
    tabulate_healthy,
    tabulate_loads,
)
from cosyclient import CosyClient
from cosyclient.emulator import Emulator, Settings, running

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from benchmarks.harness.options import Options

_STEADY: Final = 5.0
"""Seconds over which goodput is averaged to find when another capacity is used."""
_KEPT: Final = 0.85
"""Share of the capacity that each of these averages has to reach from then on."""


def run(options: Options) -> None:
    """Measure, print the tables, and write ``overload.json`` and ``overload.svg``."""
    plan = QUICK if options.quick else Plan(repeat=options.repeat)
    about = announce("overload", introduction(plan))
    spawn = multiprocessing.get_context("spawn")
    # One after the other: what is measured there is time.
    with ProcessPoolExecutor(1, mp_context=spawn) as process:
        healthy = measure_healthy(plan, options.audio, process)
    print(f"{tabulate_healthy(healthy)}\n", flush=True)
    processes = ProcessPoolExecutor(2 * len(CLIENTS), mp_context=spawn)
    with processes, ThreadPoolExecutor(1) as beside:
        later = beside.submit(measure_capacity, plan, options.audio, processes) if plan.at_once else None
        turns = [(load, turn) for load in plan.loads for turn in range(plan.repeat)]
        rows = [row for load, turn in turns for row in measure_load(plan, options.audio, processes, load, turn)]
        rows = medians(rows)
        print(f"{tabulate_loads(rows)}\n", flush=True)
        changes = later.result() if later else measure_capacity(plan, options.audio, processes)
    print(f"{tabulate_capacity(changes, plan)}\n\n{conclusions(healthy, rows, changes, plan)}")
    figures = {
        "parameters": {**asdict(plan), "clients": CLIENTS, "capacity": plan.capacity, "calls_a_second": plan.rate},
        "targets": {
            "slowdown": TARGET_SLOWDOWN,
            "goodput": TARGET_GOODPUT,
            "seconds_to_less": TARGET_LESS,
            "seconds_to_more": TARGET_MORE,
        },
        "healthy": [asdict(each) for each in healthy],
        "rows": [asdict(row) for row in rows],
        "changes": [asdict(each) for each in changes],
    }
    publish("overload", options, about, figures, lambda path: draw(path, healthy, rows, changes, plan, about))


def measure_healthy(plan: Plan, audio: str, process: Executor) -> list[HealthyRow]:
    """Return how long each client takes for each scenario's job, one after the other, each with its own service."""
    found = []
    for name in plan.scenarios:
        scenario = SCENARIOS[name]
        lengths = sorted({len(each) for each in job_texts(scenario)})
        runs: dict[str, list[JobResult]] = {client: [] for client in CLIENTS}
        for turn in range(plan.repeat):
            for client in CLIENTS:
                with running(engine="tone", seed=turn, **scenario.service) as service:
                    warm(service, audio, lengths)
                    spec = JobSpec(client=client, scenario=name, url=service.url, audio=audio)
                    result = process.submit(run_job, spec).result()
                    result.requests = service.counters().requests
                runs[client].append(result)
        found += [_healthy_row(client, name, each) for client, each in runs.items()]
    return found


def _healthy_row(client: str, scenario: str, runs: Sequence[JobResult]) -> HealthyRow:
    ranked = sorted(runs, key=lambda run: run.seconds)
    middle = ranked[len(ranked) // 2]
    errors = sum((run.errors for run in runs), Counter[str]())
    return HealthyRow(
        client=client,
        scenario=scenario,
        seconds=middle.seconds,
        fastest=ranked[0].seconds,
        slowest=ranked[-1].seconds,
        lost=errors.total(),
        exhausted=errors["ServiceFault"],
        texts=SCENARIOS[scenario].texts * len(runs),
        requests=middle.requests,
        errors=dict(errors),
    )


def warm(service: Emulator, audio: str, lengths: Sequence[int]) -> None:
    """Have *service* render every length of text once, because that is not what is measured."""
    with CosyClient(service.url, format=audio) as client:
        for _ in client.synthesize_many(["暖" * length for length in lengths]):
            pass
    service.reset()


def measure_load(plan: Plan, audio: str, processes: Executor, load: float, turn: int) -> list[LoadRow]:
    """Return a row per client under one *load*; all run at once, each against a service of its own."""
    with ExitStack() as stack:
        services = _services(stack, plan, audio, len(CLIENTS))
        running = [
            processes.submit(
                run_load,
                LoadSpec(
                    client=client,
                    url=service.url,
                    audio=audio,
                    rate=load * plan.rate,
                    seconds=plan.warm_up + plan.seconds,
                    deadline=plan.deadline,
                    seed=turn,
                ),
            )
            for client, service in zip(CLIENTS, services, strict=True)
        ]
        return [
            _row(plan, client, load, each.result(), service)
            for client, each, service in zip(CLIENTS, running, services, strict=True)
        ]


def measure_capacity(plan: Plan, audio: str, processes: Executor) -> list[CapacityRow]:
    """Return what each client does through the phases; all run at once, each against a service of its own."""
    changes = [(plan.warm_up + n * plan.phase, gpus) for n, gpus in enumerate(plan.phases) if n]
    with ExitStack() as stack:
        running = {
            client: processes.submit(
                run_load,
                LoadSpec(
                    client=client,
                    url=service.url,
                    audio=audio,
                    rate=plan.changing * plan.rate,
                    seconds=plan.warm_up + plan.phase * len(plan.phases),
                    deadline=plan.deadline,
                    seed=0,
                    gpus=changes,
                ),
            )
            for client, service in zip(CLIENTS, _services(stack, plan, audio, len(CLIENTS)), strict=True)
        }
        return [capacity_row(plan, client, each.result()) for client, each in running.items()]


def _services(stack: ExitStack, plan: Plan, audio: str, count: int) -> list[Emulator]:
    """Start services that have rendered every length of text once."""

    def start(settings: Settings) -> Emulator:
        service = Emulator(settings)
        service.set_gpus(rtf=0.0)
        warm(service, audio, range(CHARACTERS, 2 * CHARACTERS + 1))
        return service

    with ThreadPoolExecutor(2) as starters:
        settings = [Settings(engine="tone", rtt=plan.rtt, gpus=plan.gpus, rtf=plan.rtf)] * count
        return [stack.enter_context(service) for service in list(starters.map(start, settings))]


def _row(plan: Plan, client: str, load: float, result: LoadResult, service: Emulator) -> LoadRow:
    counted = service.counters()
    good = goodput(result, plan.warm_up, plan.warm_up + plan.seconds) / plan.capacity
    waits = [waited for at, waited, _ in result.finished if at >= plan.warm_up]
    return LoadRow(
        client=client,
        load=load,
        goodput=good,
        lowest=good,
        highest=good,
        asked=result.asked,
        lost=result.errors.total() / result.asked,
        wasted=counted.gpu_seconds_wasted / counted.gpu_seconds,
        requests=counted.requests,
        latency=median(waits) if waits else None,
        errors=dict(result.errors),
    )


def goodput(result: LoadResult, since: float, until: float) -> float:
    """Return the audio seconds per second that came back in time between the two instants."""
    return sum(audio for at, _, audio in result.finished if since <= at < until) / (until - since)


def medians(rows: Sequence[LoadRow]) -> list[LoadRow]:
    """Return one row per client and load: the run of median goodput, and the spread."""
    found = []
    for key in dict.fromkeys((row.client, row.load) for row in rows):
        runs = sorted((row for row in rows if (row.client, row.load) == key), key=lambda row: row.goodput)
        found.append(replace(runs[len(runs) // 2], lowest=runs[0].goodput, highest=runs[-1].goodput))
    return found


def capacity_row(plan: Plan, client: str, result: LoadResult) -> CapacityRow:
    """Return the row of a run through the phases."""
    begins = [plan.warm_up + n * plan.phase for n in range(len(plan.phases))]
    bounds = [min(gpus / plan.rtf, plan.changing * plan.capacity) for gpus in plan.phases]
    whole = int(plan.phase * len(plan.phases))
    return CapacityRow(
        client=client,
        goodput=[goodput(result, plan.warm_up + n, plan.warm_up + n + 1) / plan.capacity for n in range(whole)],
        steady=[
            goodput(result, begin + plan.phase / 2, begin + plan.phase) / bound
            for begin, bound in zip(begins, bounds, strict=True)
        ],
        followed=[
            followed(result, begin, begin + plan.phase, bound)
            for begin, bound in zip(begins[1:], bounds[1:], strict=True)
        ],
        limits=[(at - plan.warm_up, limit) for at, limit in result.limits],
    )


def followed(result: LoadResult, since: float, until: float, bound: float) -> float | None:
    """Return the seconds after *since* from which on *bound* is used to the phase's end, with no dip."""
    found = None
    for step in range(int((until - since - _STEADY) * 2), -1, -1):
        at = since + step / 2
        if goodput(result, at, at + _STEADY) < _KEPT * bound:
            return found
        if goodput(result, at, until) >= TARGET_GOODPUT * bound:
            found = at - since
    return found
