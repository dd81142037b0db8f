"""Report what the scaling benchmark measured: the table, the target, the picture."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.pictures import DASHED, INK, OTHERS, OURS, canvas, made_by, tidy
from benchmarks.harness.tables import met, number, percent, repeated, seconds, share, table
from benchmarks.peers.single import request_body
from benchmarks.suites.scaling.plan import DELAY, PEERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.suites.scaling.plan import Plan, Row

_TARGET: Final = 0.9
_BUSY: Final = 0.9
_BARE: Final = "urllib3"
_WORK: Final = {
    (True, True): "text to audio",
    (True, False): "text to compressed audio",
    (False, True): "text to the reply's bytes",
}


def introduction(plan: Plan, audio: str, plain_bytes: int, compressed_bytes: int) -> str:
    """Return what is measured and how, before the figures."""
    return (
        "what a request costs as threads are added\n\n"
        f"Service: Envoy, one event loop; it answers every request after {DELAY * 1000:g} ms with the same JSON: "
        f"WAV in base64 ({plain_bytes:,} bytes),\nor 4 s of {audio} ({compressed_bytes:,} bytes). "
        f"The bound is threads / {DELAY:g} s. One text a request ({len(request_body('春' * 20, audio))} bytes), "
        "20 Chinese characters; as many\nconnections as threads; "
        "threads that call, wait and call again (with cosyclient these hand their texts to as many workers; aiohttp\n"
        "has tasks; raw sockets, one thread that throws the bytes away, are what the service can).\n"
        f"Each run in a fresh process, which shares the machine with the service: {plan.warm_up:g} s of "
        f"uncounted warm-up, {plan.seconds:g} s measured;\n{repeated(plan.repeat)}. "
        "No client retries: what fails is an error."
    )


def tabulate(rows: Sequence[Row]) -> str:
    """Return the table."""
    heads = [
        "threads and client",
        "requests/s",
        "lowest to\nhighest",
        "of the\nbound",
        "times\nurllib3",
        "CPU a\nrequest",
        "latency\np50",
        "\np99",
        "threads\nin all",
        "errors",
        "service\nCPU",
    ]
    cells: list[list[str]] = []
    last = None
    for row in rows:
        if (row.threads, row.peer.work) != last:
            last = row.threads, row.peer.work
            cells.append([f"{row.threads}: {_WORK[row.peer.work]}", *[""] * (len(heads) - 1)])
        rates = [run["rate"] for run in row.runs]
        cells.append(
            [
                f"  {row.peer.label}",
                number(row.rate),
                f"{min(rates):,.0f} to {max(rates):,.0f}",
                share(row.rate / (row.threads / DELAY)),
                number(ratio(row, rows), 2),
                number(None if row.cpu is None else row.cpu * 1e6, unit=" µs"),
                seconds(row.median("latency_p50")),
                seconds(row.median("latency_p99")),
                number(row.median("threads")),
                number(sum(row.errors.values())),
                share(row.median("service_cpu")),
            ]
        )
    return table(heads, cells)


def ratio(row: Row, rows: Sequence[Row]) -> float | None:
    """Return the row's requests/s as a multiple of bare urllib3's for the same work at the same step."""
    base = next(
        each for each in rows if (each.threads, each.peer.work, each.peer.label) == (row.threads, row.peer.work, _BARE)
    )
    return row.rate / base.rate if base.rate else None


def conclusions(rows: Sequence[Row], plan: Plan) -> str:
    """Return whether the target is met, step by step, what failed, and what may have been slow."""
    lines = []
    for label, work in (("cosyclient", (True, True)), ("cosyclient", (True, False)), ("our transport", (False, True))):
        mine = [row for row in rows if (row.peer.label, row.peer.work) == (label, work)]
        times = [(row.threads, ratio(row, rows) or 0.0) for row in mine]
        found = ", ".join(f"{n} threads {each:.2f} {met(each >= _TARGET)}" for n, each in times)
        lines.append(f"{label}, {_WORK[work]}, at least {percent(_TARGET)} of urllib3's requests/s: {found}.")
    for row in rows:
        if row.errors:
            kinds = ", ".join(f"{count} {kind}" for kind, count in row.errors.items())
            lines.append(f"Errors of {row.peer.label} at {row.threads}: {kinds}.")
    busy = {f"{row.peer.label} at {row.threads}" for row in rows if (row.median("service_cpu") or 0.0) > _BUSY}
    if busy:
        lines.append(f"The service used {percent(_BUSY)} of a core or more with {', '.join(sorted(busy))}.")
    missing = sorted({peer.needs for peer in PEERS if peer.needs} - {peer.needs for peer in plan.peers})
    if missing:
        lines.append(f"Not installed, so not measured: {', '.join(missing)}.")
    return "\n".join(lines)


def document(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """Return plain values."""
    return {
        "peer": asdict(row.peer),
        "threads": row.threads,
        "rate": row.rate,
        "times_urllib3": ratio(row, rows),
        "cpu": row.cpu,
        "latency_p50": row.median("latency_p50"),
        "latency_p99": row.median("latency_p99"),
        "errors": dict(row.errors),
        "runs": list(row.runs),
    }


def draw(path: Path, rows: Sequence[Row], steps: Sequence[int], about: dict[str, Any]) -> None:
    """Draw three panels: rate and cost from text to audio, and the cost of the transport alone."""
    others = dict.fromkeys(row.peer.label for row in rows if not row.peer.ours and row.peer.label != _BARE)
    colours = {**dict(zip(others, OTHERS, strict=False)), _BARE: INK}
    whole = [row for row in rows if row.peer.work == (True, True)]
    wire = [row for row in rows if not row.peer.decode]
    caption = (
        f"One text a request against a service that answers with 1 KB of WAV in JSON after {DELAY * 1000:g} ms; one "
        "process, which shares the machine with the service.\nSolid blue is ours, black bare urllib3. Cost is "
        f"processor time of the client's process, all its threads.\n{made_by('scaling', about)}"
    )
    title = "What a request costs as threads are added"
    with canvas(path, title=title, caption=caption, size=(13.5, 5.6), columns=3) as axes:
        _panel(axes[0], whole, steps, colours, "requests/s, text to audio", [row.rate for row in whole])
        top = axes[0].get_ylim()[1]
        axes[0].plot(steps, [n / DELAY for n in steps], **DASHED, label="bound")
        axes[0].set_ylim(0, top * 1.15)
        cost = [(row.cpu or 0.0) * 1e3 for row in whole]
        _panel(axes[1], whole, steps, colours, "processor time a request, ms: text to audio (same lines)", cost)
        axes[1].set_ylim(min(filter(None, cost)) / 2, max(cost) * 2)
        axes[1].set_yscale("log")
        axes[1].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
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
