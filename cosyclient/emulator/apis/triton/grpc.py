"""Triton over gRPC: one answer to ``ModelInfer``, and a stream with a marked end to ``ModelStreamInfer``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from cosyclient.emulator.apis.base import speak, stream
from cosyclient.emulator.apis.grpc import Calls
from cosyclient.emulator.apis.triton.models import DECOUPLED_UNARY, MODELS, Input, TritonModels
from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.protos import message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from cosyclient.emulator.apis.base import Wish
    from cosyclient.emulator.core.service import Service

_Infer, _Answer = message("inference.ModelInferRequest"), message("inference.ModelInferResponse")
_Streamed, _Asked = message("inference.ModelStreamInferResponse"), message("inference.ModelReadyRequest")
_SERVICE = "/inference.GRPCInferenceService/"
_FINAL = "triton_final_response"
_FIELDS = {"FP32": "fp32_contents", "INT32": "int_contents", "BYTES": "bytes_contents"}


class TritonCalls(Calls):
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

    async def _live(self, _request: bytes, _context: Any) -> bytes:
        live: bytes = message("inference.ServerLiveResponse")(live=True).SerializeToString()
        return live

    async def _ready(self, _request: bytes, _context: Any) -> bytes:
        ready: bytes = message("inference.ServerReadyResponse")(ready=True).SerializeToString()
        return ready

    async def _model_ready(self, request: bytes, _context: Any) -> bytes:
        known = _Asked.FromString(request).name in MODELS
        ready: bytes = message("inference.ModelReadyResponse")(ready=known).SerializeToString()
        return ready

    async def _infer(self, request: bytes, context: Any) -> bytes:
        reply = b""
        async with self.call(request, context):
            asked = _Infer.FromString(request)
            if self._models.is_decoupled(asked.model_name):
                raise Problem("internal", DECOUPLED_UNARY, status=501)
            wish = self._wish(asked, stream=False)
            instead, _ = await self.instead(context)
            if instead is not None:
                return bytes(instead)
            audio = await speak(self.service, wish)
            answer = self._answer(asked, audio.data[: self._models.cap(len(audio.data))])
            reply = answer.SerializeToString()
            self.service.tally.bytes_out += len(reply)
        return bytes(reply)

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            async with self.call(request, context):
                async for reply in self._answers(request, context):
                    self.service.tally.bytes_out += len(reply)
                    yield reply

    async def _answers(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        asked = _Infer.FromString(request)
        try:
            decoupled = self._models.is_decoupled(asked.model_name)
            wish = self._wish(asked, stream=decoupled)
        except Problem as problem:
            # Refused before it was an inference: words without a mark of their end.
            yield _failed(asked, problem.detail, marked=False)
            return
        instead, fault = await self.instead(context)
        if instead is not None:
            if instead:
                yield instead
            return
        source = self._pieces(wish, whole=not decoupled)
        try:
            async for piece in self.spoiled(source, fault, context):
                answer = self._answer(asked, piece)
                answer.parameters[_FINAL].bool_param = not decoupled and fault is None
                yield _Streamed(infer_response=answer).SerializeToString()
        except Problem as problem:
            # As cosyvoice3 reports faults: an error, then the end as after audio.
            yield _failed(asked, problem.detail, marked=True)
        if fault is not None and fault.name in ("truncated_audio", "not_audio"):
            return
        if decoupled and asked.parameters["triton_enable_empty_final_response"].bool_param:
            last = _Answer(id=asked.id, model_name=asked.model_name, model_version="1")
            last.parameters[_FINAL].bool_param = True
            yield _Streamed(infer_response=last).SerializeToString()

    async def _pieces(self, wish: Wish, *, whole: bool) -> AsyncIterator[bytes]:
        """Yield the samples, of which the model makes only so many."""
        done = 0
        if whole:
            audio = await speak(self.service, wish)
            yield audio.data[: self._models.cap(len(audio.data))]
            return
        async for piece in stream(self.service, wish):
            left = self._models.cap(done + len(piece)) - done
            if left <= 0:
                return
            done += len(piece)
            yield piece[:left]

    def _wish(self, asked: Any, *, stream: bool) -> Wish:
        inputs = []
        raw = list(asked.raw_input_contents)
        for position, each in enumerate(asked.inputs):
            values = list(getattr(each.contents, _FIELDS.get(each.datatype, "bytes_contents")))
            given = raw[position] if position < len(raw) else None
            inputs.append(Input(each.name, each.datatype, tuple(each.shape), given, values))
        return self._models.wish(asked.model_name, inputs, face="triton-grpc", stream=stream)

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
