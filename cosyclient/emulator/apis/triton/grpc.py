"""Triton over gRPC: one answer to ``ModelInfer``, and a stream with a final marker to ``ModelStreamInfer``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from cosyclient.emulator.apis.base import render, stream
from cosyclient.emulator.apis.grpc import GrpcApi
from cosyclient.emulator.apis.triton.models import DECOUPLED_UNARY, MODELS, Input, TritonModels
from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.protos import message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from cosyclient.emulator.apis.base import SpeechRequest
    from cosyclient.emulator.core.service import Service

_Infer, _Answer = message("inference.ModelInferRequest"), message("inference.ModelInferResponse")
_Streamed, _Asked = message("inference.ModelStreamInferResponse"), message("inference.ModelReadyRequest")
_SERVICE = "/inference.GRPCInferenceService/"
_FINAL = "triton_final_response"
_FIELDS = {"FP32": "fp32_contents", "INT32": "int_contents", "BYTES": "bytes_contents"}


class TritonGrpcApi(GrpcApi):
    """Serve inference and readiness."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._models = TritonModels(service)

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """Return what answers each method."""
        unary, streamed = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        return {
            f"{_SERVICE}ServerLive": unary(self._live),
            f"{_SERVICE}ServerReady": unary(self._ready),
            f"{_SERVICE}ModelReady": unary(self._model_ready),
            f"{_SERVICE}ModelInfer": unary(self._infer),
            f"{_SERVICE}ModelStreamInfer": streamed(self._stream),
        }

    async def _live(self, _data: bytes, _context: Any) -> bytes:
        live: bytes = message("inference.ServerLiveResponse")(live=True).SerializeToString()
        return live

    async def _ready(self, _data: bytes, _context: Any) -> bytes:
        ready: bytes = message("inference.ServerReadyResponse")(ready=True).SerializeToString()
        return ready

    async def _model_ready(self, data: bytes, _context: Any) -> bytes:
        known = _Asked.FromString(data).name in MODELS
        ready: bytes = message("inference.ModelReadyResponse")(ready=known).SerializeToString()
        return ready

    async def _infer(self, data: bytes, context: Any) -> bytes:
        reply = b""
        async with self.call(data, context):
            asked = _Infer.FromString(data)
            if self._models.is_decoupled(asked.model_name):
                raise Problem("internal", DECOUPLED_UNARY, status=501)
            request = self._read(asked, stream=False)
            reply_of_fault, _ = await self.reply_of_fault(context)
            if reply_of_fault is not None:
                return bytes(reply_of_fault)
            audio = await render(self.service, request)
            answer = self._answer(asked, audio.data[: self._models.cap(len(audio.data))])
            reply = answer.SerializeToString()
            self.service.counters.bytes_out += len(reply)
        return bytes(reply)

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for data in requests:
            async with self.call(data, context):
                async for reply in self._answers(data, context):
                    self.service.counters.bytes_out += len(reply)
                    yield reply

    async def _answers(self, data: bytes, context: Any) -> AsyncIterator[bytes]:
        asked = _Infer.FromString(data)
        try:
            decoupled = self._models.is_decoupled(asked.model_name)
            request = self._read(asked, stream=decoupled)
        except Problem as problem:
            # Refused before inference: an error without a final marker.
            yield _failed(asked, problem.detail, marked=False)
            return
        reply_of_fault, fault = await self.reply_of_fault(context)
        if reply_of_fault is not None:
            if reply_of_fault:
                yield reply_of_fault
            return
        source = self._pieces(request, whole=not decoupled)
        try:
            async for piece in self.apply_to_samples(source, fault, context):
                answer = self._answer(asked, piece)
                answer.parameters[_FINAL].bool_param = not decoupled and fault is None
                yield _Streamed(infer_response=answer).SerializeToString()
        except Problem as problem:
            # As cosyvoice3 reports errors: a message, then the same end as after audio.
            yield _failed(asked, problem.detail, marked=True)
        if fault is not None and fault.name in ("truncated_audio", "not_audio"):
            return
        if decoupled and asked.parameters["triton_enable_empty_final_response"].bool_param:
            last = _Answer(id=asked.id, model_name=asked.model_name, model_version="1")
            last.parameters[_FINAL].bool_param = True
            yield _Streamed(infer_response=last).SerializeToString()

    async def _pieces(self, request: SpeechRequest, *, whole: bool) -> AsyncIterator[bytes]:
        """Yield the samples, up to the cap of the model."""
        done = 0
        if whole:
            audio = await render(self.service, request)
            yield audio.data[: self._models.cap(len(audio.data))]
            return
        async for piece in stream(self.service, request):
            left = self._models.cap(done + len(piece)) - done
            if left <= 0:
                return
            done += len(piece)
            yield piece[:left]

    def _read(self, asked: Any, *, stream: bool) -> SpeechRequest:
        inputs = []
        raw = list(asked.raw_input_contents)
        for position, each in enumerate(asked.inputs):
            values = list(getattr(each.contents, _FIELDS.get(each.datatype, "bytes_contents")))
            given = raw[position] if position < len(raw) else None
            inputs.append(Input(each.name, each.datatype, tuple(each.shape), given, values))
        return self._models.read_request(asked.model_name, inputs, api="triton-grpc", stream=stream)

    def _answer(self, asked: Any, samples: bytes) -> Any:
        values = self._models.floats(samples[: len(samples) // 2 * 2])
        answer = _Answer(id=asked.id, model_name=asked.model_name, model_version="1")
        answer.outputs.add(name="waveform", datatype="FP32").shape.extend([1, len(values) // 4])
        answer.raw_output_contents.append(values)
        return answer


def _failed(asked: Any, error: str, *, marked: bool) -> bytes:
    reply = _Streamed(error_message=error)
    reply.infer_response.id = asked.id
    if marked:
        reply.infer_response.parameters[_FINAL].bool_param = False
    failed: bytes = reply.SerializeToString()
    return failed
