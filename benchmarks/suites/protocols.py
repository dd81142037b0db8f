"""Each way of serving: texts a second and first audio of our client beside the one its users have, in one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from itertools import count
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness import machine
from benchmarks.harness.extra import environment, require_extra
from benchmarks.harness.pictures import OURS, THEIRS, canvas, made_by, tidy
from benchmarks.harness.results import write_json
from benchmarks.harness.tables import number, seconds, table
from benchmarks.harness.texts import DIFFERENT, text
from benchmarks.peers.natural import Service, first_piece

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.harness.options import Options
    from benchmarks.peers.natural import Natural
    from cosyclient.emulator import Emulator

_NEEDED: Final = ("matplotlib", "openai", "dashscope", "tritonclient", "grpc", "websockets", "requests")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say what the service takes its time for and how long it is asked."""

    rtt: float = 0.02
    first_chunk: float = 0.05
    chunk_gap: float = 0.01
    threads: int = 32
    warm_up: float = 2.0
    seconds: float = 5.0
    repeat: int = 3
    streams: int = 40


QUICK: Final = Plan(warm_up=1.2, seconds=0.8, repeat=1, streams=8)


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Name a protocol, and the class in `benchmarks.peers.natural` that is its natural client."""

    protocol: str
    peer: str
    label: str
    options: dict[str, Any]
    grpc: bool = False
    websocket: bool = False
    quick: bool = True
    """Whether a quick run has time for it."""


CONTESTS: Final = (
    Contest(
        protocol="openai",
        peer="OpenAiSdk",
        label="openai SDK",
        options={"voice": "alloy", "model": "cosyvoice2-0.5b"},
    ),
    Contest(
        protocol="runtime", peer="RuntimeRequests", label="requests, a form", options={"voice": "中文女"}, quick=False
    ),
    Contest(protocol="grpc", peer="GrpcStub", label="generated stub", options={"voice": "中文女"}, grpc=True),
    Contest(protocol="triton", peer="TritonHttp", label="tritonclient", options={"model": "cosyvoice2"}, quick=False),
    Contest(
        protocol="model-studio",
        peer="DashscopeSdk",
        label="dashscope SDK, object pool",
        options={"voice": "longanyang", "model": "cosyvoice-v3-flash"},
        websocket=True,
    ),
)


def run(options: Options) -> None:
    """Measure, print the table, and write ``protocols.json`` and ``protocols.svg``."""
    require_extra(_NEEDED)
    plan = QUICK if options.quick else Plan(repeat=max(Plan.repeat, options.repeat))
    about = machine.describe()
    print(f"protocols: {introduction(plan)}\n\n{machine.sentence(about)}\n", flush=True)
    contests = [each for each in CONTESTS if each.quick or not options.quick]
    rows = [measure(contest, who, plan) for contest in contests for who in ("ours", "theirs")]
    print(tabulate(rows))
    document = {"benchmark": "protocols", "quick": options.quick, "machine": about, "parameters": asdict(plan)}
    write_json(options.output / "protocols.json", {**document, "rows": rows})
    draw(options.output / "protocols.svg", rows, plan, about)
    print(f"\nwritten: {options.output / 'protocols.json'}, {options.output / 'protocols.svg'}")


def introduction(plan: Plan) -> str:
    """Return what is measured and how, before the figures."""
    return (
        "each way of serving, ours and the client its users have\n\n"
        f"The emulator, {plan.rtt * 1000:g} ms a round trip, first audio {plan.first_chunk * 1000:g} ms after that; "
        f"{plan.threads} threads, one text a request, 4 s of 16-bit samples each.\n"
        f"Texts a second over {plan.seconds:g} s after {plan.warm_up:g} s of warm-up; then {plan.streams} texts one "
        "after the other, until the first samples are there.\n"
        f"{'One run' if plan.repeat == 1 else f'Medians of {plan.repeat} runs'}, each in a fresh process on a core of "
        "its own."
    )


def measure(contest: Contest, who: str, plan: Plan) -> dict[str, Any]:
    """Return the medians of one client's figures."""
    from cosyclient.emulator import running

    switches = {"rtt": plan.rtt, "first_chunk": plan.first_chunk, "chunk_gap": plan.chunk_gap, "chunk_seconds": 0.5}
    with running(engine="tone", grpc=contest.grpc, **switches) as service:
        machine.confine(service.pid, machine.part_cores()[1])
        runs = [_apart(contest, who, plan, service) for _ in range(plan.repeat)]
    names = ("rate", "cpu", "first")
    figures = {name: median(run[name] for run in runs) if runs[0][name] is not None else None for name in names}
    label = "cosyclient" if who == "ours" else contest.label
    # A task on an open socket is no new request: the round trip is that of a request.
    own = plan.first_chunk + (0.0 if contest.websocket else plan.rtt)
    figures["beyond"] = None if figures["first"] is None else figures["first"] - own
    return {"protocol": contest.protocol, "client": label, "ours": who == "ours", **figures, "runs": runs}


