"""CosyVoice on PAI-EAS: uploaded recordings as voices, base64 in JSON, whole or as server-sent events."""

from __future__ import annotations

import base64
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from cosyclient.emulator.apis.base import SpeechRequest, render, stream
from cosyclient.emulator.apis.forms import MOST_BYTES, read_form, require_fields
from cosyclient.emulator.apis.http import JSON, HttpApi, encoded, read_object
from cosyclient.emulator.apis.sse import EVENTS, event
from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.faults import injection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.routing import BaseRoute

    from cosyclient.emulator.core.service import Service
    from cosyclient.emulator.faults.plan import Fault
    from cosyclient.emulator.server.exchange import Exchange, Scope

_SPEECH = "/api/v1/audio/speech"
_RECORDINGS = "/api/v1/audio/reference_audio"
_MODES = ("fast_replication", "cross_lingual_replication", "natural_language_replication")
_FORMATS = ("wav", "mp3", "pcm")
_MOST_RECORDINGS = 1000


@dataclass(frozen=True)
class _Recording:
    id: str
    filename: str
    data: bytes
    text: str
    created_at: int

    def document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "filename": self.filename,
            "bytes": len(self.data),
            "created_at": self.created_at,
            "text": self.text,
        }


class PaiEasApi(HttpApi):
    """Serve speech, and the recordings that are its voices."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._recordings: dict[str, _Recording] = {}

    def routes(self) -> list[BaseRoute]:
        """Return the routes it answers."""
        return [Route(path, self) for path in (_SPEECH, _RECORDINGS, f"{_RECORDINGS}/{{id}}")]

    def reset(self) -> None:
        """Drop the recordings."""
        self._recordings.clear()

    async def serve(self, exchange: Exchange, scope: Scope) -> None:
        """Answer a speech request, or store, list and delete recordings."""
        id = scope["path_params"].get("id")
        match scope["method"], scope["path"]:
            case "POST", path if path == _SPEECH:
                await self._speech(exchange)
            case "POST", path if path == _RECORDINGS:
                await self._upload(exchange)
            case "GET", path if path == _RECORDINGS:
                await exchange.reply(200, JSON, encoded([each.document() for each in self._recordings.values()]))
            case "GET", _ if id:
                await exchange.reply(200, JSON, encoded(self._recording(id).document()))
            case "DELETE", _ if id:
                recording = self._recordings.pop(self._recording(id).id)
                await exchange.reply(200, JSON, encoded(recording.document()))
            case _:
                raise Problem("method_not_allowed", "Method Not Allowed")

    def error_document(self, problem: Problem) -> Any:
        """Return the document of a refusal."""
        if problem.status == 422:
            return super().error_document(problem)
        return _failure(problem.code, problem.detail)

    async def _upload(self, exchange: Exchange) -> None:
        form = read_form(exchange.header("content-type"), await exchange.body(MOST_BYTES))
        require_fields(form, ["text"], ["file"])
        if len(self._recordings) >= _MOST_RECORDINGS:
            self._recordings.pop(next(iter(self._recordings)))
        made = _Recording(
            uuid.uuid4().hex, form.names["file"], form.files["file"], form.fields["text"], int(time.time())
        )
        self._recordings[made.id] = made
        await exchange.reply(200, JSON, encoded(made.document()))

    async def _speech(self, exchange: Exchange) -> None:
        document = read_object(await exchange.body(self.service.settings.max_body_bytes))
        request = self._read(document)
        answered, fault = await self.apply_early_fault(exchange)
        if answered:
            return
        if request.stream:
            await self.send_pieces(exchange, fault, EVENTS, self._events(request, fault))
            return
        audio = injection.apply_to_audio(await render(self.service, request), fault)
        reply = _success(audio.data, last=True)
        if fault and fault.name == "error_event":
            reply = _failure(fault["code"], "a fault was asked for")
        await self.send_whole(exchange, fault, JSON, encoded(reply))

    def _read(self, document: dict[str, Any]) -> SpeechRequest:
        wanted = document.get("input")
        if not isinstance(wanted, dict):
            raise _bad("input is required")
        mode, text, format = wanted.get("mode"), wanted.get("text"), wanted.get("output_format", "wav")
        speed = wanted.get("speed", 1.0)
        if mode not in _MODES:
            raise _bad(f"mode must be one of {', '.join(_MODES)}")
        if not isinstance(text, str) or not text.strip():
            raise _bad("text is required")
        if format not in _FORMATS:
            raise _bad(f"output_format must be one of {', '.join(_FORMATS)}")
        if not isinstance(speed, (int, float)) or not 0.5 <= speed <= 2:
            raise _bad("speed must be between 0.5 and 2")
        if mode == _MODES[2] and not wanted.get("instruct"):
            raise _bad("instruct is required")
        recording = self._recording(wanted.get("reference_audio_id"))
        return SpeechRequest(
            api="pai-eas",
            mode=mode,
            text=text,
            voice=recording.id,
            prompt=recording.data,
            prompt_text=recording.text,
            instruct=wanted.get("instruct", ""),
            model=document.get("model", ""),
            format=format,
            sample_rate=wanted.get("sample_rate", 24000),
            speed=speed,
            stream=bool(document.get("stream")),
        )

    def _recording(self, id: object) -> _Recording:
        recording = self._recordings.get(id) if isinstance(id, str) else None
        if recording is None:
            raise Problem("not_found", "reference audio not found")
        return recording

    async def _events(self, request: SpeechRequest, fault: Fault | None) -> AsyncIterator[bytes]:
        lines, count = self.service.settings.sse_lines, 0
        failing = fault if fault and fault.name == "error_event" else None
        async for piece in stream(self.service, request):
            if failing and count >= failing["after"]:
                break
            yield event(_success(piece, last=False), lines=lines)
            count += 1
        last = _failure(failing["code"], "a fault was asked for") if failing else _success(b"", last=True)
        yield event(last, lines=lines)


def _bad(message: str) -> Problem:
    return Problem("validation_failed", message, status=400)


def _success(data: bytes, *, last: bool) -> dict[str, Any]:
    audio = {"id": f"audio_{uuid.uuid4().hex[:12]}", "data": base64.b64encode(data).decode()}
    output = {"finish_reason": "stop" if last else None, "audio": audio}
    return {"request_id": str(uuid.uuid4()), "output": output, "usage": {}}


def _failure(code: str, message: str) -> dict[str, Any]:
    return {"request_id": str(uuid.uuid4()), "error": {"code": code, "message": message}}
