"""Alibaba's services: Model Studio over WebSocket and HTTP, PAI-EAS."""

from __future__ import annotations

from typing import Final

from cosyclient.protocols.entry import Answer, Probe, ProtocolEntry, Rank, has_members, openapi_route


def _is_model_studio_error(answer: Answer) -> bool:
    document = answer.document if isinstance(answer.document, dict) else {}
    return answer.status >= 400 and isinstance(document.get("code"), str) and "request_id" in document


def _is_list(answer: Answer) -> bool:
    return answer.status == 200 and (isinstance(answer.document, list) or has_members(answer, "data"))


_MODEL_STUDIO_HOSTS: Final = (
    "dashscope.aliyuncs.com",
    "dashscope-intl.aliyuncs.com",
    "dashscope-us.aliyuncs.com",
    ".maas.aliyuncs.com",
)
_PAI_EAS: Final = ProtocolEntry(
    name="pai-eas",
    implementation="cosyclient.protocols.alibaba.pai_eas:PaiEasProtocol",
    description="CosyVoice on PAI-EAS",
    routes=("/api/v1/audio/speech", "/api/v1/audio/reference_audio", "/api/v1"),
    probes=(
        openapi_route("/api/v1/audio/reference_audio"),
        Probe(path="/api/v1/audio/reference_audio", matches=_is_list, rank=Rank.COMMON),
    ),
)

ENTRIES: Final = (
    ProtocolEntry(
        name="model-studio",
        implementation="cosyclient.protocols.alibaba.model_studio_ws:ModelStudioProtocol",
        description="Alibaba Model Studio",
        medium="websocket",
        hosts=_MODEL_STUDIO_HOSTS,
        routes=("/api-ws/v1/inference", "/api-ws/v1"),
    ),
    ProtocolEntry(
        name="model-studio-http",
        implementation="cosyclient.protocols.alibaba.model_studio_http:ModelStudioHttpProtocol",
        description="Alibaba Model Studio",
        hosts=_MODEL_STUDIO_HOSTS,
        routes=("/api/v1/services/audio/tts/SpeechSynthesizer", "/compatible-mode/v1", "/api/v1"),
        probes=(
            Probe(
                path="/api/v1/services/audio/tts/SpeechSynthesizer",
                body=b"{}",
                matches=_is_model_studio_error,
                rank=Rank.COMMON,
            ),
        ),
    ),
    _PAI_EAS,
    _PAI_EAS.with_dialect("cross_lingual", "the same in other languages than the voice's"),
)
