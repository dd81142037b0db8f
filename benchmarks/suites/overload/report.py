"""Report what the overload benchmark measured: the tables, the targets, the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.pictures import (
    DASHED,
    INK,
    OTHERS,
    OURS,
    QUIET,
    canvas,
    hide_frame,
    label_rows,
    made_by,
    note,
    tidy,
)
from benchmarks.harness.tables import met, number, percent, repeated, seconds, share, table
from benchmarks.suites.overload.clients import CLIENTS, MEAN_SECONDS
from benchmarks.suites.overload.jobs import SCENARIOS
from benchmarks.suites.overload.plan import TARGET_GOODPUT, TARGET_LESS, TARGET_MORE, TARGET_SLOWDOWN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.suites.overload.plan import CapacityRow, HealthyRow, LoadRow, Plan

_FEW: Final = 4
"""Lost texts up to which a picture has no room for a note."""
_WITHOUT: Final = "fixed"
"""The client that does not adapt."""
_COLOURS: Final = dict(zip(CLIENTS, (OURS, *OTHERS), strict=False))


def introduction(plan: Plan) -> str:
    """Return what is measured and how, before the figures."""
    phases = ", ".join(map(str, plan.phases))
    scenarios = "\n".join(f"  {name:20} {SCENARIOS[name].sentence or 'the same'}" for name in plan.scenarios)
    times = repeated(plan.repeat)
    return f"""what adapting to a service does

Where it keeps up (the emulator, no limit): the time a job takes, {times}, a client at a time, each in a process
of its own against a service of its own.
{scenarios}

Where a GPU is the limit: the emulator's GPU model, {plan.gpus} GPUs that render one text each, first come, first
served, a second of audio in {plan.rtf:g} s; it queues without a limit, refuses no request, and goes on rendering
for clients that have left. Capacity {plan.capacity:.1f} s of audio a second, {plan.rate:.1f} texts of
{MEAN_SECONDS:g} s (4 to 8 s each, no two alike); {plan.rtt * 1000:g} ms round trip. Calls at random intervals (Poisson,
the same for every client), whether earlier ones have ended or not; each waits {plan.deadline:g} s at most. Goodput:
audio that was back by then, over the capacity. {plan.warm_up:g} s of warm-up, {plan.seconds:g} s measured, {times},
all clients at once; changes: one run at {plan.changing:g} times the first capacity with {phases} GPUs,
{plan.phase:g} s each. Each length of text is rendered once before.

