"""Measure by how much calls to hostile services overshoot their deadline, what they leave behind, and Ctrl-C."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness import machine
from benchmarks.harness.extra import environment, require_extra
from benchmarks.harness.results import write_json
from benchmarks.harness.tables import number, seconds, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.harness.options import Options
    from benchmarks.suites.deadlines.clients import Ends

_MOST: Final = 0.05
_INTERRUPT: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say how long a call may take, how many there are, and when a service lets go of a client that will not."""

    deadline: float = 0.5
    cap: float = 4.0
    callers: int = 8
    rounds: int = 4
    interrupts: int = 5


QUICK: Final = Plan(cap=1.5, rounds=1, interrupts=1)


def run(options: Options) -> None:
    """Measure, print the tables, and write ``deadlines.json`` and ``deadlines.svg``."""
    require_extra(("matplotlib", "requests"))
    plan, about = QUICK if options.quick else Plan(), machine.describe()
    plan = plan if options.repeat == 1 else Plan(**{**asdict(plan), "rounds": plan.rounds * options.repeat})
    print(f"deadlines: {introduction(plan)}\n\n{machine.sentence(about)}\n", flush=True)
    rows, stops = measure(plan)
    print(f"{tabulate(rows)}\n\n{tabulate_stops(stops)}\n\n{conclusions(rows, stops)}")
    write_json(
        options.output / "deadlines.json",
        {
            "benchmark": "deadlines",
            "quick": options.quick,
            "machine": about,
            "parameters": asdict(plan),
            "targets": {"overshoot": _MOST, "interrupt": _INTERRUPT},
            "rows": rows,
            "interrupts": stops,
        },
    )
    draw(options.output / "deadlines.svg", rows, plan, about)
    print(f"\nwritten: {options.output / 'deadlines.json'}, {options.output / 'deadlines.svg'}")


