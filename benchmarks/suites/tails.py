"""Measure the slowest calls: when a few requests straggle, with and without hedging; and beside a job in bulk."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness import machine
from benchmarks.harness.extra import require_extra
from benchmarks.harness.measure import Recorder, percentile
from benchmarks.harness.pictures import OTHERS, OURS, canvas, made_by, tidy
from benchmarks.harness.results import write_json
from benchmarks.harness.tables import number, seconds, share, table
from benchmarks.harness.texts import DIFFERENT, text, texts
from benchmarks.peers.urllib3_threads import Urllib3Threads
from cosyclient import ClientConfig, CosyClient, HedgeConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from benchmarks.harness.options import Options
    from cosyclient.models import Priority

_AUDIO: Final = "opus"
_EXTRA: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say what the service does and how it is called."""

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
class Arm:
    """Name one way to call: by which client, and whether some requests straggle."""

    name: str
    sentence: str
    stragglers: bool
    extra: float = 0.0
    ours: bool = True


ARMS: Final = (
    Arm(name="urllib3, stragglers", sentence="one text a request, no hedging", stragglers=True, ours=False),
    Arm(name="none", sentence="ours, and no request straggles", stragglers=False),
    Arm(name="stragglers", sentence="ours as it comes", stragglers=True),
    Arm(name="stragglers, hedged", sentence=f"ours with hedge.extra={_EXTRA:g}", stragglers=True, extra=_EXTRA),
)
BESIDE: Final = ("alone", "beside bulk", "beside equals")


def run(options: Options) -> None:
    """Measure, print the tables, and write ``tails.json`` and ``tails.svg``."""
    require_extra()
    plan, about = (QUICK if options.quick else Plan()), machine.describe()
    print(f"tails: {introduction(plan, options.repeat)}\n\n{machine.sentence(about)}\n", flush=True)
    rows = [measure(arm, plan, options.repeat) for arm in ARMS]
    print(f"{tabulate(rows)}\n")
    beside = [measure_beside(name, plan, options.repeat) for name in BESIDE]
    print(f"{tabulate_beside(beside)}\n\n{conclusions(rows, beside)}")
    document = {"benchmark": "tails", "quick": options.quick, "repeat": options.repeat, "machine": about}
    write_json(options.output / "tails.json", {**document, "parameters": asdict(plan), "rows": rows, "beside": beside})
    draw(options.output / "tails.svg", rows, beside, plan, about)
    print(f"\nwritten: {options.output / 'tails.json'}, {options.output / 'tails.svg'}")


def introduction(plan: Plan, repeat: int) -> str:
    """Return what is measured and how, before the figures."""
    return (
        "the slowest calls\n\n"
        f"Stragglers: the emulator, round trip log-normal around {plan.rtt * 1000:g} ms (σ {plan.jitter:g}), of "
        f"{plan.stragglers:.0%} of the requests ten times that.\nOne text is asked for {plan.rate:g} times a second, "
        f"whatever became of the others, for {plan.seconds:g} s after {plan.warm_up:g} s of uncounted warm-up; a\n"
        "latency counts from when the call was due. Ours sends at most 100 requests/s, so texts share them.\n"
        f"Beside a job: {plan.beside_rtt * 1000:g} ms, 100 requests/s; {plan.beside_rate:g} interactive calls a second "
        f"for {plan.beside_seconds:g} s, alone, beside a synthesize_many that\nsaturates the quota, and beside the "
        "same job told to be interactive too.\n"
        f"{'One run' if repeat == 1 else f'Medians of {repeat} runs'} each, every one with a fresh client and service."
    )


def measure(arm: Arm, plan: Plan, repeat: int) -> dict[str, Any]:
    """Return the medians of an arm over *repeat* runs, and the spread of its p99."""
    runs = [_straggle(arm, plan, seed) for seed in range(1, repeat + 1)]
    row = _medians(runs)
    return {"arm": arm.name, "sentence": arm.sentence, **row, "runs": runs}


def _straggle(arm: Arm, plan: Plan, seed: int) -> dict[str, Any]:
    from cosyclient.emulator import running

    stragglers = plan.stragglers if arm.stragglers else 0.0
    with running(engine="tone", rtt=plan.rtt, jitter=plan.jitter, stragglers=stragglers, seed=seed) as service:
        if not arm.ours:
            client = Urllib3Threads(service.url, format=_AUDIO, connections=plan.callers)
            figures = _open_load(client.synthesize, plan.rate, plan.callers, plan.warm_up, plan.seconds)
            client.close()
            counters = service.counters()
            return {**figures, "requests": counters.requests, "extra_requests": 0.0, "extra_texts": 0.0}
        with CosyClient(service.url, format=_AUDIO, config=ClientConfig(hedge=HedgeConfig(extra=arm.extra))) as ours:
            figures = _open_load(ours.synthesize, plan.rate, plan.callers, plan.warm_up, plan.seconds)
            stats = ours.stats()
        counters = service.counters()
    return {
        **figures,
        "requests": counters.requests,
        "extra_requests": stats.hedge_requests / (counters.requests - stats.hedge_requests),
        "extra_texts": stats.hedged / figures["all"],
    }


