"""The tensors of the KServe v2 protocol over HTTP and gRPC: inputs of a request and the waveform of a reply.

HTTP with Triton's binary extension (JSON first, then raw values; docs/protocol/extension_binary_data.md of
triton-inference-server/server), or the plain JSON of kserve/open-inference-protocol; gRPC with the field numbers of
that project's ``grpc_predict_v2.proto``, which Triton shares.
"""

from __future__ import annotations

import json
import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cosyclient.audio.pcm import native_byte_order
from cosyclient.errors import DecodeError
from cosyclient.protocols.codecs.protobuf import (
    as_bytes,
    as_text,
    decode_fields,
    decode_packed,
    encode_field,
    encode_message,
    encode_packed,
    encode_varint,
)
from cosyclient.protocols.codecs.strict import parse_json
from cosyclient.util.numbers import int_in_range, parse_int_in_range

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WAVEFORM: Final = "waveform"
_MAX_DIMENSIONS: Final = 32
_MAX_COUNT: Final = 1 << 40
_MAX_VALUES: Final = 1_000_000
"""Values of a reply that is all JSON: 30 s of samples, after which the servers cut off, are 720,000."""
_FINAL: Final = "triton_final_response"
_EMPTY_FINAL: Final = "triton_enable_empty_final_response"
RESERVED: Final = {_FINAL: "", _EMPTY_FINAL: "", "binary_data_output": ""}
"""Parameters of a request that the client sets, or that would change the form of the reply."""


