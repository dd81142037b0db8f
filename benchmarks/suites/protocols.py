"""Each protocol: texts a second and first audio of our client beside the one its users have, in one run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness import machine
from benchmarks.harness.loads import Window, calling
from benchmarks.harness.measure import Recorder, Usage
from benchmarks.harness.pictures import OURS, THEIRS, canvas, made_by, tidy
from benchmarks.harness.processes import read_parameters, run_module
from benchmarks.harness.results import announce, publish
from benchmarks.harness.tables import number, repeated, seconds, table
from benchmarks.harness.texts import text
from benchmarks.peers import official
from cosyclient import ClientConfig, CosyClient, PacingConfig
from cosyclient.emulator import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.harness.options import Options
    from cosyclient.emulator import Emulator


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Define how long the service takes, and how many calls it gets for how long."""

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
class Case:
    """Name a protocol, and the class in `benchmarks.peers.official` that is its usual client."""

    protocol: str
    peer: str
    label: str
    options: dict[str, Any]
    grpc: bool = False
    websocket: bool = False
    quick: bool = True
    """Whether a quick run has time for it."""


CASES: Final = (
    Case(
        protocol="openai",
        peer="OpenAiSdk",
        label="openai SDK",
        options={"voice": "alloy", "model": "cosyvoice2-0.5b"},
    ),
    Case(
        protocol="runtime", peer="RuntimeRequests", label="requests, a form", options={"voice": "中文女"}, quick=False
    ),
    Case(protocol="grpc", peer="GrpcStub", label="generated stub", options={"voice": "中文女"}, grpc=True),
    Case(protocol="triton", peer="TritonHttp", label="tritonclient", options={"model": "cosyvoice2"}, quick=False),
    Case(
        protocol="model-studio",
        peer="DashscopeSdk",
        label="dashscope SDK, object pool",
        options={"voice": "longanyang", "model": "cosyvoice-v3-flash"},
        websocket=True,
    ),
)


def run(options: Options) -> None:
    """Measure, print the table, and write ``protocols.json`` and ``protocols.svg``."""
    plan = QUICK if options.quick else Plan(repeat=max(Plan.repeat, options.repeat))
    about = announce("protocols", introduction(plan))
    cases = [each for each in CASES if each.quick or not options.quick]
    rows = [measure(case, plan, ours=ours) for case in cases for ours in (True, False)]
    print(tabulate(rows))
    figures = {"parameters": asdict(plan), "rows": rows}
    publish("protocols", options, about, figures, lambda path: draw(path, rows, plan, about))


def introduction(plan: Plan) -> str:
    """Return what is measured and how, before the figures."""
    return (
        "each protocol, ours and the client its users have\n\n"
        f"The emulator, {plan.rtt * 1000:g} ms a round trip, first audio {plan.first_chunk * 1000:g} ms after that; "
        f"{plan.threads} threads, one text a request, 4 s of 16-bit samples each.\n"
        f"Texts a second over {plan.seconds:g} s after {plan.warm_up:g} s of warm-up; then {plan.streams} texts one "
        "after the other, until the first samples are there.\n"
        f"{repeated(plan.repeat).capitalize()}, each in a fresh process on a core of its own."
    )


def measure(case: Case, plan: Plan, *, ours: bool) -> dict[str, Any]:
    """Return the medians of one client's figures."""
    switches = {"rtt": plan.rtt, "first_chunk": plan.first_chunk, "chunk_gap": plan.chunk_gap, "chunk_seconds": 0.5}
    with running(engine="tone", grpc=case.grpc, **switches) as service:
        machine.confine(service.pid, machine.part_cores()[1])
        runs = [_measure_apart(case, plan, service, ours=ours) for _ in range(plan.repeat)]
    names = ("rate", "cpu", "first")
    figures = {name: median(run[name] for run in runs) if runs[0][name] is not None else None for name in names}
    label = "cosyclient" if ours else case.label
    # A task on an open socket is no new request: the round trip is that of a request.
    own = plan.first_chunk + (0.0 if case.websocket else plan.rtt)
    figures["beyond"] = None if figures["first"] is None else figures["first"] - own
    return {"protocol": case.protocol, "client": label, "ours": ours, **figures, "runs": runs}


