"""The OpenAI speech protocol and its dialects; `dialects` has what each sends and accepts."""

from __future__ import annotations

from typing import Final

from cosyclient.protocols.entry import (
    Answer,
    Probe,
    ProtocolEntry,
    Rank,
    VersionRoute,
    accepts_post,
    has_members,
    models_owned_by,
    openapi_route,
)


def _names_faulty_fields(answer: Answer) -> bool:
    """Return whether the request is refused field by field, as FastAPI does."""
    document = answer.document if isinstance(answer.document, dict) else {}
    return answer.status == 422 and isinstance(document.get("detail"), list)


VLLM_VERSION: Final = VersionRoute(
    server="vLLM",
    path="/version",
    notes=(
        ((0, 30), "its own faults may come as 400, and vllm-omni-ws ignores a seed"),
        ((0, 28), "openai:vllm-omni tells no word times: words stays empty"),
        ((0, 26), "vllm-omni-ws may refuse to speak a whole text as one (split_granularity)"),
    ),
)
_OPENAI: Final = ProtocolEntry(
    name="openai",
    implementation="cosyclient.protocols.openai.protocol:OpenAISpeechProtocol",
    description="any OpenAI-compatible server",
    routes=(
        *("/v1/audio/speech/batch", "/v1/audio/speech", "/v1/audio/voices", "/v1/audio/voice/list", "/v1/voices"),
        *("/v1/models", "/v1/chat/completions"),
    ),
    probes=(
        openapi_route("/v1/audio/speech", rank=Rank.COMMON),
        Probe(path="/v1/models", matches=lambda answer: has_members(answer, "data"), rank=Rank.COMMON),
        # A small server may have nothing but this route.
        Probe(path="/v1/audio/speech", matches=accepts_post, rank=Rank.FALLBACK),
    ),
)

ENTRIES: Final = (
    _OPENAI,
    _OPENAI.with_dialect("openai", "OpenAI", hosts=("api.openai.com",)),
    _OPENAI.with_dialect(
        "vllm-omni",
        "vLLM-Omni with Fun-CosyVoice3",
        probes=(
            models_owned_by("vllm"),
            Probe(path="/v1/audio/voices", matches=lambda answer: has_members(answer, "uploaded_voices")),
            openapi_route("/v1/audio/speech/batch"),
        ),
        version_route=VLLM_VERSION,
    ),
    _OPENAI.with_dialect("sglang-omni", "SGLang-Omni with Fun-CosyVoice3", probes=(models_owned_by("sglang"),)),
    _OPENAI.with_dialect(
        "xinference",
        "Xinference",
        probes=(models_owned_by("xinference"),),
        version_route=VersionRoute(
            server="Xinference", path="/v1/cluster/version", notes=(((4, 0), "CosyVoice ignores the speed"),)
        ),
    ),
    _OPENAI.with_dialect(
        "vox-box",
        "Vox-Box",
        probes=(
            models_owned_by("vox-box"),
            Probe(path="/v1/voices", matches=lambda answer: has_members(answer, "voices")),
        ),
    ),
    _OPENAI.with_dialect(
        "triton-bridge",
        "Triton-OpenAI-Speech before Triton",
        routes=("/audio/speech",),
        probes=(
            openapi_route("/audio/speech", without=("/v1/audio/speech",)),
            Probe(path="/audio/speech", body=b"{}", matches=_names_faulty_fields, rank=Rank.COMMON),
        ),
    ),
    _OPENAI.with_dialect(
        "async-cosyvoice",
        "async_cosyvoice",
        probes=(openapi_route("/v1/uploads/audio/voice"),),
    ),
    _OPENAI.with_dialect(
        "siliconflow",
        "SiliconFlow",
        hosts=("api.siliconflow.cn", "api.siliconflow.com"),
        probes=(Probe(path="/v1/audio/voice/list", matches=lambda answer: has_members(answer, "result")),),
    ),
)
