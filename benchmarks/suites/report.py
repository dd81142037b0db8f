"""Run the field report's table again, on the emulator: its "before", its own client, and ours, under one quota."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness import machine
from benchmarks.harness.extra import require_extra
from benchmarks.harness.loads import Order
from benchmarks.harness.results import Row, Run, write_json
from benchmarks.harness.tables import number, seconds, share, table
from benchmarks.harness.worker import run as run_worker
from benchmarks.peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.harness.options import Options
    from cosyclient.emulator import Counters, Emulator

_BATCH: Final = 64
_KILOBYTES: Final = {"opus": 17, "mp3": 20}
_BUSY: Final = 0.9
"""Share of a core above which the service, one event loop, may have been what was slow."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say what the service grants and how much each client is given to do."""

    rtt: float = 0.2
    rate: float = 100.0
    burst: int = 100
    connections: int = 50
    audio: str = "opus"
    texts: int = 64_000
    callers: int = 1750
    seconds: float = 20.0
    warm_up: float = 6.0
    peers: Sequence[str] = tuple(PEERS)

    @property
    def bound(self) -> float:
        """Return the texts per second that the quota allows."""
        return self.rate * _BATCH


QUICK: Final = Plan(texts=9_600, seconds=1.5, warm_up=2.5)


def run(options: Options) -> None:
    """Measure, print the table, and write ``report.json`` and ``report.svg``."""
    require_extra()
    plan = replace(QUICK if options.quick else Plan(), audio=options.audio)
    about = machine.describe()
    print(f"report: {introduction(plan, options.repeat)}\n\n{machine.sentence(about)}\n", flush=True)
    rows = measure(plan, options.repeat, lambda line: print(line, flush=True))
    print(f"\n{tabulate(rows)}\n\n{conclusions(rows, plan)}")
    from benchmarks.harness.pictures import draw_report

    write_json(options.output / "report.json", document(rows, plan, about, options))
    draw_report(options.output / "report.svg", rows, plan, about)
    print(f"\nwritten: {options.output / 'report.json'}, {options.output / 'report.svg'}")


def measure(plan: Plan, repeat: int, tell: Callable[[str], object]) -> list[Row]:
    """Return a row per peer; every run is a fresh process against the same service, its state reset in between."""
    from cosyclient.emulator import running

    runs: dict[str, list[Run]] = {name: [] for name in plan.peers}
    with running(
        engine="tone", rtt=plan.rtt, rate=plan.rate, burst=plan.burst, connections=plan.connections
    ) as service:
        machine.confine(service.pid, machine.part_cores()[1])
        for turn in range(1, repeat + 1):
            for name in plan.peers:
                done = measure_one(service, plan, name)
                runs[name].append(done)
                tell(f"  run {turn}/{repeat} {name:4}{number(done.rate):>7} texts/s, {share(done.error_rate)} errors")
    return [Row(name=name, label=PEERS[name].label, sentence=PEERS[name].sentence, runs=runs[name]) for name in runs]


def measure_one(service: Emulator, plan: Plan, name: str) -> Run:
    """Return one run of the peer *name*, in a process of its own, with what the service saw meanwhile."""
    pause = plan.burst / plan.rate
    _settle(service, pause)
    order = Order(
        peer=name,
        url=service.url,
        audio=plan.audio,
        texts=plan.texts,
        callers=plan.callers,
        seconds=plan.seconds,
        warm_up=plan.warm_up,
        pause=pause,
    )
    looks: list[tuple[Counters, float | None, float]] = []
    figures = run_worker(order, lambda: looks.append(_look(service)))
    (counted, busy, since), (after, busy_after, until) = looks
    spent = None if busy is None or busy_after is None else (busy_after - busy) / (until - since)
    return Run(
        **figures,
        requests=after.requests - counted.requests,
        throttled=after.replies.get(429, 0) - counted.replies.get(429, 0),
        connections=after.connections_peak,
        refused=after.connections_refused - counted.connections_refused,
        service_cpu=spent,
    )


