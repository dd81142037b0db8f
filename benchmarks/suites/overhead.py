"""Measure what the client itself costs: processor time per text, on a transport that answers at once, and its parts."""

from __future__ import annotations

import json
import struct
import time
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness import machine
from benchmarks.harness.extra import require_extra
from benchmarks.harness.results import write_json
from benchmarks.harness.tables import seconds, table
from benchmarks.harness.texts import text, texts
from benchmarks.peers.before import BeforeClient
from cosyclient import ClientConfig, CosyClient, PacingConfig
from cosyclient.config import WireConfig
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.protocols.registry import protocol_for
from cosyclient.testing import ScriptedReply
from cosyclient.transports.base import PoolStats

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.harness.options import Options
    from cosyclient.wire import WireReply, WireRequest

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
    """Measure, print the table, and write ``overhead.json`` and ``overhead.svg``."""
    require_extra()
    about = machine.describe()
    count, turns = (6_400 if options.quick else 25_600), max(3, options.repeat)
    print(
        f"overhead: processor time per text of the whole stack, on a transport that answers at once\n\n{_method(count)}"
    )
    print(f"Medians of {turns} runs, after one uncounted.\n\n{machine.sentence(about)}\n", flush=True)
    rows = [
        {
            "audio": audio,
            "load": load,
            "goal": _GOALS[load],
            **measure(load, audio, data, count, turns),
            **parts(load, audio, data, count, turns),
        }
        for audio, data in samples().items()
        for load in _GOALS
    ]
    print(tabulate(rows))
    write_json(
        options.output / "overhead.json",
        {"benchmark": "overhead", "quick": options.quick, "machine": about, "texts": count, "rows": rows},
    )
    draw(options.output / "overhead.svg", rows, about)
    print(f"\nwritten: {options.output / 'overhead.json'}, {options.output / 'overhead.svg'}")


def _method(count: int) -> str:
    return (
        f"batch: batch_synth of {count:,} texts in requests of {_BATCH}; lone: {count // 10:,} calls of synthesize, "
        "one after the other.\nTexts of 20 Chinese characters, 4 s of audio each; two workers, no pacing. Of it: the "
        "protocol's encoding and decoding,\nmeasured alone; the rest is accepting, queueing, policies, hand-over and "
        "the seam to the transport."
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


def parts(load: str, audio: str, data: bytes, count: int, turns: int) -> dict[str, float]:
    """Return the processor time per text of encoding a request and of decoding its reply, each on its own."""
    size = _BATCH if load == "batch" else 1
    protocol = protocol_for("batch", WireConfig())
    settings = VoiceSettings(format=audio)
    utterances = [Utterance(each, settings) for each in texts(size)]
    transport = NoTransport(frames(data, _TYPES[audio], size))
    request = protocol.encode(utterances, key="0" * 32)
    rounds = range(max(1, count // 10 // size))

    def encode() -> None:
        for _ in rounds:
            protocol.encode(utterances, key="0" * 32)

    def decode() -> None:
        for _ in rounds:
            for _ in protocol.decode(transport.send(request), utterances, wall=0.0):
                pass

    texts_made = len(rounds) * size
    return {
        name: median(_timed(work, texts_made)[0] for _ in range(turns))
        for name, work in (("encode", encode), ("decode", decode))
    }


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
    heads = [
        "audio",
        "load",
        "CPU a text",
        "lowest to highest",
        "goal",
        "met",
        "encoding",
        "decoding",
        "rest",
        "wall a text",
    ]
    return table(
        heads,
        [
            [
                row["audio"],
                row["load"],
                seconds(row["cpu"]),
                f"{seconds(row['lowest'])} to {seconds(row['highest'])}",
                seconds(row["goal"]),
                "yes" if row["cpu"] <= row["goal"] else "NO",
                seconds(row["encode"]),
                seconds(row["decode"]),
                seconds(rest(row)),
                seconds(row["wall"]),
            ]
            for row in rows
        ],
    )


def rest(row: dict[str, Any]) -> float:
    """Return the processor time per text that is neither encoding nor decoding."""
    return max(0.0, float(row["cpu"] - row["encode"] - row["decode"]))


def draw(path: Path, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Draw a bar per audio format and load, in its parts, beside the goal."""
    from benchmarks.harness.pictures import INK, OURS, PALE, QUIET, canvas, made_by, tidy

    title = "What the client itself costs: processor time a text"
    caption = (
        "The whole stack on a transport that answers at once; 20 Chinese characters and 4 s of audio a text. The line "
        f"at each bar's end spans all runs.\n{made_by('overhead', about)}"
    )
    shown = (("encode", "encoding", QUIET), ("decode", "decoding", PALE[OURS]), ("rest", "all the rest", OURS))
    with canvas(path, title=title, caption=caption, size=(11, 3.9), columns=len(_GOALS)) as axes:
        for axis, (load, goal) in zip(axes, _GOALS.items(), strict=True):
            some = [{**row, "rest": rest(row)} for row in rows if row["load"] == load]
            tidy(axis, f"µs, {'batches of 64' if load == 'batch' else 'a lone synthesize'}", grid="x")
            axis.set_yticks(range(len(some)), [row["audio"] for row in some])
            axis.set_ylim(len(some) - 0.5, -0.9)
            for place, row in enumerate(some):
                done = 0.0
                for name, label, colour in shown:
                    axis.barh(place, row[name] * 1e6, 0.5, done, color=colour, label=None if place else label)
                    done += row[name] * 1e6
                axis.plot([row["lowest"] * 1e6, row["highest"] * 1e6], [place, place], color=INK, linewidth=1)
                axis.annotate(
                    seconds(row["cpu"]),
                    (max(done, row["highest"] * 1e6), place),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8.5,
                )
            axis.axvline(goal * 1e6, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            axis.annotate(
                f"goal {seconds(goal)}",
                (goal * 1e6, -0.72),
                xytext=(-4, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=8.5,
            )
            axis.set_xlim(0, 1.18e6 * max(goal, *(row["highest"] for row in some)))
        axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="upper right", ncols=3, frameon=False)
