"""Draw `scaling`: requests per second and processor time per request, one line a client over the threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.pictures import INK, OTHERS, OURS, canvas, made_by, tidy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.suites.scaling.run import Row

_BARE: Final = "urllib3"


def draw(path: Path, rows: Sequence[Row], steps: Sequence[int], delay: float, about: dict[str, Any]) -> None:
    """Draw three panels: rate and cost from text to audio, and the cost of the transport alone."""
    others = dict.fromkeys(row.peer.label for row in rows if not row.peer.ours and row.peer.label != _BARE)
    colours = {**dict(zip(others, OTHERS, strict=False)), _BARE: INK}
    whole = [row for row in rows if row.peer.decode]
    wire = [row for row in rows if not row.peer.decode]
    caption = (
        f"One text a request against a service that answers after {delay * 1000:g} ms; one process, which shares the "
        "machine with the service. Solid blue is ours, black bare urllib3.\nCost is processor time of the client's "
        f"process, all its threads.\n{made_by('scaling', about)}"
    )
    title = "What a request costs as threads are added"
    with canvas(path, title=title, caption=caption, size=(13.5, 5.6), columns=3) as axes:
        _panel(axes[0], whole, steps, colours, "requests/s, text to audio", [row.rate for row in whole])
        top = axes[0].get_ylim()[1]
        axes[0].plot(steps, [n / delay for n in steps], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="bound")
        axes[0].set_ylim(0, top * 1.15)
        cost = [(row.cpu or 0.0) * 1e3 for row in whole]
        _panel(axes[1], whole, steps, colours, "processor time a request, ms: text to audio (same lines)", cost)
        cost = [(row.cpu or 0.0) * 1e3 for row in wire]
        _panel(axes[2], wire, steps, colours, "the same: text to the reply's bytes", cost)
        for axis in (axes[0], axes[2]):
            axis.legend(fontsize=8.5, loc="upper left", edgecolor="none", framealpha=0.9)


def _panel(
    axis: Any, rows: Sequence[Row], steps: Sequence[int], colours: dict[str, str], title: str, values: Sequence[float]
) -> None:
    tidy(axis, title)
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(steps), [str(n) for n in steps])
    axis.minorticks_off()
    axis.set_xlabel("threads")
    lines: dict[str, list[tuple[int, float]]] = {}
    for row, value in zip(rows, values, strict=True):
        lines.setdefault(row.peer.label, []).append((row.threads, value))
    ours = {row.peer.label for row in rows if row.peer.ours}
    for label, points in lines.items():
        mine = label in ours
        second = mine and label.startswith("httpx")
        axis.plot(
            *zip(*points, strict=True),
            color=OURS if mine else colours[label],
            linewidth=2.6 if mine else 1.8 if label == _BARE else 1.3,
            linestyle=(0, (1, 1)) if second else "-",
            marker="o",
            markersize=4,
            label=label,
            zorder=4 if mine else 3,
        )
    axis.set_ylim(0, max(values) * 1.25)
