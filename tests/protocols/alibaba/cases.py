"""The forms of the replies of Alibaba's services."""

from __future__ import annotations

from functools import partial

from cosyclient.models import VoiceSettings
from tests.protocols import wire, wire_runtime
from tests.protocols.protocol_case import SHORT, ProtocolCase

CASES = [
    ProtocolCase(
        protocol="model-studio",
        form="audio",
        media_type="",
        whole=lambda _: wire.tagged_wav(0),
        keeps=False,
        most=1,
        settings=VoiceSettings(voice="longanyang", model="cosyvoice-v3-flash"),
        also=("", "text/html", "application/octet-stream", "image/png"),
        framed=False,
        keyed=False,
        text=SHORT,
    ),
    ProtocolCase(
        protocol="pai-eas",
        form="json",
        media_type="application/json",
        whole=wire_runtime.pai_json,
        keeps=False,
        most=1,
        settings=VoiceSettings(voice="0123"),
        text=SHORT,
    ),
    *(
        ProtocolCase(
            protocol="model-studio-http",
            form=form,
            media_type=wire_runtime.SSE,
            whole=partial(wire_runtime.model_studio_whole, multi=form == "lines"),
            keeps=False,
            most=1,
            settings=VoiceSettings(voice="longanyang", model="cosyvoice-v3-flash"),
            text=SHORT,
        )
        for form in ("events", "lines")
    ),
]
