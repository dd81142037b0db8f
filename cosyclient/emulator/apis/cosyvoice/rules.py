"""What the official runtime's models find wrong with what they are asked for, over HTTP and gRPC alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosyclient.emulator.speech.voices import VOICES

if TYPE_CHECKING:
    from cosyclient.emulator.apis.base import SpeechRequest
    from cosyclient.emulator.settings import Settings

END_OF_PROMPT = "<|endofprompt|>"
_V1 = "cosyvoice-300m"
_RATES = {_V1: 22050}
_RATE = 24000
_HOPS = {22050: 256, 24000: 480}
_LONGEST_PROMPT = 30.0


def rate_of(settings: Settings) -> int:
    """Return the sample rate of the model that is served."""
    return _RATES.get(settings.runtime_model, _RATE)


def hop_of(sample_rate: int) -> int:
    """Return how many samples the vocoder of the model at this rate makes at a time."""
    return _HOPS[sample_rate]


def error_in(settings: Settings, request: SpeechRequest, prompt_seconds: float) -> str:
    """Return the words of the exception that *request* ends in, or nothing; the prompt lasts *prompt_seconds*."""
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
