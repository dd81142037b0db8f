"""`codecs.protobuf`: what it encodes and decodes, protobuf's own code reads and writes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from cosyclient.emulator.protos import message as generated
from cosyclient.errors import DecodeError
from cosyclient.protocols.codecs import protobuf

_Request: Any = generated("cosyvoice.Request")


@given(st.text(max_size=300), st.binary(max_size=300))
def test_protobuf_reads_what_is_encoded(text: str, data: bytes) -> None:
    """Of any length; empty fields are not sent, empty messages are."""
    body = protobuf.encode_message(2, protobuf.encode_field(1, text), protobuf.encode_field(3, data))
    read = _Request.FromString(body)
    assert read.WhichOneof("RequestPayload") == "zero_shot_request"
    assert (read.zero_shot_request.tts_text, read.zero_shot_request.prompt_audio) == (text, data)
    assert body == read.SerializeToString()
    ((number, inner),) = protobuf.decode_fields(body)
    assert number == 2
    assert dict(protobuf.decode_fields(protobuf.as_bytes(inner))) == {
        number: value for number, value in ((1, text.encode()), (3, data)) if value
    }


@given(st.integers(0, 2**63 - 1))
def test_integers_take_seven_bits_a_byte(value: int) -> None:
    """Alone and packed."""
    assert protobuf.decode_packed(protobuf.encode_varint(value), max_values=1) == [value]
    shape = service_pb2.ModelInferRequest.InferInputTensor(shape=[value, 1])
    assert protobuf.encode_packed(3, [value, 1]) == shape.SerializeToString()


@given(st.binary(max_size=60))
def test_noise_is_a_message_or_a_decode_error(data: bytes) -> None:
    """No other exception is raised."""
    for read in (
        lambda: list(protobuf.decode_fields(data)),
        lambda: protobuf.decode_packed(data, max_values=32),
    ):
        # Anything else fails the test.
        with suppress(DecodeError):
            read()


@pytest.mark.parametrize(
    "data",
    [b"\x00\x01", b"\x0b", b"\x0a\x05ab", b"\x0d\0\0", b"\xff" * 11, b"\x08\x01" * 501],
    ids=lambda data: data[:4].hex(),
)
def test_malformed_messages_are_retryable_errors(data: bytes) -> None:
    """Field 0, a group, too few bytes, a varint without an end, too many fields."""
    with pytest.raises(DecodeError, match="no whole protobuf message") as caught:
        list(protobuf.decode_fields(data))
    assert caught.value.retryable


def test_values_of_another_type_are_errors() -> None:
    """A packed field has so many values at most."""
    for read in (protobuf.as_text, protobuf.as_bytes):
        with pytest.raises(DecodeError, match="a number where"):
            read(1)
    assert protobuf.as_text(b"\xff") == "\N{REPLACEMENT CHARACTER}"
    with pytest.raises(DecodeError):
        protobuf.decode_packed(b"\1\2\3", max_values=2)
