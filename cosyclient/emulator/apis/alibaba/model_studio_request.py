"""Read a run-task message of Model Studio, and refuse it with the service's codes."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cosyclient.emulator.apis.base import SpeechRequest
from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.speech.timings import word_timings

if TYPE_CHECKING:
    from cosyclient.emulator.faults.plan import Fault

_FORMATS = ("pcm", "wav", "mp3", "opus")
_RATES = (8000, 16000, 22050, 24000, 44100, 48000)
MOST_AT_ONCE = 20_000
MOST_OF_A_TASK = 200_000
TAG = re.compile(r"<[^>]*>")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
# A preset voice belongs to a generation of models; for others the suffix of the name tells which.
_GENERATIONS = {"longanyang": "v3", "longanhuan": "v3", "longxiaochun_v2": "v2", "longxiaochun": "v1", "longwan": "v1"}
MODELS = ("cosyvoice-", "qwen-audio-3.0-tts", "qwen-audio-3.1-tts")
"""Prefixes of the model names."""
CODES = {
    "rate_limited": ("Throttling.RateQuota", "Requests rate limit exceeded, please try again later."),
    "overloaded": ("Throttling.AllocationQuota", "Allocated quota exceeded, please increase your quota limit."),
    "unauthorized": ("InvalidApiKey", "Invalid API-key provided."),
    "loading": ("ServiceUnavailable", "The service is unavailable, please try again later."),
}


class TaskFailure(Problem):
    """Fail the task, with a code and a message of the service."""


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """A valid run-task message."""

    task: str
    speech: SpeechRequest
    ssml: bool
    words: bool


def has_voice(model: str, voice: str) -> bool:
    """Return whether *model* has *voice*: one of its generation, or one cloned for it, which begins with its name."""
    if not model.startswith("cosyvoice"):
        return True  # no list of these models' voices is kept here
    generation = _GENERATIONS.get(voice) or (voice[-2:] if voice.startswith("long") and voice[-3:-1] == "_v" else "")
    if generation:
        return model.startswith(f"cosyvoice-{generation}")
    return voice.startswith(("long", f"{model}-"))


def read_task(name: str, payload: Any) -> TaskRequest:
    """Return the request in the *payload* of a run-task message; raises `TaskFailure`."""
    if not isinstance(payload, dict) or payload.get("input") != {}:
        raise TaskFailure("InvalidParameter", "task can not be null")
    expected = {"task_group": "audio", "task": "tts", "function": "SpeechSynthesizer"}
    if any(payload.get(key) != value for key, value in expected.items()):
        raise TaskFailure("InvalidParameter", "task_group, task or function is not known")
    model, asked = payload.get("model"), payload.get("parameters")
    if not isinstance(model, str) or not model.startswith(MODELS):
        raise TaskFailure("ModelNotFound", "Model not exist.")
    if not isinstance(asked, dict):
        raise TaskFailure("InvalidParameter", "parameters must be an object")
    voice = asked.get("voice")
    if not isinstance(voice, str) or not voice:
        raise TaskFailure("InvalidParameter", "voice is required")
    if not has_voice(model, voice):
        raise TaskFailure("InvalidParameter", "[tts:]Engine return error code: 418")
    # "Default" is what the SDK sends; the service then takes its own default.
    format = "mp3" if asked.get("format", "mp3") == "Default" else asked.get("format", "mp3")
    rate = asked.get("sample_rate", 22050) or 22050
    speed, seed = asked.get("rate", 1.0), asked.get("seed", 0)
    for fine, what in (
        (format in _FORMATS and not (format == "opus" and model == "cosyvoice-v1"), "format"),
        (rate in _RATES, "sample_rate"),
        (isinstance(speed, (int, float)) and 0.5 <= speed <= 2.0, "rate"),
        (isinstance(asked.get("pitch", 1.0), (int, float)) and 0.5 <= asked.get("pitch", 1.0) <= 2.0, "pitch"),
        (type(asked.get("volume", 50)) is int and 0 <= asked.get("volume", 50) <= 100, "volume"),
        (type(seed) is int and 0 <= seed <= 65535, "seed"),
        (isinstance(asked.get("instruction", ""), str), "instruction"),
        (asked.get("text_type", "PlainText") in ("PlainText", "SSML"), "text_type"),
    ):
        if not fine:
            raise TaskFailure("InvalidParameter", f"the parameter {what} is not supported")
    speech = SpeechRequest(
        api="model-studio",
        text="",
        voice=voice,
        model=model,
        instruct=asked.get("instruction", ""),
        format=format,
        sample_rate=rate,
        speed=float(speed),
        seed=seed or None,
        stream=True,
    )
    ssml = asked.get("enable_ssml") is True or asked.get("text_type") == "SSML"
    return TaskRequest(name, speech, ssml, asked.get("word_timestamp_enabled") is True)


def failure_from(fault: Fault | None) -> TaskFailure:
    """Return the failure that *fault* asks for."""
    if fault is not None and fault.name == "unavailable":
        return TaskFailure("InternalError", "no node is ready")
    if fault is None or fault.name != "error" or fault["status"] == 429:
        return TaskFailure(*CODES["rate_limited"])
    code = "InternalError" if fault["status"] >= 500 else "InvalidParameter"
    return TaskFailure(fault["code"] or code, "a fault that was asked for")


def denial_document(problem: Problem) -> dict[str, Any]:
    """Return the body of a refused handshake."""
    code, message = CODES.get(
        problem.code, ("AccessDenied" if problem.status == 403 else "InternalError", problem.detail)
    )
    return {"code": code, "message": message, "request_id": str(uuid.uuid4())}


def billed_characters(text: str) -> int:
    """Return the characters of *text* as they are billed: a Han character is two."""
    return len(text) + len(_HAN.findall(text))


def word_documents(sentence: str, begin_ms: int, duration_ms: int) -> list[dict[str, Any]]:
    """Return when each word of *sentence*, whose audio begins at *begin_ms*, is spoken."""
    return [
        {
            "text": word.text,
            "begin_index": word.start,
            "end_index": word.end,
            "begin_time": word.begin_ms,
            "end_time": word.end_ms,
        }
        for word in word_timings(sentence, begin_ms, duration_ms)
    ]