class Tensor(NamedTuple):
    """Hold one input: its name, type, shape and raw little-endian values."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


def float_tensor(name: str, data: bytes) -> Tensor:
    """Return float32 values as a tensor of one row."""
    return Tensor(name, "FP32", (1, len(data) // 4), data)


def int_tensor(name: str, value: int) -> Tensor:
    """Return *value* as a tensor of one 32-bit integer."""
    return Tensor(name, "INT32", (1, 1), struct.pack("<i", value))


def text_tensor(name: str, text: str) -> Tensor:
    """Return *text* as a tensor of one value."""
    data = text.encode()
    return Tensor(name, "BYTES", (1, 1), struct.pack("<I", len(data)) + data)


def http_body(tensors: Sequence[Tensor], *, key: str, parameters: Mapping[str, Any] | None = None) -> tuple[bytes, int]:
    """Return the body that asks for the waveform of *tensors*, and how many of its bytes are JSON."""
    head = {
        "id": key,
        **({"parameters": dict(parameters)} if parameters else {}),
        "inputs": [
            {
                "name": each.name,
                "shape": each.shape,
                "datatype": each.datatype,
                "parameters": {"binary_data_size": len(each.data)},
            }
            for each in tensors
        ],
        "outputs": [{"name": WAVEFORM, "parameters": {"binary_data": True}}],
    }
    lead = json.dumps(head, separators=(",", ":")).encode()
    return b"".join((lead, *(each.data for each in tensors))), len(lead)


class NotAnInference(Exception):
    """Carries the JSON of a reply that is no inference."""

    def __init__(self, document: object) -> None:
        super().__init__()
        self.document = document


def http_waveform(body: bytes, announced: str | None) -> bytes:
    """Return the float32 samples of a reply whose first *announced* bytes are JSON.

    Without that header all of it is JSON. Raises `DecodeError` where samples are announced and not there, and
    `NotAnInference` with the JSON if it is none.
    """
    size: int | None = len(body)
    if announced is not None and (size := parse_int_in_range(announced, 0, len(body))) is None:
        raise DecodeError("reply: the length of its JSON is not that of its header", retryable=True)
    try:
        document = parse_json(body[:size], max_values=_MAX_VALUES)
    except ValueError:
        raise DecodeError(f"reply: {size} bytes that are not JSON", retryable=True) from None
    outputs = document.get("outputs") if isinstance(document, dict) else None
    if not isinstance(outputs, list):
        raise NotAnInference(document)
    place = size or 0
    for output in outputs:
        if not isinstance(output, dict):
            raise DecodeError("reply: an output that is no object", retryable=True)
        parameters = output.get("parameters")
        length = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if length is not None and int_in_range(length, 0, len(body)) is None:
            raise DecodeError(f"audio: an output of more bytes than the {len(body)} that came", retryable=True)
        if output.get("name") == WAVEFORM:
            shape = output.get("shape")
            return _checked(output.get("datatype"), shape, _values(output, body, place, length))
        place += length or 0
    raise DecodeError("reply: no waveform among its outputs")


def _values(output: dict[str, Any], body: bytes, place: int, length: int | None) -> bytes:
    if length is not None:
        if place + length > len(body):
            raise DecodeError(f"audio: {length} bytes announced, {len(body) - place} there", retryable=True)
        return body[place : place + length]
    numbers = _flat(output.get("data"))
    try:
        if bool in set(map(type, numbers)):
            raise TypeError
        values = array("f", numbers)
    except (TypeError, OverflowError):
        raise DecodeError("audio: a waveform that is not made of numbers", retryable=True) from None
    return native_byte_order(values).tobytes()


def _flat(data: object) -> list[Any]:
    # Flat in practice; the specification allows nested rows, too.
    while isinstance(data, list) and len(data) == 1 and isinstance(data[0], list):
        data = data[0]
    if not isinstance(data, list):
        raise DecodeError("reply: a waveform without data", retryable=True)
    return data


def _checked(datatype: object, shape: object, values: bytes) -> bytes:
    if datatype != "FP32":
        raise DecodeError("audio: a waveform that is not FP32")
    count = _count(shape)
    if count is None or 4 * count != len(values):
        announced = "another number of" if count is None else str(count)
        raise DecodeError(f"audio: {len(values)} bytes for {announced} samples of 4", retryable=True)
    return values


def _count(shape: object) -> int | None:
    """Return the values a tensor of that *shape* has, or ``None`` if it is no shape or absurdly large."""
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
        return None
    count = 1
    for size in shape:
        if (size := int_in_range(size, 0, _MAX_COUNT)) is None:
            return None
        count *= size
    return int_in_range(count, 0, _MAX_COUNT)


def _parameter(value: bool | int | str) -> bytes:
    """Return an ``InferParameter``; its oneof states the kind, so even an empty value is written."""
    if isinstance(value, bool):
        return encode_varint(1 << 3) + encode_varint(value)
    if isinstance(value, int):
        # Below zero as all 64 bits of its complement.
        return encode_varint(2 << 3) + encode_varint(value % (1 << 64))
    return encode_message(3, value.encode())


def grpc_request(
    model: str, tensors: Sequence[Tensor], *, key: str, parameters: Mapping[str, Any] | None = None
) -> bytes:
    """Return the ``ModelInferRequest`` for the waveform of *tensors*; a stream of replies shall mark its end."""
    return b"".join(
        (
            encode_field(1, model),
            encode_field(3, key),
            encode_message(4, encode_field(1, _EMPTY_FINAL), encode_message(2, encode_field(1, True))),
            *(
                encode_message(4, encode_field(1, name), encode_message(2, _parameter(value)))
                for name, value in (parameters or {}).items()
            ),
            *(
                encode_message(
                    5, encode_field(1, each.name), encode_field(2, each.datatype), encode_packed(3, each.shape)
                )
                for each in tensors
            ),
            encode_message(6, encode_field(1, WAVEFORM)),
            *(encode_message(7, each.data) for each in tensors),
        )
    )


@dataclass(slots=True)
class GrpcResponse:
    """Hold the contents of one ``ModelStreamInferResponse``."""

    error: str = ""
    samples: bytes = b""
    final: bool = False


def decode_grpc_response(data: bytes) -> GrpcResponse:
    """Return the contents of a ``ModelStreamInferResponse``; `DecodeError` if *data* is none."""
    response = GrpcResponse()
    pieces: list[bytes] = []
    for number, value in decode_fields(data):
        if number == 1:
            response.error = as_text(value)
        elif number == 2:
            pieces += _read_response(as_bytes(value), response)
    response.samples = b"".join(pieces)
    return response


def _read_response(data: bytes, response: GrpcResponse) -> Iterator[bytes]:
    """Yield the samples of a ``ModelInferResponse``; sets ``final`` of *response*."""
    outputs: list[bytes] = []
    raw: list[bytes] = []
    for number, value in decode_fields(data):
        if number == 4 and as_text(dict(decode_fields(as_bytes(value))).get(1, b"")) == _FINAL:
            entry = dict(decode_fields(as_bytes(value)))
            response.final = bool(dict(decode_fields(as_bytes(entry.get(2, b"")))).get(1, 0))
        elif number == 5:
            outputs.append(as_bytes(value))
        elif number == 6:
            raw.append(as_bytes(value))
    for position, output in enumerate(outputs):
        name, datatype, shape = "", "", []
        inline: list[bytes] = []
        for number, value in decode_fields(output):
            if number == 1:
                name = as_text(value)
            elif number == 2:
                datatype = as_text(value)
            elif number == 3:
                # Single numbers or a packed field: a reader must accept both.
                shape += [value] if isinstance(value, int) else decode_packed(value, max_values=_MAX_DIMENSIONS)
            elif number == 5:
                inline += [as_bytes(part) for tag, part in decode_fields(as_bytes(value)) if tag == 6]
        if name == WAVEFORM:
            values = raw[position] if position < len(raw) else b"".join(inline)
            yield _checked(datatype, shape, values)
