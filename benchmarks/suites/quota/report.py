"""Say and draw what the quota benchmark measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness import machine
from benchmarks.harness.pictures import INK, OTHERS, OURS, canvas, made_by, tidy
from benchmarks.harness.tables import number, seconds, share, table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.harness.options import Options
    from benchmarks.suites.quota.run import Contest, GatewayRow, GatewayRun

BATCH: Final = 64
TOLD: Final = 100.0
"""Requests a second that every client is told, or takes for granted."""
ROUND_TRIP: Final = 0.2
CONNECTIONS: Final = 50
_TARGET: Final = 0.99
_STRICT_TARGET: Final = 0.95
_STRICT_REFUSED: Final = 0.01
_TAIL: Final = ROUND_TRIP + 0.05
_BUSY: Final = 0.9


def introduction(span: float, contests: Sequence[Contest], options: Options) -> str:
    """Return what is measured and how, before the figures."""
    strict = [each for each in contests if each.rate != TOLD]
    return (
        "one quota, enforced by a real Envoy before the emulator\n\n"
        f"Envoy: local_ratelimit of {TOLD:g} requests/s (bucket 100), connection_limit of {CONNECTIONS}, one thread. "
        f"Behind it the emulator: {ROUND_TRIP * 1000:g} ms round trip, no limits of its own.\n"
        f"{BATCH} texts a request at most, so the quota allows {TOLD * BATCH:,.0f} texts/s. Texts of 20 Chinese "
        f"characters, no two alike; 4 s of {options.audio} each.\n"
        f"Each row: a fresh client process with default settings, {span:g} s after a warm-up of "
        f"{contests[0].warm_up:g} s (gateway at 60/s: {strict[0].warm_up:g} s, in which it is found out; "
        f"every client is told {TOLD:g}/s).\n"
        "Where there are two cores or more, the client has one of them to itself, Envoy and the service the others.\n"
        f"{'One run' if options.repeat == 1 else f'Medians of {options.repeat} runs, turn about'}."
    )


def tabulate(contests: Sequence[Contest], rows: Sequence[GatewayRow]) -> str:
    """Return the table."""
    heads = [
        "client",
        "texts/s",
        "lowest to\nhighest",
        "of what\nit may",
        "quota\nused",
        "429",
        "\nshare",
        "in the\nwarm-up",
        "connections\nrefused",
        "texts\nlost",
        "latency\np50",
        "\np99",
        "CPU\na text",
        "cores:\nclient",
        "\nEnvoy",
        "\nservice",
    ]
    return table(heads, [_cells(contest, row) for contest, row in zip(contests, rows, strict=True)])


def _cells(contest: Contest, row: GatewayRow) -> list[str]:
    run, (low, high) = row.median, row.spread
    return [
        row.label,
        number(run.rate),
        f"{low:,.0f} to {high:,.0f}" if len(row.runs) > 1 else "–",
        share(run.rate / contest.bound),
        share(run.used),
        number(run.throttled),
        share(run.refused_share),
        number(run.early_throttled),
        number(run.refused),
        share(run.error_rate),
        seconds(run.latency_p50),
        seconds(run.latency_p99),
        seconds(run.cpu_per_text),
        number(run.cpu / run.elapsed, 2),
        number(run.gateway_cpu, 2),
        number(run.service_cpu, 2),
    ]


def verdicts(contest: Contest, run: GatewayRun) -> list[tuple[str, bool]]:
    """Return the targets of one of our rows, each with whether it was met."""
    clean = run.throttled + run.early_throttled + run.refused == 0 and not run.errors
    if contest.rate != TOLD:
        return [
            (f"at most {share(_STRICT_REFUSED)} refused", run.refused_share <= _STRICT_REFUSED),
            (f"at least {share(_STRICT_TARGET)} of its quota used", run.used >= _STRICT_TARGET),
            ("no text lost", not run.errors),
        ]
    if contest.calls:
        tail = run.latency_p99 is not None and run.latency_p99 <= _TAIL
        return [(f"p99 at most {seconds(_TAIL)}", tail), ("no 429, no error", clean)]
    filled = run.rate >= _TARGET * contest.bound
    return [(f"at least {share(_TARGET)} of {contest.bound:,.0f} texts/s", filled), ("no 429, no error", clean)]


def conclusions(contests: Sequence[Contest], rows: Sequence[GatewayRow]) -> str:
    """Return which targets were met, and how the table is to be read."""
    lines = []
    for contest, row in zip(contests, rows, strict=True):
        if contest.ours:
            told = (f"{what}: {'met' if met else 'MISSED'}" for what, met in verdicts(contest, row.median))
            lines.append(f"{row.label}: {'; '.join(told)}.")
    errors = (
        f"{row.label} {', '.join(f'{number(count)} {kind}' for kind, count in sorted(row.median.errors.items()))}"
        for row in rows
        if row.median.errors
    )
    lines += [
        f"Texts lost by kind: {'; '.join(errors) or 'none'}.",
        "Latency: of callers the whole call, of the open load from when a call was due, of submit from submit to",
        f"callback with {contests[1].callers:,} outstanding, handed over 64 at a time, of asyncio from when a",
        "free sender takes the batch.",
    ]
    busy = [row.label for row in rows if max(row.median.service_cpu or 0.0, row.median.gateway_cpu or 0.0) > _BUSY]
    full = [row.label for row in rows if _together(row.median) > _BUSY * machine.cores()]
    if busy:
        lines.append(
            f"Envoy or the service used {_BUSY:.0%} of a core: they may be what was slow in {', '.join(busy)}."
        )
    if full:
        lines.append(f"Client, Envoy and service together used {_BUSY:.0%} of the machine in {', '.join(full)}.")
    return "\n".join(lines)


def _together(run: GatewayRun) -> float:
    return run.cpu / run.elapsed + (run.gateway_cpu or 0.0) + (run.service_cpu or 0.0)


def draw(path: Path, contests: Sequence[Contest], rows: Sequence[GatewayRow], about: dict[str, Any]) -> None:
    """Draw what of the quota became audio, what was refused and lost, and the latencies."""
    caption = (
        "A real Envoy (local_ratelimit, 50 connections) before cosyclient's emulator: 200 ms round trip, 64 texts a "
        f"request. Every client is told {TOLD:g} requests/s.\n{made_by('quota', about)}"
    )
    title = "A quota of 100 requests/s: how much becomes audio, and what is refused"
    size = (13.5, 0.5 * len(rows) + 2.1)
    panels: list[tuple[str, list[float | None], Callable[[float | None], str], float]] = [
        (
            "texts/s, share of what is allowed",
            [_share_of(*pair) for pair in zip(contests, rows, strict=True)],
            share,
            1.0,
        ),
        ("requests refused (429)", [row.median.refused_share for row in rows], share, 0.01),
        ("texts lost", [row.median.error_rate for row in rows], share, 0.0),
        ("latency, p99", [row.median.latency_p99 for row in rows], seconds, ROUND_TRIP),
    ]
    with canvas(path, title=title, caption=caption, size=size, columns=4, sharey=True) as axes:
        for axis, (head, values, say, mark) in zip(axes, panels, strict=True):
            tidy(axis, head, grid="x")
            if mark:
                axis.axvline(mark, color=INK, linewidth=1, linestyle=(0, (4, 3)))
                axis.annotate(
                    say(mark), (mark, -0.62), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5
                )
            for place, (contest, value) in enumerate(zip(contests, values, strict=True)):
                axis.barh(place, value or 0.0, height=0.55, color=OURS if contest.ours else OTHERS[4])
                axis.annotate(
                    say(value),
                    (value or 0.0, place),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8.5,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
                )
            axis.set_yticks(range(len(rows)), [row.label for row in rows])
            axis.set_ylim(len(rows) - 0.45, -0.9)
            axis.tick_params(axis="y", length=0)
            # Room for the figure behind the longest bar; where all are 0, a scale that shows it.
            axis.set_xlim(0, 1.4 * max(mark, 0.01, *(value or 0.0 for value in values)))
            axis.locator_params(axis="x", nbins=3)
            axis.xaxis.set_major_formatter(lambda value, _, say=say: "0" if not value else say(value))


def _share_of(contest: Contest, row: GatewayRow) -> float:
    return row.median.rate / contest.bound
