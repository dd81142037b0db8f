"""Serve OpenAI's speech path as the server that the settings choose: whole, streamed three ways, and in batches."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from cosyclient.emulator.apis.base import render
from cosyclient.emulator.apis.batch.replies import Reply
from cosyclient.emulator.apis.forms import MOST_BYTES, read_form
from cosyclient.emulator.apis.http import JSON, encoded, read_object
from cosyclient.emulator.apis.openai import streams
from cosyclient.emulator.apis.openai.errors import OpenAIHttpApi, item_error
from cosyclient.emulator.apis.openai.request import BadRequest, BrokenOff, Malformed, OpenAIRequest, RequestReader
from cosyclient.emulator.apis.openai.timestamps import words_header
from cosyclient.emulator.apis.openai.voices import OpenAIVoicesApi
from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.faults import injection
from cosyclient.emulator.speech.items import Audio, Failure
from cosyclient.emulator.speech.wav import split_wav, with_rate, without_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from starlette.routing import BaseRoute

    from cosyclient.emulator.core.service import Service
    from cosyclient.emulator.faults.plan import Fault
    from cosyclient.emulator.server.exchange import Exchange, Scope

_OCTETS = "application/octet-stream"
_NOT_IN_BATCHES = {"stream", "stream_format", "word_timestamps"}
_TOKENS_PER_SECOND = 25


@dataclass(frozen=True, slots=True)
class _ItemFailure(Failure):
    """A refused item, with the Problem that its server reports."""

    problem: Problem | None = None


class OpenAISpeechApi(OpenAIHttpApi):
    """Answer speech requests, alone and in batches, and keep the voices uploaded for them."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._voices = OpenAIVoicesApi(service)
        settings = service.settings
        self._reader = RequestReader(
            server=self.server,
            rate=settings.dialect_rate,
            old=settings.dialect_old,
            aligner=settings.aligner,
            uploaded=self._voices.uploads,
        )

    def routes(self) -> list[BaseRoute]:
        """Return the routes it answers."""
        batch = [Route("/v1/audio/speech/batch", self, methods=["POST"])] if self.server.batch else []
        return [
            *(Route(path, self, methods=["POST"]) for path in self.server.path),
            *batch,
            *self._voices.routes(),
        ]

    def reset(self) -> None:
        """Drop the uploaded voices."""
        self._voices.reset()

    async def serve(self, exchange: Exchange, scope: Scope) -> None:
        """Answer one text, or a batch."""
        body = await exchange.body(MOST_BYTES)
        if scope["path"].endswith("/batch"):
            await self._batch(exchange, read_object(body))
            return
        kind, files = exchange.header("content-type"), None
        if kind.startswith("multipart/") and "prompt_speech" in self.server.takes:
            form = read_form(kind, body)
            document: Mapping[str, Any] = {**form.fields, **dict.fromkeys(form.files, "")}
            files = form.files
        else:
            document = read_object(body)
        try:
            request = self._reader.read(document, files)
        except BrokenOff:
            await exchange.start(200, [(b"content-type", _OCTETS.encode()), *exchange.headers])
            await exchange.close_connection()
            return
        answered, fault = await self.apply_early_fault(exchange)
        if answered:
            return
        if request.delivery:
            await self._stream(exchange, request, fault)
        else:
            await self._whole(exchange, request, fault)

    async def _whole(self, exchange: Exchange, request: OpenAIRequest, fault: Fault | None) -> None:
        audio = injection.apply_to_audio(streams.shortened(await render(self.service, request.speech), fault), fault)
        data = audio.data
        if request.speech.format == "wav" and split_wav(data)[0]:
            data = self._with_own_header(data)
        if request.words:
            exchange.headers.append(words_header(request.speech.text, audio.duration_ms))
        if self.server.envelope == "vllm":
            exchange.headers += _usage(request, audio.duration_ms)
        if self.server.envelope == "sglang":
            exchange.headers += [
                (b"content-disposition", f'attachment; filename="speech.{request.speech.format}"'.encode()),
                (b"x-finish-reason", b"stop"),
            ]
        wrong = fault is not None and fault.name == "mislabelled_audio"
        kind = audio.media_type if wrong else self._type(request.speech.format, audio.sample_rate)
        await self.send_whole(exchange, fault, kind, data)

    def _type(self, format: str, rate: int) -> str:
        return self.server.types[format].format(rate=self.service.settings.dialect_label or rate)

    def _with_own_header(self, audio: bytes) -> bytes:
        """Return a WAV file with the rate and sizes that this server would write."""
        if label := self.service.settings.dialect_label:
            audio = with_rate(audio, label)
        return without_sizes(audio) if self.server.unsized_wav else audio

    async def _stream(self, exchange: Exchange, request: OpenAIRequest, fault: Fault | None) -> None:
        by_segment = self.server.stream in ("raw", "sentences")
        pieces = streams.samples(self.service, request, fault, by_segment=by_segment)
        if self.server.stream == "sglang" and request.delivery != "chunks":
            # It sends its headers with the first samples, so that 200 means audio.
            pieces = await streams.begun(pieces)
            exchange.headers += [
                (b"x-sample-rate", str(request.speech.sample_rate).encode()),
                (b"x-channels", b"1"),
                (b"x-bit-depth", b"16"),
            ]
        if request.delivery != "raw":
            wrapped = streams.chunks if request.delivery == "chunks" else streams.events
            if self.server.stream == "sglang" and request.delivery == "events":
                wrapped = streams.plain_events
            await self.send_pieces(exchange, fault, streams.EVENTS, wrapped(self.service, request, pieces))
            return
        kind = self._type("wav" if request.wav else "pcm", request.speech.sample_rate)
        if self.server.owner == "xinference":
            kind = _OCTETS
        await self.send_pieces(exchange, fault, kind, pieces)

    # Batches

    async def _batch(self, exchange: Exchange, document: dict[str, Any]) -> None:
        items, most = document.get("items"), self.server.batch
        if not isinstance(items, list) or not items:
            raise BadRequest("items", "items must contain at least one request")
        if len(items) > most:
            raise BadRequest("items", f"Batch contains {len(items)} items, exceeding the maximum of {most}.")
        shared = {name: value for name, value in document.items() if name != "items"}
        if shared.get("stream") is True and self.server.envelope == "sglang":
            raise BadRequest("stream", "stream is not supported for batch speech requests")
        requests = [self._item(shared, each) for each in items]
        answered, fault = await self.apply_early_fault(exchange)
        if answered:
            return
        self.service.counters.add_batch(len(requests))
        rendered = await self._render_all([each for each in requests if isinstance(each, OpenAIRequest)])
        outcomes = [next(rendered) if isinstance(each, OpenAIRequest) else each for each in requests]
        reply = Reply(f"speech-batch-{uuid.uuid4()}", "", "", 0, outcomes, [0] * len(outcomes), range(len(outcomes)))
        reply = injection.apply_to_reply(reply, fault, self.service.rng)
        self.service.counters.items_failed += reply.failed()
        await self.send_whole(exchange, fault, JSON, encoded(self._batch_document(reply)))

    def _item(self, shared: dict[str, Any], item: Any) -> OpenAIRequest | Failure:
        checked = self.server.envelope == "vllm"
        try:
            if not isinstance(item, dict):
                raise Malformed("items", "Input should be a valid dictionary")
            if item.get("stream") is True and not checked:
                raise BadRequest("stream", "stream is not supported for batch speech requests")
            left_out = _NOT_IN_BATCHES | ({"seed"} if checked else set())
            given = {name: value for name, value in {**shared, **item}.items() if name not in left_out}
            return self._reader.read(given, item=True)
        except Problem as problem:
            # The form is checked for the whole batch, the rest item by item.
            if checked and (isinstance(problem, Malformed) or problem.code == "unknown_model"):
                raise
            return _ItemFailure(problem.code, problem.detail, problem.retryable, problem=problem)

    async def _render_all(self, requests: Sequence[OpenAIRequest]) -> Iterator[Audio | Failure]:
        service = self.service
        service.received.extend(request.speech.document() for request in requests)
        results = await asyncio.gather(*(service.render(request.speech.as_batch()) for request in requests))
        latest = max((wait for _, waits, _ in results for wait in waits), default=0.0)
        await asyncio.sleep(max(0.0, latest - time.monotonic()))
        return map(self._finished, requests, [items[0] for items, _, _ in results])

    def _finished(self, request: OpenAIRequest, item: Audio | Failure) -> Audio | Failure:
        if not isinstance(item, Audio):
            return item
        self.service.counters.audio_seconds += item.duration_ms / 1000
        # A copy: the renderer's cache shares the original.
        return Audio(item.data, self._type(request.speech.format, item.sample_rate), item.sample_rate, item.duration_ms)

    def _batch_document(self, reply: Reply) -> dict[str, Any]:
        results: list[dict[str, Any]] = []
        for index, item in zip(reply.indices, reply.items, strict=True):
            if isinstance(item, Audio):
                audio = {"audio_data": item.base64().decode(), "media_type": item.media_type}
                results.append({"index": index, "status": "success", **audio})
                continue
            problem = (item.problem if isinstance(item, _ItemFailure) else None) or Problem(item.code, item.detail)
            if isinstance(problem, BadRequest) and problem.param and self.server.envelope == "sglang":
                problem = BadRequest(f"items.{index}.{problem.param}", problem.detail)
            results.append({"index": index, "status": "error", "error": item_error(self.server.envelope, problem)})
        failed = reply.failed()
        total = len(reply.items)
        return {"id": reply.id, "results": results, "total": total, "succeeded": total - failed, "failed": failed}


def _usage(request: OpenAIRequest, duration_ms: int) -> list[tuple[bytes, bytes]]:
    """Return the headers in which vLLM-Omni counts tokens."""
    text, audio = len(request.speech.text), duration_ms * _TOKENS_PER_SECOND // 1000
    counts = {"input": text, "output": audio, "total": text + audio, "input-text": text, "input-audio": 0}
    return [(f"x-vllm-omni-{name}-tokens".encode(), str(count).encode()) for name, count in counts.items()]
