"""Serve LightTTS's "bistream" over WebSocket, as light_tts/server/api_http.py does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cosyclient.emulator.apis.base import Wish
from cosyclient.emulator.apis.lighttts.http import STYLES, readable
from cosyclient.emulator.apis.sentences import Talk
from cosyclient.emulator.apis.websocket import Gone, Visit, routes
from cosyclient.emulator.core.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute
    from starlette.websockets import WebSocket

    from cosyclient.emulator.core.service import Service

PATH = "/inference_zero_shot_bistream"
_RATE = 24000


class LightTtsSocketFace:
    """Answer on the path of LightTTS's bistream; used on one event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> Sequence[BaseRoute]:
        """Return the paths it answers."""
        return routes(PATH, self._serve)

    def reset(self) -> None:
        """Remember nothing, hence forget nothing."""

    async def _serve(self, websocket: WebSocket) -> None:
        visit = Visit(self._service, websocket)
        if not await visit.enter(_denial):
            return
        talk: Talk | None = None
        try:
            talk = await self._begin(visit)
            if talk is None:
                await visit.close(1003)
                return
            while not talk.over:
                message = await visit.hear(3600.0)
                if message is not None:
                    _take(talk, message)
            await visit.close()
        except Gone:
            pass
        except (ValueError, TypeError, KeyError):
            await visit.say({"error": "the message cannot be read"})
            await visit.close()
        finally:
            visit.leave()
            if talk is not None:
                await talk.stop()

    async def _begin(self, visit: Visit) -> Talk | None:
        """Return what speaks, or None of a recording that cannot be read."""
        idle = self._service.settings.socket_idle
        head, recording = await visit.hear(idle), await visit.hear(idle)
        if not isinstance(head, str) or not isinstance(recording, bytes):
            raise ValueError
        document = json.loads(head)
        if not readable(recording):
            return None
        wish = Wish(
            face="lighttts-ws",
            text="",
            mode="zero_shot",
            prompt=recording,
            prompt_text=document["prompt_text"],
            model=document.get("tts_model_name", "default"),
            sample_rate=_RATE,
            stream=True,
        )

        async def nothing(*_: object) -> None:
            pass

        async def fail(message: str, _partial: bool) -> None:
            await visit.say({"error": message})

        async def refuse(_number: int, _sentence: str) -> bool:
            if wish.model in ("default", *STYLES):
                return False
            raise Problem("internal", f"Server error: {wish.model!r}")

        talk = Talk(visit, wish, begin=nothing, end=nothing, done=nothing, fail=fail, refuse=refuse)
        talk.start()
        return talk


def _take(talk: Talk, message: str | bytes) -> None:
    document = json.loads(message)
    if document.get("finish") is True:
        talk.finish()
    else:
        text = document["tts_text"]
        if not isinstance(text, str):
            raise TypeError
        talk.say(text)


def _denial(problem: Problem) -> dict[str, Any]:
    return {"message": problem.detail}
