"""The official gRPC runtime: ``cosyvoice.CosyVoice/Inference``, a message per segment, and UNKNOWN for every fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from cosyclient.emulator.apis.base import Wish, segments, stream
from cosyclient.emulator.apis.cosyvoice.rules import MARK, hop_of, rate_of, wrong_with
from cosyclient.emulator.apis.grpc import TOO_LARGE, TOO_MANY, Calls
from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.protos import message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from cosyclient.emulator.core.service import Service

_Request, _Response = message("cosyvoice.Request"), message("cosyvoice.Response")
_MOST_BYTES = 4 << 20
_PROMPT_RATE = 16000


class RuntimeCalls(Calls):
    """Serve the runtime's one method."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._running = 0

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler]:
        """Return what answers each method."""
        return {"/cosyvoice.CosyVoice/Inference": grpc.unary_stream_rpc_method_handler(self._inference)}

    async def _inference(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        most = self.service.settings.max_conc
        self._running += 1
        try:
            async with self.call(request, context):
                if 0 < most < self._running:
                    raise Problem("rate_limited", TOO_MANY)
                if len(request) > _MOST_BYTES:
                    raise Problem("body_too_large", TOO_LARGE.format(what="Received", size=len(request)))
                try:
                    wish = self._wish(_Request.FromString(request))
                except DecodeError:
                    # In grpcio's own words.
                    await context.abort(grpc.StatusCode.INTERNAL, "Exception deserializing request!")
                instead, fault = await self.instead(context)
                if instead is not None:
                    if instead:
                        yield instead
                    return
                async for piece in self.spoiled(self._generate(wish), fault, context):
                    reply = _Response(tts_audio=piece).SerializeToString()
                    self.service.tally.bytes_out += len(reply)
                    yield reply
        finally:
            self._running -= 1

    def status(self, problem: Problem) -> tuple[grpc.StatusCode, str]:
        """Return the code and the details of a refusal: what a model raises is all alike to this server."""
        if problem.code == "internal" and problem.status == 500 and "fault was asked" not in problem.detail:
            return grpc.StatusCode.UNKNOWN, f"Exception iterating responses: {problem.detail}"
        return super().status(problem)

    def _wish(self, request: Any) -> Wish:
        mode = request.WhichOneof("RequestPayload") or "instruct_request"
        said = getattr(request, mode)
        lead, mark, text = said.tts_text.rpartition(MARK)
        return Wish(
            face="grpc",
            mode=mode.removesuffix("_request"),
            text=text,
            voice=getattr(said, "spk_id", ""),
            prompt=getattr(said, "prompt_audio", None),
            prompt_text=getattr(said, "prompt_text", ""),
            instruct=getattr(said, "instruct_text", lead + mark),
            sample_rate=rate_of(self.service.settings),
            stream=True,
        )

    async def _generate(self, wish: Wish) -> AsyncIterator[bytes]:
        prompt = wish.prompt or b""
        wrong = wrong_with(self.service.settings, wish, len(prompt) / (2 * _PROMPT_RATE))
        if len(prompt) % 2:
            wrong = "buffer size must be a multiple of element size"
        if wrong:
            self.service.heard.append(wish.heard())
            raise Problem("internal", wrong)
        marked = "<|" in wish.text and "|>" in wish.text
        pieces = [wish.text] if marked else segments(wish.text)
        if not pieces:
            self.service.heard.append(wish.heard())
            return
        async for piece in stream(self.service, wish, pieces, hop=hop_of(wish.sample_rate)):
            yield piece
