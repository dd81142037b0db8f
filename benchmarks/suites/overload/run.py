"""Measure what adapting to a service does: nothing where it keeps up, and goodput where a GPU is the limit."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.harness import machine
from benchmarks.harness.extra import require_extra
from benchmarks.harness.results import write_json
from benchmarks.suites.overload.clients import CLIENTS, MEAN_SECONDS, Load, Story, drive
from benchmarks.suites.overload.jobs import WORLDS, Finish, Job, words, work

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from benchmarks.harness.options import Options
    from cosyclient.emulator import Emulator

GOAL: Final = 0.95
"""The target of goodput as a share of capacity."""
LESS: Final = 15.0
MORE: Final = 2.0
"""The targets of seconds within which less, or more, capacity is used."""
HARMLESS: Final = 1.3
"""The target of time a job takes where the service keeps up, over that without adaptation."""
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
    repeat: int = 1
    worlds: tuple[str, ...] = tuple(WORLDS)
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


QUICK: Final = Plan(
    loads=(2.0, 5.0),
    warm_up=3.0,
    seconds=5.0,
    repeat=1,
    phases=(4, 2, 4),
    phase=5.0,
    at_once=True,
    worlds=("idle, then submits", "cold, single calls", "cold, one batch", "flaky, 20 %"),
)


@dataclass(frozen=True, kw_only=True)
class Harm:
    """Hold how one client does the job of one world in which the service keeps up."""

    client: str
    world: str
    seconds: float
    """Median of the runs."""
    fastest: float
    slowest: float
    lost: int
    """Texts without audio, of all runs together."""
    unlucky: int
    """Those of them that every request had failed for."""
    texts: int
    """Texts asked for in all runs together."""
    requests: int
    """Requests of the median run."""
    errors: dict[str, int]


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
    from benchmarks.suites.overload.report import (
        conclusions,
        draw,
        introduction,
        tabulate,
        tabulate_changes,
        tabulate_harm,
    )

    plan = QUICK if options.quick else Plan(repeat=options.repeat)
    about = machine.describe()
    print(f"overload: {introduction(plan)}\n\n{machine.sentence(about)}\n", flush=True)
    spawn = multiprocessing.get_context("spawn")
    # One after the other: what is measured there is time.
    with ProcessPoolExecutor(1, mp_context=spawn) as process:
        harm = harmless(plan, options.audio, process)
    print(f"{tabulate_harm(harm)}\n", flush=True)
    processes = ProcessPoolExecutor(2 * len(CLIENTS), mp_context=spawn)
    with processes, ThreadPoolExecutor(1) as beside:
        later = beside.submit(change, plan, options.audio, processes) if plan.at_once else None
        turns = [(load, turn) for load in plan.loads for turn in range(plan.repeat)]
        rows = medians([row for load, turn in turns for row in sweep(plan, options.audio, processes, load, turn)])
        print(f"{tabulate(rows)}\n", flush=True)
        changes = later.result() if later else change(plan, options.audio, processes)
    print(f"{tabulate_changes(changes, plan)}\n\n{conclusions(harm, rows, changes, plan)}")
    write_json(
        options.output / "overload.json",
        {
            "benchmark": "overload",
            "quick": options.quick,
            "machine": about,
            "parameters": {**asdict(plan), "clients": CLIENTS, "capacity": plan.capacity, "calls_a_second": plan.rate},
            "targets": {"harmless": HARMLESS, "goodput": GOAL, "seconds_to_less": LESS, "seconds_to_more": MORE},
            "harm": [asdict(each) for each in harm],
            "rows": [asdict(row) for row in rows],
            "changes": [asdict(each) for each in changes],
        },
    )
    draw(options.output / "overload.svg", harm, rows, changes, plan, about)
    print(f"\nwritten: {options.output / 'overload.json'}, {options.output / 'overload.svg'}")


def harmless(plan: Plan, audio: str, process: Executor) -> list[Harm]:
    """Return how each client does the job of each world, one after the other, each with a service of its own."""
    from cosyclient.emulator import running

    found = []
    for name in plan.worlds:
        world = WORLDS[name]
        lengths = sorted({len(each) for each in words(world)})
        runs: dict[str, list[Finish]] = {client: [] for client in CLIENTS}
        for turn in range(plan.repeat):
            for client in CLIENTS:
                with running(engine="tone", seed=turn, **world.service) as service:
                    warm(service, audio, lengths)
                    finish = process.submit(work, Job(client=client, world=name, url=service.url, audio=audio)).result()
                    finish.requests = service.counters().requests
                runs[client].append(finish)
        found += [_harm(client, name, each) for client, each in runs.items()]
    return found


def _harm(client: str, world: str, runs: Sequence[Finish]) -> Harm:
    ranked = sorted(runs, key=lambda run: run.seconds)
    middle = ranked[len(ranked) // 2]
    errors = sum((run.errors for run in runs), Counter[str]())
    return Harm(
        client=client,
        world=world,
        seconds=middle.seconds,
        fastest=ranked[0].seconds,
        slowest=ranked[-1].seconds,
        lost=errors.total(),
        unlucky=errors["ServiceFault"],
        texts=WORLDS[world].texts * len(runs),
        requests=middle.requests,
        errors=dict(errors),
    )


def warm(service: Emulator, audio: str, lengths: Sequence[int]) -> None:
    """Have *service* render every length of text once: that is not what is measured."""
    from cosyclient import CosyClient

    with CosyClient(service.url, format=audio) as client:
        for _ in client.synthesize_many(["暖" * length for length in lengths]):
            pass
    service.reset()


def sweep(plan: Plan, audio: str, processes: Executor, load: float, turn: int) -> list[Row]:
    """Return a row per client under one *load*; all run at once, each against a service of its own."""
    with ExitStack() as stack:
        services = _services(stack, plan, audio, len(CLIENTS))
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
            for client, service in zip(CLIENTS, services, strict=True)
        ]
        return [
            _row(plan, client, load, each.result(), service)
            for client, each, service in zip(CLIENTS, running, services, strict=True)
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
    """Start services that have rendered every length of text once."""
    from benchmarks.harness.texts import CHARACTERS
    from cosyclient.emulator import Emulator, Settings

    def start(settings: Settings) -> Emulator:
        service = Emulator(settings)
        service.set_gpus(rtf=0.0)
        warm(service, audio, range(CHARACTERS, 2 * CHARACTERS + 1))
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
