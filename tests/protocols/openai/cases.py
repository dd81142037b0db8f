"""The forms of the replies of OpenAI-compatible servers."""

from __future__ import annotations

from typing import Any

from cosyclient.models import VoiceSettings
from tests.protocols import wire, wire_openai, wire_runtime
from tests.protocols.protocol_case import SHORT, ProtocolCase


def _openai(protocol: str, form: str, **more: Any) -> ProtocolCase:
    row: dict[str, Any] = {
        "media_type": "audio/wav",
        "whole": lambda _: wire.tagged_wav(0),
        "keeps": False,
        "most": 1,
        "settings": VoiceSettings(voice="alloy", model="m"),
        "also": ("application/octet-stream",),
        "text": SHORT,
    }
    return ProtocolCase(protocol=protocol, form=form, **{**row, **more})


_UNSIZED = wire_openai.unsized(wire.tagged_wav(0))
_LISTED = {"media_type": "application/json", "whole": wire_openai.batch_body, "most": 32, "also": ()}
CASES = [
    _openai("openai", "wav"),
    _openai("openai:openai", "unsized", whole=lambda _: _UNSIZED, framed=False),
    _openai(
        "openai:xinference",
        "events",
        media_type=wire_openai.SSE,
        whole=lambda _: wire_openai.delta(wire.tagged_wav(0), "wav") + wire_openai.done(),
        framed=False,
    ),
    _openai("openai:vox-box", "wav", media_type="audio/x-wav"),
    _openai("openai:triton-bridge", "wav"),
    _openai("openai:async-cosyvoice", "wav"),
    _openai("openai:siliconflow", "octets", media_type="application/octet-stream"),
    _openai("openai:vllm-omni", "batch", **_LISTED),
    _openai("openai:sglang-omni", "batch", **{**_LISTED, "settings": VoiceSettings(voice=wire_runtime.CLONE)}),
]
