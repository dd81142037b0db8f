"""Measure what a request costs as threads are added: ours, bare urllib3 and the usual clients, one text a request."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness import machine
from benchmarks.harness.extra import require_extra
from benchmarks.harness.gateway import Plan as GatewayPlan
from benchmarks.harness.gateway import Reply, gateway
from benchmarks.harness.results import write_json
from benchmarks.harness.tables import number, seconds, share, table
from benchmarks.peers.single import question
from benchmarks.suites.scaling.process import Order
from benchmarks.suites.scaling.process import run as run_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness.options import Options

_DELAY: Final = 0.05
_GOAL: Final = 0.9
_BUSY: Final = 0.9


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Name one way of asking, and what it takes."""

    label: str
    place: str
    """Module and class."""
    needs: str = ""
    decode: bool = True
    """Whether replies become audio; otherwise they are only read."""
    quick: bool = True
    ours: bool = False


_AT: Final = "benchmarks.peers"
PEERS: Final = (
    Peer(label="urllib3", place=f"{_AT}.urllib3_threads.Urllib3Threads"),
    Peer(label="cosyclient", place=f"{_AT}.ours.OurClient", ours=True),
    Peer(label="requests", place=f"{_AT}.requests_threads.RequestsThreads", needs="requests"),
    Peer(label="httpx", place=f"{_AT}.httpx_threads.HttpxThreads"),
    Peer(label="httpx2", place=f"{_AT}.httpx_threads.Httpx2Threads", needs="httpx2"),
    Peer(label="httpx on pyreqwest", place=f"{_AT}.httpx_threads.PyreqwestThreads", needs="pyreqwest"),
    Peer(label="aiohttp, tasks", place=f"{_AT}.aiohttp_tasks.AiohttpTasks", needs="aiohttp"),
    Peer(label="urllib3", place=f"{_AT}.urllib3_threads.Urllib3Threads", decode=False),
    Peer(label="our transport", place=f"{_AT}.ours.OurTransport", decode=False, ours=True),
    Peer(label="httpx on our pool", place=f"{_AT}.httpx_threads.OurPoolUnderHttpx", decode=False, ours=True),
    Peer(
        label="requests",
        place=f"{_AT}.requests_threads.RequestsThreads",
        needs="requests",
        decode=False,
        quick=False,
    ),
    Peer(label="httpx", place=f"{_AT}.httpx_threads.HttpxThreads", decode=False, quick=False),
    Peer(
        label="httpx on pyreqwest",
        place=f"{_AT}.httpx_threads.PyreqwestThreads",
        needs="pyreqwest",
        decode=False,
        quick=False,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say how many call at once, and how long."""

    steps: tuple[int, ...] = (8, 64, 128, 256)
    warm_up: float = 1.0
    seconds: float = 3.0
    repeat: int = 3
    quick: bool = False

    @property
    def peers(self) -> list[Peer]:
        """Return who takes part: those whose package is installed."""
        return [peer for peer in PEERS if (not peer.needs or find_spec(peer.needs)) and (peer.quick or not self.quick)]


QUICK: Final = Plan(steps=(128,), warm_up=0.5, seconds=0.5, repeat=1, quick=True)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Hold one peer's runs at one step."""

    peer: Peer
    threads: int
    runs: Sequence[dict[str, Any]]

    def median(self, name: str) -> float | None:
        """Return the median of one figure, or None where no run has it."""
        values = [run[name] for run in self.runs if run[name] is not None]
        return median(values) if values else None

    @property
    def rate(self) -> float:
        """Return requests per second."""
        return self.median("rate") or 0.0

    @property
    def cpu(self) -> float | None:
        """Return the processor seconds the client spent per request that succeeded."""
        spent = [run["cpu"] / run["finished"] for run in self.runs if run["finished"]]
        return median(spent) if spent else None

    @property
    def errors(self) -> Counter[str]:
        """Return how many requests failed, by error, over all runs."""
        return sum((Counter(run["errors"]) for run in self.runs), Counter())


def run(options: Options) -> None:
    """Measure, print the table, and write ``scaling.json`` and ``scaling.svg``."""
    require_extra(("matplotlib", "envoy", "starlette", "uvicorn", "soundfile"))
    plan = QUICK if options.quick else Plan(repeat=max(3, options.repeat))
    about = machine.describe()
    body = answer(options.audio)
    print(f"scaling: {_method(plan, options.audio, body)}\n\n{machine.sentence(about)}\n", flush=True)
    rows = measure(plan, options.audio, body)
    print(f"{tabulate(rows)}\n\n{conclusions(rows, plan)}")
    from benchmarks.suites.scaling.report import draw

    write_json(
        options.output / "scaling.json",
        {
            "benchmark": "scaling",
            "quick": options.quick,
            "machine": about,
            "parameters": {**asdict(plan), "delay": _DELAY, "audio": options.audio, "reply_bytes": len(body)},
            "rows": [document(row, rows) for row in rows],
        },
    )
    draw(options.output / "scaling.svg", rows, plan.steps, _DELAY, about)
    print(f"\nwritten: {options.output / 'scaling.json'}, {options.output / 'scaling.svg'}")


def answer(audio: str) -> bytes:
    """Return the reply to one text, as an emulator gives it: JSON with base64."""
    from benchmarks.harness.texts import text
    from benchmarks.peers.urllib3_threads import Urllib3Threads
    from cosyclient.emulator import running

    with running(engine="tone") as service:
        peer = Urllib3Threads(service.url, format=audio, connections=1)
        try:
            return peer.fetch(text(0))
        finally:
            peer.close()


def measure(plan: Plan, audio: str, body: bytes) -> list[Row]:
    """Return a row per step and peer; every run is a fresh process against the same service, peers in turn."""
    runs: dict[tuple[int, Peer], list[dict[str, Any]]] = {(n, peer): [] for n in plan.steps for peer in plan.peers}
    with gateway(GatewayPlan(reply=Reply(body=body, media_type="application/json"), delay=_DELAY)) as service:
        for _ in range(plan.repeat):
            for (threads, peer), found in runs.items():
                found.append(
                    run_process(
                        Order(
                            peer=peer.place,
                            decode=peer.decode,
                            url=service.url,
                            service=service.pid,
                            audio=audio,
                            threads=threads,
                            warm_up=plan.warm_up,
                            seconds=plan.seconds,
                        )
                    )
                )
    return [Row(peer=peer, threads=threads, runs=found) for (threads, peer), found in runs.items()]


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
        if (row.threads, row.peer.decode) != last:
            last = row.threads, row.peer.decode
            what = "text to audio" if row.peer.decode else "text to the reply's bytes"
            cells.append([f"{row.threads}: {what}", *[""] * (len(heads) - 1)])
        rates = [run["rate"] for run in row.runs]
        cells.append(
            [
                f"  {row.peer.label}",
                number(row.rate),
                f"{min(rates):,.0f} to {max(rates):,.0f}",
                share(row.rate / (row.threads / _DELAY)),
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
        each
        for each in rows
        if (each.threads, each.peer.decode, each.peer.label) == (row.threads, row.peer.decode, "urllib3")
    )
    return row.rate / base.rate if base.rate else None


def conclusions(rows: Sequence[Row], plan: Plan) -> str:
    """Return whether the target is met, step by step, and what else has to be said."""
    lines = []
    for label in ("cosyclient", "our transport"):
        mine = [(row.threads, ratio(row, rows) or 0.0) for row in rows if row.peer.label == label]
        said = ", ".join(f"{n} threads {times:.2f} {'yes' if times >= _GOAL else 'NO'}" for n, times in mine)
        lines.append(f"{label}, at least {_GOAL:.0%} of urllib3's requests/s: {said}.".replace("%", " %"))
    for row in rows:
        if row.errors:
            kinds = ", ".join(f"{count} {kind}" for kind, count in row.errors.items())
            lines.append(f"Errors of {row.peer.label} at {row.threads}: {kinds}.")
    busy = {f"{row.peer.label} at {row.threads}" for row in rows if (row.median("service_cpu") or 0.0) > _BUSY}
    if busy:
        lines.append(f"The service used {_BUSY:.0%} of a core or more with {', '.join(sorted(busy))}.")
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


def _method(plan: Plan, audio: str, body: bytes) -> str:
    return (
        "what a request costs as threads are added\n\n"
        f"Service: Envoy, one event loop; it answers every request after {_DELAY * 1000:g} ms with the same JSON "
        f"({len(body):,} bytes, {audio} in base64).\nThe bound is threads / {_DELAY:g} s. One text a request "
        f"({len(question('春' * 20, audio))} bytes), 20 Chinese characters; as many connections as threads;\n"
        "threads that ask, wait and ask again (with cosyclient these hand their texts to as many workers; aiohttp has "
        f"tasks).\nEach run in a fresh process, which shares the machine with the service: {plan.warm_up:g} s of "
        f"uncounted warm-up,\n{plan.seconds:g} s measured; medians of {plan.repeat}, turn about. Nobody tries again: "
        "what fails is an error."
    )
