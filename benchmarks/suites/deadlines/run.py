"""Measure how far calls to hostile services go beyond their deadline, what they leave behind, and Ctrl-C."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from itertools import product
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.harness.processes import environment
from benchmarks.harness.results import announce, publish
from benchmarks.suites.deadlines.clients import CallSpec, call_all
from benchmarks.suites.deadlines.plan import CLIENTS, QUICK, SCENARIOS, TARGET_INTERRUPT, TARGET_OVERSHOOT, Plan
from benchmarks.suites.deadlines.report import conclusions, draw, introduction, tabulate, tabulate_interrupts
from benchmarks.suites.deadlines.services import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness.options import Options
    from benchmarks.suites.deadlines.clients import CallResults


def run(options: Options) -> None:
    """Measure, print the tables, and write ``deadlines.json`` and ``deadlines.svg``."""
    plan = QUICK if options.quick else Plan()
    plan = replace(plan, rounds=plan.rounds * options.repeat)
    about = announce("deadlines", introduction(plan))
    rows, interrupts = measure(plan)
    print(f"{tabulate(rows)}\n\n{tabulate_interrupts(interrupts)}\n\n{conclusions(rows, interrupts)}")
    figures = {
        "parameters": asdict(plan),
        "targets": {"overshoot": TARGET_OVERSHOOT, "interrupt": TARGET_INTERRUPT},
        "rows": rows,
        "interrupts": interrupts,
    }
    publish("deadlines", options, about, figures, lambda path: draw(path, rows, plan, about))


def measure(plan: Plan) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a row per scenario and client, and one per client for Ctrl-C."""
    spawn = multiprocessing.get_context("spawn")
    rows = []
    with ExitStack() as stack:
        urls = stack.enter_context(_services(plan.cap))
        processes = {client: stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn)) for client in CLIENTS}
        # One after the other: at once, they would wait for the processor, and that would be measured, too.
        for scenario, client in product(SCENARIOS, CLIENTS):
            spec = CallSpec(
                client=client,
                scenario=scenario,
                url=urls[scenario],
                deadline=plan.deadline,
                callers=plan.callers,
                rounds=plan.rounds,
            )
            rows.append(row_of(scenario, client, processes[client].submit(call_all, spec).result(), plan.deadline))
        with ThreadPoolExecutor(len(CLIENTS)) as threads:
            stops = list(threads.map(lambda client: interrupts_of(client, urls["stop"], plan.interrupts), CLIENTS))
    return rows, stops


@contextmanager
def _services(cap: float) -> Iterator[dict[str, str]]:
    """Run the hostile services in a process of their own."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=serve, args=(cap, there))
    process.start()
    there.close()
    try:
        yield here.recv()
    finally:
        here.close()
        process.join(15.0)
        if process.is_alive():
            process.kill()
            process.join()


def row_of(scenario: str, client: str, results: CallResults, deadline: float) -> dict[str, Any]:
    """Return the figures of one scenario and client; an overshoot is the time a call took beyond the deadline."""
    beyond = [took - deadline for took in results.took]
    return {
        "scenario": scenario,
        "client": client,
        "calls": len(results.took),
        "median": median(beyond),
        "worst": max(beyond),
        "errors": dict(Counter(results.errors)),
        "leaked": results.leaked,
    }


def interrupts_of(client: str, url: str, count: int) -> dict[str, Any]:
    """Return how long after Ctrl-C a blocked call was left, and its process gone."""
    left, gone = [], []
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
            line = process.stdout.readline()
            process.wait(30.0)
            gone.append(time.monotonic() - at)
            left.append(float(line) - at if line else gone[-1])
    return {"client": client, "stops": count, "median": median(left), "worst": max(left), "gone": max(gone)}
