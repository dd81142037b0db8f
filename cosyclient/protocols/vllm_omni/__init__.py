"""vLLM-Omni's speech over WebSocket."""

from __future__ import annotations

from typing import Final

from cosyclient.protocols.entry import ProtocolEntry
from cosyclient.protocols.openai import VLLM_VERSION

ENTRIES: Final = (
    ProtocolEntry(
        name="vllm-omni-ws",
        implementation="cosyclient.protocols.vllm_omni.ws:VllmOmniSocketProtocol",
        description="vLLM-Omni with Fun-CosyVoice3",
        medium="websocket",
        routes=("/v1/audio/speech/stream", "/v1/audio/speech", "/v1"),
        version_route=VLLM_VERSION,
    ),
)
