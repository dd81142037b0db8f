"""Protobuf's wire format by hand, held against protobuf's own code."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from cosyclient.emulator.protos import message as described
from cosyclient.errors import DecodeError
from cosyclient.protocols.codecs import protobuf
from cosyclient.protocols.triton.tensors import Answer, float_tensor, grpc_answer, grpc_request, int_tensor, text_tensor
from tests.protocols.wire_grpc import answer, tagged_floats

_Request: Any = described("cosyvoice.Request")


@given(st.text(max_size=300), st.binary(max_size=300))
def test_fields_are_read_as_they_were_meant(said: str, data: bytes) -> None:
    """Of any length; what is empty is not sent, and a message is, even so."""
    body = protobuf.encode_message(2, protobuf.encode_field(1, said), protobuf.encode_field(3, data))
    read = _Request.FromString(body)
    assert read.WhichOneof("RequestPayload") == "zero_shot_request"
    assert (read.zero_shot_request.tts_text, read.zero_shot_request.prompt_audio) == (said, data)
    assert body == read.SerializeToString()
    ((number, inner),) = protobuf.decode_fields(body)
    assert number == 2
    assert dict(protobuf.decode_fields(protobuf.as_bytes(inner))) == {
        number: value for number, value in ((1, said.encode()), (3, data)) if value
    }


@given(st.integers(0, 2**63 - 1))
def test_numbers_take_seven_bits_a_byte(value: int) -> None:
    """As many bytes as they need."""
    assert protobuf.decode_packed(protobuf.encode_varint(value), max_values=1) == [value]
    shape = service_pb2.ModelInferRequest.InferInputTensor(shape=[value, 1])
    assert protobuf.encode_packed(3, [value, 1]) == shape.SerializeToString()


@given(st.binary(max_size=60))
def test_noise_is_no_message(data: bytes) -> None:
    """Whatever comes is read, or refused as what another try may mend."""
    for read in (
        lambda: list(protobuf.decode_fields(data)),
        lambda: grpc_answer(data),
        lambda: protobuf.decode_packed(data, max_values=32),
    ):
        # Anything else fails the test.
        with suppress(DecodeError):
            read()


def test_a_message_cut_anywhere_is_broken_or_shorter() -> None:
    """Its parts never change."""
    body = answer(tagged_floats(0), final=False)
    for cut in range(1, len(body)):
        with pytest.raises(DecodeError):
            grpc_answer(body[:cut])


def test_a_request_for_triton_is_what_its_own_client_reads() -> None:
    """Model, id, tensors with their shapes, raw values in their order, and the wish for a marked end."""
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
def test_an_answer_of_triton_is_read(inline: bool) -> None:
    """Samples as raw bytes or as numbers, the mark of the end, and words that stand for an error."""
    values = tagged_floats(0)
    assert grpc_answer(answer(values, final=False, inline=inline)) == Answer(samples=values)
    assert grpc_answer(answer(values, final=True)) == Answer(samples=values, final=True)
    assert grpc_answer(answer(error="it failed")) == Answer(error="it failed")
    assert grpc_answer(b"") == Answer()


@pytest.mark.parametrize(
    ("spoil", "words_of_it"),
    [
        (lambda tensor: tensor.shape.append(2), "240 samples|480 samples"),
        (lambda tensor: setattr(tensor, "datatype", "FP16"), "not FP32"),
    ],
)
def test_samples_must_be_what_they_are_said_to_be(spoil: Any, words_of_it: str) -> None:
    """Type and shape are compared with the bytes."""
    reply = service_pb2.ModelStreamInferResponse.FromString(answer(tagged_floats(0)))
    spoil(reply.infer_response.outputs[0])
    with pytest.raises(DecodeError, match=words_of_it):
        grpc_answer(reply.SerializeToString())
