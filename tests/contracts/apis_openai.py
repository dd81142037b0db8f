"""The servers called OpenAI-compatible at the emulator, each with its own rules."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from cosyclient import TransportError, Voice
from tests.contracts.api_case import ApiCase
from tests.emulator.wire import call
from tests.protocols.wire_runtime import CLONE, CROSS, TRANSCRIPT, recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.emulator import Emulator

PACED = {"chunk_seconds": 0.05}
"""Little enough for several pieces of an echo; the same for all, so that they share their emulators."""
_DIGEST = hashlib.sha256(recording()).hexdigest()
_MODEL = "FunAudioLLM/Fun-CosyVoice3-0.5B-2512"
_SHORT = Voice.clone(recording(0.2), "Too short.")
_CLONED = {"prompt_sha256": _DIGEST, "prompt_text": TRANSCRIPT}

# Half of a WAV file without sizes is a WAV file.
_UNSIZED = tuple(fault for fault in ApiCase(protocol="").broken if fault[0] != "truncated_audio")


def _form(fields: dict[str, str], file: str) -> tuple[bytes, dict[str, str]]:
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
        for name, value in fields.items()
    ]
    parts.append(
        f'--x\r\nContent-Disposition: form-data; name="{file}"; filename="a.wav"\r\n\r\n'.encode() + recording()
    )
    return b"\r\n".join([*parts, b"--x--\r\n"]), {"Content-Type": "multipart/form-data; boundary=x"}


def at(start: Callable[..., Emulator], dialect: str, **options: Any) -> Emulator:
    """Start the server of a dialect, whose audio carries its text."""
    return start(engine="echo", **PACED, dialect=dialect, **options)


def uploaded(emulator: Emulator) -> dict[str, Any]:
    """Upload the recording to vLLM-Omni or SGLang-Omni under a name."""
    body, headers = _form({"name": "Mine", "consent": "yes", "ref_text": TRANSCRIPT}, "audio_sample")
    answer = call(emulator.url, "POST", "/v1/audio/voices", body, headers)
    assert answer.status == 200, answer
    return {"voice": "mine"}


def registered(emulator: Emulator) -> dict[str, Any]:
    """Upload the recording to SiliconFlow or async_cosyvoice, which give it a name."""
    body, headers = _form({"customName": "mine", "text": TRANSCRIPT, "model": _MODEL}, "file")
    answer = call(emulator.url, "POST", "/v1/uploads/audio/voice", body, headers)
    assert answer.status == 200, answer
    return {"voice": answer.json()["uri"]}


def served(dialect: str, form: str = "", **more: Any) -> ApiCase:
    """Return a row of a dialect at its own server."""
    return ApiCase(
        protocol=f"openai:{dialect}",
        form=form,
        emulator_options={**PACED, "dialect": dialect, **more.pop("emulator_options", {})},
        **{"thorough": False, **more},
    )


ROWS = [
    ApiCase(
        protocol="openai",
        form="any",
        options={"voice": "中文女", "model": "cosyvoice2", "speed": 1.25},
        received={"api": "openai", "voice": "中文女", "model": "cosyvoice2", "speed": 1.25, "mode": "sft"},
        bad={"voice": CLONE, "model": None, "seed": 3, "words": True, "sample_rate": 16000},
        streams=False,
    ),
    *(
        ApiCase(
            protocol="openai",
            form=f"at-{dialect}",
            thorough=False,
            streams=False,
            options={"voice": voice, "model": "CosyVoice2-0.5B"},
            received={"voice": voice},
            bad={"seed": 3},
            mistakes=({"voice": "nobody"},),
            emulator_options={**PACED, "dialect": dialect},
        )
        for dialect, voice in (("xinference", "英文女"), ("vox-box", "Chinese Female"))
    ),
    served(
        "openai",
        path="/v1",
        options={"voice": "alloy", "model": "gpt-4o-mini-tts"},
        received={"voice": "alloy", "model": "gpt-4o-mini-tts", "speed": 1.0, "instruct": ""},
        bad={"sample_rate": 22050, "voice": CLONE},
        mistakes=({"voice": "nobody"},),
        broken=_UNSIZED,
    ),
    served(
        "vllm-omni",
        "clone",
        thorough=True,
        options={"voice": CLONE, "model": _MODEL},
        received={**_CLONED, "mode": "zero_shot", "model": _MODEL, "sample_rate": 24000},
        bad={"voice": CROSS, "instruct": "softly", "sample_rate": 16000},
        mistakes=({"voice": "nobody"}, {"voice": "default"}, {"voice": _SHORT}),
    ),
    served(
        "vllm-omni",
        "uploaded",
        prepare=uploaded,
        received={"voice": "mine", "sample_rate": 24000},
        bad={"voice": CROSS},
    ),
    served(
        "vllm-omni",
        "old",
        options={"voice": CLONE},
        received=_CLONED,
        emulator_options={"dialect_old": True},
        bad={"instruct": "softly"},
    ),
    served(
        "sglang-omni",
        "clone",
        options={"voice": CLONE, "speed": 1.5},
        received={**_CLONED, "model": "", "speed": 1.5},
        bad={"sample_rate": 16000, "voice": "mine"},
        mistakes=({"voice": _SHORT},),
    ),
    served(
        "sglang-omni",
        "old",
        thorough=True,
        options={"voice": CROSS, "model": _MODEL},
        received={"mode": "cross_lingual", "prompt_sha256": _DIGEST},
        emulator_options={"dialect_old": True, "sse_lines": True},
        bad={"words": True},
    ),
    served(
        "xinference",
        "named",
        options={"voice": "英文女", "model": "CosyVoice2-0.5B", "speed": 1.5},
        received={"voice": "英文女", "mode": "sft", "speed": 1.5},
        bad={"model": None},
        mistakes=(
            {"voice": "nobody"},
            {"text": "……！"},
            {"model": "CosyVoice-300M-SFT", "instruct": "softly"},
            {"model": "CosyVoice-300M-SFT", "voice": CLONE},
        ),
        streams=False,
    ),
    served(
        "xinference",
        "streamed",
        options={"voice": "英文女", "model": "cosyvoice-300m"},
        received={"voice": "英文女", "mode": "sft"},
        bad={"model": None},
    ),
    served(
        "xinference",
        "clone",
        thorough=True,
        options={"voice": CLONE, "model": "cosyvoice2"},
        received={**_CLONED, "mode": "zero_shot", "seed": None},
        emulator_options={"dialect_rate": 22050},
        sample_rate=22050,
        bad={"sample_rate": 44100},
    ),
    served(
        "vox-box",
        options={"voice": "Chinese Female", "model": "cosyvoice-300m"},
        received={"voice": "Chinese Female"},
        bad={"voice": CLONE, "speed": 1.5},
        mistakes=({"voice": "nobody"},),
        streams=False,
    ),
    served(
        "triton-bridge",
        options={"voice": "中文女", "model": "cosyvoice2"},
        received={"voice": "中文女"},
        bad={"format": "mp3", "instruct": "softly"},
        mistakes=({"voice": "nobody"},),
    ),
    served(
        "triton-bridge",
        "mislabelled",
        options={"voice": "中文女", "model": "cosyvoice2"},
        emulator_options={"dialect_label": 16000},
        bad={"sample_rate": 16000},
    ),
    served(
        "async-cosyvoice",
        options={"speed": 1.5},
        prepare=registered,
        received={"speed": 1.5, "mode": "sft"},
        bad={"format": "opus", "voice": CLONE},
        streams=False,
    ),
    served(
        "async-cosyvoice",
        "streamed",
        options={"voice": "中文男"},
        received={"voice": "中文男"},
        # Its reply ends early, which can have any cause, so no one is at fault.
        mistakes=({"voice": "nobody"},),
        mistaken=TransportError,
    ),
    served(
        "siliconflow",
        "preset",
        options={"voice": "alex", "sample_rate": 16000},
        sample_rate=16000,
        received={"voice": "FunAudioLLM/CosyVoice2-0.5B:alex", "sample_rate": 16000},
        bad={"seed": 1, "words": True},
        mistakes=({"voice": "nobody"},),
    ),
    served("siliconflow", "clone", options={"voice": CLONE}, received=_CLONED, bad={"voice": CROSS}),
]
