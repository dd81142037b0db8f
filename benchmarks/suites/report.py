"""Run the field report's table again, on the plain wire: its "before", its own client, and ours, under one quota."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.gateway import GatewaySpec
from benchmarks.harness.loads import LoadSpec
from benchmarks.harness.pictures import DASHED, OURS, PALE, THEIRS, canvas, figure_note, label_rows, made_by, note, tidy
from benchmarks.harness.prepared import BATCH
from benchmarks.harness.results import Row, Run, announce, publish
from benchmarks.harness.tables import number, percent, repeated, seconds, share, table
from benchmarks.harness.wires import PLAIN, PLAIN_BYTES, reply
from benchmarks.harness.worker import measure
from benchmarks.peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.harness.options import Options

_BUSY: Final = 0.9
"""Share of a core above which the service, one event loop, may have been what was slow."""
_FRAMES: Final = " frames"
"""What follows the name of a peer that gets frames with compressed audio, not the plain wire."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Define the service's limits, and the load of each client."""

    rtt: float = 0.2
    rate: float = 100.0
    burst: int = 100
    connections: int = 50
    audio: str = "opus"
    """What is asked for where that is not the plain wire."""
    texts: int = 64_000
    callers: int = 1750
    seconds: float = 20.0
    warm_up: float = 6.0
    peers: Sequence[str] = (*PEERS, f"c{_FRAMES}", f"d{_FRAMES}")

    @property
    def bound(self) -> float:
        """Return the texts per second that the quota allows."""
        return self.rate * BATCH


QUICK: Final = Plan(texts=9_600, seconds=1.5, warm_up=2.5, peers=tuple(PEERS))


def run(options: Options) -> None:
    """Measure, print the table, and write ``report.json`` and ``report.svg``."""
    plan = replace(QUICK if options.quick else Plan(), audio=options.audio)
    about = announce("report", introduction(plan, options.repeat))
    rows = measure_all(plan, options.repeat)
    print(f"\n{tabulate(rows)}\n\n{conclusions(rows, plan)}")
    figures = {"repeat": options.repeat, **document(rows, plan)}
    publish("report", options, about, figures, lambda path: draw(path, rows, plan, about))


def measure_all(plan: Plan, repeat: int) -> list[Row]:
    """Return a row per peer; every run is a fresh process against a fresh gateway."""
    runs: dict[str, list[Run]] = {name: [] for name in plan.peers}
    for turn in range(1, repeat + 1):
        for name in plan.peers:
            done = measure_one(plan, name)
            runs[name].append(done)
            line = f"  run {turn}/{repeat} {name:9}{number(done.rate):>7} texts/s, {share(done.error_rate)} errors"
            print(line, flush=True)
    return [row_of(name, runs[name]) for name in runs]


def row_of(name: str, runs: Sequence[Run]) -> Row:
    """Return the row of a peer."""
    peer = PEERS[name.removesuffix(_FRAMES)]
    return Row(name=name, label=peer.label, sentence=peer.sentence, runs=runs)


def measure_one(plan: Plan, name: str) -> Run:
    """Return one run of the peer *name*, in a process of its own, with what the gateway saw meanwhile."""
    peer = PEERS[name.removesuffix(_FRAMES)]
    audio = plan.audio if name.endswith(_FRAMES) else PLAIN
    load = LoadSpec(
        peer=peer.name,
        audio=audio,
        texts=plan.texts,
        callers=peer.callers or plan.callers,
        seconds=plan.seconds,
        warm_up=plan.warm_up,
        pause=plan.burst / plan.rate,
    )
    service = GatewaySpec(reply=reply(audio))
    if peer.load != "drain":
        service = replace(service, delay=plan.rtt, rate=plan.rate, bucket=plan.burst, connections=plan.connections)
    return measure(load, service)


def introduction(plan: Plan, repeat: int) -> str:
    """Return what is measured and how, before the figures."""
    return (
        "the field report's table on the plain wire\n\n"
        f"Service: a real Envoy that answers from memory, {plan.rtt * 1000:g} ms round trip, {plan.rate:g} requests/s "
        f"with a bucket of {plan.burst}, {plan.connections} connections,\nat most {BATCH} texts a request: the quota "
        f"allows {plan.bound:,.0f} texts/s. Texts of 20 Chinese characters, no two alike. JSON in, base64 WAV out,\n"
        f"{PLAIN_BYTES / 1000:.0f} KB (0.4 s) a text; where a row says frames, 4 s of {plan.audio} in binary frames.\n"
        f"Jobs (b, c): one list of {plan.texts:,} texts, after one uncounted batch and a pause that refills the "
        f"bucket.\nCallers (bare, a, d): threads, one request after the other, for {plan.seconds:g} s after "
        f"{plan.warm_up:g} s of uncounted warm-up.\n"
        "Raw: the service alone, without delay and limits: sockets that send a prepared request and throw the bytes "
        "away.\nWhere there are two cores or more, every client has one of them to itself and the service the rest.\n"
        f"Each run in a fresh process; {repeated(repeat)}."
    )


