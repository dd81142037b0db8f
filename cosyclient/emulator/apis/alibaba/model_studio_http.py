"""Alibaba Model Studio's CosyVoice over HTTP: events with base64 audio, or the address of a file."""

from __future__ import annotations

import base64
import time
import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from cosyclient.emulator.apis.alibaba.model_studio_request import MODELS, billed_characters, has_voice, word_documents
from cosyclient.emulator.apis.base import SpeechRequest, render, segments, stream
from cosyclient.emulator.apis.http import JSON, HttpApi, apply_to_samples, encoded, read_object
from cosyclient.emulator.apis.sse import EVENTS, event
from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.faults import injection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.routing import BaseRoute

    from cosyclient.emulator.core.service import Service
    from cosyclient.emulator.faults.plan import Fault
    from cosyclient.emulator.server.exchange import Exchange, Scope

_PATH = "/api/v1/services/audio/tts/SpeechSynthesizer"
_FILES = "/model-studio-files"
_MOST_FILES = 100
_FORMATS = {"mp3": "audio/mpeg", "wav": "audio/wav", "pcm": "audio/pcm", "opus": "audio/ogg"}
_RATES = (8000, 16000, 22050, 24000, 44100, 48000)
_DAY = 86400
# What the service calls the problems that every API has.
_CODES = {
    "unauthorized": "InvalidApiKey",
    "rate_limited": "Throttling.RateQuota",
    "too_many_connections": "Throttling.RateQuota",
    "overloaded": "ModelServingError",
    "loading": "ModelServingError",
    "internal": "InternalError",
    "not_found": "InvalidURL",
    "method_not_allowed": "InvalidParameter",
    "malformed_json": "InvalidParameter",
    "validation_failed": "InvalidParameter",
    "unknown_model": "ModelNotFound",
    "unknown_voice": "InvalidParameter",
}
_MESSAGES = {
    "rate_limited": "Requests rate limit exceeded, please try again later.",
    "unauthorized": "Invalid API-key provided.",
    "unknown_voice": "[tts:]Engine return error code: 418",
}
_STATUSES = {"unknown_voice": 400, "validation_failed": 400}


