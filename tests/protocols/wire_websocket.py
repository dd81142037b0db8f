"""The service's side of the protocols over WebSocket, written from the protocol reference and not from our code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cosyclient.wire import MessageSession


def event(session: Any, name: str, payload: dict[str, Any] | None = None, **header: Any) -> str:
    """Return an event of Model Studio for the task of *session*."""
    head = {"task_id": session.id, "event": name, "attributes": {}, **header}
    return json.dumps({"header": head, "payload": payload or {}})


def result(session: Any, kind: str, **output: Any) -> str:
    """Return a result-generated event of this type."""
    return event(session, "result-generated", {"output": {"type": kind, **output}})


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


def received(session: MessageSession, messages: Sequence[str | bytes]) -> tuple[list[str | bytes], bytes, bool]:
    """Return what *messages* lead to, together."""
    send: list[str | bytes] = []
    audio, done = b"", False
    for message in messages:
        turn = session.receive(message)
        send += turn.send
        audio += turn.audio
        done = done or turn.done
    return send, audio, done
