"""Measure what the client itself costs: processor time per text, on a transport that answers at once."""

from __future__ import annotations

import json
import struct
import time
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks import machine
from benchmarks.extra import require_extra
from benchmarks.peers.before import BeforeClient
from benchmarks.results import write_json
from benchmarks.tables import seconds, table
from benchmarks.texts import text, texts
from cosyclient import ClientConfig, CosyClient, PacingConfig
from cosyclient.testing import ScriptedReply
from cosyclient.transports.base import PoolStats

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.options import Options
    from cosyclient.models import WireReply, WireRequest

_BATCH: Final = 64
_TYPES: Final = {"wav": "audio/wav", "opus": "audio/ogg;codecs=opus", "mp3": "audio/mpeg"}
_GOALS: Final = {"batch": 50e-6, "lone": 250e-6}


class NoTransport:
    """Answer every request at once with the same frames."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._headers = {"content-type": "application/vnd.cosyvoice.batch-frames;v=1"}

    def send(self, request: WireRequest, **_: object) -> WireReply:  # noqa: ARG002
        """Return the reply."""
        return ScriptedReply(200, self._headers, (self._body,))

    def stats(self) -> PoolStats:
        """Return an empty snapshot."""
        return PoolStats()

    def close(self) -> None:
        """Do nothing."""


def run(options: Options) -> None:
    """Measure, print the table, and write ``overhead.json``."""
    require_extra()
    about = machine.describe()
    count, turns = (6_400 if options.quick else 25_600), max(3, options.repeat)
    print(
        f"overhead: processor time per text of the whole stack, on a transport that answers at once\n\n{_method(count)}"
    )
    print(f"Medians of {turns} runs, after one uncounted.\n\n{machine.sentence(about)}\n", flush=True)
    rows = [
        {"audio": audio, "load": load, "goal": _GOALS[load], **measure(load, audio, data, count, turns)}
        for audio, data in samples().items()
        for load in _GOALS
    ]
    print(tabulate(rows))
    write_json(
        options.output / "overhead.json",
        {"benchmark": "overhead", "quick": options.quick, "machine": about, "texts": count, "rows": rows},
    )
    print(f"\nwritten: {options.output / 'overhead.json'}")


def _method(count: int) -> str:
    return (
        f"batch: batch_synth of {count:,} texts in requests of {_BATCH}; lone: {count // 10:,} calls of synthesize, "
        "one after the other.\nTexts of 20 Chinese characters, 4 s of audio each; two workers, no pacing."
    )


def samples() -> dict[str, bytes]:
    """Return four seconds of audio in each format, from an emulator."""
    from cosyclient.emulator import running

    with running(engine="tone") as service:
        found = {}
        for audio in _TYPES:
            with BeforeClient(service.url, format=audio) as client:
                found[audio] = client.synthesize(text(0))
    return found


def measure(load: str, audio: str, data: bytes, count: int, turns: int) -> dict[str, Any]:
    """Return processor and wall time per text: the median over *turns* runs, and the lowest and highest."""
    size = _BATCH if load == "batch" else 1
    client = CosyClient(
        "http://nowhere.invalid",
        format=audio,
        requests_per_second=1e6,
        concurrency=2,
        config=ClientConfig(pacing=PacingConfig(burst=1_000_000)),
        transport=NoTransport(frames(data, _TYPES[audio], size)),
    )
    with client:
        if load == "batch":
            wanted = list(texts(count))
            times = [_timed(lambda: client.batch_synth(wanted), count) for _ in range(turns + 1)][1:]
        else:
            wanted = list(texts(count // 10))
            times = [
                _timed(lambda: [client.synthesize(each) for each in wanted], len(wanted)) for _ in range(turns + 1)
            ]
            times = times[1:]
    cpu = [each for each, _ in times]
    return {"cpu": median(cpu), "lowest": min(cpu), "highest": max(cpu), "wall": median(wall for _, wall in times)}


def _timed(work: Callable[[], object], count: int) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return (time.process_time() - cpu) / count, (time.perf_counter() - wall) / count


def frames(data: bytes, media_type: str, count: int) -> bytes:
    """Return a whole reply that carries *data* for each of *count* texts."""

    def frame(payload: bytes = b"", **members: Any) -> bytes:
        header = json.dumps(members).encode()
        return struct.pack(">II", len(header), len(payload)) + header + payload

    items = [
        frame(data, kind="item", index=index, status="success", media_type=media_type, duration_ms=4000)
        for index in range(count)
    ]
    head = frame(kind="batch", id="none", model="none", format="none", sample_rate=24000, total=count)
    return b"".join([head, *items, frame(kind="end", succeeded=count, failed=0)])


def tabulate(rows: list[dict[str, Any]]) -> str:
    """Return the table."""
    heads = ["audio", "load", "CPU a text", "lowest to highest", "goal", "met", "wall a text"]
    return table(
        heads,
        [
            [
                row["audio"],
                row["load"],
                seconds(row["cpu"]),
                f"{seconds(row['lowest'])} to {seconds(row['highest'])}",
                seconds(row["goal"]),
                "yes" if row["cpu"] <= row["goal"] else "no",
                seconds(row["wall"]),
            ]
            for row in rows
        ],
    )
