"""Measure what a request costs as threads are added: ours, bare urllib3 and the usual clients, one text a request."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchmarks.harness.gateway import GatewaySpec, Reply, gateway
from benchmarks.harness.processes import run_module
from benchmarks.harness.results import announce, publish
from benchmarks.harness.texts import text
from benchmarks.peers.urllib3_threads import Urllib3Threads
from benchmarks.suites.scaling.plan import DELAY, QUICK, Peer, Plan, Row
from benchmarks.suites.scaling.process import LoadSpec
from benchmarks.suites.scaling.report import conclusions, document, draw, introduction, tabulate
from cosyclient.emulator import running

if TYPE_CHECKING:
    from benchmarks.harness.options import Options


def run(options: Options) -> None:
    """Measure, print the table, and write ``scaling.json`` and ``scaling.svg``."""
    plan = QUICK if options.quick else Plan(repeat=max(3, options.repeat))
    body = answer(options.audio)
    about = announce("scaling", introduction(plan, options.audio, len(body)))
    rows = measure(plan, options.audio, body)
    print(f"{tabulate(rows)}\n\n{conclusions(rows, plan)}")
    figures = {
        "parameters": {**asdict(plan), "delay": DELAY, "audio": options.audio, "reply_bytes": len(body)},
        "rows": [document(row, rows) for row in rows],
    }
    publish("scaling", options, about, figures, lambda path: draw(path, rows, plan.steps, about))


def answer(audio: str) -> bytes:
    """Return the reply to one text, as an emulator gives it: JSON with base64."""
    with running(engine="tone") as service:
        peer = Urllib3Threads(service.url, format=audio, connections=1)
        try:
            return peer.fetch(text(0))
        finally:
            peer.close()


def measure(plan: Plan, audio: str, body: bytes) -> list[Row]:
    """Return a row per step and peer; every run is a fresh process against the same service, peers in turn."""
    runs: dict[tuple[int, Peer], list[dict[str, Any]]] = {(n, peer): [] for n in plan.steps for peer in plan.peers}
    with gateway(GatewaySpec(reply=Reply(body=body, media_type="application/json"), delay=DELAY)) as service:
        for _ in range(plan.repeat):
            for (threads, peer), found in runs.items():
                spec = LoadSpec(
                    client=peer.client,
                    decode=peer.decode,
                    url=service.url,
                    service=service.pid,
                    audio=audio,
                    threads=threads,
                    warm_up=plan.warm_up,
                    seconds=plan.seconds,
                )
                found.append(run_module("benchmarks.suites.scaling.process", asdict(spec)))
    return [Row(peer=peer, threads=threads, runs=found) for (threads, peer), found in runs.items()]
