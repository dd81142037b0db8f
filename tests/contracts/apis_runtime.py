"""The plain HTTP runtimes at the emulator: the official one, LightTTS, PAI-EAS and Model Studio."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from cosyclient import BadRequest, NotFound, ServiceFault, Throttled, TransportError
from tests.contracts.api_case import ApiCase
from tests.emulator.wire import call
from tests.protocols.wire_runtime import CLONE, CROSS, TRANSCRIPT, recording

if TYPE_CHECKING:
    from cosyclient.emulator import Emulator

MARKED = f"You are a helpful assistant.<|endofprompt|>{TRANSCRIPT}"
"""A transcript with the mark that CosyVoice3 requires."""
_DIGEST = hashlib.sha256(recording()).hexdigest()


def uploaded(emulator: Emulator) -> dict[str, Any]:
    """Upload the recording to PAI-EAS as a voice."""
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\n' + TRANSCRIPT.encode(),
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + recording(),
        b"--x--\r\n",
    ]
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = call(emulator.url, "POST", "/api/v1/audio/reference_audio", b"\r\n".join(parts), headers)
    assert answer.status == 200, answer
    return {"voice": answer.json()["id"]}


ROWS = [
    ApiCase(
        protocol="runtime",
        form="sft",
        options={"voice": "中文女"},
        received={"api": "runtime", "mode": "sft", "voice": "中文女"},
        # Its reply ends early, which can have any cause, so no one is at fault.
        mistakes=({"voice": "nobody"},),
        mistaken=TransportError,
        bad={"sample_rate": 16000, "speed": 1.5, "format": "mp3", "seed": 3, "model": "x", "voice": None},
    ),
    ApiCase(
        protocol="runtime",
        form="zero_shot",
        options={"voice": CLONE},
        received={"mode": "zero_shot", "prompt_sha256": _DIGEST, "prompt_text": TRANSCRIPT},
        bad={"words": True},
    ),
    ApiCase(
        protocol="runtime:cosyvoice3",
        form="cross_lingual",
        options={"voice": CROSS},
        received={"mode": "cross_lingual", "prompt_sha256": _DIGEST, "prompt_text": ""},
        emulator_options={"runtime_model": "cosyvoice3"},
    ),
    ApiCase(
        protocol="runtime:cosyvoice3",
        form="zero_shot",
        thorough=False,
        options={"voice": CLONE},
        received={"mode": "zero_shot", "prompt_sha256": _DIGEST, "prompt_text": MARKED},
        emulator_options={"runtime_model": "cosyvoice3"},
    ),
    ApiCase(
        protocol="lighttts",
        path="/lighttts",
        options={"voice": CLONE, "model": "CosyVoice2"},
        received={
            "api": "lighttts",
            "prompt_sha256": _DIGEST,
            "prompt_text": TRANSCRIPT,
            "model": "CosyVoice2",
            "speed": 1.0,
        },
        bad={"voice": CROSS, "instruct": "softly", "sample_rate": 22050},
        mistakes=({"model": "nobody"},),
        refusals={400: BadRequest, 417: ServiceFault, 429: Throttled, 500: ServiceFault, 503: ServiceFault},
    ),
    ApiCase(
        protocol="lighttts:cosyvoice3",
        form="alone",
        thorough=False,
        options={"voice": CLONE},
        received={"api": "lighttts", "prompt_text": MARKED, "model": "default"},
        emulator_options={"serve": "lighttts"},
        refusals={400: BadRequest, 417: ServiceFault, 429: Throttled, 500: ServiceFault, 503: ServiceFault},
    ),
    ApiCase(
        protocol="pai-eas",
        options={"sample_rate": 16000, "speed": 1.5},
        sample_rate=16000,
        prepare=uploaded,
        received={"api": "pai-eas", "mode": "fast_replication", "sample_rate": 16000, "speed": 1.5},
        bad={"voice": CLONE, "format": "opus", "seed": 1},
        mistakes=({"voice": "nobody"},),
        mistaken=NotFound,
    ),
    ApiCase(
        protocol="model-studio-http",
        options={"voice": "longanyang", "model": "cosyvoice-v3-flash", "speed": 0.8},
        sample_rate=22050,
        received={
            "api": "model-studio-http",
            "voice": "longanyang",
            "model": "cosyvoice-v3-flash",
            "format": "pcm",
            "sample_rate": 22050,
            "speed": 0.8,
            "stream": True,
        },
        bad={"voice": CLONE, "model": None},
        mistakes=({"voice": "longxiaochun_v2"}, {"voice": "nobody"}),
    ),
]
