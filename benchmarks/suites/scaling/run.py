"""Measure what a request costs as threads are added: ours, bare urllib3 and the usual clients, one text a request."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.gateway import GatewaySpec, Reply, gateway
from benchmarks.harness.prepared import Replies, wav
from benchmarks.harness.processes import run_module
from benchmarks.harness.results import announce, publish
from benchmarks.harness.wires import MEDIA_TYPES, PLAIN, speech
from benchmarks.suites.scaling.plan import DELAY, QUICK, Peer, Plan, Row
from benchmarks.suites.scaling.process import LoadSpec
from benchmarks.suites.scaling.report import conclusions, document, draw, introduction, tabulate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.harness.options import Options

_PLAIN_BYTES: Final = 1000


def run(options: Options) -> None:
    """Measure, print the table, and write ``scaling.json`` and ``scaling.svg``."""
    plan = QUICK if options.quick else Plan(repeat=max(3, options.repeat))
    answers = {plain: answer(options.audio, plain=plain) for plain in (True, False)}
    sizes = [len(reply.bodies[0]) for reply in answers.values()]
    about = announce("scaling", introduction(plan, options.audio, *sizes))
    rows = measure(plan, plan.peers, options.audio, answers)
    print(f"{tabulate(rows)}\n\n{conclusions(rows, plan)}")
    figures = {
        "parameters": {**asdict(plan), "delay": DELAY, "audio": options.audio, "reply_bytes": sizes},
        "rows": [document(row, rows) for row in rows],
    }
    publish("scaling", options, about, figures, lambda path: draw(path, rows, plan.steps, about))


def answer(audio: str, *, plain: bool) -> Reply:
    """Return the reply to one text, JSON with base64: a little WAV, or four seconds of *audio*."""
    found = (
        Replies("json", wav(_PLAIN_BYTES))
        if plain
        else Replies("json", speech(audio), MEDIA_TYPES[audio], duration_ms=4000)
    )
    return Reply(bodies=[found.body(1)], media_type=found.media_type)


def measure(plan: Plan, peers: Sequence[Peer], audio: str, answers: Mapping[bool, Reply]) -> list[Row]:
    """Return a row per step and peer; every run is a fresh process against the same services, peers in turn."""
    runs: dict[tuple[int, Peer], list[dict[str, Any]]] = {(n, peer): [] for n in plan.steps for peer in peers}
    with ExitStack() as stack:
        services = {
            plain: stack.enter_context(gateway(GatewaySpec(reply=reply, delay=DELAY)))
            for plain, reply in answers.items()
        }
        for _ in range(plan.repeat):
            for (threads, peer), found in runs.items():
                spec = LoadSpec(
                    client=peer.client,
                    decode=peer.decode,
                    url=services[peer.plain].url,
                    service=services[peer.plain].pid,
                    audio=PLAIN if peer.plain else audio,
                    threads=threads,
                    warm_up=plan.warm_up,
                    seconds=plan.seconds,
                )
                found.append(run_module("benchmarks.suites.scaling.process", asdict(spec)))
    return [Row(peer=peer, threads=threads, runs=found) for (threads, peer), found in runs.items()]