def tabulate(rows: Sequence[Row]) -> str:
    """Return the table."""
    heads = [
        "client",
        "peak\ntexts/s",
        "mean\ntexts/s",
        "lowest to\nhighest",
        "latency\nmean",
        "\np99",
        "threads\nin all",
        "of them\ncallers",
        "error\nrate",
        "requests\nsent",
        "answered\n429",
        "connections\nrefused",
        "CPU a text",
        "service\nCPU",
    ]
    return table(heads, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    run, (low, high) = row.median, row.spread
    return [
        f"{row.name}  {row.label}",
        number(run.peak),
        number(run.rate),
        f"{low:,.0f} to {high:,.0f}" if len(row.runs) > 1 else "–",
        seconds(run.latency_mean),
        seconds(run.latency_p99),
        number(run.threads),
        number(run.callers),
        share(run.error_rate),
        number(run.requests),
        number(run.throttled),
        number(run.refused),
        seconds(run.cpu_per_text),
        share(run.service_cpu),
    ]


def ratios(rows: Sequence[Row]) -> dict[str, float | None]:
    """Return how many times the mean texts/s of each peer ours reach; None where a peer finished nothing."""
    rates = {row.name: row.median.rate for row in rows}
    return {
        f"{mine}/{other}": rates[mine] / rates[other] if rates[other] else None
        for mine in ("c", "d")
        if mine in rates
        for other in ("bare", "a", "b")
        if other in rates
    }


def conclusions(rows: Sequence[Row], plan: Plan) -> str:
    """Return what follows from the table, and how it is to be read."""
    quota = ", ".join(f"{row.name} {share(row.median.rate / plan.bound)}" for row in rows if row.name != "raw")
    lines = [
        f"Of the {plan.bound:,.0f} texts/s that the quota allows: {quota}.",
        "Mean texts/s, times: " + ", ".join(f"{pair} {number(value, 1)}" for pair, value in ratios(rows).items()) + ".",
        "Errors by kind: " + ("; ".join(_errors(row) for row in rows if row.median.errors) or "none") + ".",
        "Errors are texts that did not become audio, of those that ended; latencies are those of texts that did.",
        "Latency of callers: the whole call. Of jobs: from when the text leaves the list, which is the client's queue",
        "in c and, later and so in its favour, the semaphore in b; the report's client would also lose every finished",
        "batch of a job in which one fails, here they count. A rate above the quota empties the service's bucket.",
    ]
    busy = [row.name for row in rows if row.name != "raw" and (row.median.service_cpu or 0.0) > _BUSY]
    if busy:
        lines.append(
            f"The service used {percent(_BUSY)} of a core or more in {', '.join(busy)}: it may be what was slow."
        )
    return "\n".join(lines)


def _errors(row: Row) -> str:
    kinds = ", ".join(f"{number(count)} {name}" for name, count in sorted(row.median.errors.items()))
    return f"{row.name} {kinds} (after {seconds(row.median.failed_mean)} on average)"


def document(rows: Sequence[Row], plan: Plan) -> dict[str, Any]:
    """Return the parameters and the figures as plain values."""
    return {
        "parameters": {**asdict(plan), "peers": list(plan.peers), "bound": plan.bound},
        "ratios": ratios(rows),
        "rows": [row.document() for row in rows],
    }


def draw(path: Path, rows: Sequence[Row], plan: Plan, about: dict[str, Any]) -> None:
    """Draw throughput, latency and errors of each client side by side."""
    rows = [row for row in rows if row.name != "raw"]  # the service alone has no quota to fill
    title = f"One quota, {len(rows)} clients: {plan.rate:g} requests/s, {plan.bound / plan.rate:g} texts each"
    caption = (
        f"A real Envoy that answers from memory: {plan.rtt * 1000:g} ms round trip, {plan.rate:g} requests/s, "
        f"{plan.connections} connections; JSON with 0.4 s of base64 WAV a text, or frames with 4 s of {plan.audio}.\n"
        f"a, d: {plan.callers:,} calling threads; b, c: a list of {plan.texts:,} texts. The scales of texts/s and "
        f"latency are logarithmic. "
        f"{made_by('report', about)}"
    )
    size = (12.5, 0.62 * len(rows) + 2.1)
    runs = [row.median for row in rows]
    with canvas(path, title=title, caption=caption, size=size, columns=3, sharey=True, width_ratios=(5, 5, 4)) as axes:
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


def _mark(axis: Any, value: float, label: str, *, side: str) -> None:
    """Draw a dashed line at *value*, its *label* aligned to that *side*."""
    axis.axvline(value, **DASHED)
    note(axis, label, (value, -0.62), shift=(-4 if side == "right" else 4, 0), ha=side)


def _panel(axis: Any, rows: Sequence[Row], title: str, *, log: bool) -> None:
    tidy(axis, title, grid="x")
    label_rows(axis, [f"({row.name}) {row.label}" for row in rows], above=0.85, below=0.55)
    if log:
        axis.set_xscale("log")


def _bars(
    axis: Any,
    rows: Sequence[Row],
    first: Sequence[float | None],
    second: Sequence[float | None] | None,
    text_of: Callable[[float | None], str],
    mark: float = 0.0,
) -> None:
    """Draw one bar a row, or two thin ones of which the second is pale, each with its figure at the end."""
    from matplotlib.ticker import LogLocator

    height = 0.36 if second else 0.5
    for level, row in enumerate(rows):
        colour = OURS if row.name[0] in "cd" else THEIRS
        bars: list[tuple[float, float | None, str]] = [(level, first[level], colour)]
        if second:
            bars = [(level - 0.19, first[level], colour), (level + 0.19, second[level], PALE[colour])]
        for height_at, value, shade in bars:
            if value is not None:
                axis.barh(height_at, value, height=height, color=shade)
            figure_note(axis, text_of(value), (value or 0, height_at))
    values = [value for value in (*first, *(second or ()), mark) if value]
    if values and axis.get_xscale() == "log":
        # A log scale has no natural start: one text a second, or half the smallest; on the right, room for figures.
        axis.set_xlim(min(1.0, *values) if text_of is number else min(values) / 2, max(values) * 4)
        axis.xaxis.set_major_formatter(lambda value, _: text_of(value))
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0,) if text_of is number else (1.0, 3.0)))
        axis.minorticks_off()
