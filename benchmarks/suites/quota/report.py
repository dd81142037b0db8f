"""Report what the quota benchmark measured: the table, the targets, the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness import machine
from benchmarks.harness.pictures import DASHED, OTHERS, OURS, canvas, figure_note, label_rows, made_by, note, tidy
from benchmarks.harness.prepared import BATCH
from benchmarks.harness.tables import met, number, percent, repeated, seconds, share, table
from benchmarks.suites.quota.plan import ASSUMED_RATE, CONNECTIONS, ROUND_TRIP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.harness.options import Options
    from benchmarks.suites.quota.plan import Case, GatewayRow, GatewayRun

_TARGET: Final = 0.99
_STRICT_TARGET: Final = 0.95
_STRICT_REFUSED: Final = 0.01
_TARGET_P99: Final = ROUND_TRIP + 0.05
_BUSY: Final = 0.9


def introduction(measured: float, cases: Sequence[Case], options: Options) -> str:
    """Return what is measured and how, before the figures."""
    strict = [each for each in cases if each.rate != ASSUMED_RATE]
    return (
        "one quota, enforced by a real Envoy before the emulator\n\n"
        f"Envoy: local_ratelimit of {ASSUMED_RATE:g} requests/s (bucket 100), connection_limit of {CONNECTIONS}, one "
        f"thread. Behind it the emulator: {ROUND_TRIP * 1000:g} ms round trip, no limits of its own.\n"
        f"{BATCH} texts a request at most, so the quota allows {ASSUMED_RATE * BATCH:,.0f} texts/s. Texts of 20 "
        f"Chinese characters, no two alike; 4 s of {options.audio} each.\n"
        f"Each row: a fresh client process with default settings, {measured:g} s after a warm-up of "
        f"{cases[0].warm_up:g} s (gateway at 60/s: {strict[0].warm_up:g} s, in which the clients find it out; "
        f"every client is configured for {ASSUMED_RATE:g}/s).\n"
        "Where there are two cores or more, the client has one of them to itself, Envoy and the service the others.\n"
        f"{repeated(options.repeat).capitalize()}{', alternating' if options.repeat > 1 else ''}."
    )


def tabulate(cases: Sequence[Case], rows: Sequence[GatewayRow]) -> str:
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
    return table(heads, [_cells(case, row) for case, row in zip(cases, rows, strict=True)])


def _cells(case: Case, row: GatewayRow) -> list[str]:
    run, (low, high) = row.median, row.spread
    return [
        row.label,
        number(run.rate),
        f"{low:,.0f} to {high:,.0f}" if len(row.runs) > 1 else "–",
        share(run.rate / case.bound),
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


def targets(case: Case, run: GatewayRun) -> list[tuple[str, bool]]:
    """Return the targets of one of our rows, each with whether it was met."""
    clean = run.throttled + run.early_throttled + run.refused == 0 and not run.errors
    if case.rate != ASSUMED_RATE:
        return [
            (f"at most {share(_STRICT_REFUSED)} refused", run.refused_share <= _STRICT_REFUSED),
            (f"at least {share(_STRICT_TARGET)} of its quota used", run.used >= _STRICT_TARGET),
            ("no text lost", not run.errors),
        ]
    if case.calls:
        fast = run.latency_p99 is not None and run.latency_p99 <= _TARGET_P99
        return [(f"p99 at most {seconds(_TARGET_P99)}", fast), ("no 429, no error", clean)]
    filled = run.rate >= _TARGET * case.bound
    return [(f"at least {share(_TARGET)} of {case.bound:,.0f} texts/s", filled), ("no 429, no error", clean)]


def conclusions(cases: Sequence[Case], rows: Sequence[GatewayRow]) -> str:
    """Return which targets were met, and how the table is to be read."""
    lines = []
    for case, row in zip(cases, rows, strict=True):
        if case.ours:
            found = (f"{target}: {met(reached)}" for target, reached in targets(case, row.median))
            lines.append(f"{row.label}: {'; '.join(found)}.")
    errors = (
        f"{row.label} {', '.join(f'{number(count)} {kind}' for kind, count in sorted(row.median.errors.items()))}"
        for row in rows
        if row.median.errors
    )
    lines += [
        f"Texts lost by kind: {'; '.join(errors) or 'none'}.",
        "Latency: of callers the whole call, of the open load from when a call was due, of submit from submit to",
        f"callback with {cases[1].callers:,} outstanding, handed over 64 at a time, of asyncio from when a",
        "free sender takes the batch.",
    ]
    busy = [row.label for row in rows if max(row.median.service_cpu or 0.0, row.median.gateway_cpu or 0.0) > _BUSY]
    full = [row.label for row in rows if _together(row.median) > _BUSY * machine.cores()]
    if busy:
        lines.append(
            f"Envoy or the service used {percent(_BUSY)} of a core: they may be what was slow in {', '.join(busy)}."
        )
    if full:
        lines.append(f"Client, Envoy and service together used {percent(_BUSY)} of the machine in {', '.join(full)}.")
    return "\n".join(lines)


def _together(run: GatewayRun) -> float:
    return run.cpu / run.elapsed + (run.gateway_cpu or 0.0) + (run.service_cpu or 0.0)


def draw(path: Path, cases: Sequence[Case], rows: Sequence[GatewayRow], about: dict[str, Any]) -> None:
    """Draw what of the quota became audio, what was refused and lost, and the latencies."""
    caption = (
        "A real Envoy (local_ratelimit, 50 connections) before cosyclient's emulator: 200 ms round trip, 64 texts a "
        f"request. Every client is configured for {ASSUMED_RATE:g} requests/s.\n{made_by('quota', about)}"
    )
    title = "A quota of 100 requests/s: how much becomes audio, and what is refused"
    size = (13.5, 0.5 * len(rows) + 2.1)
    panels: list[tuple[str, list[float | None], Callable[[float | None], str], float]] = [
        (
            "texts/s, share of what is allowed",
            [row.median.rate / case.bound for case, row in zip(cases, rows, strict=True)],
            share,
            1.0,
        ),
        ("requests refused (429)", [row.median.refused_share for row in rows], share, 0.01),
        ("texts lost", [row.median.error_rate for row in rows], share, 0.0),
        ("latency, p99", [row.median.latency_p99 for row in rows], seconds, ROUND_TRIP),
    ]
    with canvas(path, title=title, caption=caption, size=size, columns=4, sharey=True) as axes:
        for axis, (head, values, text_of, mark) in zip(axes, panels, strict=True):
            tidy(axis, head, grid="x")
            label_rows(axis, [row.label for row in rows], above=0.9, below=0.55)
            if mark:
                axis.axvline(mark, **DASHED)
                note(axis, text_of(mark), (mark, -0.62))
            for level, (case, value) in enumerate(zip(cases, values, strict=True)):
                axis.barh(level, value or 0.0, height=0.55, color=OURS if case.ours else OTHERS[4])
                figure_note(axis, text_of(value), (value or 0.0, level))
            # Room for the figure behind the longest bar; where all are 0, a scale that shows it.
            axis.set_xlim(0, 1.4 * max(mark, 0.01, *(value or 0.0 for value in values)))
            axis.locator_params(axis="x", nbins=3)
            axis.xaxis.set_major_formatter(lambda value, _, text_of=text_of: "0" if not value else text_of(value))
