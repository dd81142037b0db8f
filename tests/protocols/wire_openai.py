"""The service's side of OpenAI's speech wire, written from the protocol reference and not from the client's code."""

from __future__ import annotations

import base64
import json
import struct
from typing import TYPE_CHECKING, Any

from cosyclient.testing import ScriptedReply
from tests.protocols import wire

if TYPE_CHECKING:
    from collections.abc import Mapping

SSE = "text/event-stream; charset=utf-8"
UNKNOWN = b"\xff\xff\xff\xff"


def b64(data: bytes) -> str:
    """Return *data* as the services write it."""
    return base64.b64encode(data).decode()


def unsized(wav: bytes) -> bytes:
    """Return a WAV file whose header was written before anybody knew its sizes."""
    return wav[:4] + UNKNOWN + wav[8:40] + UNKNOWN + wav[44:]


def wav(samples: bytes, rate: int = 24000, channels: int = 1, bits: int = 16) -> bytes:
    """Return samples as a WAV file, its header written by hand."""
    block = bits // 8 * channels
    shape = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * block, block, bits)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(samples))
        + b"WAVEfmt "
        + shape
        + struct.pack("<4sI", b"data", len(samples))
        + samples
    )


def audio(kind: str, *pieces: bytes | Exception, **headers: str) -> ScriptedReply:
    """Return a success of this media type; underscores in names of headers are dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ScriptedReply(200, {"Content-Type": kind, **named}, pieces)


def event(document: Mapping[str, Any] | str, *, name: str = "") -> bytes:
    """Return one event."""
    data = document if isinstance(document, str) else json.dumps(document)
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


def delta(audio: bytes, format: str = "pcm") -> bytes:
    """Return an event of vLLM-Omni's with audio in it."""
    kind = "speech.audio.delta"
    return event({"type": kind, "audio": b64(audio), "response_format": format}, name=kind)


def done() -> bytes:
    """Return the event that ends OpenAI's and vLLM-Omni's."""
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    return event({"type": "speech.audio.done", "usage": usage}, name="speech.audio.done")


def failed(message: str = "the engine died", code: int = 500, kind: str = "InternalServerError") -> bytes:
    """Return the event by which vLLM-Omni says that there will be no more."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    return event({"type": "speech.audio.error", "error": error}, name="speech.audio.error")


def chunk(audio: bytes | None, index: int = 0, rate: int = 24000) -> bytes:
    """Return an event of SGLang-Omni's."""
    data = (
        None
        if audio is None
        else {
            "data": b64(audio),
            "format": "pcm",
            "mime_type": "audio/pcm",
            "sample_rate": rate,
        }
    )
    reason = "stop" if audio is None else None
    return event(
        {"id": "speech-1", "object": "audio.speech.chunk", "index": index, "audio": data, "finish_reason": reason}
    )


DONE = event("[DONE]")


def batch_body(count: int) -> bytes:
    """Return vLLM-Omni's reply to a batch; what it holds is told last."""
    results = [
        {"index": index, "status": "success", "audio_data": b64(wire.tagged_wav(index)), "media_type": "audio/wav"}
        for index in range(count)
    ]
    return json.dumps(
        {"id": "speech-batch-1", "results": results, "total": count, "succeeded": count, "failed": 0}
    ).encode()


def refusal(status: int, document: Any, **headers: str) -> ScriptedReply:
    """Return a refusal in JSON."""
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    return ScriptedReply(status, {"Content-Type": "application/json", **shown}, [json.dumps(document).encode()])
