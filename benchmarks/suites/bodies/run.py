"""Measure what audio costs between the wire and the caller: memory over the audio held, processor time over reading."""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.measure import peak_bytes, resident_bytes
from benchmarks.harness.pictures import INK, OURS, THEIRS, canvas, label_rows, made_by, note, tidy
from benchmarks.harness.prepared import BATCH, MEDIA_TYPES, Replies, serving, wav
from benchmarks.harness.processes import read_parameters, run_module
from benchmarks.harness.results import announce, publish
from benchmarks.harness.tables import met, number, table
from benchmarks.suites.bodies.decoders import DECODERS
from benchmarks.suites.bodies.readers import IN_FLIGHT, READERS, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.harness.options import Options

_SIZES: Final = {"190 KB": 190_000, "20 KB": 20_000}
_TARGETS: Final = {"memory": 1.5, "cpu": 2.0}
# What glibc understands: from 32 MB on a block is mapped on its own, and up to 256 MB of free memory are kept.
_KEEP: Final = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}


def run(options: Options) -> None:
    """Measure, print two tables, and write ``bodies.json`` and ``bodies.svg``."""
    turns = (1 if options.quick else 6) * options.repeat
    about = announce("bodies", _introduction(turns))
    with tempfile.TemporaryDirectory() as name:
        files = _write(Path(name))
        decoded = [
            {"decoder": decoder, "size": size, **_measure_apart("decode", decoder, str(files[form, size]), turns)}
            for size in _SIZES
            for decoder, (_, form) in DECODERS.items()
        ]
        print(tabulate_decoders(decoded), flush=True)
    read = []
    for form in MEDIA_TYPES:
        with serving(form, _SIZES["190 KB"]) as url:
            read += [
                {"reader": reader, **_measure_apart("read", reader, url, turns, keep=each.keep)}
                for reader, each in READERS.items()
                if each.form == form
            ]
    _compare(read)
    print(f"\n{tabulate_readers(read)}\n\n{conclusions(read)}")
    figures = {"turns": turns, "decoders": decoded, "readers": read}
    publish("bodies", options, about, figures, lambda path: draw(path, read, about))


def _introduction(turns: int) -> str:
    return (
        "from the wire to the caller's audio\n\n"
        f"A reply carries {BATCH} speeches of 190 KB (WAV, 12.2 MB as frames, 16.2 MB as JSON) or of 20 KB.\n"
        f"First the decoders alone, on one reply; then whole clients, {IN_FLIGHT} replies in flight, their audio held\n"
        "until all are there. The service is a process that sends one prepared reply. Each row is a fresh process;\n"
        f"medians of {turns} turns after one uncounted. Memory: the peak of all turns beyond what was resident before\n"
        "the first, over the audio (or bytes) held. A page fault is what the system charges for 4 KB of new memory;\n"
        "kept: malloc is configured to keep freed memory (MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_)."
    )


def _write(folder: Path) -> dict[tuple[str, str], Path]:
    """Write whole replies and return their paths by form and size."""
    found = {}
    for size, count in _SIZES.items():
        for form in MEDIA_TYPES:
            found[form, size] = folder / f"{count}.{form}"
            found[form, size].write_bytes(Replies(form, wav(count)).body(BATCH))
    return found


# In a process of its own


def _measure_apart(kind: str, name: str, source: str, turns: int, *, keep: bool = False) -> dict[str, Any]:
    parameters = {"kind": kind, "name": name, "source": source, "turns": turns}
    return run_module("benchmarks.suites.bodies.run", parameters, more_environment=_KEEP if keep else None)


def measure(kind: str, name: str, source: str, turns: int) -> dict[str, Any]:
    """Return one row's figures, measured in this process."""
    if kind == "decode":
        decode = DECODERS[name][0]()
        return _measured(lambda: [decode(source)], turns, replies=1)
    with opened(name, source) as round_of:
        return _measured(round_of, turns, replies=IN_FLIGHT)


