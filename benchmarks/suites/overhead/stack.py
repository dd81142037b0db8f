"""Measure the client without a socket: processor time per text, on a transport that answers at once, and its parts."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.prepared import BATCH, Replies
from benchmarks.harness.tables import met, seconds, table
from benchmarks.harness.texts import texts
from benchmarks.harness.transports import InstantTransport
from benchmarks.harness.wires import MEDIA_TYPES, PLAIN, speech
from benchmarks.harness.wires import replies as plain_replies
from cosyclient import CosyClient
from cosyclient.config import WireConfig
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.protocols.registry import protocol_for

if TYPE_CHECKING:
    from collections.abc import Callable

PLAIN_WIRE: Final = "JSON, wav of 0.4 s"
_SIZES: Final = {"batch": BATCH, "lone": 1}
"""Texts in a request of each load."""
TARGETS: Final = {"batch": 50e-6, "lone": 250e-6}


def measure_all(count: int, turns: int, audio: str) -> list[dict[str, Any]]:
    """Return a row per wire and load: the median of so many *turns*, of about *count* texts each."""
    return [
        {
            "wire": wire,
            "load": load,
            "goal": TARGETS[load] if wire != PLAIN_WIRE else None,
            **measure(load, sound, replies, count, turns),
            **parts(load, sound, replies, count, turns),
        }
        for wire, (sound, replies) in wires(audio).items()
        for load in TARGETS
    ]


def wires(audio: str) -> dict[str, tuple[str, Replies]]:
    """Return the format that is asked for and the replies, by name of the wire; the plain one first."""
    found = {PLAIN_WIRE: (PLAIN, plain_replies(PLAIN))}
    for each in (PLAIN, audio):
        replies = Replies("frames", speech(each), MEDIA_TYPES[each], duration_ms=4000)
        found[f"frames, {each} of 4 s"] = each, replies
    return found


def _transport(load: str, replies: Replies) -> InstantTransport:
    return InstantTransport(replies.media_type, replies.body(_SIZES[load]))


def measure(load: str, audio: str, replies: Replies, count: int, turns: int) -> dict[str, Any]:
    """Return processor and wall time per text: the median over *turns* runs, and the lowest and highest."""
    with CosyClient(
        "http://nowhere.invalid",
        format=audio,
        requests_per_second=None,
        concurrency=2,
        transport=_transport(load, replies),
    ) as client:
        wanted = list(texts(count if load == "batch" else count // 10))
        loads: dict[str, Callable[[], object]] = {
            "batch": lambda: client.batch_synth(wanted),
            "lone": lambda: [client.synthesize(each) for each in wanted],
        }
        times = [_timed(loads[load], len(wanted)) for _ in range(turns + 1)][1:]
    cpu = [each for each, _ in times]
    return {"cpu": median(cpu), "lowest": min(cpu), "highest": max(cpu), "wall": median(wall for _, wall in times)}


def parts(load: str, audio: str, replies: Replies, count: int, turns: int) -> dict[str, float]:
    """Return the processor time per text of encoding a request and of decoding its reply, each on its own."""
    size = _SIZES[load]
    protocol = protocol_for("batch", WireConfig())
    settings = VoiceSettings(format=audio)
    utterances = [Utterance(each, settings) for each in texts(size)]
    transport = _transport(load, replies)
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
        "no socket",
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
                row["wire"],
                row["load"],
                seconds(row["cpu"]),
                f"{seconds(row['lowest'])} to {seconds(row['highest'])}",
                f"≤ {seconds(row['goal'])}" if row["goal"] else "",
                met(row["cpu"] <= row["goal"]) if row["goal"] else "",
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
