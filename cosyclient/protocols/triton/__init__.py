"""CosyVoice behind Triton: the KServe v2 protocol over HTTP and gRPC."""

from __future__ import annotations

from typing import Final

from cosyclient.protocols.entry import Probe, ProtocolEntry, VersionRoute, has_members

_HTTP: Final = ProtocolEntry(
    name="triton",
    implementation="cosyclient.protocols.triton.protocol:TritonProtocol",
    description="Triton, an offline build",
    routes=("/v2/models/*/infer", "/v2/models/*/versions/*/infer", "/v2/models/*", "/v2/health/ready", "/v2"),
    probes=(Probe(path="/v2", matches=lambda answer: has_members(answer, "name", "extensions")),),
    version_route=VersionRoute(server="Triton", path="/v2"),
)
_GRPC: Final = ProtocolEntry(
    name="triton-grpc",
    implementation="cosyclient.protocols.triton.protocol:TritonGrpcProtocol",
    description="Triton, any build",
    medium="grpc",
    routes=("/inference.GRPCInferenceService/ModelStreamInfer",),
)

ENTRIES: Final = (
    _HTTP,
    _HTTP.with_dialect("cosyvoice2", "the same with the model cosyvoice2"),
    _HTTP.with_dialect("cosyvoice3", "the same with the model cosyvoice3"),
    _GRPC,
    _GRPC.with_dialect("cosyvoice2", "the same with the model cosyvoice2"),
    _GRPC.with_dialect("cosyvoice2_dit", "the same with the model cosyvoice2_dit"),
    _GRPC.with_dialect("cosyvoice3", "the same with the model cosyvoice3"),
)
