"""The form of vLLM-Omni's replies over WebSocket."""

from __future__ import annotations

from cosyclient.models import VoiceSettings
from tests.protocols import wire, wire_runtime
from tests.protocols.protocol_case import SHORT, ProtocolCase

CASES = [
    ProtocolCase(
        protocol="vllm-omni-ws",
        form="audio",
        media_type="",
        whole=lambda _: wire.tagged_wav(0),
        keeps=False,
        most=1,
        settings=VoiceSettings(voice=wire_runtime.CLONE),
        also=("", "text/html", "application/octet-stream", "image/png"),
        framed=False,
        keyed=False,
        text=SHORT,
    ),
]
