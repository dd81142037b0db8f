"""Say and draw what the overload benchmark found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.overload import GOAL, SOON
from benchmarks.overload_clients import CLIENTS, MEAN_SECONDS
from benchmarks.pictures import INK, OTHERS, OURS, QUIET, canvas, made_by, tidy
from benchmarks.tables import number, seconds, share, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.overload import Change, Plan, Row

_COLOURS: Final = dict(zip(CLIENTS, (OURS, *OTHERS), strict=False))


def introduction(plan: Plan) -> str:
    """Return what is measured and how, before the figures."""
    phases = ", ".join(map(str, plan.phases))
    return (
        "goodput where a GPU is the limit\n\n"
        f"Service: the emulator's GPU model, {plan.gpus} GPUs that render one text each, first come, first served, a "
        f"second of audio in {plan.rtf:g} s;\nit queues for ever and refuses nobody, and goes on rendering for clients "
        f"that have left. Capacity {plan.capacity:.1f} s of audio a second, {plan.rate:.1f} texts\nof "
        f"{MEAN_SECONDS:g} s (4 to 8 s each, no two alike); {plan.rtt * 1000:g} ms round trip. Each length of text is "
        "rendered once before the load.\n"
        f"Load: calls at random intervals (Poisson, the same for every client), whatever became of those before; each "
        f"waits {plan.deadline:g} s at most.\nGoodput: audio that was back within the deadline, over the capacity. "
        "Each client in a process of its own against a service of its own,\n"
        f"all at once. {plan.warm_up:g} s of warm-up, {plan.seconds:g} s measured, "
        f"{'one run' if plan.repeat == 1 else f'medians of {plan.repeat} runs'}; changes: one run at "
        f"{plan.changing:g} times the first capacity with {phases} GPUs,\n{plan.phase:g} s each.\n\n"
        + "\n".join(f"  {name:8} {sentence}" for name, sentence in CLIENTS.items())
    )


def tabulate(rows: Sequence[Row]) -> str:
    """Return the table of the loads."""
    heads = [
        "client", "load over\ncapacity", "goodput over\ncapacity", "lowest to\nhighest", "latency of\nthese, median",
        "calls", "without\naudio", "requests", "GPU work\nfor nobody", "target\nmet",
    ]  # fmt: skip
    return table(heads, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    aimed = row.client == "ours" and row.load >= 2
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
        ("yes" if row.goodput >= GOAL else "NO") if aimed else "",
    ]


def tabulate_changes(changes: Sequence[Change], plan: Plan) -> str:
    """Return the table of the changes of capacity."""
    heads = ["client"]
    for n, gpus in enumerate(plan.phases):
        heads += [f"{gpus} GPUs:\ngoodput"] if not n else [f"then {gpus}:\nfollowed in", "\ngoodput"]
    heads += ["limit, lowest\nto highest"]
    rows = []
    for each in changes:
        row = [each.client, share(each.steady[0])]
        for span, steady in zip(each.followed, each.steady[1:], strict=True):
            row += [_span(span, plan), share(steady)]
        limits = [limit for at, limit in each.limits if at >= 0]
        rows.append([*row, f"{min(limits)} to {max(limits)}" if limits else "–"])
    return table(heads, rows)


def conclusions(rows: Sequence[Row], changes: Sequence[Change], plan: Plan) -> str:
    """Return which targets are met."""
    lines = [
        f"Goodput at {row.load:g} times the capacity at least {share(GOAL)} of it: {_met(row.goodput >= GOAL)} "
        f"({share(row.goodput)})."
        for row in rows
        if row.client == "ours" and row.load >= 2
    ]
    (ours,) = (each for each in changes if each.client == "ours")
    spans = ", ".join(_span(span, plan) for span in ours.followed)
    verdict = _met(all(span is not None and span <= SOON for span in ours.followed))
    if plan.phase < SOON:
        verdict = "not judged, the phases of a quick run are too short"
    lines += [
        f"Another capacity used within {SOON:g} s: {verdict} ({spans}).",
        f"Followed: from when on goodput is {share(GOAL)} of what is possible until the phase's end, and no five "
        "seconds are below 85 %; the goodput",
        "beside it is that of the phase's second half, over the capacity of the day or the load, whichever is less.",
        "Calls beyond the capacity fail whatever a client does; what differs is whether the work goes to calls that "
        "can still be answered.",
        "Ours sends few requests at a time, each about two seconds' work, and refuses unsent what would come too late.",
    ]
    return "\n".join(lines)


def _span(span: float | None, plan: Plan) -> str:
    if span is not None:
        return "at once" if span == 0 else seconds(span)
    return f"not in {plan.phase:g} s"


def _met(met: bool) -> str:
    return "met" if met else "MISSED"


def draw(path: Path, rows: Sequence[Row], changes: Sequence[Change], plan: Plan, about: dict[str, Any]) -> None:
    """Draw goodput over the offered load, and over time as the capacity changes."""
    caption = (
        f"cosyclient's emulator with {plan.gpus} GPUs: {plan.capacity:.1f} s of audio a second. Each call waits "
        f"{plan.deadline:g} s at most; goodput is audio that was back by then.\n"
        f"Right: calls worth {plan.changing:g} times the first capacity, running means of 5 s; the thin line is ours' "
        f"limit on requests in flight. {made_by('overload', about)}"
    )
    title = "A GPU is not a CDN: goodput under overload, and when the capacity changes"
    with canvas(path, title=title, caption=caption, size=(12.5, 4.8), columns=2, width_ratios=(4, 7)) as axes:
        _over_load(axes[0], rows)
        _over_time(axes[1], changes, plan)


def _over_load(axis: Any, rows: Sequence[Row]) -> None:
    tidy(axis, "goodput over the load, both in terms of capacity")
    loads = sorted({row.load for row in rows})
    for client in CLIENTS:
        found = {row.load: row.goodput for row in rows if row.client == client}
        values = [found[load] for load in loads]
        axis.plot(range(len(loads)), values, marker="o", markersize=5, linewidth=2, color=_COLOURS[client], zorder=4)
        axis.annotate(
            f"{client} {values[-1]:.0%}".replace("%", " %"), (len(loads) - 1, values[-1]), xytext=(9, 0),
            textcoords="offset points", va="center", fontsize=9, color=_COLOURS[client],
        )  # fmt: skip
    axis.plot([-0.2, len(loads) - 1], [1, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axis.annotate("capacity", (0, 1.0), xytext=(0, 4), textcoords="offset points", fontsize=8.5)
    axis.set_xticks(range(len(loads)), [f"{load:g}×" for load in loads])
    axis.set_xlim(-0.2, len(loads) - 0.25)
    axis.set_ylim(-0.03, 1.2)
    axis.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])


def _over_time(axis: Any, changes: Sequence[Change], plan: Plan) -> None:
    tidy(axis, "goodput over time, in terms of the first capacity")
    edges = [n * plan.phase for n in range(len(plan.phases) + 1)]
    bounds = [gpus / plan.phases[0] for gpus in plan.phases]
    axis.stairs(bounds, edges, color=INK, linewidth=1, linestyle=(0, (4, 3)), baseline=None)
    axis.annotate("capacity", (0, 1.0), xytext=(2, 4), textcoords="offset points", fontsize=8.5)
    for each in changes:
        smooth = [sum(each.goodput[max(0, n - 4) : n + 1]) / len(each.goodput[max(0, n - 4) : n + 1])
                  for n in range(len(each.goodput))]  # fmt: skip
        axis.plot(range(1, len(smooth) + 1), smooth, color=_COLOURS[each.client], linewidth=2, label=each.client)
    axis.set_xlim(0, edges[-1])
    axis.set_ylim(-0.03, max(*bounds, 1.0) * 1.4)
    axis.set_yticks([0, 0.5, 1, *([1.5, 2] if max(bounds) > 1 else [])])
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}".replace("%", " %"))
    axis.set_xlabel("seconds")
    beside = axis.twinx()
    for each in changes:
        if each.client == "ours":
            beside.step(*zip(*each.limits, strict=True), where="post", color=QUIET, linewidth=0.9)
    beside.set_ylim(0, 40)
    beside.set_yticks([0, 2, 5, 10])
    beside.tick_params(labelsize=8, colors=QUIET)
    for side in ("top", "right", "left", "bottom"):
        beside.spines[side].set_visible(False)
    axis.legend(loc="upper right", ncols=3, fontsize=9, frameon=False)
