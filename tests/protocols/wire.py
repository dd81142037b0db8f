"""The service's side of the batch wire, written from the protocol reference and not from the client's code."""

from __future__ import annotations

import base64
import json
import struct
from typing import TYPE_CHECKING, Any

from cosyclient.models import Utterance, VoiceSettings
from cosyclient.testing import ScriptedReply

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FRAMES_TYPE = "application/vnd.cosyvoice.batch-frames;v=1"
RATE = 24000


def texts(count: int, format: str = "wav") -> list[Utterance]:
    """Return so many different utterances with equal settings."""
    settings = VoiceSettings(format=format)
    return [Utterance(f'第{index}句，hello "{index}"\n', settings) for index in range(count)]


def tagged_pcm(index: int) -> bytes:
    """Return samples that say whose they are: length and value both name *index*."""
    return struct.pack("<2h", index + 1, -index - 1) * (120 * (index + 1))


def tagged_wav(index: int) -> bytes:
    """Return `tagged_pcm` as a WAV file, its header written by hand."""
    samples = tagged_pcm(index)
    head = struct.pack("<4sI8sIHHIIHH", b"RIFF", 36 + len(samples), b"WAVEfmt ", 16, 1, 1, RATE, RATE * 2, 2, 16)
    return head + struct.pack("<4sI", b"data", len(samples)) + samples


def frame(header: object, payload: bytes = b"") -> bytes:
    """Return one frame."""
    raw = header if isinstance(header, bytes) else json.dumps(header, ensure_ascii=False).encode()
    return struct.pack(">II", len(raw), len(payload)) + raw + payload


def opening(total: int | None, **more: object) -> dict[str, Any]:
    """Return the header of the first frame."""
    shape = {"kind": "batch", "id": "b1", "model": "m", "format": "wav", "sample_rate": RATE, "total": total}
    return {**shape, **more}


def item(index: int, **more: object) -> dict[str, Any]:
    """Return the header of a successful item's frame."""
    return {
        "kind": "item",
        "index": index,
        "status": "success",
        "media_type": "audio/wav",
        "duration_ms": 10 * (index + 1),
        **more,
    }


def failed(index: int, **error: object) -> dict[str, Any]:
    """Return the header of a failed item's frame."""
    return {"kind": "item", "index": index, "status": "error", "error": error}


def end(succeeded: int, failures: int = 0) -> dict[str, Any]:
    """Return the header of the last frame."""
    return {"kind": "end", "succeeded": succeeded, "failed": failures}


def frames_body(count: int, order: Iterable[int] | None = None) -> bytes:
    """Return a whole reply of *count* tagged WAVs as frames."""
    indices = list(range(count) if order is None else order)
    parts = [frame(item(index), tagged_wav(index)) for index in indices]
    return b"".join((frame(opening(count)), *parts, frame(end(len(indices)))))


def result(index: int, **more: object) -> dict[str, Any]:
    """Return one successful entry of a JSON reply."""
    return {
        "index": index,
        "status": "success",
        "audio_data": base64.b64encode(tagged_wav(index)).decode(),
        "media_type": "audio/wav",
        "duration_ms": 10 * (index + 1),
        "characters": 7,
        **more,
    }


def json_body(results: Sequence[object], **more: object) -> bytes:
    """Return a whole JSON reply holding *results*."""
    shape = {"id": "b1", "model": "m", "format": "wav", "sample_rate": RATE, "total": len(results)}
    return json.dumps({**shape, "results": results, **more}).encode()


def frames_reply(body: bytes, split: int = 0) -> ScriptedReply:
    """Return a 200 of frames; *split* cuts the body into pieces of so many bytes."""
    return ScriptedReply(200, {"Content-Type": FRAMES_TYPE}, pieces(body, split))


def json_reply(body: object, status: int = 200, **headers: str) -> ScriptedReply:
    """Return a JSON reply; anything but bytes is written as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = {"Content-Type": "application/json"}
    return ScriptedReply(status, {**kind, **{name.replace("_", "-"): value for name, value in headers.items()}}, [raw])


def problem_reply(status: int, headers: dict[str, str] | None = None, /, **problem: object) -> ScriptedReply:
    """Return problem details."""
    kind = {"Content-Type": "application/problem+json"}
    return ScriptedReply(status, {**kind, **(headers or {})}, [json.dumps(problem).encode()])


def messages(body: bytes) -> list[bytes]:
    """Return the messages of a body of gRPC, each behind a flag and four bytes of length; what is cut off is none."""
    found, place = [], 0
    while place + 5 <= len(body):
        size = int.from_bytes(body[place + 1 : place + 5], "big")
        if place + 5 + size > len(body):
            break
        found.append(body[place + 5 : place + 5 + size])
        place += 5 + size
    return found


def pieces(body: bytes, size: int) -> list[bytes]:
    """Return *body* in pieces of *size* bytes, or whole for 0."""
    return [body[start : start + size] for start in range(0, len(body), size)] if size else [body]
