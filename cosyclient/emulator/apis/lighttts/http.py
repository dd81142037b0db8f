"""LightTTS over HTTP: its own ``POST /inference_zero_shot``, and status 417 for every internal error."""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from cosyclient.emulator.apis.base import SpeechRequest, render, stream
from cosyclient.emulator.apis.forms import MOST_BYTES, Form, Invalid, fault, read_form, require_fields
from cosyclient.emulator.apis.http import HttpApi, NotAllowed, apply_to_samples, openapi_route
from cosyclient.emulator.core.problems import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from cosyclient.emulator.server.exchange import Exchange, Scope

_PATH = "/inference_zero_shot"
_TRUE, _FALSE = ("1", "true", "t", "yes", "y", "on"), ("0", "false", "f", "no", "n", "off")
_RATE = 24000
_LOWEST_RATE = 16000


STYLES = ("CosyVoice2", "CosyVoice3")
"""The models it serves, by the names that its configuration gives them; ``default`` is the first."""


class LightTtsHttpApi(HttpApi):
    """Serve LightTTS below ``/lighttts``, and when served alone also at its own path, elsewhere the runtime's."""

    def routes(self) -> list[BaseRoute]:
        """Return the routes it answers."""
        found: list[BaseRoute] = []
        for below in ("/lighttts", "") if self.service.settings.serve == "lighttts" else ("/lighttts",):
            found += [
                Route(f"{below}{_PATH}", self),
                openapi_route([_PATH], below=below),
                Route(f"{below}/health", _ok),
                Route(f"{below}/healthz", _ok),
                Route(f"{below}/liveness", _ready),
                Route(f"{below}/readiness", _ready),
                Route(f"{below}/query_tts_model", _styles, methods=["GET", "POST"]),
            ]
        return found

    async def serve(self, exchange: Exchange, scope: Scope) -> None:
        """Answer a form."""
        if scope["method"] != "POST":
            raise NotAllowed
        form = read_form(exchange.header("content-type"), await exchange.body(MOST_BYTES))
        require_fields(form, ["tts_text", "prompt_text"], ["prompt_wav"])
        request = _read(form)
        if request.stream and request.speed != 1.0:
            raise _LightTtsError(400, "speed change only support non-stream inference mode")
        if not readable(request.prompt):
            raise _LightTtsError(400, "audio file format is incorrect")
        unknown = request.model != "default" and request.model not in STYLES
        if unknown and not request.stream:
            # LightTTS sends the text of its KeyError.
            raise _LightTtsError(417, repr(request.model))
        answered, fault = await self.apply_early_fault(exchange)
        if answered:
            return
        if request.stream:
            await self.send_pieces(
                exchange, fault, "", apply_to_samples(self._stream(request, known=not unknown), fault)
            )
            return
        audio = await render(self.service, request)
        await self.send_pieces(exchange, fault, "", apply_to_samples(_once(audio.data), fault))

    async def _stream(self, request: SpeechRequest, *, known: bool) -> AsyncIterator[bytes]:
        """Yield samples; for an unknown model LightTTS fails after the head of the reply was sent."""
        if not known:
            raise Problem("internal", "the generator failed")
        async for piece in stream(self.service, request):
            yield piece

    def error_document(self, problem: Problem) -> Any:
        """Return the document of a refusal: its own where it raised, FastAPI's where that did."""
        if isinstance(problem, Invalid) or problem.status in (404, 405):
            return super().error_document(problem)
        return {"message": problem.detail}


class _LightTtsError(Problem):
    """Refuse with LightTTS's message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__("validation_failed", message, status=status)


def _read(form: Form) -> SpeechRequest:
    fields = form.fields
    faults = []
    streamed = fields.get("stream", "false").lower()
    if streamed not in (*_TRUE, *_FALSE):
        message = "Input should be a valid boolean, unable to interpret input"
        faults.append(fault("bool_parsing", "stream", message, fields["stream"]))
    try:
        speed = float(fields.get("speed", "1.0"))
    except ValueError:
        message = "Input should be a valid number, unable to parse string as a number"
        faults.append(fault("float_parsing", "speed", message, fields["speed"]))
    if faults:
        raise Invalid(faults)
    return SpeechRequest(
        api="lighttts",
        mode="zero_shot",
        text=fields["tts_text"],
        prompt=form.files["prompt_wav"],
        prompt_text=fields["prompt_text"],
        model=fields.get("tts_model_name", "default"),
        sample_rate=_RATE,
        speed=speed,
        stream=streamed in _TRUE,
    )


def readable(recording: bytes | None) -> bool:
    """Return whether *recording* is one that it can read: a WAV file of at least 16 kHz."""
    try:
        with wave.open(io.BytesIO(recording or b"")) as file:
            return bool(file.getframerate() >= _LOWEST_RATE)
    except (wave.Error, EOFError):
        return False


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _ok(_request: Request) -> Response:
    return JSONResponse({"message": "Ok"})


async def _styles(_request: Request) -> Response:
    return JSONResponse({"tts_models": list(STYLES)})


async def _ready(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})
