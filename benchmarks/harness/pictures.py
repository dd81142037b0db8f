"""Draw the results: one SVG a benchmark, legible without the table."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.tables import number, seconds, share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.harness.results import Row
    from benchmarks.suites.report import Plan

OURS: Final = "#1b6ca8"
THEIRS: Final = "#9aa5b1"
PALE: Final = {OURS: "#a9cbe6", THEIRS: "#d9dee3"}
INK: Final = "#22272e"
QUIET: Final = "#6b7580"
OTHERS: Final = ("#c05c2e", "#4f8a5b", "#8a63a8", "#b08a2e", "#9aa5b1", "#5b6b7a")
"""Colours for peers in a picture with several lines; ours is `OURS`."""


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
    """Give *axis* its title and take away what is no figure."""
    axis.set_title(title, fontsize=10, loc="left", color=INK)
    axis.grid(axis=grid, color="#e6e9ec", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(False)


def made_by(name: str, about: dict[str, Any]) -> str:
    """Return the caption's last line: machine, date and the command that makes the picture again."""
    return f"{about['cores']} cores, {about['python']}, {about['date'][:10]}. Made by: python -m benchmarks {name}"


def draw_report(path: Path, rows: Sequence[Row], plan: Plan, about: dict[str, Any]) -> None:
    """Draw throughput, latency and errors of each client side by side."""
    title = f"One quota, {len(rows)} clients: {plan.rate:g} requests/s, {plan.bound / plan.rate:g} texts each"
    size = (12.5, 0.62 * len(rows) + 2.1)
    runs = [row.median for row in rows]
    with canvas(
        path, title=title, caption=_caption(plan, about), size=size, columns=3, sharey=True, width_ratios=(5, 5, 4)
    ) as axes:
        _panel(axes[0], rows, "texts/s with audio: mean, and best second (pale)", log=True)
        _bars(axes[0], rows, [run.rate for run in runs], [run.peak for run in runs], number, plan.bound)
        _mark(axes[0], plan.bound, f"quota {plan.bound:,.0f}", side="right")
        _panel(axes[1], rows, "latency of these: mean, and p99 (pale)", log=True)
        _bars(axes[1], rows, [run.latency_mean for run in runs], [run.latency_p99 for run in runs], seconds, plan.rtt)
        _mark(axes[1], plan.rtt, f"round trip {seconds(plan.rtt)}", side="left")
        _panel(axes[2], rows, "error rate: texts without audio", log=False)
        _bars(axes[2], rows, [run.error_rate for run in runs], None, share)
        axes[2].set_xlim(0, 1.2)
        axes[2].set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])


def _mark(axis: Any, value: float, word: str, *, side: str) -> None:
    """Draw a dashed line at *value* with its word to the *side* named by the text's own alignment."""
    axis.axvline(value, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    shift = (-4 if side == "right" else 4, 0)
    axis.annotate(word, (value, -0.62), ha=side, va="center", fontsize=8.5, xytext=shift, textcoords="offset points")


def _panel(axis: Any, rows: Sequence[Row], title: str, *, log: bool) -> None:
    tidy(axis, title, grid="x")
    axis.set_yticks(range(len(rows)), [f"({row.name}) {row.label}" for row in rows])
    axis.set_ylim(len(rows) - 0.45, -0.85)
    axis.tick_params(axis="y", length=0)
    if log:
        axis.set_xscale("log")


def _bars(
    axis: Any,
    rows: Sequence[Row],
    first: Sequence[float | None],
    second: Sequence[float | None] | None,
    say: Callable[[float | None], str],
    mark: float = 0.0,
) -> None:
    """Draw one bar a row, or two thin ones of which the second is pale, each with its figure at the end."""
    from matplotlib.ticker import LogLocator

    height = 0.36 if second else 0.5
    for place, row in enumerate(rows):
        colour = OURS if row.name in ("c", "d") else THEIRS
        bars: list[tuple[float, float | None, str]] = [(place, first[place], colour)]
        if second:
            bars = [(place - 0.19, first[place], colour), (place + 0.19, second[place], PALE[colour])]
        for level, value, shade in bars:
            if value is not None:
                axis.barh(level, value, height=height, color=shade)
            axis.annotate(
                say(value),
                (value or 0, level),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
                zorder=5,
            )
    values = [value for value in (*first, *(second or ()), mark) if value]
    if values and axis.get_xscale() == "log":
        # A log scale has no natural start: one text a second, or half the smallest; on the right, room for figures.
        axis.set_xlim(min(1.0, *values) if say is number else min(values) / 2, max(values) * 4)
        axis.xaxis.set_major_formatter(lambda value, _: say(value))
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0,) if say is number else (1.0, 3.0)))
        axis.minorticks_off()


def _caption(plan: Plan, about: dict[str, Any]) -> str:
    return (
        f"cosyclient's emulator: {plan.rtt * 1000:g} ms round trip, {plan.rate:g} requests/s, "
        f"{plan.connections} connections, {plan.audio}; 20-character texts. a, d: {plan.callers:,} calling threads; "
        f"b, c: a list of {plan.texts:,}. The scales of texts/s and latency are logarithmic.\n"
        f"{made_by('report', about)}"
    )
