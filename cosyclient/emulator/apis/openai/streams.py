"""Stream a text's audio as OpenAI-compatible servers do: bare samples, OpenAI's events, or SGLang-Omni's chunks."""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING, Any

from cosyclient.emulator.apis.base import render, segments, stream
from cosyclient.emulator.apis.sse import event
from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.speech.items import Audio
from cosyclient.emulator.speech.wav import split_wav, wav_header

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cosyclient.emulator.apis.openai.request import OpenAIRequest
    from cosyclient.emulator.core.service import Service
    from cosyclient.emulator.faults.plan import Fault

EVENTS = "text/event-stream"
_TOKENS_PER_SECOND = 25
_EVENT_BYTES = 4096


async def samples(
    service: Service, request: OpenAIRequest, fault: Fault | None, *, by_segment: bool
) -> AsyncIterator[bytes]:
    """Yield samples as they are rendered, with the fault applied; for WAV a header without sizes comes first."""
    source = stream(service, request.speech, segments(request.speech.text) if by_segment else None)
    name = fault.name if fault else ""
    if fault and name == "short_audio":
        whole = b"".join([piece async for piece in source])
        source = _cut(whole[: _even(len(whole) * fault["share"])], len(whole))
    if fault and name == "odd_pieces":
        source = _cut(b"".join([piece async for piece in source]), fault["bytes"])
    if request.wav:
        yield wav_header(None, request.speech.sample_rate)
    count = 0
    async for piece in source:
        if fault and name == "error_event" and count >= fault["after"]:
            raise Problem("internal", f"{fault['code']}: the engine failed")
        yield piece
        count += 1


async def events(service: Service, request: OpenAIRequest, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield OpenAI's events; vLLM-Omni adds the format to each, and sends an event for an error."""
    format, size = "wav" if request.wav else request.speech.format, 0
    if request.speech.format != "pcm":
        pieces = _cut((await render(service, request.speech)).data, _EVENT_BYTES)
    try:
        async for piece in pieces:
            size += len(piece)
            yield _event(service, "delta", {"audio": base64.b64encode(piece).decode(), "response_format": format})
    except Problem as problem:
        error = {"message": problem.detail, "type": "InternalServerError", "param": None, "code": 500}
        yield _event(service, "error", {"error": error})
        return
    tokens = {"input_tokens": len(request.speech.text), "output_tokens": size * _TOKENS_PER_SECOND // 48000}
    yield _event(service, "done", {"usage": {**tokens, "total_tokens": sum(tokens.values())}})


async def plain_events(service: Service, request: OpenAIRequest, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield SGLang-Omni's variant of OpenAI's events: without event names, with an error document of its own."""
    lines, size = service.settings.sse_lines, 0
    try:
        async for piece in pieces:
            size += len(piece)
            yield event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()}, lines=lines)
    except Problem as problem:
        error = {"message": problem.detail, "type": "server_error", "param": None, "code": None}
        yield event({"type": "error", "error": error}, lines=lines)
        return
    tokens = {"input_tokens": len(request.speech.text), "output_tokens": size * _TOKENS_PER_SECOND // 48000}
    usage = {**tokens, "total_tokens": sum(tokens.values())}
    yield event({"type": "speech.audio.done", "usage": usage, "finish_reason": "stop"}, lines=lines)


async def chunks(service: Service, request: OpenAIRequest, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the chunks that older revisions of SGLang-Omni sent."""
    shape, lines = {"id": f"speech-{uuid.uuid4()}", "object": "audio.speech.chunk"}, service.settings.sse_lines
    index = 0
    try:
        async for piece in pieces:
            audio = {
                "data": base64.b64encode(piece).decode(),
                "format": "pcm",
                "mime_type": "audio/pcm",
                "sample_rate": request.speech.sample_rate,
            }
            yield event({**shape, "index": index, "audio": audio, "finish_reason": None}, lines=lines)
            index += 1
    except Problem as problem:
        yield event({"error": {"message": problem.detail, "type": "server_error", "param": None, "code": None}})
        return
    yield event({**shape, "index": index, "audio": None, "finish_reason": "stop"}, lines=lines)
    yield b"data: [DONE]\n\n"


async def begun(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return *pieces* once the first of them is rendered."""
    first = await anext(pieces)

    async def from_first() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return from_first()


def shortened(audio: Audio, fault: Fault | None) -> Audio:
    """Return a valid file that lacks most of the audio, if that is the fault."""
    if fault is None or fault.name != "short_audio":
        return audio
    head, pcm = split_wav(audio.data)
    pcm = pcm[: _even(len(pcm) * fault["share"])]
    if head:
        head = wav_header(len(pcm), audio.sample_rate)
    return Audio(head + pcm, audio.media_type, audio.sample_rate, len(pcm) // 2 * 1000 // audio.sample_rate)


def _event(service: Service, name: str, members: dict[str, Any]) -> bytes:
    kind = f"speech.audio.{name}"
    return event({"type": kind, **members}, head=f"event: {kind}\n", lines=service.settings.sse_lines)


def _even(size: float) -> int:
    return max(2, int(size) // 2 * 2)


async def _cut(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
