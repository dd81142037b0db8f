"""Report what the deadlines benchmark measured: the tables, the targets, the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.harness.pictures import DASHED, OTHERS, OURS, QUIET, canvas, made_by, note, tidy
from benchmarks.harness.tables import met, number, seconds, table
from benchmarks.suites.deadlines.plan import CLIENTS, SCENARIOS, TARGET_INTERRUPT, TARGET_OVERSHOOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.suites.deadlines.plan import Plan


def introduction(plan: Plan) -> str:
    """Return what is measured and how, before the figures."""
    return (
        "hostile services, and how far beyond its deadline a call to them goes\n\n"
        f"Each call is given {plan.deadline:g} s; {plan.callers} callers at once, {plan.rounds} rounds, no warm-up; a "
        "client that is over a second late is not called again.\n"
        f"The services run in a process of their own and let go after {plan.cap:g} s (a client without a deadline goes "
        "that far, or on for as\nlong as it sleeps). Each client in a process of its own, one after the other. "
        "Permits, queue places and connections are\ncounted after the last call, threads and open files after the "
        "client is closed; they get two seconds to be released.\n\n"
        + "\n".join(f"  {name:12} {sentence}" for name, sentence in (SCENARIOS | CLIENTS).items())
    )


def tabulate(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of overshoots."""
    heads = ["scenario", "client", "calls", "overshoot\nmedian", "\nworst", "target\nmet", "left\nbehind", "ended as"]
    return table(heads, [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> list[str]:
    met = ("yes" if _meets_target(row) else "no") if row["client"] == "ours" else ""
    left = ", ".join(f"{count:+d} {name}" for name, count in row["leaked"].items()) or "nothing"
    ends = ", ".join(f"{count} {name}" for name, count in row["errors"].items())
    return [
        row["scenario"],
        row["client"],
        number(row["calls"]),
        _over(row["median"]),
        _over(row["worst"]),
        met,
        left,
        ends,
    ]


def _over(value: float) -> str:
    return f"–{seconds(-value)}" if value < 0 else seconds(value)


def _meets_target(row: dict[str, Any]) -> bool:
    return bool(row["worst"] <= TARGET_OVERSHOOT and not row["leaked"])


def tabulate_interrupts(interrupts: Sequence[dict[str, Any]]) -> str:
    """Return the table of Ctrl-C."""
    heads = ["Ctrl-C in a\nblocked call", "times", "left the call\nmedian", "\nworst", "process gone\nworst"]
    return table(
        heads,
        [
            [each["client"], number(each["stops"]), *(seconds(each[name]) for name in ("median", "worst", "gone"))]
            for each in interrupts
        ],
    )


def conclusions(rows: Sequence[dict[str, Any]], interrupts: Sequence[dict[str, Any]]) -> str:
    """Return which targets are met."""
    ours = [row for row in rows if row["client"] == "ours"]
    worst = max(ours, key=lambda row: float(row["worst"]))
    left = [row["scenario"] for row in ours if row["leaked"]]
    (interrupt,) = (each for each in interrupts if each["client"] == "ours")
    return "\n".join(
        [
            f"Overshoot at most {seconds(TARGET_OVERSHOOT)} in each scenario: "
            f"{met(worst['worst'] <= TARGET_OVERSHOOT)} ({worst['scenario']} {_over(worst['worst'])}).",
            f"Nothing left behind: {met(not left)}{' (' + ', '.join(left) + ')' if left else ''}.",
            f"Ctrl-C ends a blocked synthesize within {seconds(TARGET_INTERRUPT)}: "
            f"{met(interrupt['worst'] <= TARGET_INTERRUPT)} ({seconds(interrupt['worst'])}).",
            "A negative overshoot is a call that ended before its deadline, because the client knew that waiting was "
            "useless.",
        ]
    )


def draw(path: Path, rows: Sequence[dict[str, Any]], plan: Plan, about: dict[str, Any]) -> None:
    """Draw the worst overshoot of each client in each scenario."""
    clients = list(dict.fromkeys(row["client"] for row in rows))
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    caption = (
        f"{plan.callers} callers at once, {plan.rounds} rounds, {plan.deadline:g} s for each call. The services let go "
        f"after {plan.cap:g} s, which is what ends the calls of clients that wait on.\n{made_by('deadlines', about)}"
    )
    title = f"Six hostile services: worst time beyond a deadline of {plan.deadline:g} s"
    with canvas(path, title=title, caption=caption, size=(12.5, 4.6)) as (axis,):
        tidy(axis, "seconds beyond the deadline, logarithmic; ended within 1 ms of it, or before: no bar")
        width = 0.8 / len(clients)
        for place, client in enumerate(clients):
            worst = {row["scenario"]: row["worst"] for row in rows if row["client"] == client}
            colour = OURS if client == "ours" else OTHERS[place]
            for column, scenario in enumerate(scenarios):
                at = column + (place - (len(clients) - 1) / 2) * width
                value = worst[scenario]
                axis.bar(at, max(value, 0.001), width=width * 0.92, color=colour, label="" if column else client)
                label = "in time" if value < 0.001 else seconds(value)
                note(axis, label, (at, max(value, 0.001)), shift=(0, 3), ha="center", va="bottom", rotation=90)
        axis.set_yscale("log")
        axis.set_ylim(0.001, 60)
        axis.yaxis.set_major_formatter(lambda value, _: seconds(value))
        axis.axhline(TARGET_OVERSHOOT, **{**DASHED, "color": QUIET})
        note(axis, f"target {seconds(TARGET_OVERSHOOT)}", (-0.48, TARGET_OVERSHOOT), shift=(0, 3), va="baseline")
        axis.set_xticks(range(len(scenarios)), scenarios)
        axis.set_xlim(-0.5, len(scenarios) - 0.5)
        axis.legend(frameon=False, ncols=len(clients), loc="upper left", fontsize=9)