def _measure_apart(case: Case, plan: Plan, service: Emulator, *, ours: bool) -> dict[str, Any]:
    parameters = {
        "case": CASES.index(case),
        "ours": ours,
        "plan": asdict(plan),
        "url": service.url,
        "grpc_url": service.grpc_url if case.grpc else "",
    }
    return run_module("benchmarks.suites.protocols", parameters)


def tabulate(rows: list[dict[str, Any]]) -> str:
    """Return the table, each of ours beside the other client's figures."""
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
    title = "Every protocol: cosyclient and the client its users have"
    with canvas(path, title=title, caption=caption, size=(11.5, 6.2), columns=2, sharey=True) as (left, right):
        left.barh(places, [row["rate"] for row in rows], color=colors)
        left.set_yticks(places, labels)
        left.invert_yaxis()
        tidy(left, "texts per second, more is better", grid="x")
        beyond = [1000 * (row["beyond"] or 0.0) for row in rows]
        right.barh(places, beyond, color=colors)
        tidy(right, "first audio, ms beyond the service's own", grid="x")


# In a process of its own


def _main(case: int, ours: bool, plan: dict[str, Any], url: str, grpc_url: str) -> None:
    machine.confine(0, machine.part_cores()[0])
    service = official.Service(url, grpc_url)
    spec = Plan(**plan)
    peer = OurClient(CASES[case], spec, service) if ours else _official(CASES[case], spec, service)
    figures = _throughput(peer, spec)
    figures["first"] = _first_audio(peer, spec)
    print(json.dumps(figures), flush=True)
    peer.close()
    os._exit(0)  # some SDKs keep threads that would not let the process end


def _official(case: Case, plan: Plan, service: official.Service) -> official.OfficialClient:
    peer: official.OfficialClient = getattr(official, case.peer)(service, threads=plan.threads)
    return peer


class OurClient(official.OfficialClient):
    """Call cosyclient as the others are called."""

    def __init__(self, case: Case, plan: Plan, service: official.Service) -> None:
        super().__init__(service, threads=plan.threads)
        url = service.grpc_url if case.grpc else service.url
        self._client = CosyClient(
            url.replace("http", "ws", 1) if case.websocket else url,
            protocol=case.protocol,
            api_key="none",
            format="pcm",
            requests_per_second=1e6,
            max_connections=plan.threads,
            concurrency=plan.threads,
            config=ClientConfig(pacing=PacingConfig(burst=1_000_000)),
        )
        self._view = self._client.with_options(**case.options)

    def synthesize(self, text: str) -> bytes:
        """Return the samples of *text*."""
        return self._view.synthesize(text).audio

    def pieces(self, text: str) -> Iterator[bytes] | None:
        """Return the samples of *text* as they arrive, or None where the protocol cannot stream."""
        return self._streamed(text) if self._client._shared._protocol.capabilities.stream else None

    def _streamed(self, text: str) -> Iterator[bytes]:
        # Opened when the first piece is asked for, so that the opening is timed.
        with self._view.stream(text) as stream:
            yield from stream

    def close(self) -> None:
        """Close the client."""
        self._client.close()


def _throughput(peer: official.OfficialClient, plan: Plan) -> dict[str, Any]:
    def call(text: str) -> None:
        if len(peer.synthesize(text)) <= 1000:
            raise ValueError("a reply without audio")

    recorder = Recorder()
    with Usage() as usage:
        window = Window(usage, lambda: None)
        with calling(call, plan.threads, recorder):
            window.wait(plan.warm_up, plan.seconds)
    figures = window.figures(recorder)
    if figures["errors"]:
        raise RuntimeError(f"calls failed: {figures['errors']}")
    return {"rate": figures["rate"], "cpu": figures["cpu"] / max(1, figures["finished"])}


def _first_audio(peer: official.OfficialClient, plan: Plan) -> float | None:
    spans = []
    for each in range(plan.streams + 2):
        stream = peer.pieces(text(each))
        if stream is None:
            return None
        spans.append(official.first_piece(stream))
    return median(spans[2:])


if __name__ == "__main__":
    _main(**read_parameters())
