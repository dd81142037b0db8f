"""The forms of LightTTS's replies."""

from __future__ import annotations

from cosyclient.models import VoiceSettings
from tests.protocols import wire, wire_runtime
from tests.protocols.protocol_case import SHORT, ProtocolCase

CASES = [
    ProtocolCase(
        protocol="lighttts",
        form="samples",
        media_type="",
        whole=lambda _: wire.tagged_pcm(0),
        keeps=False,
        most=1,
        settings=VoiceSettings(voice=wire_runtime.CLONE),
        also=("", "application/octet-stream"),
        framed=False,
        text=SHORT,
    ),
    ProtocolCase(
        protocol="lighttts-ws",
        form="audio",
        media_type="",
        whole=lambda _: wire.tagged_pcm(0),
        keeps=False,
        most=1,
        settings=VoiceSettings(voice=wire_runtime.CLONE),
        also=("", "application/octet-stream"),
        framed=False,
        keyed=False,
        text=SHORT,
    ),
]
