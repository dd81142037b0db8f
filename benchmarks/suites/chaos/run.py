"""Let everything fail at once, at random, over every protocol, and account for every text at the end."""

from __future__ import annotations

import random
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from benchmarks.harness.processes import run_module
from benchmarks.harness.results import announce, publish
from benchmarks.suites.chaos.plan import QUICK, TARGETS, Plan
from benchmarks.suites.chaos.report import conclusions, draw, introduction, tabulate

if TYPE_CHECKING:
    from benchmarks.harness.options import Options


def run(options: Options) -> None:
    """Measure, print the table, and write ``chaos.json`` and ``chaos.svg``."""
    plan = QUICK if options.quick else Plan()
    plan = replace(plan, seconds=options.seconds or plan.seconds)
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    about = announce("chaos", introduction(plan, seed))
    document = measure(plan, seed)
    print(f"{tabulate(document)}\n\n{conclusions(document, seed)}")
    figures = {"parameters": {**asdict(plan), "seed": seed}, "targets": TARGETS, **document}
    publish("chaos", options, about, figures, lambda path: draw(path, document, plan, about))


def measure(plan: Plan, seed: int) -> dict[str, Any]:
    """Return what became of everything in a run of *seed*, in a process of its own: it forks and is interrupted."""
    # Without GRPC_VERBOSITY, grpc logs every fork.
    quiet = {"GRPC_VERBOSITY": "ERROR"}
    return run_module("benchmarks.suites.chaos.process", {"seed": seed, **asdict(plan)}, more_environment=quiet)
