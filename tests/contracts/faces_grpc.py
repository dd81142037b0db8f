"""The gRPC runtime, and Triton over both its ways, at the emulator."""

from __future__ import annotations

import hashlib

from cosyclient import BadRequest, ServiceFault, Throttled, TransportError
from tests.contracts.faces_runtime import MARKED
from tests.contracts.served import Served
from tests.protocols.wire_runtime import CLONE, CROSS, TRANSCRIPT, recording

_DIGEST = hashlib.sha256(recording()[44:]).hexdigest()
_GRPC = {"grpc": True}
_REFUSALS = {400: BadRequest, 429: Throttled, 500: ServiceFault, 503: TransportError}

ROWS = [
    Served(
        protocol="grpc",
        form="sft",
        scheme="grpc",
        switches=_GRPC,
        options={"voice": "中文女"},
        heard={"face": "grpc", "mode": "sft", "voice": "中文女"},
        bad={"sample_rate": 16000, "speed": 1.5, "format": "mp3", "seed": 3, "model": "x", "voice": None},
        mistakes=({"voice": "nobody"},),
        refusals=_REFUSALS,
    ),
    Served(
        protocol="grpc",
        form="unmarked",
        thorough=False,
        scheme="grpc",
        switches=_GRPC | {"runtime_model": "cosyvoice2"},
        options={"voice": CROSS},
        heard={"mode": "cross_lingual"},
        mistakes=({"voice": "中文女"}, {"voice": "中文女", "instruct": "softly"}),
        refusals=_REFUSALS,
    ),
    *(
        Served(
            protocol="grpc:cosyvoice3",
            form=mode,
            thorough=False,
            scheme="grpc",
            switches=_GRPC | {"runtime_model": "cosyvoice3"},
            options={"voice": voice},
            heard={"mode": mode, "prompt_sha256": _DIGEST, "prompt_text": said},
            refusals=_REFUSALS,
        )
        for mode, voice, said in (("zero_shot", CLONE, MARKED), ("cross_lingual", CROSS, ""))
    ),
    Served(
        protocol="grpc",
        form="zero_shot",
        scheme="grpc",
        switches=_GRPC,
        options={"voice": CLONE},
        heard={"mode": "zero_shot", "prompt_sha256": _DIGEST, "prompt_text": TRANSCRIPT},
        bad={"instruct": "softly"},
        refusals=_REFUSALS,
    ),
    Served(
        protocol="grpc",
        form="cross_lingual",
        scheme="grpc",
        switches=_GRPC,
        options={"voice": CROSS},
        heard={"mode": "cross_lingual", "prompt_sha256": _DIGEST, "prompt_text": ""},
        refusals=_REFUSALS,
    ),
    Served(
        protocol="triton",
        streams=False,
        heard={"face": "triton", "model": "cosyvoice2", "mode": "sft", "stream": False},
        bad={"sample_rate": 22050, "voice": "somebody", "format": "mp3", "instruct": "softly"},
    ),
    Served(
        protocol="triton",
        form="clone",
        streams=False,
        options={"voice": CLONE},
        heard={"mode": "zero_shot", "prompt_sha256": _DIGEST, "prompt_text": TRANSCRIPT},
        bad={"voice": CROSS},
    ),
    Served(
        protocol="triton-grpc",
        form="offline",
        # It can be listened to as a stream, of one piece.
        streams=False,
        scheme="grpc",
        switches=_GRPC,
        heard={"face": "triton-grpc", "model": "cosyvoice2", "mode": "sft", "stream": False},
        bad={"sample_rate": 22050, "voice": "somebody"},
        refusals=_REFUSALS,
    ),
    Served(
        protocol="triton-grpc",
        form="decoupled",
        scheme="grpc",
        switches=_GRPC | {"decoupled": True},
        options={"voice": CLONE},
        heard={"mode": "zero_shot", "prompt_sha256": _DIGEST, "prompt_text": TRANSCRIPT, "stream": True},
        refusals=_REFUSALS,
    ),
]