def _measured(work: Callable[[], list[Any]], turns: int, *, replies: int) -> dict[str, Any]:
    """Return processor seconds per reply, bytes of content per turn, and the peak of memory beyond the start."""
    before, cpu, held = resident_bytes(), [], 0
    faults = 0
    for turn in range(turns + 1):
        if turn == 1:
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        started = time.process_time()
        content = work()
        held = _size(content)
        del content
        # Freeing it is part of the cost.
        cpu.append((time.process_time() - started) / replies)
    counted = cpu[1:]
    peak = peak_bytes() - before
    return {
        "cpu": median(counted),
        "lowest": min(counted),
        "highest": max(counted),
        "held": held,
        "peak": peak,
        "faults": (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / turns / replies,
    }


def _size(content: Sequence[Any]) -> int:
    return sum(len(each) if isinstance(each, (bytes, bytearray)) else _size(each) for each in content)


# Tables and picture


def _compare(rows: list[dict[str, Any]]) -> None:
    """Put each row beside the audio it holds and beside http.client reading the same bytes."""
    floors = {
        (reader.form, reader.keep): row["cpu"]
        for row in rows
        if (reader := READERS[row["reader"]]) and reader.open == "_http_client"
    }
    for row in rows:
        reader = READERS[row["reader"]]
        row["memory_ratio"] = row["peak"] / row["held"]
        row["cpu_ratio"] = row["cpu"] / floors[reader.form, reader.keep]


def tabulate_decoders(rows: list[dict[str, Any]]) -> str:
    """Return the table of the decoders alone."""
    heads = ["decoder", "speech", "CPU\na reply", "lowest to\nhighest", "memory over\nthe audio"]
    return table(
        heads,
        [
            [
                row["decoder"],
                row["size"],
                _ms(row["cpu"]),
                f"{_ms(row['lowest'])} to {_ms(row['highest'])}",
                number(row["peak"] / row["held"], 2) if row["held"] > 10_000_000 else "–",
            ]
            for row in rows
        ],
    )


def tabulate_readers(rows: list[dict[str, Any]]) -> str:
    """Return the table of whole clients."""
    heads = [
        "client",
        "reply",
        "gives",
        "CPU\na reply",
        "lowest to\nhighest",
        "CPU over\nhttp.client",
        "page faults\na reply",
        "memory over\nheld",
    ]
    return table(
        heads,
        [
            [
                reader.label,
                reader.form,
                "audio" if reader.audio else "bytes",
                _ms(row["cpu"]),
                f"{_ms(row['lowest'])} to {_ms(row['highest'])}",
                number(row["cpu_ratio"], 2),
                number(row["faults"]),
                number(row["memory_ratio"], 2),
            ]
            for row in rows
            if (reader := READERS[row["reader"]])
        ],
    )


def conclusions(rows: list[dict[str, Any]]) -> str:
    """Return a line per target and row of ours: met or missed, and by how much."""
    lines = []
    for row in rows:
        reader = READERS[row["reader"]]
        if not reader.ours:
            continue
        for key, unit in (("memory", "the audio held"), ("cpu", "http.client reading the same bytes")):
            ratio, target = row[f"{key}_ratio"], _TARGETS[key]
            found = f"{reader.label}, {reader.form}: {key} {ratio:.2f} x {unit}"
            lines.append(f"{found}, target {target:g} x: {met(ratio <= target)}")
    return "\n".join(lines)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def draw(path: Path, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Draw processor time and memory of each client, with the targets."""
    readers = [READERS[row["reader"]] for row in rows]
    caption = (
        f"{BATCH} speeches of 190 KB a reply, {IN_FLIGHT} replies in flight. Dashed: the targets, twice the time "
        "http.client takes to read the same bytes and 1.5 times the audio held.\nKept: malloc keeps what is freed. "
        f"Pale: reads the bytes and makes no audio of them. {made_by('bodies', about)}"
    )
    panels = {
        "processor time a reply, ms": ([row["cpu"] * 1e3 for row in rows], "{:.0f}"),
        "peak memory over what is held": ([row["memory_ratio"] for row in rows], "{:.2f}"),
    }
    targets = [[2e3 * row["cpu"] / row["cpu_ratio"] for row in rows], [_TARGETS["memory"]] * len(rows)]
    title, size = "From the wire to the caller's audio", (11.5, 0.36 * len(rows) + 1.9)
    with canvas(path, title=title, caption=caption, size=size, columns=2, sharey=True) as axes:
        for axis, (head, (values, form)), marks in zip(axes, panels.items(), targets, strict=True):
            tidy(axis, head, grid="x")
            label_rows(axis, [f"{reader.label}  ({reader.form})" for reader in readers], below=0.6)
            axis.set_xlim(0, max(values) * 1.14)
            for level, (reader, value, mark) in enumerate(zip(readers, values, marks, strict=True)):
                alpha = 1 if reader.audio else 0.45
                axis.barh(level, value, height=0.6, color=OURS if reader.ours else THEIRS, alpha=alpha)
                if reader.ours:
                    span = [level - 0.42, level + 0.42]
                    axis.plot([mark, mark], span, color=INK, linewidth=1.2, linestyle=(0, (3, 2)))
                note(axis, form.format(value), (max(value, mark) if reader.ours else value, level), shift=(5, 0))


if __name__ == "__main__":
    print(json.dumps(measure(**read_parameters())))
