"""Let everything go wrong at once, at random, over every protocol, and account for every text at the end."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness import machine
from benchmarks.harness.extra import environment, require_extra
from benchmarks.harness.results import write_json
from benchmarks.suites.chaos.report import conclusions, draw, introduction, tabulate

if TYPE_CHECKING:
    from benchmarks.harness.options import Options

TARGETS: Final = {"wrong": 0, "unexplained": 0, "unaccounted": 0, "held": 0, "findings": 0, "behind": 0}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say how long, how many call at once, and whether they are interrupted."""

    seconds: float = 200.0
    callers: int = 10
    interrupts: bool = True


QUICK: Final = Plan(seconds=20.0)


def run(options: Options) -> None:
    """Measure, print the table, and write ``chaos.json`` and ``chaos.svg``."""
    require_extra(("matplotlib", "grpc", "websockets", "starlette"))
    plan, about = QUICK if options.quick else Plan(), machine.describe()
    plan = Plan(**{**asdict(plan), "seconds": options.seconds or plan.seconds})
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    print(f"chaos: {introduction(plan, seed)}\n\n{machine.sentence(about)}\n", flush=True)
    document = measure(plan, seed)
    print(f"{tabulate(document)}\n\n{conclusions(document, seed)}")
    write_json(
        options.output / "chaos.json",
        {
            "benchmark": "chaos",
            "quick": options.quick,
            "machine": about,
            "parameters": {**asdict(plan), "seed": seed},
            "targets": TARGETS,
            **document,
        },
    )
    draw(options.output / "chaos.svg", document, plan, about)
    print(f"\nwritten: {options.output / 'chaos.json'}, {options.output / 'chaos.svg'}")


def measure(plan: Plan, seed: int) -> dict[str, Any]:
    """Return what became of everything in a run of *seed*, in a process of its own: it forks and is interrupted."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.suites.chaos.process"],
        input=json.dumps({"seed": seed, **asdict(plan)}),
        stdout=subprocess.PIPE,
        env=environment(GRPC_VERBOSITY="ERROR"),  # it would tell of each fork
        check=True,
        text=True,
    )
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document
