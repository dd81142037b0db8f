"""Name the benchmarks: what each measures, its module, and the packages it needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.harness.extra import require_extra

if TYPE_CHECKING:
    from benchmarks.harness.options import Options

_EMULATOR: Final = ("aiohttp", "matplotlib", "starlette", "uvicorn", "soundfile")


class Suite(NamedTuple):
    """Describe one benchmark; its module has a ``run(options)``."""

    sentence: str
    module: str
    packages: tuple[str, ...] = _EMULATOR
    """What must be installed before its module is imported."""


BENCHMARKS: Final = {
    "report": Suite(
        "the field report's table on the plain wire: its 'before', its own client, batch_synth, synthesize",
        "benchmarks.suites.report",
        (*_EMULATOR, "envoy", "orjson", "pybase64"),
    ),
    "quota": Suite(
        "100 requests/s enforced by a real Envoy: how much of it is used, what is refused; and a stricter one",
        "benchmarks.suites.quota.run",
        (*_EMULATOR, "envoy", "orjson", "pybase64"),
    ),
    "scaling": Suite(
        "requests/s and processor time per request at 8 to 256 threads, ours beside bare urllib3 and the others",
        "benchmarks.suites.scaling.run",
        (*_EMULATOR, "envoy"),
    ),
    "overhead": Suite(
        "processor time and texts/s without a quota beside a bare loop; the same on a transport that does nothing",
        "benchmarks.suites.overhead.run",
        (*_EMULATOR, "envoy", "orjson", "pybase64"),
    ),
    "tails": Suite(
        "the slowest calls: stragglers with and without hedging, and interactive calls beside a bulk job",
        "benchmarks.suites.tails",
    ),
    "bodies": Suite(
        "processor time and memory from the wire to the caller's audio: frames and JSON, decoders and clients",
        "benchmarks.suites.bodies.run",
        (*_EMULATOR, "httpx", "msgspec", "orjson", "pybase64", "requests"),
    ),
    "memory": Suite(
        "resident memory while a million texts pass, to disk and through futures", "benchmarks.suites.memory"
    ),
    "deadlines": Suite(
        "six hostile services: how far calls go beyond their deadline, what they leave behind, Ctrl-C",
        "benchmarks.suites.deadlines.run",
        ("matplotlib", "requests"),
    ),
    "overload": Suite(
        "what adapting costs at services that keep up, and what it is worth where a GPU is the limit: goodput",
        "benchmarks.suites.overload.run",
    ),
    "protocols": Suite(
        "every protocol: ours beside the SDK or stub its users have, texts a second and first audio",
        "benchmarks.suites.protocols",
        ("matplotlib", "openai", "dashscope", "tritonclient", "grpc", "websockets", "requests"),
    ),
    "storm": Suite(
        "what a failing service receives from each client: load amplification, probes, recovery after an outage",
        "benchmarks.suites.storm.run",
    ),
    "chaos": Suite(
        "faults, restarts, interrupts, forks, cancels, closes over every protocol: each text accounted for",
        "benchmarks.suites.chaos.run",
        ("matplotlib", "grpc", "websockets", "starlette"),
    ),
}


def run(name: str, options: Options) -> None:
    """Run the benchmark *name*; raise `ExtraMissing` where a package it needs is not installed.

    Its module is imported only now, because the packages of the other benchmarks may be missing.
    """
    suite = BENCHMARKS[name]
    require_extra(suite.packages)
    import_module(suite.module).run(options)