def measure(plan: Plan) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a row per scenario and client, and one per client for Ctrl-C."""
    from benchmarks.suites.deadlines.clients import CLIENTS, SCENARIOS, Order, call_all

    spawn = multiprocessing.get_context("spawn")
    rows = []
    with ExitStack() as stack:
        urls = stack.enter_context(_services(plan.cap))
        processes = {client: stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn)) for client in CLIENTS}
        # One after the other: they would take the processor from each other, and that is what would be measured.
        for scenario, client in product(SCENARIOS, CLIENTS):
            order = Order(
                client=client,
                scenario=scenario,
                url=urls[scenario],
                deadline=plan.deadline,
                callers=plan.callers,
                rounds=plan.rounds,
            )
            rows.append(row_of(scenario, client, processes[client].submit(call_all, order).result(), plan.deadline))
        with ThreadPoolExecutor(len(CLIENTS)) as hands:
            stops = list(hands.map(lambda client: stops_of(client, urls["stop"], plan.interrupts), CLIENTS))
    return rows, stops


@contextmanager
def _services(cap: float) -> Iterator[dict[str, str]]:
    """Run the hostile services in a process of their own."""
    from benchmarks.suites.deadlines.clients import serve

    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(cap, theirs))
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join(15.0)
        if process.is_alive():
            process.kill()
            process.join()


def row_of(scenario: str, client: str, ends: Ends, deadline: float) -> dict[str, Any]:
    """Return the figures of one scenario and client; an overshoot is what a call took beyond the deadline."""
    beyond = [took - deadline for took in ends.took]
    return {
        "scenario": scenario,
        "client": client,
        "calls": len(ends.took),
        "median": median(beyond),
        "worst": max(beyond),
        "errors": dict(Counter(ends.errors)),
        "leaked": ends.leaked,
    }


def stops_of(client: str, url: str, count: int) -> dict[str, Any]:
    """Return how long after Ctrl-C a blocked call was left, and its process gone."""
    woke, gone = [], []
    for _ in range(count):
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.suites.deadlines.clients", client, url],
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.5)
            at = time.monotonic()
            process.send_signal(signal.SIGINT)
            said = process.stdout.readline()
            process.wait(30.0)
            gone.append(time.monotonic() - at)
            woke.append(float(said) - at if said else gone[-1])
    return {"client": client, "stops": count, "median": median(woke), "worst": max(woke), "gone": max(gone)}


# Words and picture


def introduction(plan: Plan) -> str:
    """Return what is measured and how, before the figures."""
    from benchmarks.suites.deadlines.clients import CLIENTS, SCENARIOS

    return (
        "hostile services, and how far beyond its deadline a call to them goes\n\n"
        f"Each call is given {plan.deadline:g} s; {plan.callers} callers at once, {plan.rounds} rounds, no warm-up; a "
        "client that is over a second late is not asked again.\n"
        f"The services run in a process of their own and let go after {plan.cap:g} s (a client without a deadline goes "
        "that far, or on for as\nlong as it sleeps). Each client in a process of its own, one after the other. "
        "Permits, queue places and connections are\nlooked at after the last call; threads and open files after the "
        "client is closed; they get two seconds to come back.\n\n"
        + "\n".join(f"  {name:12} {sentence}" for name, sentence in (SCENARIOS | CLIENTS).items())
    )


def tabulate(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of overshoots."""
    heads = ["scenario", "client", "calls", "overshoot\nmedian", "\nworst", "target\nmet", "left\nbehind", "ended as"]
    return table(heads, [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> list[str]:
    met = ("yes" if _fine(row) else "no") if row["client"] == "ours" else ""
    left = ", ".join(f"{count:+d} {name}" for name, count in row["leaked"].items()) or "nothing"
    ends = ", ".join(f"{count} {name}" for name, count in row["errors"].items())
    return [
        row["scenario"],
        row["client"],
        number(row["calls"]),
        _over(row["median"]),
        _over(row["worst"]),
        met,
        left,
        ends,
    ]


def _over(value: float) -> str:
    return f"–{seconds(-value)}" if value < 0 else seconds(value)


def _fine(row: dict[str, Any]) -> bool:
    return bool(row["worst"] <= _MOST and not row["leaked"])


def tabulate_stops(stops: Sequence[dict[str, Any]]) -> str:
    """Return the table of Ctrl-C."""
    heads = ["Ctrl-C in a\nblocked call", "times", "left the call\nmedian", "\nworst", "process gone\nworst"]
    return table(
        heads,
        [
            [s["client"], number(s["stops"]), seconds(s["median"]), seconds(s["worst"]), seconds(s["gone"])]
            for s in stops
        ],
    )


def conclusions(rows: Sequence[dict[str, Any]], stops: Sequence[dict[str, Any]]) -> str:
    """Return which targets are met."""
    ours = [row for row in rows if row["client"] == "ours"]
    worst = max(ours, key=lambda row: float(row["worst"]))
    left = [row["scenario"] for row in ours if row["leaked"]]
    (stop,) = (each for each in stops if each["client"] == "ours")
    return "\n".join(
        [
            f"Overshoot at most {seconds(_MOST)} in each scenario: {_met(worst['worst'] <= _MOST)} "
            f"({worst['scenario']} {_over(worst['worst'])}).",
            f"Nothing left behind: {_met(not left)}{' (' + ', '.join(left) + ')' if left else ''}.",
            f"Ctrl-C leaves a blocked synthesize within {seconds(_INTERRUPT)}: {_met(stop['worst'] <= _INTERRUPT)} "
            f"({seconds(stop['worst'])}).",
            "A negative overshoot is a call that ended before its deadline, because it could know that waiting was no "
            "use.",
        ]
    )


def _met(met: bool) -> str:
    return "met" if met else "MISSED"


def draw(path: Path, rows: Sequence[dict[str, Any]], plan: Plan, about: dict[str, Any]) -> None:
    """Draw the worst overshoot of each client in each scenario."""
    from benchmarks.harness.pictures import OTHERS, OURS, QUIET, canvas, made_by, tidy

    clients = list(dict.fromkeys(row["client"] for row in rows))
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    caption = (
        f"{plan.callers} callers at once, {plan.rounds} rounds, {plan.deadline:g} s for each call. The services let go "
        f"after {plan.cap:g} s, which is what bounds the clients that would wait on.\n{made_by('deadlines', about)}"
    )
    title = f"Six hostile services: worst time beyond a deadline of {plan.deadline:g} s"
    with canvas(path, title=title, caption=caption, size=(12.5, 4.6)) as (axis,):
        tidy(axis, "seconds beyond the deadline, logarithmic; ended within 1 ms of it, or before: no bar")
        width = 0.8 / len(clients)
        for place, client in enumerate(clients):
            worst = {row["scenario"]: row["worst"] for row in rows if row["client"] == client}
            colour = OURS if client == "ours" else OTHERS[place]
            for column, scenario in enumerate(scenarios):
                at = column + (place - (len(clients) - 1) / 2) * width
                value = worst[scenario]
                axis.bar(at, max(value, 0.001), width=width * 0.92, color=colour, label="" if column else client)
                axis.annotate(
                    "in time" if value < 0.001 else seconds(value),
                    (at, max(value, 0.001)),
                    xytext=(0, 3),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    rotation=90,
                    fontsize=8.5,
                )
        axis.set_yscale("log")
        axis.set_ylim(0.001, 60)
        axis.yaxis.set_major_formatter(lambda value, _: seconds(value))
        axis.axhline(_MOST, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        axis.annotate(
            f"target {seconds(_MOST)}", (-0.48, _MOST), xytext=(0, 3), textcoords="offset points", fontsize=8.5
        )
        axis.set_xticks(range(len(scenarios)), scenarios)
        axis.set_xlim(-0.5, len(scenarios) - 0.5)
        axis.legend(frameon=False, ncols=len(clients), loc="upper left", fontsize=9)
