"""Report what the quota benchmark measured: the table, the targets, the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.pictures import DASHED, OTHERS, OURS, canvas, figure_note, label_rows, made_by, note, tidy
from benchmarks.harness.prepared import BATCH
from benchmarks.harness.tables import met, number, percent, repeated, seconds, share, table
from benchmarks.harness.wires import PLAIN_BYTES
from benchmarks.suites.quota.plan import ASSUMED_RATE, CONNECTIONS, ROUND_TRIP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.harness.options import Options
    from benchmarks.harness.results import Row, Run
    from benchmarks.suites.quota.plan import Case

_STRICT_REFUSED: Final = 0.01
_MOST_P99: Final = ROUND_TRIP + 0.1
_BUSY: Final = 0.9


def introduction(measured: float, cases: Sequence[Case], options: Options) -> str:
    """Return what is measured and how, before the figures."""
    strict = next(each for each in cases if each.strict)
    frames = "" if all(each.plain for each in cases) else f"; frames: 4 s of {options.audio} a text in binary frames"
    return (
        "one quota, enforced by a real Envoy that answers from memory\n\n"
        f"Envoy, one thread: local_ratelimit of {ASSUMED_RATE:g} requests/s (bucket 100), connection_limit of "
        f"{CONNECTIONS}, {ROUND_TRIP * 1000:g} ms a round trip. {BATCH} texts a request at\nmost, so the quota allows "
        f"{ASSUMED_RATE * BATCH:,.0f} texts/s. Texts of 20 Chinese characters, no two alike. JSON in, base64 WAV out, "
        f"{PLAIN_BYTES / 1000:.0f} KB\n(0.4 s) a text{frames}.\n"
        f"Each row: a fresh client process with default settings, {measured:g} s after a warm-up of "
        f"{cases[0].warm_up:g} s (gateway at 60/s: {strict.warm_up:g} s, in which the\nclients find it out; "
        f"every client is configured for {ASSUMED_RATE:g}/s).\n"
        "Where there are two cores or more, the client has one of them to itself, Envoy the others.\n"
        f"{repeated(options.repeat).capitalize()}."
    )


def tabulate(cases: Sequence[Case], rows: Sequence[Row]) -> str:
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
    ]
    return table(heads, [_cells(case, row) for case, row in zip(cases, rows, strict=True)])


def _cells(case: Case, row: Row) -> list[str]:
    run, (low, high) = row.median, row.spread
    return [
        row.label,
        number(run.rate),
        f"{low:,.0f} to {high:,.0f}" if len(row.runs) > 1 else "–",
        share(filled(case, run)),
        share(used(case, run)),
        number(run.throttled),
        share(run.refused_share),
        number(run.early_throttled),
        number(run.refused),
        share(run.error_rate),
        seconds(run.latency_p50),
        seconds(run.latency_p99),
        seconds(run.cpu_per_text),
        number(run.cpu / run.elapsed, 2),
        number(run.service_cpu, 2),
    ]


def filled(case: Case, run: Run) -> float | None:
    """Return the share of the texts a second that are possible."""
    return run.rate / case.bound if case.bound else None


def used(case: Case, run: Run) -> float | None:
    """Return the share of the gateway's quota of requests that was used."""
    return (run.requests - run.throttled) / run.elapsed / case.rate if case.rate else None


def targets(case: Case, run: Run) -> list[tuple[str, bool]]:
    """Return the targets of one of our rows, each with whether it was met."""
    clean = run.throttled + run.early_throttled + run.refused == 0 and not run.errors
    goal = f"at least {percent(case.goal)}"
    if case.strict:
        return [
            (f"at most {percent(_STRICT_REFUSED)} refused", run.refused_share <= _STRICT_REFUSED),
            (f"{goal} of its quota used", (used(case, run) or 0.0) >= case.goal),
            ("no text lost", not run.errors),
        ]
    if case.calls:
        fast = run.latency_p99 is not None and run.latency_p99 <= _MOST_P99
        return [(f"p99 at most {seconds(_MOST_P99)}", fast), ("no 429, no error", clean)]
    reached = (filled(case, run) or 0.0) >= case.goal
    return [(f"{goal} of {number(case.bound)} texts/s", reached), ("no 429, no error", clean)]


def conclusions(cases: Sequence[Case], rows: Sequence[Row]) -> str:
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
    outstanding = max(case.callers for case in cases if case.load == "submit")
    lines += [
        f"Texts lost by kind: {'; '.join(errors) or 'none'}.",
        "The service alone: 50 sockets that send a prepared request and throw the bytes away; no delay, no limits.",
        "Latency: of threads the whole call, of the open load from when a call was due, of submit from submit to",
        f"callback with {outstanding:,} outstanding, handed over {BATCH} at a time, of synthesize_many from when it "
        "takes the text from",
        "the list, of asyncio from when a free sender takes the batch.",
    ]
    busy = [row.label for row in rows[1:] if (row.median.service_cpu or 0.0) > _BUSY]
    full = [row.label for row in rows[1:] if row.median.cpu / row.median.elapsed > _BUSY]
    if busy:
        lines.append(f"Envoy used {percent(_BUSY)} of a core: it may be what was slow in {', '.join(busy)}.")
    if full:
        lines.append(f"The client used {percent(_BUSY)} of its core in {', '.join(full)}.")
    return "\n".join(lines)


def draw(path: Path, cases: Sequence[Case], rows: Sequence[Row], about: dict[str, Any]) -> None:
    """Draw what of the quota became audio, what was refused and lost, and the latencies."""
    caption = (
        "A real Envoy (local_ratelimit, 50 connections) answers from memory after 200 ms, 64 texts a request: JSON "
        f"with 0.4 s of base64 WAV a text, or frames.\nEvery client is configured for {ASSUMED_RATE:g} requests/s. "
        f"{made_by('quota', about)}"
    )
    cases, rows = cases[1:], rows[1:]  # the service alone has no quota to fill
    title = "A quota of 100 requests/s: how much becomes audio, and what is refused"
    size = (13.5, 0.5 * len(rows) + 2.1)
    panels: list[tuple[str, list[float | None], Callable[[float | None], str], float]] = [
        (
            "texts/s, share of what is allowed",
            [filled(case, row.median) for case, row in zip(cases, rows, strict=True)],
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
