"""CosyVoice's official runtimes over HTTP and gRPC, and what their requests have in common with other servers'."""

from __future__ import annotations

from typing import Final

from cosyclient.protocols.cosyvoice.prompt_text import COSYVOICE3
from cosyclient.protocols.entry import ProtocolEntry, openapi_route

_HTTP: Final = ProtocolEntry(
    name="runtime",
    implementation="cosyclient.protocols.cosyvoice.http:RuntimeProtocol",
    description="CosyVoice's FastAPI server",
    routes=tuple(f"/inference_{mode}" for mode in ("sft", "zero_shot", "cross_lingual", "instruct", "instruct2")),
    probes=(openapi_route("/inference_sft"),),
)
_GRPC: Final = ProtocolEntry(
    name="grpc",
    implementation="cosyclient.protocols.cosyvoice.grpc:RuntimeGrpcProtocol",
    description="CosyVoice's gRPC server",
    medium="grpc",
    is_default=True,
    routes=("/cosyvoice.CosyVoice/Inference",),
)

ENTRIES: Final = (
    _HTTP,
    _HTTP.with_dialect(COSYVOICE3, "the same with CosyVoice3"),
    _GRPC,
    _GRPC.with_dialect(COSYVOICE3, "the same with CosyVoice3"),
)