""" + "\n".join(f"  {name:8} {sentence}" for name, sentence in CLIENTS.items())


def tabulate_healthy(healthy: Sequence[HealthyRow]) -> str:
    """Return the table of the scenarios in which the service keeps up."""
    heads = ["where the service keeps up"]
    for client in CLIENTS:
        heads += [f"{client}:\ntime", f"over\n{_WITHOUT}", "\nlost"]
    found = {(each.scenario, each.client): each for each in healthy}
    rows = []
    for scenario in dict.fromkeys(each.scenario for each in healthy):
        row = [scenario]
        for client in CLIENTS:
            each = found[scenario, client]
            ratio = each.seconds / found[scenario, _WITHOUT].seconds
            row += [seconds(each.seconds), f"{ratio:.2f}", number(each.lost)]
        rows.append(row)
    return table(heads, rows)


def tabulate_loads(rows: Sequence[LoadRow]) -> str:
    """Return the table of the loads."""
    heads = [
        "client", "load over\ncapacity", "goodput over\ncapacity", "lowest to\nhighest", "latency of\nthese, median",
        "calls", "without\naudio", "requests", "GPU work\nwasted", "target\nmet",
    ]  # fmt: skip
    return table(heads, [_cells(row) for row in rows])


def _cells(row: LoadRow) -> list[str]:
    judged = row.client == "ours" and row.load >= 2
    return [
        row.client,
        f"{row.load:g}×",
        share(row.goodput),
        "–" if row.lowest == row.highest else f"{share(row.lowest)} to {share(row.highest)}",
        seconds(row.latency),
        number(row.asked),
        share(row.lost),
        number(row.requests),
        share(row.wasted),
        ("yes" if row.goodput >= TARGET_GOODPUT else "NO") if judged else "",
    ]


def tabulate_capacity(changes: Sequence[CapacityRow], plan: Plan) -> str:
    """Return the table of the changes of capacity."""
    heads = ["client"]
    for n, gpus in enumerate(plan.phases):
        heads += [f"{gpus} GPUs:\ngoodput"] if not n else [f"then {gpus}:\nfollowed in", "\ngoodput"]
    heads += ["limit, lowest\nto highest"]
    rows = []
    for each in changes:
        row = [each.client, share(each.steady[0])]
        for span, steady in zip(each.followed, each.steady[1:], strict=True):
            row += [_time_to_follow(span, plan), share(steady)]
        limits = [limit for at, limit in each.limits if at >= 0]
        rows.append([*row, f"{min(limits)} to {max(limits)}" if limits else "–"])
    return table(heads, rows)


def conclusions(
    healthy: Sequence[HealthyRow], rows: Sequence[LoadRow], changes: Sequence[CapacityRow], plan: Plan
) -> str:
    """Return which targets are met."""
    usual = {each.scenario: each.seconds for each in healthy if each.client == _WITHOUT}
    ours = [each for each in healthy if each.client == "ours"]
    worst = max(ours, key=lambda each: each.seconds / usual[each.scenario])
    ratio, lost = worst.seconds / usual[worst.scenario], sum(each.lost - each.exhausted for each in ours)
    lines = [
        f"Where the service keeps up, at most {TARGET_SLOWDOWN:g} times as long as without adaptation: "
        f"{met(ratio <= TARGET_SLOWDOWN)} ({ratio:.2f}, {worst.scenario}).",
        f"There, no text lost except to four failed tries: {met(not lost)} ({lost} of "
        f"{sum(each.texts for each in ours):,}; to failed tries {sum(each.exhausted for each in ours)}).",
    ]
    lines += [
        f"Goodput at {row.load:g} times the capacity at least {share(TARGET_GOODPUT)} of it: "
        f"{met(row.goodput >= TARGET_GOODPUT)} ({share(row.goodput)})."
        for row in rows
        if row.client == "ours" and row.load >= 2
    ]
    (change,) = (each for each in changes if each.client == "ours")
    for span, before, after in zip(change.followed, plan.phases, plan.phases[1:], strict=False):
        soon = TARGET_LESS if after < before else TARGET_MORE
        reached = met(span is not None and span <= soon)
        if plan.phase < TARGET_LESS:
            reached = "not judged, the phases of a quick run are too short"
        lines.append(
            f"From {before} to {after} GPUs, used within {soon:g} s: {reached} ({_time_to_follow(span, plan)})."
        )
    lines += [
        f"Used: from when on goodput is {share(TARGET_GOODPUT)} of what is possible until the phase's end, and no five",
        "seconds are below 85 %; the goodput beside it is that of the phase's second half, over its capacity or the",
        "load, whichever is less.",
        "Calls beyond the capacity fail with every client; what differs is whether the work goes to calls that can "
        "still be answered.",
    ]
    return "\n".join(lines)


def _time_to_follow(span: float | None, plan: Plan) -> str:
    if span is not None:
        return "at once" if span == 0 else seconds(span)
    return f"not in {plan.phase:g} s"


def draw(
    path: Path,
    healthy: Sequence[HealthyRow],
    rows: Sequence[LoadRow],
    changes: Sequence[CapacityRow],
    plan: Plan,
    about: dict[str, Any],
) -> None:
    """Draw what adapting costs where nothing is wrong, and goodput over the load and over time as capacity changes."""
    caption = (
        "Left: the same jobs at a service that keeps up, over the time without adaptation; a cross: some texts lost.\n"
        f"Middle and right: cosyclient's emulator with {plan.gpus} GPUs: {plan.capacity:.1f} s of audio a second. Each "
        f"call waits {plan.deadline:g} s at most; goodput is audio that was back by then. Right: calls worth\n"
        f"{plan.changing:g} times the first capacity, running means of 5 s; the thin line is ours' limit. "
        f"{made_by('overload', about)}"
    )
    title = "What adapting to a service does: where it keeps up, and under overload"
    with canvas(path, title=title, caption=caption, size=(16.5, 5.6), columns=3, width_ratios=(5, 4, 7)) as axes:
        _slowdown(axes[0], healthy)
        _over_load(axes[1], rows)
        _over_time(axes[2], changes, plan)


def _slowdown(axis: Any, healthy: Sequence[HealthyRow]) -> None:
    tidy(axis, "time over that without adaptation, where the service keeps up", grid="x")
    scenarios = list(dict.fromkeys(each.scenario for each in healthy))
    usual = {each.scenario: each.seconds for each in healthy if each.client == _WITHOUT}
    drawn = [client for client in CLIENTS if client != _WITHOUT]
    for each in healthy:
        if each.client == _WITHOUT:
            continue
        level = scenarios.index(each.scenario) + 0.16 * (drawn.index(each.client) - (len(drawn) - 1) / 2)
        ratio, colour = each.seconds / usual[each.scenario], _COLOURS[each.client]
        axis.plot([1, ratio], [level, level], color=colour, linewidth=1)
        axis.plot([ratio], [level], marker="x" if each.lost else "o", markersize=5, color=colour, zorder=4)
        if each.lost > _FEW:
            note(axis, f"{each.lost} lost", (ratio, level), shift=(6, 0), fontsize=7.5, color=colour)
    axis.axvline(1.0, color=INK, linewidth=1)
    axis.axvline(TARGET_SLOWDOWN, **DASHED)
    axis.set_xscale("log")
    axis.set_xticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
    axis.minorticks_off()
    axis.set_xlim(0.4, max(3.0, 2.5 * max(each.seconds / usual[each.scenario] for each in healthy)))
    label_rows(axis, scenarios, above=0.5, below=0.5)


def _over_load(axis: Any, rows: Sequence[LoadRow]) -> None:
    tidy(axis, "goodput over the load, both in terms of capacity")
    loads = sorted({row.load for row in rows})
    ends: dict[str, list[str]] = {}
    for client in reversed(list(CLIENTS)):
        found = {row.load: row.goodput for row in rows if row.client == client}
        values = [found[load] for load in loads]
        axis.plot(range(len(loads)), values, marker="o", markersize=5, linewidth=2, color=_COLOURS[client], zorder=4)
        ends.setdefault(percent(values[-1]), []).insert(0, client)
    for end, clients in ends.items():
        names, at = ",\n".join(clients), (len(loads) - 1, float(end[:-2]) / 100)
        colour = _COLOURS[clients[0]] if len(clients) == 1 else QUIET
        note(axis, f"{names} {end}", at, shift=(9, -4), va="bottom", fontsize=9, color=colour)
    axis.plot([-0.2, len(loads) - 1], [1, 1], **DASHED)
    note(axis, "capacity", (0, 1.0), shift=(0, 4), va="baseline")
    axis.set_xticks(range(len(loads)), [f"{load:g}×" for load in loads])
    axis.set_xlim(-0.2, len(loads) - 0.25)
    axis.set_ylim(-0.03, 1.2)
    axis.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])


def _over_time(axis: Any, changes: Sequence[CapacityRow], plan: Plan) -> None:
    tidy(axis, "goodput over time, in terms of the first capacity")
    edges = [n * plan.phase for n in range(len(plan.phases) + 1)]
    bounds = [gpus / plan.phases[0] for gpus in plan.phases]
    axis.stairs(bounds, edges, **DASHED, baseline=None)
    note(axis, "capacity", (0, 1.0), shift=(2, 4), va="baseline")
    for each in changes:
        smooth = [sum(each.goodput[max(0, n - 4) : n + 1]) / len(each.goodput[max(0, n - 4) : n + 1])
                  for n in range(len(each.goodput))]  # fmt: skip
        axis.plot(range(1, len(smooth) + 1), smooth, color=_COLOURS[each.client], linewidth=2, label=each.client)
    axis.set_xlim(0, edges[-1])
    axis.set_ylim(-0.03, max(*bounds, 1.0) * 1.4)
    axis.set_yticks([0, 0.5, 1, *([1.5, 2] if max(bounds) > 1 else [])])
    axis.yaxis.set_major_formatter(lambda value, _: percent(value))
    axis.set_xlabel("seconds")
    beside = axis.twinx()
    for each in changes:
        if each.client == "ours":
            beside.step(*zip(*each.limits, strict=True), where="post", color=QUIET, linewidth=0.9)
    beside.set_ylim(0, 40)
    beside.set_yticks([0, 2, 5, 10])
    beside.tick_params(labelsize=8, colors=QUIET)
    hide_frame(beside)
    axis.legend(loc="upper right", ncols=3, fontsize=9, frameon=False)
