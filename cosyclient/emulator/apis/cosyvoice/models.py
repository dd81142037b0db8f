"""What the models of CosyVoice's runtime do with a request, over HTTP and gRPC alike: refuse it, or generate speech."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosyclient.emulator.apis.base import segments, stream
from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.speech.voices import VOICES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cosyclient.emulator.apis.base import SpeechRequest
    from cosyclient.emulator.core.service import Service
    from cosyclient.emulator.settings import Settings

END_OF_PROMPT = "<|endofprompt|>"
_V1 = "cosyvoice-300m"
_RATES = {_V1: 22050}
_RATE = 24000
_HOPS = {22050: 256, 24000: 480}
_LONGEST_PROMPT = 30.0


def sample_rate_of(settings: Settings) -> int:
    """Return the sample rate of the model that is served."""
    return _RATES.get(settings.runtime_model, _RATE)


def split_instruction(text: str) -> tuple[str, str]:
    """Return the instruction before the last end-of-prompt mark of *text*, the mark included, and what is spoken."""
    instruction, mark, spoken = text.rpartition(END_OF_PROMPT)
    return instruction + mark, spoken


async def generate(service: Service, request: SpeechRequest, error: str) -> AsyncIterator[bytes]:
    """Yield the samples of *request*, a piece per segment; an *error* of the model is raised as a Problem.

    It is raised at the first piece, when the head of the reply has left. Text with markup is one segment.
    """
    marked_up = "<|" in request.text and "|>" in request.text
    pieces = [request.text] if marked_up else segments(request.text)
    if error or not pieces:
        service.received.append(request.document())
    if error:
        raise Problem("internal", error)
    if pieces:
        async for piece in stream(service, request, pieces, hop=_HOPS[request.sample_rate]):
            yield piece


def error_in(settings: Settings, request: SpeechRequest, prompt_seconds: float) -> str:
    """Return the message of the exception that the model raises for *request* and its prompt's length, or ""."""
    model = settings.runtime_model
    known = request.voice in VOICES and model in ("any", _V1)
    marked = END_OF_PROMPT in f"{request.text}{request.prompt_text}{request.instruct}"
    for wrong, why in (
        (bool(request.voice) and not known, repr(request.voice)),
        (
            request.mode == "instruct" and (model not in ("any", _V1) or not request.voice),
            "inference_instruct is only implemented for CosyVoice!",
        ),
        (request.mode == "instruct2" and model == _V1, "'CosyVoice' object has no attribute 'inference_instruct2'"),
        (
            model == "cosyvoice3" and not marked,
            f"{END_OF_PROMPT} not detected in CosyVoice3 text or prompt_text, check your input!",
        ),
        (prompt_seconds > _LONGEST_PROMPT, "do not support extract speech token for audio longer than 30s"),
        (settings.runtime_tensor and request.prompt is not None, "Invalid file: tensor"),
    ):
        if wrong:
            return why
    return ""
