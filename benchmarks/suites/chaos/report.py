"""Put the chaos into words: what is done, what became of it, which targets were missed, and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.tables import number, seconds, table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.suites.chaos.run import Plan

_SHOWN: Final = 20
_COLUMNS: Final = ("spoken", "failed", "interrupted", "cancelled")
_FAULTS: Final = ("wrong", "unexplained", "unaccounted")


def introduction(plan: Plan, seed: int) -> str:
    """Return what is done and how, before the figures."""
    befall = "are interrupted (a timer's signal on the main thread, asynchronous exceptions on the others), "
    return (
        f"everything goes wrong at random, over every protocol, for {plan.seconds:g} s; seed {seed}\n\n"
        "One service in a process of its own speaks all protocols. Quiet phases (calm, slow, idle) and troubled ones "
        "take turns: throttling,\nerrors, 503s, resets, replies cut short, garbage, hanging, and the process killed "
        f"and started again on its port. {plan.callers} threads call whatever\nthere is to call; they "
        f"{befall if plan.interrupts else ''}cancel, close streams and iterators early, give some texts too little "
        "time. The process\nforks amid the calls, and the children call, too; clients are closed amid theirs.\n"
        "Each text is then spoken (and the audio says that it is its own), or failed for a reason that was there at "
        "the time (a calm, slow or idle\nservice is no reason), or interrupted, or cancelled; and every client holds "
        "nothing, works again, and leaves nothing behind."
    )


def tabulate(document: Mapping[str, Any]) -> str:
    """Return the table: a row per protocol, each text under one of its columns."""
    heads = ["protocol", "texts", *_COLUMNS, *_FAULTS, "held", "failed by cause"]
    return table(heads, [_cells(row) for row in document["rows"]])


def _cells(row: Mapping[str, Any]) -> list[str]:
    causes = ", ".join(f"{count} {cause}" for cause, count in row["causes"].items())
    figures = [number(row[name]) for name in ("texts", *_COLUMNS, *_FAULTS)]
    return [row["protocol"], *figures, row["held"].partition(" holds ")[2] or "nothing", causes or "none"]


def conclusions(document: Mapping[str, Any], seed: int) -> str:
    """Return which targets are met, and what was found with how to see it again."""
    total = {name: sum(row[name] for row in document["rows"]) for name in ("texts", *_COLUMNS, *_FAULTS)}
    findings = document["findings"]
    held = [row["held"] for row in document["rows"] if row["held"]]
    behind = ", ".join(f"{count} {name}" for name, count in document["behind"].items())
    lines = [
        f"{number(total['texts'])} texts, {document['interrupts']} interrupts, {document['forks']} forks, "
        f"{document['restarts']} restarts, {document['closes']} clients closed amid calls; after each trouble every "
        f"client made a good call within {seconds(document['back'])}.",
        f"Every text accounted for, each failure for a reason: {_met(not any(total[name] for name in _FAULTS))} "
        f"({', '.join(f'{total[name]} {name}' for name in _FAULTS)}).",
        f"Nothing held by any client afterwards: {_met(not held)}{_told('; '.join(held))}.",
        f"No thread and no file left after close: {_met(not behind)}{_told(behind)}.",
        f"Nothing stood still or was swallowed, every child reported: {_met(not findings)}.",
    ]
    if findings:
        lines.append(f"\n{len(findings)} findings; --seed {seed} draws the same phases again:")
        lines += [f"- {finding}" for finding in findings[:_SHOWN]]
    return "\n".join(lines)


def _met(met: bool) -> str:
    return "met" if met else "MISSED"


def _told(what: str) -> str:
    return f" ({what})" if what else ""


def draw(path: Path, document: Mapping[str, Any], plan: Plan, about: dict[str, Any]) -> None:
    """Draw what became of each protocol's texts."""
    from benchmarks.harness.pictures import OTHERS, OURS, PALE, THEIRS, canvas, made_by, tidy

    rows = document["rows"]
    colours = {"spoken": OURS, "failed": THEIRS, "interrupted": PALE[OURS], "cancelled": PALE[THEIRS]}
    caption = (
        f"{plan.callers} threads, {plan.seconds:g} s; failed: for a reason that was there at the time. "
        f"{document['forks']} forks, {document['restarts']} restarts, {document['interrupts']} interrupts, "
        f"{document['closes']} clients closed amid calls.\n{made_by('chaos', about)}"
    )
    bad = sum(row[name] for row in rows for name in _FAULTS)
    title = f"Chaos over {len(rows)} protocols: {bad or 'no'} text{'' if bad == 1 else 's'} unaccounted for"
    with canvas(path, title=title, caption=caption, size=(12.5, 0.4 * len(rows) + 2.0)) as (axis,):
        tidy(axis, "what became of the texts", grid="x")
        left = [0] * len(rows)
        for name in (*_COLUMNS, *_FAULTS):
            counts = [row[name] for row in rows]
            if name not in _FAULTS or any(counts):
                axis.barh(range(len(rows)), counts, left=left, color=colours.get(name, OTHERS[0]), label=name)
            left = [before + count for before, count in zip(left, counts, strict=True)]
        for place, row in enumerate(rows):
            axis.annotate(
                f"{number(row['spoken'])} of {number(row['texts'])} spoken",
                (left[place], place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
            )
        axis.set_yticks(range(len(rows)), [row["protocol"] for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlim(0, max([1, *left]) * 1.2)
        axis.legend(frameon=False, ncols=1, loc="lower right", fontsize=9)
