"""Report what the chaos benchmark did: the table, the targets, the findings, the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.pictures import OTHERS, OURS, PALE, THEIRS, canvas, label_rows, made_by, note, tidy
from benchmarks.harness.tables import met, number, seconds, table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.suites.chaos.plan import Plan

_SHOWN: Final = 20
_COLUMNS: Final = ("succeeded", "failed", "interrupted", "cancelled")
_FAULTS: Final = ("wrong", "unexplained", "unaccounted")


def introduction(plan: Plan, seed: int) -> str:
    """Return what is done and how, before the figures."""
    disruptions = "are interrupted (a timer's signal on the main thread, asynchronous exceptions on the others), "
    return (
        f"everything goes wrong at random, over every protocol, for {plan.seconds:g} s; seed {seed}\n\n"
        "One service in a process of its own serves all protocols. Quiet phases (calm, slow, idle) and phases with a\n"
        "fault alternate: throttling, errors, 503s, resets, replies cut short, garbage, hanging, and the process\n"
        f"killed and started again on its port. {plan.callers} threads make random calls; they\n"
        f"{disruptions if plan.interrupts else ''}cancel,\nclose streams and iterators early, give some texts too "
        "little time. The process forks during the calls,\n"
        "and the children call, too; clients are closed during theirs.\n"
        "Each text then has succeeded (and the audio is that of its text), or failed because of a fault at "
        "the time (a calm, slow or idle\nservice explains no failure), or is interrupted, or cancelled; and every "
        "client holds nothing, works again, and leaves nothing behind."
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
    leaked = ", ".join(f"{count} {name}" for name, count in document["leaked"].items())
    lines = [
        f"{number(total['texts'])} texts, {document['interrupts']} interrupts, {document['forks']} forks, "
        f"{document['restarts']} restarts, {document['closes']} clients closed during calls; after each fault every "
        f"client made a successful call within {seconds(document['recovery'])}.",
        f"Every text accounted for, each failure explained: {met(not any(total[name] for name in _FAULTS))} "
        f"({', '.join(f'{total[name]} {name}' for name in _FAULTS)}).",
        f"Nothing held by any client afterwards: {met(not held)}{_in_parentheses('; '.join(held))}.",
        f"No thread and no file left after close: {met(not leaked)}{_in_parentheses(leaked)}.",
        f"Nothing hung or was swallowed, every child reported: {met(not findings)}.",
    ]
    if findings:
        lines.append(f"\n{len(findings)} findings; --seed {seed} draws the same phases again:")
        lines += [f"- {finding}" for finding in findings[:_SHOWN]]
    return "\n".join(lines)


def _in_parentheses(what: str) -> str:
    return f" ({what})" if what else ""


def draw(path: Path, document: Mapping[str, Any], plan: Plan, about: dict[str, Any]) -> None:
    """Draw what became of each protocol's texts."""
    rows = document["rows"]
    colours = {"succeeded": OURS, "failed": THEIRS, "interrupted": PALE[OURS], "cancelled": PALE[THEIRS]}
    caption = (
        f"{plan.callers} threads, {plan.seconds:g} s; failed: because of a fault at the time. "
        f"{document['forks']} forks, {document['restarts']} restarts, {document['interrupts']} interrupts, "
        f"{document['closes']} clients closed during calls.\n{made_by('chaos', about)}"
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
        for level, row in enumerate(rows):
            label = f"{number(row['succeeded'])} of {number(row['texts'])} succeeded"
            note(axis, label, (left[level], level))
        label_rows(axis, [row["protocol"] for row in rows], below=0.6)
        axis.set_xlim(0, max([1, *left]) * 1.2)
        axis.legend(frameon=False, ncols=1, loc="lower right", fontsize=9)
