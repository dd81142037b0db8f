"""Measure the slowest calls: when a few requests straggle, with and without hedging; and beside a bulk job."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.measure import Recorder, percentile
from benchmarks.harness.pictures import OTHERS, OURS, canvas, made_by, note, tidy
from benchmarks.harness.results import announce, publish
from benchmarks.harness.tables import met, number, percent, repeated, seconds, share, table
from benchmarks.harness.texts import DIFFERENT, text, texts
from benchmarks.peers.urllib3_threads import Urllib3Threads
from cosyclient import ClientConfig, CosyClient, HedgeConfig
from cosyclient.emulator import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.harness.options import Options
    from cosyclient.models import Priority

_AUDIO: Final = "opus"
_EXTRA: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Define the service's times, and the load."""

    rtt: float = 0.1
    jitter: float = 0.4
    stragglers: float = 0.03
    rate: float = 300.0
    callers: int = 256
    seconds: float = 25.0
    warm_up: float = 4.0
    beside_rtt: float = 0.2
    beside_rate: float = 50.0
    beside_seconds: float = 15.0


QUICK: Final = Plan(seconds=4.0, warm_up=0.8, beside_seconds=1.2)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Describe one way to call: with which client, and whether some requests straggle."""

    name: str
    sentence: str
    stragglers: bool
    extra: float = 0.0
    ours: bool = True


CASES: Final = (
    Case(name="urllib3, stragglers", sentence="one text a request, no hedging", stragglers=True, ours=False),
    Case(name="none", sentence="ours, and no request straggles", stragglers=False),
    Case(name="stragglers", sentence="ours with its defaults", stragglers=True),
    Case(name="stragglers, hedged", sentence=f"ours with hedge.extra={_EXTRA:g}", stragglers=True, extra=_EXTRA),
)
BESIDE: Final[dict[str, Priority | None]] = {"alone": None, "beside bulk": "bulk", "beside equals": "interactive"}
"""What runs beside the interactive calls: a job of which priority."""


def run(options: Options) -> None:
    """Measure, print the tables, and write ``tails.json`` and ``tails.svg``."""
    plan = QUICK if options.quick else Plan()
    about = announce("tails", introduction(plan, options.repeat))
    rows = [measure(case, plan, options.repeat) for case in CASES]
    print(f"{tabulate(rows)}\n")
    beside = [measure_beside(name, plan, options.repeat) for name in BESIDE]
    print(f"{tabulate_beside(beside)}\n\n{conclusions(rows, beside)}")
    figures = {"repeat": options.repeat, "parameters": asdict(plan), "rows": rows, "beside": beside}
    publish("tails", options, about, figures, lambda path: draw(path, rows, beside, plan, about))


def introduction(plan: Plan, repeat: int) -> str:
    """Return what is measured and how, before the figures."""
    return (
        "the slowest calls\n\n"
        f"Stragglers: the emulator, round trip log-normal around {plan.rtt * 1000:g} ms (σ {plan.jitter:g}), of "
        f"{percent(plan.stragglers)} of the requests ten times that.\nOne text is asked for {plan.rate:g} times a "
        f"second, whether earlier calls have ended or not, for {plan.seconds:g} s after {plan.warm_up:g} s of\n"
        "uncounted warm-up; a latency counts from when the call was due. Ours sends at most 100 requests/s, so texts\n"
        "share them.\n"
        f"Beside a job: {plan.beside_rtt * 1000:g} ms, 100 requests/s; {plan.beside_rate:g} interactive calls a second "
        f"for {plan.beside_seconds:g} s, alone, beside a synthesize_many that\nsaturates the quota, and beside the "
        "same job, interactive too.\n"
        f"{repeated(repeat).capitalize()} each, every one with a fresh client and service."
    )


def measure(case: Case, plan: Plan, repeat: int) -> dict[str, Any]:
    """Return the medians of a case over *repeat* runs, and the spread of its p99."""
    runs = [_straggle(case, plan, seed) for seed in range(1, repeat + 1)]
    return {"case": case.name, "sentence": case.sentence, **_medians(runs), "runs": runs}


def _straggle(case: Case, plan: Plan, seed: int) -> dict[str, Any]:
    stragglers = plan.stragglers if case.stragglers else 0.0
    with running(engine="tone", rtt=plan.rtt, jitter=plan.jitter, stragglers=stragglers, seed=seed) as service:
        hedge_requests = hedged = 0
        if case.ours:
            config = ClientConfig(hedge=HedgeConfig(extra=case.extra))
            with CosyClient(service.url, format=_AUDIO, config=config) as client:
                figures = _open_load(client.synthesize, plan.rate, plan.callers, plan.warm_up, plan.seconds)
                stats = client.stats()
            hedge_requests, hedged = stats.hedge_requests, stats.hedged
        else:
            peer = Urllib3Threads(service.url, format=_AUDIO, connections=plan.callers)
            figures = _open_load(peer.synthesize, plan.rate, plan.callers, plan.warm_up, plan.seconds)
            peer.close()
        requests = service.counters().requests
    return {
        **figures,
        "requests": requests,
        "extra_requests": hedge_requests / (requests - hedge_requests),
        "extra_texts": hedged / figures["all"],
    }


def measure_beside(name: str, plan: Plan, repeat: int) -> dict[str, Any]:
    """Return the medians of the interactive calls over *repeat* runs, *name* saying what runs beside them."""
    runs = []
    for _ in range(repeat):
        with (
            running(engine="tone", rtt=plan.beside_rtt, rate=100.0, burst=100, connections=50) as service,
            CosyClient(service.url, format=_AUDIO) as client,
            _job(client, BESIDE[name]) as done,
        ):
            before = len(done)
            figures = _open_load(client.synthesize, plan.beside_rate, 64, plan.warm_up, plan.beside_seconds)
            figures["bulk_rate"] = (len(done) - before) / (plan.warm_up + plan.beside_seconds)
            figures["refused"] = service.counters().replies.get(429, 0)
            runs.append(figures)
    return {"beside": name, **_medians(runs), "bulk_rate": median(run["bulk_rate"] for run in runs), "runs": runs}


@contextmanager
def _job(client: CosyClient, priority: Priority | None) -> Iterator[list[None]]:
    """Run an endless job of that *priority*, or none; it appends to the list for each text it gets."""
    done: list[None] = []
    over = threading.Event()

    def work() -> None:
        endless = (text(number % DIFFERENT) for number in itertools.count(DIFFERENT // 2))
        for outcome in client.synthesize_many(endless, priority=priority):
            done.extend([None] if outcome.speech is not None else [])
            if over.is_set():
                return

    thread = threading.Thread(target=work)
    if priority is not None:
        thread.start()
    try:
        yield done
    finally:
        over.set()
        if priority is not None:
            thread.join()


def _open_load(
    call: Callable[[str], object], rate: float, callers: int, warm_up: float, lasting: float
) -> dict[str, Any]:
    """Make *rate* calls a second from *callers* threads, whether earlier ones have ended or not; return the figures."""
    recorder, turns = Recorder(), itertools.count()
    wanted = list(texts(int(rate * (warm_up + lasting))))
    start = time.perf_counter() + 0.5

    def caller() -> None:
        while (turn := next(turns)) < len(wanted):
            due = start + turn / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            try:
                call(wanted[turn])
            except Exception as error:  # noqa: BLE001 - whatever it is, this text did not become audio
                recorder.failed(due, error)
            else:
                recorder.succeeded(due)

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    endings = [each for each in recorder.between(start, float("inf")) if each.at - each.latency >= start + warm_up]
    good = [each for each in endings if not each.error]
    return {
        "all": len(wanted),
        "counted": len(endings),
        "errors": len(endings) - len(good),
        "p50": percentile(good, 0.5),
        "p99": percentile(good, 0.99),
        "p999": percentile(good, 0.999),
    }


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: median(run[name] for run in runs)
        for name in ("counted", "errors", "p50", "p99", "p999", "requests", "extra_requests", "extra_texts")
        if name in runs[0]
    }
    p99 = [run["p99"] for run in runs]
    return {**row, "lowest": min(p99), "highest": max(p99)}


def tabulate(rows: list[dict[str, Any]]) -> str:
    """Return the table of the stragglers."""
    usual = next(row["p99"] for row in rows if row["case"] == "none")
    heads = [
        "call", "counted", "errors", "p50", "p99", "lowest to\nhighest", "p99.9", "p99 over\nthat of none",
        "requests", "of them for\nhedges alone", "texts sent\ntwice",
    ]  # fmt: skip
    return table(
        heads,
        [
            [
                f"{row['case']}: {row['sentence']}",
                number(row["counted"]),
                number(row["errors"]),
                seconds(row["p50"]),
                seconds(row["p99"]),
                f"{seconds(row['lowest'])} to {seconds(row['highest'])}",
                seconds(row["p999"]),
                f"{row['p99'] / usual:.2f}",
                number(row["requests"]),
                share(row["extra_requests"]),
                share(row["extra_texts"]),
            ]
            for row in rows
        ],
    )


def tabulate_beside(rows: list[dict[str, Any]]) -> str:
    """Return the table of the interactive calls."""
    alone = rows[0]["p99"]
    heads = [
        "interactive calls",
        "counted",
        "errors",
        "p50",
        "p99",
        "lowest to\nhighest",
        "p99 over\nalone",
        "job's\ntexts/s",
    ]
    return table(
        heads,
        [
            [
                row["beside"],
                number(row["counted"]),
                number(row["errors"]),
                seconds(row["p50"]),
                seconds(row["p99"]),
                f"{seconds(row['lowest'])} to {seconds(row['highest'])}",
                f"{row['p99'] / alone:.2f}",
                number(row["bulk_rate"]) if row["bulk_rate"] else "–",
            ]
            for row in rows
        ],
    )


def conclusions(rows: list[dict[str, Any]], beside: list[dict[str, Any]]) -> str:
    """Return which targets are met."""
    by = {row["case"]: row for row in rows}
    hedged, usual = by["stragglers, hedged"], by["none"]["p99"]
    bulk = beside[1]["p99"] / beside[0]["p99"]
    return "\n".join(
        f"{met(reached)}: {target}"
        for reached, target in (
            (hedged["p99"] <= 1.5 * usual, f"hedged p99 within 1.5 × of none: {hedged['p99'] / usual:.2f} ×"),
            (hedged["extra_requests"] <= _EXTRA, f"at most 2 % extra requests: {share(hedged['extra_requests'])}"),
            (bulk <= 2.0, f"interactive p99 beside a saturating bulk job within 2 ×: {bulk:.2f} ×"),
        )
    ) + (
        "\nA late text is added to the next request that has room: more texts are sent twice than requests are added.\n"
        "Every text sent twice is billed."
    )


def draw(
    path: Path, rows: list[dict[str, Any]], beside: list[dict[str, Any]], plan: Plan, about: dict[str, Any]
) -> None:
    """Draw p50, p99 and p99.9 of each, side by side."""
    caption = (
        f"Left: {plan.rate:g} calls/s, round trip {plan.rtt * 1000:g} ms log-normal, {percent(plan.stragglers)} "
        f"of requests ten times as long. Right: {plan.beside_rate:g} interactive calls/s, "
        f"{plan.beside_rtt * 1000:g} ms, quota 100 requests/s.\n{made_by('tails', about)}"
    )
    with canvas(path, title="The slowest calls", caption=caption, size=(12.5, 4.6), columns=2) as axes:
        _panel(axes[0], "3 % stragglers: p50, p99, p99.9", [(row["case"], row) for row in rows], "stragglers, hedged")
        _panel(axes[1], "beside a job: p50, p99, p99.9", [(row["beside"], row) for row in beside], "beside bulk")


def _panel(axis: Any, title: str, rows: list[tuple[str, dict[str, Any]]], ours: str) -> None:
    tidy(axis, title, grid="x")
    for place, (name, row) in enumerate(rows):
        for level, key in enumerate(("p50", "p99", "p999")):
            colour = OURS if name == ours else OTHERS[4]
            axis.barh(place + 0.26 * (level - 1), row[key], height=0.22, color=colour, alpha=1.0 - 0.28 * level)
            note(axis, seconds(row[key]), (row[key], place + 0.26 * (level - 1)))
    axis.set_yticks(range(len(rows)), [name for name, _ in rows])
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    axis.set_xlim(0, 1.15 * max(row["p999"] for _, row in rows))
    axis.set_xlabel("seconds", fontsize=8.5)