def measure_beside(name: str, plan: Plan, repeat: int) -> dict[str, Any]:
    """Return the medians of the interactive calls over *repeat* runs, *name* saying what runs beside them."""
    from cosyclient.emulator import running

    runs = []
    for _ in range(repeat):
        with (
            running(engine="tone", rtt=plan.beside_rtt, rate=100.0, burst=100, connections=50) as service,
            CosyClient(service.url, format=_AUDIO) as client,
            _job(client, name) as done,
        ):
            before = len(done)
            figures = _open_load(client.synthesize, plan.beside_rate, 64, plan.warm_up, plan.beside_seconds)
            figures["bulk_rate"] = (len(done) - before) / (plan.warm_up + plan.beside_seconds)
            figures["refused"] = service.counters().replies.get(429, 0)
            runs.append(figures)
    return {"beside": name, **_medians(runs), "bulk_rate": median(run["bulk_rate"] for run in runs), "runs": runs}


def _job(client: CosyClient, name: str) -> AbstractContextManager[list[None]]:
    """Run a job that never ends while the block does; it appends to the list for each text it gets."""
    from contextlib import contextmanager

    priorities: dict[str, Priority] = {"beside bulk": "bulk", "beside equals": "interactive"}
    priority = priorities.get(name)

    @contextmanager
    def running_job() -> Iterator[list[None]]:
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

    return running_job()


def _open_load(
    call: Callable[[str], object], rate: float, callers: int, warm_up: float, lasting: float
) -> dict[str, Any]:
    """Make *rate* calls a second whatever becomes of them, from *callers* threads; return what came of the counted."""
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
    calm = next(row["p99"] for row in rows if row["arm"] == "none")
    heads = [
        "call", "counted", "errors", "p50", "p99", "lowest to\nhighest", "p99.9", "p99 over\nthat of none",
        "requests", "of them for\nhedges alone", "texts sent\ntwice",
    ]  # fmt: skip
    return table(
        heads,
        [
            [
                f"{row['arm']}: {row['sentence']}",
                number(row["counted"]),
                number(row["errors"]),
                seconds(row["p50"]),
                seconds(row["p99"]),
                f"{seconds(row['lowest'])} to {seconds(row['highest'])}",
                seconds(row["p999"]),
                f"{row['p99'] / calm:.2f}",
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
    by = {row["arm"]: row for row in rows}
    hedged, calm = by["stragglers, hedged"], by["none"]["p99"]
    bulk = beside[1]["p99"] / beside[0]["p99"]
    return "\n".join(
        f"{'met' if fine else 'MISSED'}: {words}"
        for fine, words in (
            (hedged["p99"] <= 1.5 * calm, f"hedged p99 within 1.5 × of none: {hedged['p99'] / calm:.2f} ×"),
            (hedged["extra_requests"] <= _EXTRA, f"at most 2 % extra requests: {share(hedged['extra_requests'])}"),
            (bulk <= 2.0, f"interactive p99 beside a saturating bulk job within 2 ×: {bulk:.2f} ×"),
        )
    ) + (
        "\nA late text rides in the next request that leaves anyway where there is room: more texts travel twice than\n"
        "requests are added. Every text that does is billed."
    )


def draw(
    path: Any, rows: list[dict[str, Any]], beside: list[dict[str, Any]], plan: Plan, about: dict[str, Any]
) -> None:
    """Draw p50, p99 and p99.9 of each, side by side."""
    caption = (
        f"Left: {plan.rate:g} calls/s, round trip {plan.rtt * 1000:g} ms log-normal, {plan.stragglers:.0%} of requests "
        f"ten times as long. Right: {plan.beside_rate:g} interactive calls/s, {plan.beside_rtt * 1000:g} ms, quota "
        f"100 requests/s.\n{made_by('tails', about)}"
    )
    with canvas(path, title="The slowest calls", caption=caption, size=(12.5, 4.6), columns=2) as axes:
        _panel(axes[0], "3 % stragglers: p50, p99, p99.9", [(row["arm"], row) for row in rows], "stragglers, hedged")
        _panel(axes[1], "beside a job: p50, p99, p99.9", [(row["beside"], row) for row in beside], "beside bulk")


def _panel(axis: Any, title: str, rows: list[tuple[str, dict[str, Any]]], ours: str) -> None:
    tidy(axis, title, grid="x")
    for place, (name, row) in enumerate(rows):
        for level, key in enumerate(("p50", "p99", "p999")):
            colour = OURS if name == ours else OTHERS[4]
            axis.barh(place + 0.26 * (level - 1), row[key], height=0.22, color=colour, alpha=1.0 - 0.28 * level)
            axis.annotate(
                seconds(row[key]), (row[key], place + 0.26 * (level - 1)), xytext=(4, 0), textcoords="offset points",
                va="center", fontsize=8.5,
            )  # fmt: skip
    axis.set_yticks(range(len(rows)), [name for name, _ in rows])
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    axis.set_xlim(0, 1.15 * max(row["p999"] for _, row in rows))
    axis.set_xlabel("seconds", fontsize=8.5)
