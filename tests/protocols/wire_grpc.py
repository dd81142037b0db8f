"""The service's side of the gRPC runtime and of Triton, made with protobuf's own code and tritonclient's messages."""

from __future__ import annotations

import json
import struct
from array import array
from typing import Any

from tritonclient.grpc import service_pb2

from tests.protocols import wire

HEAD_BYTES = 256


def framed(*messages: bytes) -> bytes:
    """Return messages as gRPC sends them."""
    return b"".join(b"\0" + struct.pack(">I", len(each)) + each for each in messages)


def tagged_floats(index: int) -> bytes:
    """Return the samples of `wire.tagged_pcm` as a model has them."""
    return array("f", [value / 32768 for value in array("h", wire.tagged_pcm(index))]).tobytes()


def audio(samples: bytes) -> bytes:
    """Return the runtime's ``Response``: one field, its length in seven bits a byte."""
    size, length = len(samples), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return b"\x0a" + bytes([*length, size]) + samples


def runtime_whole(count: int) -> bytes:
    """Return a whole reply of the runtime, in two messages."""
    samples = wire.tagged_pcm(0) if count else b""
    return framed(audio(samples[:100]), audio(samples[100:])) if samples else b""


def output(count: int, **more: Any) -> dict[str, Any]:
    """Return what JSON says of a waveform of so many samples."""
    return {"name": "waveform", "datatype": "FP32", "shape": [1, count], **more}


def inference(*outputs: dict[str, Any]) -> bytes:
    """Return a reply's JSON."""
    return json.dumps({"model_name": "cosyvoice2", "model_version": "1", "outputs": outputs}).encode()


def triton_binary(count: int) -> bytes:
    """Return a whole reply with a binary tensor behind `HEAD_BYTES` of JSON."""
    values = tagged_floats(0) if count else b""
    outputs = [output(len(values) // 4, parameters={"binary_data_size": len(values)})] if count else []
    return inference(*outputs).ljust(HEAD_BYTES) + values


def triton_json(count: int) -> bytes:
    """Return a whole reply of JSON alone."""
    values = array("f", tagged_floats(0)).tolist()
    return inference(*[output(len(values), data=values)] * bool(count))


def answer(values: bytes = b"", *, final: bool | None = None, error: str = "", inline: bool = False) -> bytes:
    """Return a ``ModelStreamInferResponse``."""
    reply = service_pb2.ModelStreamInferResponse(error_message=error)
    response = reply.infer_response
    response.model_name, response.model_version, response.id = "cosyvoice2", "1", "key-1"
    if values:
        tensor = response.outputs.add(name="waveform", datatype="FP32")
        tensor.shape.extend([1, len(values) // 4])
        if inline:
            tensor.contents.fp32_contents.extend(array("f", values))
        else:
            response.raw_output_contents.append(values)
    if final is not None:
        response.parameters["triton_final_response"].bool_param = final
    made: bytes = reply.SerializeToString()
    return made


def triton_stream(count: int) -> bytes:
    """Return a whole stream: audio in two answers, then the mark of the end."""
    values = tagged_floats(0) if count else b""
    pieces = [answer(values[:400], final=False), answer(values[400:], final=False)] if count else []
    return framed(*pieces, answer(final=True))
