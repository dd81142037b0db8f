"""Measure what the client itself costs: on the plain wire beside a bare loop, and its parts without a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.pictures import (
    DASHED,
    INK,
    OURS,
    PALE,
    QUIET,
    THEIRS,
    canvas,
    figure_note,
    label_rows,
    made_by,
    note,
    tidy,
)
from benchmarks.harness.prepared import BATCH
from benchmarks.harness.results import announce, publish
from benchmarks.harness.tables import number, repeated, seconds
from benchmarks.harness.wires import PLAIN_BYTES
from benchmarks.suites.overhead import stack, wire

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.harness.options import Options
    from benchmarks.harness.results import Row

_LOADS: Final = {"batch": "batches of 64", "lone": "a lone synthesize"}


def run(options: Options) -> None:
    """Measure, print the tables, and write ``overhead.json`` and ``overhead.svg``."""
    span, warm_up, repeat = (1.0, 1.0, options.repeat) if options.quick else (4.0, 2.0, max(3, options.repeat))
    count, turns = (6_400 if options.quick else 25_600), max(3, options.repeat)
    about = announce("overhead", introduction(span, warm_up, repeat, count, turns))
    on_wire = wire.measure_all(span, warm_up, repeat)
    print(f"{wire.tabulate(on_wire)}\n\n{wire.conclusions(on_wire)}\n", flush=True)
    without_socket = stack.measure_all(count, turns, options.audio)
    print(stack.tabulate(without_socket))
    figures = {
        "parameters": {"seconds": span, "warm_up": warm_up, "repeat": repeat, "texts": count},
        "wire": wire.document(on_wire),
        "rows": without_socket,
    }
    publish("overhead", options, about, figures, lambda path: draw(path, on_wire, without_socket, about))


def introduction(span: float, warm_up: float, repeat: int, count: int, turns: int) -> str:
    """Return what is measured and how, before the figures."""
    return (
        "what the client itself costs, without a quota\n\n"
        f"First table, the plain wire: JSON in, base64 WAV out, {BATCH} texts of 20 Chinese characters a request, "
        f"{PLAIN_BYTES / 1000:.0f} KB (0.4 s) of audio each,\n50 connections. A real Envoy, one thread, answers from "
        "memory at once; what it can is the first row: sockets that send a prepared request\nand throw the bytes away. "
        "The bare loop: urllib3, orjson and pybase64, no policy. No fast: these two and msgspec cannot be imported.\n"
        f"Client and service share all cores. {span:g} s after {warm_up:g} s of warm-up, each run in a fresh process; "
        f"{repeated(repeat)}.\n\n"
        f"Second table, no socket: a transport that answers at once. Batch: batch_synth of {count:,} texts in requests "
        f"of {BATCH}; lone: {count // 10:,} calls\nof synthesize, one after the other; two workers. Of it: the "
        "protocol's encoding and decoding, measured alone; the rest is accepting,\nqueueing, policies, handing over to "
        f"the transport. Medians of {turns} runs, after one uncounted."
    )


def draw(path: Path, on_wire: Sequence[Row], without_socket: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Draw rate and cost on the wire, a bar a client beside its goal, and the parts without a socket."""
    caption = (
        f"Left: JSON with 0.4 s of base64 WAV a text, {BATCH} texts a request, from a real Envoy that is not the "
        "limit; pale without the extra fast, dashed and in brackets the goals.\nRight: the whole stack on a transport "
        f"that answers at once; the line at each bar's end spans all runs. {made_by('overhead', about)}"
    )
    title = "What the client itself costs"
    with canvas(path, title=title, caption=caption, size=(15.5, 4.6), columns=2 + len(stack.TARGETS)) as axes:
        _draw_wire(axes[0], axes[1], on_wire)
        for axis, load in zip(axes[2:], stack.TARGETS, strict=True):
            _draw_stack(axis, load, [row for row in without_socket if row["load"] == load])
        axes[0].figure.legend(*axes[2].get_legend_handles_labels(), loc="upper right", ncols=3, frameon=False)


def _draw_wire(rates: Any, costs: Any, rows: Sequence[Row]) -> None:
    pairs = list(zip(wire.CASES, rows, strict=True))[1:]
    bare = pairs[0][1].median
    tidy(rates, "texts/s, no quota", grid="x")
    tidy(costs, "processor time a text, µs", grid="x")
    label_rows(rates, [case.label for case, _ in pairs])
    label_rows(costs, [""] * len(pairs))
    for level, (case, row) in enumerate(pairs):
        run = row.median
        colour = THEIRS if case.peer == "bare" else OURS if case.fast else PALE[OURS]
        cost = run.cpu_per_text or 0.0
        _bar(rates, level, run.rate, (case.rate_goal or 0.0) * bare.rate if case.fast else 0.0, "≥", colour)
        _bar(costs, level, cost * 1e6, (case.cpu_goal or 0.0) * (bare.cpu_per_text or 0.0) * 1e6, "≤", colour)
    for axis in (rates, costs):
        axis.set_xlim(0, 1.4 * axis.get_xlim()[1])
        axis.locator_params(axis="x", nbins=4)
        axis.xaxis.set_major_formatter(lambda value, _: number(value))


def _bar(axis: Any, level: int, value: float, goal: float, sign: str, colour: str) -> None:
    """Draw a bar, and its *goal* if it has one; both figures stand behind the longer."""
    axis.barh(level, value, 0.6, color=colour)
    if goal:
        axis.plot([goal, goal], [level - 0.42, level + 0.42], zorder=6, **DASHED)
    figure_note(axis, f"{number(value)} ({sign} {number(goal)})" if goal else number(value), (max(value, goal), level))


def _draw_stack(axis: Any, load: str, rows: list[dict[str, Any]]) -> None:
    shown = (("encode", "encoding", QUIET), ("decode", "decoding", PALE[OURS]), ("rest", "all the rest", OURS))
    target = stack.TARGETS[load]
    tidy(axis, f"no socket, µs: {_LOADS[load]}", grid="x")
    label_rows(axis, [row["wire"].replace(", ", "\n") for row in rows], above=0.9, below=0.5)
    for level, row in enumerate({**row, "rest": stack.rest(row)} for row in rows):
        done = 0.0
        for name, label, colour in shown:
            axis.barh(level, row[name] * 1e6, 0.5, done, color=colour, label=None if level else label)
            done += row[name] * 1e6
        axis.plot([row["lowest"] * 1e6, row["highest"] * 1e6], [level, level], color=INK, linewidth=1)
        figure_note(axis, seconds(row["cpu"]), (max(done, row["highest"] * 1e6), level))
    axis.plot([target * 1e6, target * 1e6], [0.6, len(rows) - 0.5], **DASHED)
    note(axis, f"target {seconds(target)}", (target * 1e6, 0.5), ha="center")
    axis.set_xlim(0, 1.3e6 * max(target, *(row["highest"] for row in rows)))