def _settle(service: Emulator, pause: float) -> None:
    """Wait until the connections of the last client are gone, then start over with a full bucket."""
    patience = time.monotonic() + 10.0
    while service.counters().connections_open and time.monotonic() < patience:
        time.sleep(0.05)
    service.reset()
    time.sleep(pause)


def _look(service: Emulator) -> tuple[Counters, float | None, float]:
    return service.counters(), machine.cpu_seconds(service.pid), time.monotonic()


def introduction(plan: Plan, repeat: int) -> str:
    """Return what is measured and how, before the figures."""
    return (
        "the field report's table on the emulator\n\n"
        f"Service: {plan.rtt * 1000:g} ms round trip, {plan.rate:g} requests/s with a bucket of {plan.burst}, "
        f"{plan.connections} connections, at most {_BATCH} texts a request:\n"
        f"the quota allows {plan.bound:,.0f} texts/s. Texts of 20 Chinese characters, no two alike; 4 s of "
        f"{plan.audio} each for every client, about\n{_KILOBYTES[plan.audio]} KB (WAV would be 190 KB, and make this "
        "Python service what is slow).\n"
        f"Jobs (b, c): one list of {plan.texts:,} texts, after one uncounted batch and a pause that refills the "
        f"bucket.\nCallers (a, d): {plan.callers:,} threads, one text after the other, for {plan.seconds:g} s "
        f"after {plan.warm_up:g} s of uncounted warm-up.\n"
        "Where there are two cores or more, every client has one of them to itself and the service the rest.\n"
        f"Each run in a fresh process; {'one run' if repeat == 1 else f'medians of {repeat} runs, turn about'}."
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
    ours, theirs = ("c", "d"), [name for name in rates if name not in ("c", "d")]
    return {
        f"{mine}/{other}": rates[mine] / rates[other] if rates[other] else None
        for mine in ours
        if mine in rates
        for other in theirs
    }


def conclusions(rows: Sequence[Row], plan: Plan) -> str:
    """Return what the table comes to, and how it is to be read."""
    quota = ", ".join(f"{row.name} {share(row.median.rate / plan.bound)}" for row in rows)
    lines = [
        f"Of the {plan.bound:,.0f} texts/s that the quota allows: {quota}.",
        "Mean texts/s, times: " + ", ".join(f"{pair} {number(value, 1)}" for pair, value in ratios(rows).items()) + ".",
        "Errors by kind: " + ("; ".join(_errors(row) for row in rows if row.median.errors) or "none") + ".",
        "Errors are texts that did not become audio, of those that ended; latencies are those of texts that did.",
        "Latency of callers: the whole call. Of jobs: from when the text leaves the list, which is the client's queue",
        "in c and, later and so kinder, the semaphore in b; the report's client would also lose every finished batch",
        "of a job in which one fails, here they count. A peak above the quota is the service's bucket being emptied.",
    ]
    busy = [row.name for row in rows if (row.median.service_cpu or 0.0) > _BUSY]
    if busy:
        lines.append(f"The service used {_BUSY:.0%} of a core or more in {', '.join(busy)}: it may be what was slow.")
    return "\n".join(lines)


def _errors(row: Row) -> str:
    kinds = ", ".join(f"{number(count)} {name}" for name, count in sorted(row.median.errors.items()))
    return f"{row.name} {kinds} (after {seconds(row.median.failed_mean)} on average)"


def document(rows: Sequence[Row], plan: Plan, about: dict[str, Any], options: Options) -> dict[str, Any]:
    """Return everything as plain values."""
    return {
        "benchmark": "report",
        "quick": options.quick,
        "repeat": options.repeat,
        "machine": about,
        "parameters": {**asdict(plan), "peers": list(plan.peers), "bound": plan.bound},
        "ratios": ratios(rows),
        "rows": [row.document() for row in rows],
    }
