"""The forms of the replies of CosyVoice's own servers."""

from __future__ import annotations

from cosyclient.models import VoiceSettings
from tests.protocols import wire, wire_grpc
from tests.protocols.protocol_case import SHORT, ProtocolCase

CASES = [
    ProtocolCase(
        protocol="runtime",
        form="samples",
        media_type="",
        whole=lambda _: wire.tagged_pcm(0),
        keeps=False,
        most=1,
        settings=VoiceSettings(voice="中文女"),
        also=("", "application/octet-stream"),
        framed=False,
        text=SHORT,
    ),
    ProtocolCase(
        protocol="grpc",
        form="samples",
        media_type="application/grpc",
        whole=wire_grpc.runtime_whole,
        keeps=False,
        most=1,
        settings=VoiceSettings(voice="中文女"),
        also=("", "text/html", "application/octet-stream", "image/png"),
        framed=False,
        messages=True,
        text=SHORT,
    ),
]
