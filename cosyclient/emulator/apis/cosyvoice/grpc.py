"""The official gRPC runtime: ``cosyvoice.CosyVoice/Inference``, a message per segment, and UNKNOWN for every fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from cosyclient.emulator.apis.base import SpeechRequest
from cosyclient.emulator.apis.cosyvoice.models import error_in, generate, sample_rate_of, split_instruction
from cosyclient.emulator.apis.grpc import TOO_LARGE, TOO_MANY, GrpcApi
from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.protos import message as message_type

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from cosyclient.emulator.core.service import Service

_Request, _Response = message_type("cosyvoice.Request"), message_type("cosyvoice.Response")
_MOST_BYTES = 4 << 20
_PROMPT_RATE = 16000


class RuntimeGrpcApi(GrpcApi):
    """Serve the runtime's one method."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._running = 0

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """Return what answers each method."""
        return {"/cosyvoice.CosyVoice/Inference": grpc.unary_stream_rpc_method_handler(self._inference)}

    async def _inference(self, data: bytes, context: Any) -> AsyncIterator[bytes]:
        most = self.service.settings.max_conc
        self._running += 1
        try:
            async with self.call(data, context):
                if 0 < most < self._running:
                    raise Problem("rate_limited", TOO_MANY)
                if len(data) > _MOST_BYTES:
                    raise Problem("body_too_large", TOO_LARGE.format(what="Received", size=len(data)))
                try:
                    request = self._read(_Request.FromString(data))
                except DecodeError:
                    # grpcio's message.
                    await context.abort(grpc.StatusCode.INTERNAL, "Exception deserializing request!")
                reply, fault = await self.reply_of_fault(context)
                if reply is not None:
                    if reply:
                        yield reply
                    return
                pieces = generate(self.service, request, self._error_in(request))
                async for piece in self.apply_to_samples(pieces, fault, context):
                    response = _Response(tts_audio=piece).SerializeToString()
                    self.service.counters.bytes_out += len(response)
                    yield response
        finally:
            self._running -= 1

    def status(self, problem: Problem) -> tuple[grpc.StatusCode, str]:
        """Return the code and the details of a refusal: what a model raises is all alike to this server."""
        if problem.code == "internal" and problem.status == 500 and "fault was asked" not in problem.detail:
            return grpc.StatusCode.UNKNOWN, f"Exception iterating responses: {problem.detail}"
        return super().status(problem)

    def _read(self, message: Any) -> SpeechRequest:
        mode = message.WhichOneof("RequestPayload") or "instruct_request"
        given = getattr(message, mode)
        instruction, text = split_instruction(given.tts_text)
        return SpeechRequest(
            api="grpc",
            mode=mode.removesuffix("_request"),
            text=text,
            voice=getattr(given, "spk_id", ""),
            prompt=getattr(given, "prompt_audio", None),
            prompt_text=getattr(given, "prompt_text", ""),
            instruct=getattr(given, "instruct_text", instruction),
            sample_rate=sample_rate_of(self.service.settings),
            stream=True,
        )

    def _error_in(self, request: SpeechRequest) -> str:
        prompt = request.prompt or b""
        if len(prompt) % 2:
            return "buffer size must be a multiple of element size"
        return error_in(self.service.settings, request, len(prompt) / (2 * _PROMPT_RATE))
