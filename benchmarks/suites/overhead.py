"""Measure what the client itself costs: processor time per text, on a transport that answers at once, and its parts."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.pictures import DASHED, INK, OURS, PALE, QUIET, canvas, label_rows, made_by, note, tidy
from benchmarks.harness.prepared import BATCH, Replies
from benchmarks.harness.results import announce, publish
from benchmarks.harness.tables import seconds, table
from benchmarks.harness.texts import text, texts
from benchmarks.harness.transports import InstantTransport
from benchmarks.peers.before import BeforeClient
from cosyclient import ClientConfig, CosyClient, PacingConfig
from cosyclient.config import WireConfig
from cosyclient.emulator import running
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.protocols.registry import protocol_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.harness.options import Options

_TYPES: Final = {"wav": "audio/wav", "opus": "audio/ogg;codecs=opus", "mp3": "audio/mpeg"}
_SIZES: Final = {"batch": BATCH, "lone": 1}
"""Texts in a request of each load."""
_TARGETS: Final = {"batch": 50e-6, "lone": 250e-6}


def run(options: Options) -> None:
    """Measure, print the table, and write ``overhead.json`` and ``overhead.svg``."""
    count, turns = (6_400 if options.quick else 25_600), max(3, options.repeat)
    about = announce("overhead", _introduction(count, turns))
    rows = [
        {
            "audio": audio,
            "load": load,
            "goal": _TARGETS[load],
            **measure(load, audio, data, count, turns),
            **parts(load, audio, data, count, turns),
        }
        for audio, data in samples().items()
        for load in _TARGETS
    ]
    print(tabulate(rows))
    publish("overhead", options, about, {"texts": count, "rows": rows}, lambda path: draw(path, rows, about))


def _introduction(count: int, turns: int) -> str:
    return (
        "processor time per text of the whole stack, on a transport that answers at once\n\n"
        f"batch: batch_synth of {count:,} texts in requests of {BATCH}; lone: {count // 10:,} calls of synthesize, "
        "one after the other.\nTexts of 20 Chinese characters, 4 s of audio each; two workers, no pacing. Of it: the "
        "protocol's encoding and decoding,\nmeasured alone; the rest is accepting, queueing, policies, handing over "
        f"to the transport.\nMedians of {turns} runs, after one uncounted."
    )


def samples() -> dict[str, bytes]:
    """Return four seconds of audio in each format, from an emulator."""
    with running(engine="tone") as service:
        found = {}
        for audio in _TYPES:
            with BeforeClient(service.url, format=audio) as client:
                found[audio] = client.synthesize(text(0))
    return found


def _transport(load: str, audio: str, data: bytes) -> InstantTransport:
    replies = Replies("frames", data, _TYPES[audio], duration_ms=4000)
    return InstantTransport(replies.media_type, replies.body(_SIZES[load]))


def measure(load: str, audio: str, data: bytes, count: int, turns: int) -> dict[str, Any]:
    """Return processor and wall time per text: the median over *turns* runs, and the lowest and highest."""
    with CosyClient(
        "http://nowhere.invalid",
        format=audio,
        requests_per_second=1e6,
        concurrency=2,
        config=ClientConfig(pacing=PacingConfig(burst=1_000_000)),
        transport=_transport(load, audio, data),
    ) as client:
        wanted = list(texts(count if load == "batch" else count // 10))
        loads: dict[str, Callable[[], object]] = {
            "batch": lambda: client.batch_synth(wanted),
            "lone": lambda: [client.synthesize(each) for each in wanted],
        }
        times = [_timed(loads[load], len(wanted)) for _ in range(turns + 1)][1:]
    cpu = [each for each, _ in times]
    return {"cpu": median(cpu), "lowest": min(cpu), "highest": max(cpu), "wall": median(wall for _, wall in times)}


def parts(load: str, audio: str, data: bytes, count: int, turns: int) -> dict[str, float]:
    """Return the processor time per text of encoding a request and of decoding its reply, each on its own."""
    size = _SIZES[load]
    protocol = protocol_for("batch", WireConfig())
    settings = VoiceSettings(format=audio)
    utterances = [Utterance(each, settings) for each in texts(size)]
    transport = _transport(load, audio, data)
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


def tabulate(rows: list[dict[str, Any]]) -> str:
    """Return the table."""
    heads = [
        "audio",
        "load",
        "CPU a text",
        "lowest to highest",
        "target",
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
    """Draw a bar per audio format and load, in its parts, beside the target."""
    title = "What the client itself costs: processor time a text"
    caption = (
        "The whole stack on a transport that answers at once; 20 Chinese characters and 4 s of audio a text. The line "
        f"at each bar's end spans all runs.\n{made_by('overhead', about)}"
    )
    shown = (("encode", "encoding", QUIET), ("decode", "decoding", PALE[OURS]), ("rest", "all the rest", OURS))
    with canvas(path, title=title, caption=caption, size=(11, 3.9), columns=len(_TARGETS)) as axes:
        for axis, (load, target) in zip(axes, _TARGETS.items(), strict=True):
            some = [{**row, "rest": rest(row)} for row in rows if row["load"] == load]
            tidy(axis, f"µs, {'batches of 64' if load == 'batch' else 'a lone synthesize'}", grid="x")
            label_rows(axis, [row["audio"] for row in some], above=0.9, below=0.5)
            for level, row in enumerate(some):
                done = 0.0
                for name, label, colour in shown:
                    axis.barh(level, row[name] * 1e6, 0.5, done, color=colour, label=None if level else label)
                    done += row[name] * 1e6
                axis.plot([row["lowest"] * 1e6, row["highest"] * 1e6], [level, level], color=INK, linewidth=1)
                note(axis, seconds(row["cpu"]), (max(done, row["highest"] * 1e6), level))
            axis.axvline(target * 1e6, **DASHED)
            note(axis, f"target {seconds(target)}", (target * 1e6, -0.72), shift=(-4, 0), ha="right")
            axis.set_xlim(0, 1.18e6 * max(target, *(row["highest"] for row in some)))
        axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="upper right", ncols=3, frameon=False)
