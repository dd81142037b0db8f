"""The service's side of the plain HTTP runtimes, written from the protocol reference and not from the client's code."""

from __future__ import annotations

import base64
import json
import struct
from typing import TYPE_CHECKING, Any

from cosyclient.testing import ScriptedReply
from cosyclient.voices import Voice
from tests.protocols import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

TRANSCRIPT = "希望你以后能够做的比我还好呦。"
SSE = "text/event-stream;charset=utf-8"


def recording(seconds: float = 1.0, rate: int = 16000) -> bytes:
    """Return a WAV file that a voice can be made of, its header written by hand."""
    samples = struct.pack("<h", 700) * round(seconds * rate)
    head = struct.pack("<4sI8sIHHIIHH", b"RIFF", 36 + len(samples), b"WAVEfmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    return head + struct.pack("<4sI", b"data", len(samples)) + samples


CLONE = Voice.clone(recording(), TRANSCRIPT)
CROSS = Voice.cross_lingual(recording())


def raw_reply(*chunks: bytes | Exception, **headers: str) -> ScriptedReply:
    """Return a 200 that says nothing of its body."""
    return ScriptedReply(200, headers, chunks)


def b64(data: bytes) -> str:
    """Return *data* as these services write it."""
    return base64.b64encode(data).decode()


def pai_body(audio: bytes, finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    """Return one object of PAI-EAS, whole or one of several."""
    return {
        "request_id": "r-pai",
        "output": {"finish_reason": finish, "audio": {"id": "audio_1", "data": b64(audio)}},
        "usage": {},
        **more,
    }


def pai_json(count: int) -> bytes:
    """Return a whole JSON reply, without audio for nothing."""
    return json.dumps(pai_body(wire.tagged_wav(0) if count else b"")).encode()


def sse_event(document: Any, *, name: str = "result", multi: bool = False) -> bytes:
    """Return one event as Model Studio writes it; *multi* over several lines."""
    text = json.dumps(document, indent=1 if multi else None, ensure_ascii=False)
    data = "\n".join(f"data:{line}" for line in text.split("\n"))
    return f"id:1\nevent:{name}\n:HTTP_STATUS/200\n{data}".encode()


def model_studio(output: dict[str, Any]) -> dict[str, Any]:
    """Return what surrounds one ``output``."""
    return {"request_id": "r-model-studio", "output": output, "usage": {"characters": 2}}


def sentence(kind: str, words: Sequence[Any] = (), audio: bytes = b"", index: int = 0) -> dict[str, Any]:
    """Return the ``output`` of one event about a sentence."""
    output: dict[str, Any] = {"type": f"sentence-{kind}", "sentence": {"index": index, "words": list(words)}}
    return output | ({"audio": {"data": b64(audio)}, "finish_reason": "null"} if audio else {})


STOP = {"finish_reason": "stop", "audio": {"url": "http://elsewhere.example/a.wav", "id": "a", "expires_at": 1}}


def model_studio_events(*outputs: dict[str, Any], multi: bool = False) -> bytes:
    """Return a stream of *outputs*; the last blank line is left out, as some proxies do."""
    return b"\n\n".join(sse_event(model_studio(output), multi=multi) for output in outputs)


def model_studio_whole(count: int, *, multi: bool = False) -> bytes:
    """Return a whole stream, its samples cut inside one, without audio for nothing."""
    samples = wire.tagged_pcm(0)
    pieces = (samples[:101], samples[101:]) if count else ()
    spoken = [sentence("synthesis", audio=piece) for piece in pieces]
    return model_studio_events(*spoken, sentence("end"), STOP, multi=multi)
