"""LightTTS over HTTP and WebSocket."""

from __future__ import annotations

from typing import Final

from cosyclient.protocols.cosyvoice.prompt_text import COSYVOICE3
from cosyclient.protocols.entry import ProtocolEntry, openapi_route

_HTTP: Final = ProtocolEntry(
    name="lighttts",
    implementation="cosyclient.protocols.lighttts.http:LightTtsProtocol",
    description="LightTTS",
    routes=("/inference_zero_shot",),
    # CosyVoice's own server has this route, too, and more.
    probes=(openapi_route("/inference_zero_shot", without=("/inference_sft",)),),
)
_WEBSOCKET: Final = ProtocolEntry(
    name="lighttts-ws",
    implementation="cosyclient.protocols.lighttts.ws:LightTtsSocketProtocol",
    description="LightTTS's bistream",
    medium="websocket",
    routes=("/inference_zero_shot_bistream",),
)

ENTRIES: Final = (
    _HTTP,
    _HTTP.with_dialect(COSYVOICE3, "the same with CosyVoice3"),
    _WEBSOCKET,
    _WEBSOCKET.with_dialect(COSYVOICE3, "the same with CosyVoice3"),
)
