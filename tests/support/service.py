"""A service as a function: it answers a `WireRequest` of the batch protocol, each audio made from its text."""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any

from cosyclient.audio import parse_wav, wav_bytes
from cosyclient.testing import ScriptedReply

if TYPE_CHECKING:
    from cosyclient.models import Speech
    from cosyclient.wire import WireRequest


def body_of(request: WireRequest) -> dict[str, Any]:
    """Return what *request* asks for."""
    packed = dict(request.headers).get("Content-Encoding") == "gzip"
    document: dict[str, Any] = json.loads(gzip.decompress(request.body) if packed else request.body)
    return document


def texts_of(request: WireRequest) -> list[str]:
    """Return the texts *request* carries."""
    return list(body_of(request)["texts"])


def audio_of(text: str) -> bytes:
    """Return a WAV that carries *text* in its samples, padded to an even length."""
    return wav_bytes(text.encode().ljust(2 * ((len(text.encode()) + 1) // 2), b"\0"), 24000, 1)


def text_in(speech: Speech | bytes) -> str:
    """Return the text an audio of `audio_of` carries."""
    audio = speech if isinstance(speech, bytes) else speech.audio
    return parse_wav(audio).samples.rstrip(b"\0").decode()


def item(index: int, text: str) -> dict[str, Any]:
    """Return one finished item."""
    return {"index": index, "status": "success", "audio_data": base64.b64encode(audio_of(text)).decode()}


def failed(index: int, *, retryable: bool, code: str = "internal") -> dict[str, Any]:
    """Return one failed item."""
    return {"index": index, "status": "error", "error": {"code": code, "detail": "no", "retryable": retryable}}


def reply(results: list[dict[str, Any]], **headers: str) -> ScriptedReply:
    """Return a 200 with *results*."""
    return ScriptedReply(
        200, {"Content-Type": "application/json", **headers}, [json.dumps({"results": results}).encode()]
    )


def answer(request: WireRequest) -> ScriptedReply:
    """Answer with a speech for every text."""
    return reply([item(index, text) for index, text in enumerate(texts_of(request))])


def refuse(status: int, code: str = "x", **headers: str) -> ScriptedReply:
    """Return a problem reply."""
    problem = {"title": "no", "status": status, "code": code}
    return ScriptedReply(
        status, {"Content-Type": "application/problem+json", **headers}, [json.dumps(problem).encode()]
    )