def _apart(contest: Contest, who: str, plan: Plan, service: Emulator) -> dict[str, Any]:
    order = {
        "contest": CONTESTS.index(contest),
        "who": who,
        "plan": asdict(plan),
        "url": service.url,
        "grpc_url": service.grpc_url if contest.grpc else "",
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.suites.protocols"],
        input=json.dumps(order),
        stdout=subprocess.PIPE,
        env=environment(),
        check=True,
        text=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def tabulate(rows: list[dict[str, Any]]) -> str:
    """Return the table, each of ours beside the natural client's figures."""
    lines = [
        [
            f"{row['protocol'] if row['ours'] else '':14} {row['client']}",
            number(row["rate"]),
            f"{row['rate'] / theirs['rate']:.2f} ×",
            seconds(row["cpu"]),
            seconds(row["first"]),
            number(row["beyond"] and 1000 * row["beyond"], 1, " ms"),
        ]
        for pair in zip(rows[::2], rows[1::2], strict=True)
        for row, theirs in zip(pair, (pair[1], pair[1]), strict=True)
    ]
    return table(
        ["protocol       client", "texts/s", "of theirs", "CPU\na text", "first\naudio", "beyond the\nservice's"], lines
    )


def draw(path: Path, rows: list[dict[str, Any]], plan: Plan, about: dict[str, Any]) -> None:
    """Draw texts per second and the first audio's delay of each pair."""
    places = [2.6 * (n // 2) + n % 2 for n in range(len(rows))]
    labels = [f"{row['client']}  " + (row["protocol"] if row["ours"] else "") for row in rows]
    colors = [OURS if row["ours"] else THEIRS for row in rows]
    caption = f"{introduction(plan).splitlines()[2]}\n{made_by('protocols', about)}"
    title = "Every way of serving: cosyclient and the client its users have"
    with canvas(path, title=title, caption=caption, size=(11.5, 6.2), columns=2, sharey=True) as (left, right):
        left.barh(places, [row["rate"] for row in rows], color=colors)
        left.set_yticks(places, labels)
        left.invert_yaxis()
        tidy(left, "texts per second, more is better", grid="x")
        beyond = [1000 * (row["beyond"] or 0.0) for row in rows]
        right.barh(places, beyond, color=colors)
        tidy(right, "first audio, ms beyond the service's own", grid="x")


# In a process of its own


def _main() -> None:
    order = json.load(sys.stdin)
    machine.confine(0, machine.part_cores()[0])
    plan, contest = Plan(**order["plan"]), CONTESTS[order["contest"]]
    service = Service(order["url"], order["grpc_url"])
    if order["who"] == "ours":
        speak, pieces, close = _ours(contest, plan, service)
    else:
        from benchmarks.peers import natural

        peer: Natural = getattr(natural, contest.peer)(service, threads=plan.threads)
        speak, pieces, close = peer.synthesize, peer.pieces, peer.close
    figures = _throughput(speak, plan)
    figures["first"] = _first(pieces, plan)
    print(json.dumps(figures), flush=True)
    close()
    os._exit(0)  # some SDKs keep threads that would not let the process end


def _ours(
    contest: Contest, plan: Plan, service: Service
) -> tuple[Callable[[str], bytes], Callable[[str], Iterator[bytes] | None], Callable[[], None]]:
    from cosyclient import ClientConfig, CosyClient, PacingConfig

    url = service.grpc_url if contest.grpc else service.url
    client = CosyClient(
        url.replace("http", "ws", 1) if contest.websocket else url,
        protocol=contest.protocol,
        api_key="none",
        format="pcm",
        requests_per_second=1e6,
        max_connections=plan.threads,
        concurrency=plan.threads,
        config=ClientConfig(pacing=PacingConfig(burst=1_000_000)),
    )
    view = client.with_options(**contest.options)
    can = client._shared._protocol.capabilities

    def streamed(words: str) -> Iterator[bytes]:
        # Opened when the first piece is asked for, so that the opening is timed.
        with view.stream(words) as stream:
            yield from stream

    def pieces(words: str) -> Iterator[bytes] | None:
        return streamed(words) if can.stream else None

    return (lambda words: view.synthesize(words).audio), pieces, client.close


def _throughput(speak: Callable[[str], bytes], plan: Plan) -> dict[str, Any]:
    over, counting = threading.Event(), threading.Event()
    numbers, finished = count(), count()
    failures: list[BaseException] = []

    def work() -> None:
        while not over.is_set():
            try:
                audio = speak(text(next(numbers) % DIFFERENT))
            except Exception as error:  # noqa: BLE001 - reported below
                failures.append(error)
                return
            if counting.is_set() and len(audio) > 1000:
                next(finished)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(plan.threads)]
    for thread in threads:
        thread.start()
    time.sleep(plan.warm_up)
    counting.set()
    began, cpu = time.perf_counter(), time.process_time()
    time.sleep(plan.seconds)
    spent, elapsed, done = time.process_time() - cpu, time.perf_counter() - began, next(finished)
    over.set()
    for thread in threads:
        thread.join(10)
    if failures:
        raise failures[0]
    return {"rate": done / elapsed, "cpu": spent / max(1, done)}


def _first(pieces: Callable[[str], Iterator[bytes] | None], plan: Plan) -> float | None:
    taken = []
    for number_ in range(plan.streams + 2):
        stream = pieces(text(number_))
        if stream is None:
            return None
        taken.append(first_piece(stream))
    return median(taken[2:])


if __name__ == "__main__":
    _main()
