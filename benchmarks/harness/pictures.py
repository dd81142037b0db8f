"""Draw the results: one SVG a benchmark, legible without the table."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

OURS: Final = "#1b6ca8"
THEIRS: Final = "#9aa5b1"
PALE: Final = {OURS: "#a9cbe6", THEIRS: "#d9dee3"}
INK: Final = "#22272e"
QUIET: Final = "#6b7580"
OTHERS: Final = ("#c05c2e", "#4f8a5b", "#8a63a8", "#b08a2e", "#9aa5b1", "#5b6b7a")
"""Colours for peers in a picture with several lines; ours is `OURS`."""
DASHED: Final[dict[str, Any]] = {"color": INK, "linewidth": 1, "linestyle": (0, (4, 3))}
"""How a target or a bound is drawn."""
_WHITE: Final[dict[str, Any]] = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}


@contextmanager
def canvas(
    path: Path, *, title: str, caption: str, size: tuple[float, float], columns: int = 1, **subplots: Any
) -> Iterator[list[Any]]:
    """Yield *columns* axes side by side under a *title*, and write them to *path* as an SVG when the block ends."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style: Any = {
        "font.size": 10,
        "svg.fonttype": "none",
        "svg.hashsalt": "cosyclient",
        "text.color": INK,
        "axes.labelcolor": QUIET,
        "xtick.color": QUIET,
        "ytick.color": INK,
    }
    with matplotlib.rc_context(style):
        figure, grid = pyplot.subplots(1, columns, figsize=size, squeeze=False, **subplots)
        try:
            yield list(grid[0])
            figure.suptitle(title, x=0.012, ha="left", fontsize=14, fontweight="bold")
            figure.text(0.012, 0.015, caption, fontsize=8.5, color=QUIET, va="bottom")
            # The caption's lines keep their height whatever the picture's.
            foot = 0.21 * (caption.count("\n") + 1) / size[1]
            figure.tight_layout(rect=(0, foot, 1, 0.98), w_pad=2.5)
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, format="svg", metadata={"Date": None})
        finally:
            pyplot.close(figure)


def tidy(axis: Any, title: str, *, grid: str = "y") -> None:
    """Give *axis* its title and remove what carries no figure."""
    axis.set_title(title, fontsize=10, loc="left", color=INK)
    axis.grid(axis=grid, color="#e6e9ec", linewidth=0.8)
    axis.set_axisbelow(True)
    hide_frame(axis)


def hide_frame(axis: Any) -> None:
    """Remove the frame of *axis*."""
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(False)


def label_rows(axis: Any, labels: Sequence[str], *, above: float = 0.6, below: float = 0.4) -> None:
    """Give *axis* a row for each of *labels*, the first on top, with the given room *above* and *below* them."""
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 1 + below, -above)
    axis.tick_params(axis="y", length=0)


def note(axis: Any, text: str, at: tuple[float, float], *, shift: tuple[float, float] = (4, 0), **style: Any) -> None:
    """Write *text* beside the point *at*, *shift* points away from it."""
    style = {"va": "center", "fontsize": 8.5, **style}
    axis.annotate(text, at, xytext=shift, textcoords="offset points", **style)


def figure_note(axis: Any, text: str, at: tuple[float, float]) -> None:
    """Write the figure *text* at the end of a bar, legible over the grid and over dashed lines."""
    note(axis, text, at, bbox=_WHITE, zorder=5)


def made_by(name: str, about: dict[str, Any]) -> str:
    """Return the caption's last line: machine, date and the command that makes the picture again."""
    return f"{about['cores']} cores, {about['python']}, {about['date'][:10]}. Made by: python -m benchmarks {name}"
