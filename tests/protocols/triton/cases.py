"""The forms of Triton's replies."""

from __future__ import annotations

from tests.protocols import wire_grpc
from tests.protocols.protocol_case import SHORT, ProtocolCase

CASES = [
    ProtocolCase(
        protocol="triton",
        form="binary",
        media_type="application/octet-stream",
        whole=wire_grpc.triton_binary,
        keeps=False,
        most=1,
        headers={"Inference-Header-Content-Length": str(wire_grpc.HEAD_BYTES)},
        text=SHORT,
    ),
    ProtocolCase(
        protocol="triton",
        form="json",
        media_type="application/json",
        whole=wire_grpc.triton_json,
        keeps=False,
        most=1,
        text=SHORT,
    ),
    ProtocolCase(
        protocol="triton-grpc",
        form="stream",
        media_type="application/grpc",
        whole=wire_grpc.triton_stream,
        keeps=False,
        most=1,
        also=("", "text/html", "application/octet-stream", "image/png"),
        messages=True,
        text=SHORT,
    ),
]
