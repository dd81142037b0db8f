"""The protocols over WebSocket at the emulator: Model Studio, vLLM-Omni and LightTTS."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from cosyclient import BadRequest, ServiceFault, Voice
from tests.contracts.api_case import ApiCase
from tests.contracts.apis_runtime import MARKED
from tests.protocols.wire_runtime import CLONE, CROSS, TRANSCRIPT, recording

if TYPE_CHECKING:
    from collections.abc import Mapping

_DIGEST = hashlib.sha256(recording()).hexdigest()
_BROKEN: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("cut", {"share": 0.5}),
    ("cut", {"share": 0.0}),
    ("reset", {"at": 0}),
    ("reset", {}),
    ("empty", {}),
    ("garbage", {}),
    ("truncated_audio", {}),
)

ROWS = [
    ApiCase(
        protocol="model-studio",
        scheme="ws",
        options={"voice": "longanyang", "model": "cosyvoice-v3-flash", "speed": 0.8},
        sample_rate=22050,
        received={
            "api": "model-studio",
            "voice": "longanyang",
            "model": "cosyvoice-v3-flash",
            "sample_rate": 22050,
            "speed": 0.8,
        },
        bad={"voice": CLONE, "model": None},
        mistakes=({"voice": "longxiaochun_v2"}, {"voice": "nobody"}),
        broken=_BROKEN,
    ),
    ApiCase(
        protocol="model-studio",
        form="address",
        scheme="ws",
        path="/api-ws/v1/inference",
        options={"voice": "longxiaochun_v2", "model": "cosyvoice-v2"},
        received={"voice": "longxiaochun_v2", "model": "cosyvoice-v2", "format": "wav"},
        bad={"voice": None},
        broken=_BROKEN,
    ),
    ApiCase(
        protocol="vllm-omni-ws",
        scheme="ws",
        options={"voice": CLONE},
        received={"api": "vllm-omni-ws", "prompt_sha256": _DIGEST, "prompt_text": TRANSCRIPT, "sample_rate": 24000},
        bad={"voice": CROSS, "instruct": "softly", "sample_rate": 16000},
        mistakes=({"voice": "nobody"}, {"voice": "default"}, {"voice": Voice.clone(recording(0.2), "Too short.")}),
        # It has no codes: an error before the first audio is about the request, a later one is its own fault.
        refusals={400: BadRequest, 429: ServiceFault, 500: ServiceFault, 503: ServiceFault},
        broken=_BROKEN,
    ),
    ApiCase(
        protocol="lighttts-ws",
        scheme="ws",
        options={"voice": CLONE},
        received={"api": "lighttts-ws", "prompt_sha256": _DIGEST, "prompt_text": TRANSCRIPT},
        bad={"voice": "somebody", "speed": 1.5, "sample_rate": 16000, "format": "mp3"},
        mistakes=({"model": "nobody"},),
        refusals={400: ServiceFault, 429: ServiceFault, 500: ServiceFault, 503: ServiceFault},
        broken=_BROKEN,
    ),
    ApiCase(
        protocol="lighttts-ws:cosyvoice3",
        scheme="ws",
        thorough=False,
        options={"voice": CLONE},
        received={"api": "lighttts-ws", "prompt_sha256": _DIGEST, "prompt_text": MARKED},
        refusals={400: ServiceFault, 429: ServiceFault, 500: ServiceFault, 503: ServiceFault},
        broken=_BROKEN,
    ),
]
