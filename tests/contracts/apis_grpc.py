"""The gRPC runtime, and Triton over HTTP and gRPC, at the emulator."""

from __future__ import annotations

import hashlib

from cosyclient import BadRequest, ServiceFault, Throttled, TransportError
from tests.contracts.api_case import ApiCase
from tests.contracts.apis_runtime import MARKED
from tests.protocols.wire_runtime import CLONE, CROSS, TRANSCRIPT, recording

_DIGEST = hashlib.sha256(recording()[44:]).hexdigest()
_GRPC = {"grpc": True}
_REFUSALS = {400: BadRequest, 429: Throttled, 500: ServiceFault, 503: TransportError}

ROWS = [
    ApiCase(
        protocol="grpc",
        form="sft",
        scheme="grpc",
        emulator_options=_GRPC,
        options={"voice": "中文女"},
        received={"api": "grpc", "mode": "sft", "voice": "中文女"},
        bad={"sample_rate": 16000, "speed": 1.5, "format": "mp3", "seed": 3, "model": "x", "voice": None},
        mistakes=({"voice": "nobody"},),
        refusals=_REFUSALS,
    ),
    ApiCase(
        protocol="grpc",
        form="unmarked",
        thorough=False,
        scheme="grpc",
        emulator_options=_GRPC | {"runtime_model": "cosyvoice2"},
        options={"voice": CROSS},
        received={"mode": "cross_lingual"},
        mistakes=({"voice": "中文女"}, {"voice": "中文女", "instruct": "softly"}),
        refusals=_REFUSALS,
    ),
    *(
        ApiCase(
            protocol="grpc:cosyvoice3",
            form=mode,
            thorough=False,
            scheme="grpc",
            emulator_options=_GRPC | {"runtime_model": "cosyvoice3"},
            options={"voice": voice},
            received={"mode": mode, "prompt_sha256": _DIGEST, "prompt_text": transcript},
            refusals=_REFUSALS,
        )
        for mode, voice, transcript in (("zero_shot", CLONE, MARKED), ("cross_lingual", CROSS, ""))
    ),
    ApiCase(
        protocol="grpc",
        form="zero_shot",
        scheme="grpc",
        emulator_options=_GRPC,
        options={"voice": CLONE},
        received={"mode": "zero_shot", "prompt_sha256": _DIGEST, "prompt_text": TRANSCRIPT},
        bad={"instruct": "softly"},
        refusals=_REFUSALS,
    ),
    ApiCase(
        protocol="grpc",
        form="cross_lingual",
        scheme="grpc",
        emulator_options=_GRPC,
        options={"voice": CROSS},
        received={"mode": "cross_lingual", "prompt_sha256": _DIGEST, "prompt_text": ""},
        refusals=_REFUSALS,
    ),
    ApiCase(
        protocol="triton",
        streams=False,
        received={"api": "triton", "model": "cosyvoice2", "mode": "sft", "stream": False},
        bad={"sample_rate": 22050, "voice": "somebody", "format": "mp3", "instruct": "softly"},
    ),
    ApiCase(
        protocol="triton",
        form="clone",
        streams=False,
        options={"voice": CLONE},
        received={"mode": "zero_shot", "prompt_sha256": _DIGEST, "prompt_text": TRANSCRIPT},
        bad={"voice": CROSS},
    ),
    ApiCase(
        protocol="triton-grpc",
        form="offline",
        # A stream of it has a single piece.
        streams=False,
        scheme="grpc",
        emulator_options=_GRPC,
        received={"api": "triton-grpc", "model": "cosyvoice2", "mode": "sft", "stream": False},
        bad={"sample_rate": 22050, "voice": "somebody"},
        refusals=_REFUSALS,
    ),
    ApiCase(
        protocol="triton-grpc",
        form="decoupled",
        scheme="grpc",
        emulator_options=_GRPC | {"decoupled": True},
        options={"voice": CLONE},
        received={"mode": "zero_shot", "prompt_sha256": _DIGEST, "prompt_text": TRANSCRIPT, "stream": True},
        refusals=_REFUSALS,
    ),
]
