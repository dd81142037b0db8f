"""Name the benchmarks; each is a module of this package with a ``run(options)``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from benchmarks.options import Options

BENCHMARKS: Final = {
    "report": "the field report's table on the emulator: its 'before', its own client, batch_synth, synthesize",
    "bodies": "processor time and memory from the wire to the caller's audio: frames and JSON, decoders and clients",
    "memory": "resident memory while a million texts pass, to disk and through futures",
    "overhead": "processor time per text of the whole stack, on a transport that does nothing",
}


def run(name: str, options: Options) -> None:
    """Run the benchmark *name*; its module, and what that needs, is loaded now."""
    import_module(f"benchmarks.{name}").run(options)
