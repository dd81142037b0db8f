"""Describe as data how the OpenAI-compatible servers differ: the fields they take and require, and their replies.

OpenAI's ``openapi.yaml``, vLLM-Omni (Fun-CosyVoice3), SGLang-Omni (Fun-CosyVoice3), Xinference, Vox-Box, the
Triton-OpenAI bridge, async_cosyvoice and SiliconFlow, as of late 2026.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cosyclient.emulator.speech.voices import MODELS, VOICES

if TYPE_CHECKING:
    from collections.abc import Mapping

Envelope = Literal["openai", "vllm", "sglang", "fastapi", "vox-box", "xinference", "siliconflow"]
Stream = Literal["", "vllm", "sglang", "openai", "raw", "sentences"]

_BASIC = frozenset({"model", "input", "voice", "response_format", "speed"})
_OMNI = _BASIC | {"instructions", "ref_audio", "ref_text", "seed", "stream", "stream_format"}
_SPEAKERS = tuple(VOICES)
_COSYVOICE3 = "FunAudioLLM/Fun-CosyVoice3-0.5B-2512"
_COSYVOICE2 = "FunAudioLLM/CosyVoice2-0.5B"
_XINFERENCE = ("CosyVoice2-0.5B", "CosyVoice-300M-SFT", "CosyVoice-300M-Instruct", "CosyVoice-300M")


@dataclass(frozen=True, kw_only=True)
class Server:
    """Describe one server; fields outside *takes* are ignored, unless it is *strict*."""

    takes: frozenset[str]
    needs: tuple[str, ...] = ("input",)
    strict: bool = False
    formats: tuple[str, ...] = ("wav", "pcm", "mp3", "opus")
    """Its formats, as far as the emulator can encode them."""
    default_format: str = "wav"
    speeds: tuple[float, float] = (0.25, 4.0)
    rates: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """What ``sample_rate`` may be for a format; a format that is missing takes any rate the emulator can make."""
    default_rates: Mapping[str, int] = field(default_factory=dict)
    longest: int = 1_000_000
    """Most characters of a text."""
    models: tuple[str, ...] | None = None
    """``None`` accepts any name."""
    voices: tuple[str, ...] | None = None
    """Preset names; ``None`` accepts any name."""
    uploads: bool = False
    """Whether voices can be uploaded."""
    reference: bool = False
    """Whether a recording or an uploaded voice is required, as there are no presets."""
    transcript: bool = False
    """Whether a recording must come with its transcript."""
    marks: bool = False
    """Whether what stands before ``<|endofprompt|>`` is an instruction."""
    stream: Stream = ""
    always_streams: bool = False
    unsized_wav: bool = False
    """Whether even a whole WAV has 0xFFFFFFFF for its sizes."""
    batch: int = 0
    path: tuple[str, ...] = ("/v1/audio/speech",)
    routes: frozenset[str] = frozenset({"models"})
    envelope: Envelope = "openai"
    types: Mapping[str, str] = field(default_factory=dict)
    """Media types that are not the usual ones; ``{rate}`` stands for the rate that it claims."""
    owner: str = "emulator"
    breaks: bool = False
    """Whether the reply to an unknown voice ends after its head."""


_PCM = {"wav": "audio/wav", "pcm": "audio/pcm", "mp3": "audio/mpeg", "opus": "audio/ogg"}
_L16 = {**_PCM, "pcm": "audio/L16;rate={rate};channels=1"}

SERVERS: Mapping[str, Server] = {
    # Takes what any of the others takes, with any voice and model.
    "any": Server(
        takes=_OMNI
        | {"sample_rate", "word_timestamps", "references", "kwargs", "prompt_speech", "gain", "language", "task_type"},
        marks=True,
        uploads=True,
        stream="vllm",
        batch=32,
        path=("/v1/audio/speech", "/audio/speech"),
        routes=frozenset({"models", "voices", "vox-voices", "siliconflow-voices"}),
        types=_PCM,
    ),
    "openai": Server(
        takes=_BASIC | {"instructions", "stream_format"},
        needs=("model", "input", "voice"),
        strict=True,
        default_format="mp3",
        longest=4096,
        models=("tts-1", "tts-1-hd", "gpt-4o-mini-tts", *MODELS),
        voices=(
            *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable"),
            *("marin", "nova", "onyx", "sage", "shimmer", "verse"),
        ),
        stream="openai",
        unsized_wav=True,
        types=dict.fromkeys(_PCM, "application/octet-stream") | {"mp3": "audio/mpeg", "wav": "audio/wav"},
        owner="system",
    ),
    "vllm-omni": Server(
        takes=_OMNI | {"sample_rate", "word_timestamps", "speaker", "references"},
        models=(_COSYVOICE3, *MODELS),
        voices=(),
        uploads=True,
        reference=True,
        transcript=True,
        stream="vllm",
        batch=32,
        routes=frozenset({"models", "voices", "vllm-version"}),
        envelope="vllm",
        types=_PCM,
        owner="vllm",
    ),
    "sglang-omni": Server(
        takes=_OMNI | {"speaker", "references"},
        longest=4096,
        voices=("default",),
        reference=True,
        stream="sglang",
        batch=32,
        routes=frozenset({"models", "voices"}),
        envelope="sglang",
        types={**_PCM, "opus": "audio/opus"},
        owner="sglang",
    ),
    "xinference": Server(
        takes=_BASIC | {"stream", "kwargs", "prompt_speech"},
        needs=("model", "input"),
        default_format="mp3",
        speeds=(0.0, math.inf),
        models=(*_XINFERENCE, *MODELS),
        voices=("", *_SPEAKERS),
        stream="raw",
        routes=frozenset({"models", "xinference-version"}),
        envelope="xinference",
        types=_PCM,
        owner="xinference",
    ),
    "vox-box": Server(
        takes=_BASIC,
        needs=("model", "input", "voice"),
        default_format="mp3",
        speeds=(0.25, 2.0),
        voices=(
            *("Chinese Female", "Chinese Male", "Japanese Male", "Cantonese Female"),
            *("English Female", "English Male", "Korean Female"),
        ),
        routes=frozenset({"models", "vox-voices"}),
        envelope="vox-box",
        types={**_PCM, "opus": "audio/ogg;codec=opus"},
        owner="vox-box",
    ),
    "triton-bridge": Server(
        takes=_BASIC - {"speed"} | {"instructions"},
        needs=("model", "input", "voice"),
        formats=("wav", "pcm"),
        default_format="pcm",
        models=MODELS,
        voices=_SPEAKERS,
        stream="sentences",
        path=("/audio/speech",),
        routes=frozenset(),
        envelope="fastapi",
        types=_L16,
    ),
    "async-cosyvoice": Server(
        takes=_BASIC | {"stream", "sample_rate"},
        needs=("input", "voice"),
        formats=("wav", "pcm", "mp3"),
        default_format="mp3",
        longest=4096,
        voices=_SPEAKERS,
        uploads=True,
        marks=True,
        stream="raw",
        routes=frozenset({"siliconflow-voices"}),
        envelope="fastapi",
        types=_L16,
        owner="async-cosyvoice",
        breaks=True,
    ),
    "siliconflow": Server(
        takes=_BASIC | {"references", "sample_rate", "gain", "stream", "max_tokens"},
        needs=("model", "input"),
        default_format="mp3",
        rates={
            "mp3": (44100,),
            "opus": (48000,),
            "wav": (8000, 16000, 24000, 44100),
            "pcm": (8000, 16000, 24000, 44100),
        },
        default_rates={"mp3": 44100, "opus": 48000, "wav": 44100, "pcm": 44100},
        longest=128_000,
        models=(_COSYVOICE2,),
        voices=tuple(
            f"{_COSYVOICE2}:{name}"
            for name in ("alex", "benjamin", "charles", "david", "anna", "bella", "claire", "diana")
        ),
        uploads=True,
        transcript=True,
        marks=True,
        stream="raw",
        always_streams=True,
        routes=frozenset({"models", "siliconflow-voices"}),
        envelope="siliconflow",
        types=_PCM,
    ),
}
"""Every server by the name of its dialect."""
