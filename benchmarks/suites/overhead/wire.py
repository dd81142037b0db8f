"""Measure the client on the plain wire without a quota, 64 texts a request, beside a bare loop that does the least."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.gateway import GatewaySpec
from benchmarks.harness.loads import LoadSpec
from benchmarks.harness.prepared import BATCH
from benchmarks.harness.results import Row
from benchmarks.harness.tables import met, number, seconds, share, table
from benchmarks.harness.wires import PLAIN, reply
from benchmarks.harness.worker import measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.harness.results import Run

FAST: Final = ("pybase64", "orjson", "msgspec")
"""What "without fast" cannot import: whatever speeds decoding up and is not one of the four core packages."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Describe one row: a client, its load, and what it may cost."""

    name: str
    label: str
    peer: str = "d"
    load: str
    callers: int = 1
    base: str = "bare"
    """The row that its texts a second are compared with."""
    rate_goal: float | None = None
    """The least texts a second, as a multiple of the *base*'s."""
    cpu_goal: float | None = None
    """The most processor time a text, as a multiple of the *base*'s."""

    @property
    def fast(self) -> bool:
        """Return whether the extra ``fast`` is there."""
        return self.base == "bare"


_OURS: Final = (
    Case(name="many", label="synthesize_many", load="many", rate_goal=0.8, cpu_goal=2.0),
    Case(name="submit", label="submit", load="submit", callers=3840, rate_goal=0.65, cpu_goal=2.5),
    Case(
        name="threads",
        label="1,750 threads",
        load="callers",
        callers=1750,
        rate_goal=0.55,
        cpu_goal=3.0,
    ),
)
CASES: Final = (
    Case(name="raw", label="the service alone", peer="raw", load="drain", callers=50),
    Case(name="bare", label="bare loop, 50 threads", peer="bare", load="bare", callers=50),
    *_OURS,
    *(
        replace(
            each,
            name=f"{each.name}_core",
            label=f"{each.label}, no fast",
            base=each.name,
            rate_goal=0.6,
            cpu_goal=None,
        )
        for each in _OURS
    ),
)


def measure_all(seconds: float, warm_up: float, repeat: int) -> list[Row]:
    """Return a row per case; each run is a fresh process against a fresh Envoy, in turn."""
    service = GatewaySpec(reply=reply(PLAIN))
    runs: dict[str, list[Run]] = {each.name: [] for each in CASES}
    for _ in range(repeat):
        for each in CASES:
            load = LoadSpec(
                peer=each.peer,
                audio=PLAIN,
                callers=each.callers,
                seconds=seconds,
                warm_up=warm_up,
                load=each.load,
                paced=False,
                # One core for the client would make one figure of two: cost and rate.
                confined=False,
            )
            runs[each.name].append(measure(load, service, without=() if each.fast else FAST))
    return [Row(name=each.name, label=each.label, sentence=each.load, runs=runs[each.name]) for each in CASES]


def times(case: Case, runs: Mapping[str, Run]) -> tuple[float | None, float | None]:
    """Return its texts a second and its processor time a text, as multiples of its base's."""
    run, base = runs[case.name], runs[case.base]
    cost, least = run.cpu_per_text, base.cpu_per_text
    return (run.rate / base.rate if base.rate else None), (cost / least if cost and least else None)


def tabulate(rows: Sequence[Row]) -> str:
    """Return the table."""
    heads = [
        "64 texts a request, JSON and WAV",
        "texts/s",
        "lowest to\nhighest",
        "times the\nbare loop's",
        "\ngoal",
        "CPU\na text",
        "times the\nbare loop's",
        "\ngoal",
        "cores:\nclient",
        "\nEnvoy",
        "texts a\nrequest",
        "texts\nlost",
    ]
    runs = {row.name: row.median for row in rows}
    return table(heads, [_cells(case, row, runs) for case, row in zip(CASES, rows, strict=True)])


def _cells(case: Case, row: Row, runs: Mapping[str, Run]) -> list[str]:
    run, (low, high) = row.median, row.spread
    # Rows without fast are compared with the bare loop here, and with themselves below the table.
    rate, cost = times(replace(case, base="bare"), runs)
    return [
        row.label,
        number(run.rate),
        f"{low:,.0f} to {high:,.0f}" if len(row.runs) > 1 else "–",
        number(rate, 2),
        f"≥ {case.rate_goal:g}" if case.fast and case.rate_goal else "",
        seconds(run.cpu_per_text),
        number(cost, 2),
        f"≤ {case.cpu_goal:g}" if case.cpu_goal else "",
        number(run.cpu / run.elapsed, 2),
        number(run.service_cpu, 2),
        # Requests are counted as they come to the service, texts as they are audio: a second has more of either.
        number(min(BATCH, run.finished / run.requests) if run.requests else None),
        share(run.error_rate),
    ]


def conclusions(rows: Sequence[Row]) -> str:
    """Return which goals were met."""
    runs = {row.name: row.median for row in rows}
    lines = []
    for case in CASES:
        rate, cost = times(case, runs)
        base = "the bare loop's" if case.fast else "those with fast"
        found = []
        if case.cpu_goal:
            reached = cost is not None and cost <= case.cpu_goal
            found.append(f"processor time at most {case.cpu_goal:g} × {base}: {number(cost, 2)}, {met(reached)}")
        if case.rate_goal:
            reached = rate is not None and rate >= case.rate_goal
            found.append(f"texts/s at least {case.rate_goal:g} × {base}: {number(rate, 2)}, {met(reached)}")
        if found:
            lines.append(f"{case.label}: {'; '.join(found)}.")
    return "\n".join(lines)


def document(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return plain values."""
    runs = {row.name: row.median for row in rows}
    pairs = (times(case, runs) for case in CASES)
    return [
        {**row.document(), "base": case.base, "times_rate": rate, "times_cpu": cost}
        for case, row, (rate, cost) in zip(CASES, rows, pairs, strict=True)
    ]
