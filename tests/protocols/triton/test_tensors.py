"""`triton.tensors`: tensors over gRPC, read and written by tritonclient's own messages."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from cosyclient.errors import DecodeError
from cosyclient.protocols.triton.tensors import (
    GrpcResponse,
    decode_grpc_response,
    float_tensor,
    grpc_request,
    int_tensor,
    text_tensor,
)
from tests.protocols.wire_grpc import answer, tagged_floats


@given(st.binary(max_size=60))
def test_noise_is_an_answer_or_a_decode_error(data: bytes) -> None:
    """No other exception is raised."""
    with suppress(DecodeError):
        decode_grpc_response(data)


def test_a_truncated_answer_is_an_error() -> None:
    """At any byte."""
    body = answer(tagged_floats(0), final=False)
    for cut in range(1, len(body)):
        with pytest.raises(DecodeError):
            decode_grpc_response(body[:cut])


def test_tritonclient_reads_the_request() -> None:
    """Model, id, tensors with their shapes, raw values in order, and the parameter that asks for a final response."""
    tensors = [
        float_tensor("reference_wav", bytes(4 * 300)),
        int_tensor("reference_wav_len", 300),
        text_tensor("target_text", "你好"),
    ]
    read = service_pb2.ModelInferRequest.FromString(grpc_request("cosyvoice3", tensors, key="k-1"))
    assert (read.model_name, read.id) == ("cosyvoice3", "k-1")
    assert read.parameters["triton_enable_empty_final_response"].bool_param is True
    assert [(each.name, each.datatype, list(each.shape)) for each in read.inputs] == [
        ("reference_wav", "FP32", [1, 300]),
        ("reference_wav_len", "INT32", [1, 1]),
        ("target_text", "BYTES", [1, 1]),
    ]
    assert list(read.raw_input_contents) == [bytes(1200), b"\x2c\1\0\0", b"\6\0\0\0" + "你好".encode()]
    assert [each.name for each in read.outputs] == ["waveform"]


@pytest.mark.parametrize("inline", [False, True])
def test_an_answer_is_read(inline: bool) -> None:
    """Samples as raw bytes or as numbers, the final flag, and an error message."""
    values = tagged_floats(0)
    assert decode_grpc_response(answer(values, final=False, inline=inline)) == GrpcResponse(samples=values)
    assert decode_grpc_response(answer(values, final=True)) == GrpcResponse(samples=values, final=True)
    assert decode_grpc_response(answer(error="it failed")) == GrpcResponse(error="it failed")
    assert decode_grpc_response(b"") == GrpcResponse()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tensor: tensor.shape.append(2), "240 samples|480 samples"),
        (lambda tensor: setattr(tensor, "datatype", "FP16"), "not FP32"),
    ],
)
def test_type_and_shape_must_match_the_bytes(damage: Any, message: str) -> None:
    """A mismatch is an error."""
    reply = service_pb2.ModelStreamInferResponse.FromString(answer(tagged_floats(0)))
    damage(reply.infer_response.outputs[0])
    with pytest.raises(DecodeError, match=message):
        decode_grpc_response(reply.SerializeToString())
