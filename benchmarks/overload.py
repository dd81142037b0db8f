"""Measure goodput where a GPU is the limit: at one, two and five times its capacity, and when that changes."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks import machine
from benchmarks.extra import require_extra
from benchmarks.overload_clients import CLIENTS, MEAN_SECONDS, Load, Story, drive
from benchmarks.results import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from benchmarks.options import Options
    from cosyclient.emulator import Emulator

GOAL: Final = 0.95
"""The target of goodput as a share of capacity."""
SOON: Final = 30.0
"""The target of seconds within which another capacity is used."""
_STEADY: Final = 5.0
"""Seconds over which goodput is averaged to say from when on another capacity is used."""
_HELD: Final = 0.85
"""Share of it that none of these averages may miss from then on."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say what the service can do, how hard it is asked, and how long."""

    gpus: int = 4
    rtf: float = 0.06
    rtt: float = 0.01
    deadline: float = 10.0
    loads: tuple[float, ...] = (1.0, 2.0, 5.0)
    warm_up: float = 20.0
    seconds: float = 40.0
    repeat: int = 3
    changing: float = 2.0
    """Load while the capacity changes, in terms of the first one."""
    phases: tuple[int, ...] = (4, 2, 4, 8)
    """GPUs of each phase."""
    phase: float = 45.0
    at_once: bool = False
    """Whether the changes are measured beside the loads, to save time."""

    @property
    def capacity(self) -> float:
        """Return the audio seconds per second that all GPUs render."""
        return self.gpus / self.rtf

    @property
    def rate(self) -> float:
        """Return the calls per second that are worth the capacity."""
        return self.capacity / MEAN_SECONDS


QUICK: Final = Plan(loads=(2.0, 5.0), warm_up=3.0, seconds=5.0, repeat=1, phases=(4, 2, 4), phase=5.0, at_once=True)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Hold one client's figures under one load."""

    client: str
    load: float
    goodput: float
    """Audio seconds per second that came back within the deadline, over the capacity."""
    lowest: float
    highest: float
    asked: int
    """Calls, warm-up included, as in the next three."""
    lost: float
    """Share of the calls that brought no audio in time."""
    wasted: float
    """Share of the GPUs' work that was done for clients who had left."""
    requests: int
    latency: float | None
    """Median seconds of the calls that succeeded."""
    errors: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Change:
    """Hold how one client goes through changes of capacity."""

    client: str
    goodput: Sequence[float]
    """Audio seconds delivered in time in each second, over the first capacity."""
    steady: Sequence[float]
    """The same over the capacity of the day, in the second half of each phase."""
    followed: Sequence[float | None]
    """Seconds after each change until the new capacity (or the load) was used, or None if it never was."""
    limits: Sequence[tuple[float, int]]


def run(options: Options) -> None:
    """Measure, print the tables, and write ``overload.json`` and ``overload.svg``."""
    require_extra()
    from benchmarks.overload_words import conclusions, draw, introduction, tabulate, tabulate_changes

    plan = QUICK if options.quick else Plan(repeat=max(Plan.repeat, options.repeat))
    about = machine.describe()
    print(f"overload: {introduction(plan)}\n\n{machine.sentence(about)}\n", flush=True)
    spawn = multiprocessing.get_context("spawn")
    processes = ProcessPoolExecutor(len(CLIENTS) * (len(plan.loads) + 1), mp_context=spawn)
    with processes, ThreadPoolExecutor(1) as beside:
        later = beside.submit(change, plan, options.audio, processes) if plan.at_once else None
        rows = medians([row for turn in range(plan.repeat) for row in sweep(plan, options.audio, processes, turn)])
        print(f"{tabulate(rows)}\n", flush=True)
        changes = later.result() if later else change(plan, options.audio, processes)
    print(f"{tabulate_changes(changes, plan)}\n\n{conclusions(rows, changes, plan)}")
    write_json(
        options.output / "overload.json",
        {
            "benchmark": "overload",
            "quick": options.quick,
            "machine": about,
            "parameters": {**asdict(plan), "clients": CLIENTS, "capacity": plan.capacity, "calls_a_second": plan.rate},
            "targets": {"goodput": GOAL, "seconds_to_follow": SOON},
            "rows": [asdict(row) for row in rows],
            "changes": [asdict(each) for each in changes],
        },
    )
    draw(options.output / "overload.svg", rows, changes, plan, about)
    print(f"\nwritten: {options.output / 'overload.json'}, {options.output / 'overload.svg'}")


