"""Name the benchmarks; each is a module of `benchmarks.suites` with a ``run(options)``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from benchmarks.harness.options import Options

BENCHMARKS: Final = {
    "report": "the field report's table on the emulator: its 'before', its own client, batch_synth, synthesize",
    "quota": "100 requests/s enforced by a real Envoy: how much of it is used, what is refused; and a stricter one",
    "scaling": "requests/s and processor time per request at 8 to 256 threads, ours beside bare urllib3 and the others",
    "overhead": "processor time per text of the whole stack, on a transport that does nothing",
    "tails": "the slowest calls: stragglers with and without hedging, and interactive calls beside a bulk job",
    "bodies": "processor time and memory from the wire to the caller's audio: frames and JSON, decoders and clients",
    "memory": "resident memory while a million texts pass, to disk and through futures",
    "deadlines": "six hostile services: how far calls go beyond their deadline, what they leave behind, Ctrl-C",
    "overload": "what adapting costs at services that keep up, and what it is worth where a GPU is the limit: goodput",
    "protocols": "every way of serving: ours beside the SDK or stub its users have, texts a second and first audio",
    "storm": "what a failing service hears of each client: load amplification, probes, the way back after an outage",
    "chaos": "faults, restarts, interrupts, forks, cancels, closes over every protocol: each text accounted for",
}

_PACKAGES: Final = ("bodies", "chaos", "deadlines", "overload", "quota", "scaling", "storm")
MODULES: Final = {name: f"benchmarks.suites.{name}" + (".run" if name in _PACKAGES else "") for name in BENCHMARKS}


def run(name: str, options: Options) -> None:
    """Run the benchmark *name*; its module, and what that needs, is loaded now."""
    import_module(MODULES[name]).run(options)
