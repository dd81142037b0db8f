"""Format figures, and set them in a table of plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the rows under their heads: the first column to the left, figures to the right.

    A head may hold several lines; they are set on the last ones.
    """
    height = max(head.count("\n") + 1 for head in heads)
    stacked = [([""] * height + head.split("\n"))[-height:] for head in heads]
    lines = [list(line) for line in zip(*stacked, strict=True)] + [list(row) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    drawn = ["  ".join(_cell(cell, widths[n], n) for n, cell in enumerate(line)).rstrip() for line in lines]
    drawn.insert(height, "  ".join("-" * width for width in widths))
    return "\n".join(drawn)


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    """Return a figure with its thousands separated, or a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}{unit}"


def seconds(value: float | None) -> str:
    """Return a time in the unit that suits it."""
    if value is None:
        return "–"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.0f} ms" if value >= 0.001 else f"{value * 1e6:.0f} µs"


def share(value: float | None) -> str:
    """Return a share in percent; only nothing at all is 0 %."""
    if value is None:
        return "–"
    if value == 0:
        return "0 %"
    return percent(value, 2 if value < 0.1 else 1)


def percent(value: float, digits: int = 0) -> str:
    """Return a share in percent with so many *digits*."""
    return f"{value:.{digits}%}".replace("%", " %")


def met(reached: bool) -> str:
    """Return whether a target is met, so that a miss stands out."""
    return "met" if reached else "MISSED"


def repeated(repeat: int) -> str:
    """Return how often everything is run, and in which order."""
    return "one run" if repeat == 1 else f"medians of {repeat} runs, alternating"


def _cell(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)
