"""LightTTS over HTTP: ``POST /inference_zero_shot`` of its own kind, 417 for whatever goes wrong inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from cosyclient.emulator.faces.base import Wish, speak, stream
from cosyclient.emulator.faces.forms import MOST_BYTES, Form, Invalid, demand, fault, read_form
from cosyclient.emulator.faces.http import HttpFace, described, spoiled
from cosyclient.emulator.problems import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from cosyclient.emulator.exchange import Exchange, Scope

_PATH = "/inference_zero_shot"
_TRUE, _FALSE = ("1", "true", "t", "yes", "y", "on"), ("0", "false", "f", "no", "n", "off")
_RATE = 24000


class LightTtsFace(HttpFace):
    """Serve LightTTS below ``/lighttts``: on its own path the official runtime answers."""

    def routes(self) -> list[BaseRoute]:
        """Return the paths it answers."""
        return [
            Route(f"/lighttts{_PATH}", self),
            described([_PATH], below="/lighttts"),
            Route("/lighttts/health", _ok),
            Route("/lighttts/healthz", _ok),
            Route("/lighttts/readiness", _ready),
        ]

    async def serve(self, exchange: Exchange, scope: Scope) -> None:
        """Answer a form."""
        if scope["method"] != "POST":
            raise Problem("method_not_allowed", "Method Not Allowed")
        form = read_form(exchange.header("content-type"), await exchange.body(MOST_BYTES))
        demand(form, ["tts_text", "prompt_text"], ["prompt_wav"])
        wish = _wish(form)
        if wish.stream and wish.speed != 1.0:
            raise _Said(400, "speed change only support non-stream inference mode")
        answered, fault = await self.faulty(exchange)
        if answered:
            return
        if wish.stream:
            await self.send_pieces(exchange, fault, "", spoiled(stream(self.service, wish), fault))
            return
        audio = await speak(self.service, wish)
        await self.send_pieces(exchange, fault, "", spoiled(_once(audio.data), fault))

    def complaint(self, problem: Problem) -> Any:
        """Return the document of a refusal: its own where it raised, FastAPI's where that did."""
        if isinstance(problem, Invalid) or problem.status in (404, 405):
            return super().complaint(problem)
        return {"message": problem.detail}


class _Said(Problem):
    """Refuse in LightTTS's words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__("validation_failed", message, status=status)


def _wish(form: Form) -> Wish:
    said = form.fields
    faults = []
    streamed = said.get("stream", "false").lower()
    if streamed not in (*_TRUE, *_FALSE):
        message = "Input should be a valid boolean, unable to interpret input"
        faults.append(fault("bool_parsing", "stream", message, said["stream"]))
    try:
        speed = float(said.get("speed", "1.0"))
    except ValueError:
        message = "Input should be a valid number, unable to parse string as a number"
        faults.append(fault("float_parsing", "speed", message, said["speed"]))
    if faults:
        raise Invalid(faults)
    return Wish(
        face="lighttts",
        mode="zero_shot",
        text=said["tts_text"],
        prompt=form.files["prompt_wav"],
        prompt_text=said["prompt_text"],
        model=said.get("tts_model_name", "default"),
        sample_rate=_RATE,
        speed=speed,
        stream=streamed in _TRUE,
    )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _ok(_request: Request) -> Response:
    return JSONResponse({"message": "Ok"})


async def _ready(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})