class ModelStudioHttpApi(HttpApi):
    """Serve ``SpeechSynthesizer``, and the audio files that its replies link to."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._files: OrderedDict[str, tuple[str, bytes]] = OrderedDict()

    def routes(self) -> list[BaseRoute]:
        """Return the routes it answers."""
        return [Route(_PATH, self), Route(f"{_FILES}/{{id}}", self)]

    def reset(self) -> None:
        """Drop the files."""
        self._files.clear()

    async def admit(self, exchange: Exchange, scope: Scope) -> None:
        """Admit a request; a file needs no key, as its URL is a secret."""
        if not scope["path_params"].get("id"):
            await super().admit(exchange, scope)

    async def serve(self, exchange: Exchange, scope: Scope) -> None:
        """Answer a speech request, or return a file."""
        if id := scope["path_params"].get("id"):
            kind, data = self._file(id)
            await exchange.reply(200, kind, data)
            return
        if scope["method"] != "POST":
            raise Problem("method_not_allowed", "Request method is not supported")
        as_events = exchange.header("x-dashscope-sse") == "enable"
        request, words = self._read(read_object(await exchange.body(self.service.settings.max_body_bytes)), as_events)
        answered, fault = await self.apply_early_fault(exchange)
        if answered:
            return
        where = f"http://{exchange.header('host')}{_FILES}"
        if as_events:
            pieces = self._events(request, fault, words=words, where=where, request_id=exchange.id)
            await self.send_pieces(exchange, fault, EVENTS, pieces)
            return
        audio = injection.apply_to_audio(await render(self.service, request), fault)
        output = {"audio": self._kept(where, request.format, audio.data), "finish_reason": "stop"}
        document = _document(exchange.id, output, billed_characters(request.text))
        await self.send_whole(exchange, fault, JSON, encoded(document))

    def error_document(self, problem: Problem) -> Any:
        """Return the document of a refusal."""
        code = _CODES.get(problem.code, problem.code)
        message = _MESSAGES.get(problem.code, problem.detail)
        return {"code": code, "message": message, "request_id": str(uuid.uuid4())}

    async def refuse(self, exchange: Exchange, problem: Problem) -> None:
        """Refuse the request with this service's status for it."""
        problem.status = _STATUSES.get(problem.code, problem.status)
        await super().refuse(exchange, problem)

    def _read(self, document: dict[str, Any], as_events: bool) -> tuple[SpeechRequest, bool]:
        """Return the speech request in *document*, and whether it asks for word timings."""
        model, wanted = document.get("model"), document.get("input")
        if not isinstance(model, str) or not isinstance(wanted, dict):
            raise Problem("validation_failed", "Required body invalid, please check the request body format.")
        text, voice = wanted.get("text"), wanted.get("voice")
        format, rate = wanted.get("format", "mp3"), wanted.get("sample_rate", 22050)
        speed = wanted.get("rate", 1.0)
        if not model.startswith(MODELS):
            raise Problem("unknown_model", "Model not exist.", status=404)
        if not isinstance(text, str) or not text.strip():
            raise Problem("validation_failed", "[tts:]input text is empty")
        if not isinstance(voice, str) or not has_voice(model, voice):
            raise Problem("unknown_voice", "no such voice")
        if format not in _FORMATS or rate not in _RATES:
            raise Problem("validation_failed", "[tts:]format or sample_rate is invalid")
        if not isinstance(speed, (int, float)) or not 0.5 <= speed <= 2:
            raise Problem("validation_failed", "[tts:]rate must be between 0.5 and 2")
        request = SpeechRequest(
            api="model-studio-http",
            text=text,
            voice=voice,
            instruct=wanted.get("instruction", ""),
            model=model,
            format=format,
            sample_rate=rate,
            speed=speed,
            seed=wanted.get("seed"),
            stream=as_events,
        )
        return request, bool(wanted.get("word_timestamp_enabled"))

    async def _events(
        self, request: SpeechRequest, fault: Fault | None, *, words: bool, where: str, request_id: str
    ) -> AsyncIterator[bytes]:
        """Yield begin, audio and end events for each sentence, then the URL of the whole file."""
        sentences = segments(request.text) or [request.text]
        number, characters, begin_ms, count = 0, 0, 0, 0
        whole: list[bytes] = []
        failing = fault if fault and fault.name == "error_event" else None

        def result(output: dict[str, Any]) -> bytes:
            nonlocal number
            number += 1
            return self._event(number, "result", 200, _document(request_id, output, characters))

        async for piece in apply_to_samples(stream(self.service, request, sentences), fault):
            # The last piece may be the remainder of the division.
            sentence = sentences[min(count, len(sentences) - 1)]
            index = {"index": count, "words": []}
            if failing and count >= failing["after"]:
                break
            if count < len(sentences):
                yield result({"type": "sentence-begin", "sentence": index, "original_text": sentence})
            audio = {"data": base64.b64encode(piece).decode(), "id": f"audio_{request_id}", "expires_at": 0}
            yield result({"type": "sentence-synthesis", "sentence": index, "audio": audio, "finish_reason": "null"})
            whole.append(piece)
            if count < len(sentences):
                characters += billed_characters(sentence)
                end_ms = begin_ms + round(len(piece) * 500 / request.sample_rate)
                timed = {
                    "index": count,
                    "words": word_documents(sentence, begin_ms, end_ms - begin_ms) if words else [],
                }
                yield result({"type": "sentence-end", "sentence": timed, "original_text": sentence})
                begin_ms = end_ms
            count += 1
        if failing:
            failure = {"code": failing["code"], "message": "a fault was asked for", "request_id": request_id}
            yield self._event(number + 1, "error", 500, failure)
            return
        file = self._kept(where, request.format, b"".join(whole))
        yield result({"finish_reason": "stop", "audio": {"data": "", **file}})

    def _event(self, number: int, name: str, status: int, document: dict[str, Any]) -> bytes:
        head = f"id:{number}\nevent:{name}\n:HTTP_STATUS/{status}\n"
        return event(document, head=head, lines=self.service.settings.sse_lines)

    def _kept(self, where: str, format: str, data: bytes) -> dict[str, Any]:
        """Keep a file for download, and return its URL."""
        id = uuid.uuid4().hex
        self._files[id] = (_FORMATS[format], data)
        if len(self._files) > _MOST_FILES:
            self._files.popitem(last=False)
        return {"url": f"{where}/{id}", "id": f"audio_{id}", "expires_at": int(time.time()) + _DAY}

    def _file(self, id: str) -> tuple[str, bytes]:
        if id not in self._files:
            raise Problem("not_found", "no such file")
        return self._files[id]


def _document(request_id: str, output: dict[str, Any], characters: int) -> dict[str, Any]:
    return {"request_id": request_id, "output": output, "usage": {"characters": characters}}