def sweep(plan: Plan, audio: str, processes: Executor, turn: int) -> list[Row]:
    """Return a row per client and load; all run at once, each against a service of its own."""
    pairs = [(client, load) for load in plan.loads for client in CLIENTS]
    with ExitStack() as stack:
        services = _services(stack, plan, audio, len(pairs))
        running = [
            processes.submit(
                drive,
                Load(
                    client=client,
                    url=service.url,
                    audio=audio,
                    rate=load * plan.rate,
                    seconds=plan.warm_up + plan.seconds,
                    deadline=plan.deadline,
                    seed=turn,
                ),
            )
            for (client, load), service in zip(pairs, services, strict=True)
        ]
        return [
            _row(plan, client, load, each.result(), service)
            for (client, load), each, service in zip(pairs, running, services, strict=True)
        ]


def change(plan: Plan, audio: str, processes: Executor) -> list[Change]:
    """Return how each client goes through the phases; all run at once, each against a service of its own."""
    turns = [(plan.warm_up + n * plan.phase, gpus) for n, gpus in enumerate(plan.phases) if n]
    with ExitStack() as stack:
        running = {
            client: processes.submit(
                drive,
                Load(
                    client=client,
                    url=service.url,
                    audio=audio,
                    rate=plan.changing * plan.rate,
                    seconds=plan.warm_up + plan.phase * len(plan.phases),
                    deadline=plan.deadline,
                    seed=0,
                    gpus=turns,
                ),
            )
            for client, service in zip(CLIENTS, _services(stack, plan, audio, len(CLIENTS)), strict=True)
        }
        return [story_of_changes(plan, client, each.result()) for client, each in running.items()]


def _services(stack: ExitStack, plan: Plan, audio: str, count: int) -> list[Emulator]:
    """Start services that have rendered every length of text once: that is not what is measured."""
    from benchmarks.texts import CHARACTERS
    from cosyclient import CosyClient
    from cosyclient.emulator import Emulator, Settings

    def start(settings: Settings) -> Emulator:
        service = Emulator(settings)
        service.set_gpus(rtf=0.0)
        with CosyClient(service.url, format=audio) as client:
            client.batch_synth("暖" * length for length in range(CHARACTERS, 2 * CHARACTERS + 1))
        service.reset()
        return service

    with ThreadPoolExecutor(2) as starters:
        settings = [Settings(engine="tone", rtt=plan.rtt, gpus=plan.gpus, rtf=plan.rtf)] * count
        return [stack.enter_context(service) for service in list(starters.map(start, settings))]


def _row(plan: Plan, client: str, load: float, story: Story, service: Emulator) -> Row:
    counted = service.counters()
    good = goodput(story, plan.warm_up, plan.warm_up + plan.seconds) / plan.capacity
    waits = [waited for at, waited, _ in story.spoken if at >= plan.warm_up]
    return Row(
        client=client,
        load=load,
        goodput=good,
        lowest=good,
        highest=good,
        asked=story.asked,
        lost=story.errors.total() / story.asked,
        wasted=counted.gpu_seconds_wasted / counted.gpu_seconds,
        requests=counted.requests,
        latency=median(waits) if waits else None,
        errors=dict(story.errors),
    )


def goodput(story: Story, since: float, until: float) -> float:
    """Return the audio seconds per second that came back in time between the two instants."""
    return sum(audio for at, _, audio in story.spoken if since <= at < until) / (until - since)


def medians(rows: Sequence[Row]) -> list[Row]:
    """Return one row per client and load: the run of median goodput, and the spread."""
    found = []
    for key in dict.fromkeys((row.client, row.load) for row in rows):
        runs = sorted((row for row in rows if (row.client, row.load) == key), key=lambda row: row.goodput)
        found.append(replace(runs[len(runs) // 2], lowest=runs[0].goodput, highest=runs[-1].goodput))
    return found


def story_of_changes(plan: Plan, client: str, story: Story) -> Change:
    """Return what *story* says of a run through the phases."""
    begins = [plan.warm_up + n * plan.phase for n in range(len(plan.phases))]
    bounds = [min(gpus / plan.rtf, plan.changing * plan.capacity) for gpus in plan.phases]
    whole = int(plan.phase * len(plan.phases))
    return Change(
        client=client,
        goodput=[goodput(story, plan.warm_up + n, plan.warm_up + n + 1) / plan.capacity for n in range(whole)],
        steady=[
            goodput(story, begin + plan.phase / 2, begin + plan.phase) / bound
            for begin, bound in zip(begins, bounds, strict=True)
        ],
        followed=[
            followed(story, begin, begin + plan.phase, bound)
            for begin, bound in zip(begins[1:], bounds[1:], strict=True)
        ],
        limits=[(at - plan.warm_up, limit) for at, limit in story.limits],
    )


def followed(story: Story, since: float, until: float, bound: float) -> float | None:
    """Return the seconds after *since* from which on *bound* is used to the phase's end, with no dip."""
    found = None
    for step in range(int((until - since - _STEADY) * 2), -1, -1):
        at = since + step / 2
        if goodput(story, at, at + _STEADY) < _HELD * bound:
            return found
        if goodput(story, at, until) >= GOAL * bound:
            found = at - since
    return found
