"""The service's side of the protocols over WebSocket, written from the protocol reference and not from our code."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from cosyclient.voices import Voice

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cosyclient.wire import Dialogue

TRANSCRIPT = "希望你以后能够做的比我还好呦。"


def recording(seconds: float = 1.0, rate: int = 16000) -> bytes:
    """Return a WAV file that a voice can be made of, its header written by hand."""
    samples = struct.pack("<h", 700) * round(seconds * rate)
    head = struct.pack("<4sI8sIHHIIHH", b"RIFF", 36 + len(samples), b"WAVEfmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    return head + struct.pack("<4sI", b"data", len(samples)) + samples


CLONE = Voice.clone(recording(), TRANSCRIPT)
CROSS = Voice.cross_lingual(recording())


def event(dialogue: Any, name: str, payload: dict[str, Any] | None = None, **header: Any) -> str:
    """Return an event of Model Studio for the task of *dialogue*."""
    head = {"task_id": dialogue.id, "event": name, "attributes": {}, **header}
    return json.dumps({"header": head, "payload": payload or {}})


def result(dialogue: Any, kind: str, **output: Any) -> str:
    """Return a result-generated event of this type."""
    return event(dialogue, "result-generated", {"output": {"type": kind, **output}})


def word(text: str, index: int, begin: int, end: int) -> dict[str, Any]:
    """Return a timed word as Model Studio tells it."""
    return {
        "text": text,
        "begin_index": index,
        "end_index": index + len(text),
        "begin_time": begin,
        "end_time": end,
    }


def read(messages: Iterable[str | bytes]) -> list[Any]:
    """Return messages as documents, bytes as they are."""
    return [message if isinstance(message, bytes) else json.loads(message) for message in messages]


def actions(messages: Iterable[str | bytes]) -> list[str]:
    """Return what Model Studio is asked to do."""
    return [document["header"]["action"] for document in read(messages)]


def heard(dialogue: Dialogue, messages: Sequence[str | bytes]) -> tuple[list[str | bytes], bytes, bool]:
    """Return what *messages* lead to, together."""
    send: list[str | bytes] = []
    audio, done = b"", False
    for message in messages:
        turn = dialogue.hear(message)
        send += turn.send
        audio += turn.audio
        done = done or turn.done
    return send, audio, done
