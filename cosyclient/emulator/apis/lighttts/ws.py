"""Serve LightTTS's "bistream" over WebSocket, as light_tts/server/api_http.py does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cosyclient.emulator.apis.base import SpeechRequest
from cosyclient.emulator.apis.lighttts.http import STYLES, readable
from cosyclient.emulator.apis.sentences import SentencePump
from cosyclient.emulator.apis.websocket import ClientGone, ClientSession, WebSocketApi
from cosyclient.emulator.core.problems import Problem

if TYPE_CHECKING:
    from starlette.websockets import WebSocket


PATH = "/inference_zero_shot_bistream"
_RATE = 24000


class LightTtsWebSocketApi(WebSocketApi):
    """Serve LightTTS's bistream; used on one event loop."""

    path = PATH

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection to its end."""
        session = ClientSession(self.service, websocket)
        if not await session.open(_denial_document):
            return
        pump: _BistreamPump | None = None
        try:
            pump = await self._begin(session)
            if pump is None:
                await session.close(1003)
                return
            while not pump.over:
                message = await session.receive(3600.0)
                if message is not None:
                    _take(pump, message)
            await session.close()
        except ClientGone:
            pass
        except (ValueError, TypeError, KeyError):
            await session.send({"error": "the message cannot be read"})
            await session.close()
        finally:
            session.release()
            if pump is not None:
                await pump.stop()

    async def _begin(self, session: ClientSession) -> _BistreamPump | None:
        """Read the voice and start the pump; None for a recording that cannot be read."""
        idle = self.service.settings.socket_idle
        head, recording = await session.receive(idle), await session.receive(idle)
        if not isinstance(head, str) or not isinstance(recording, bytes):
            raise ValueError
        document = json.loads(head)
        if not readable(recording):
            return None
        request = SpeechRequest(
            api="lighttts-ws",
            text="",
            mode="zero_shot",
            prompt=recording,
            prompt_text=document["prompt_text"],
            model=document.get("tts_model_name", "default"),
            sample_rate=_RATE,
            stream=True,
        )
        pump = _BistreamPump(session, request)
        pump.start(self.service.draw_fault())
        return pump


class _BistreamPump(SentencePump):
    """Send the audio as it is, with no message around it."""

    async def refuse(self, number: int, sentence: str) -> bool:
        """Refuse a model that is not served, at the first sentence."""
        del number, sentence
        if self._request.model not in ("default", *STYLES):
            raise Problem("internal", f"Server error: {self._request.model!r}")
        return False

    async def send_failure(self, problem: Problem, *, partial: bool) -> None:
        """Send the message of *problem*."""
        del partial
        await self._session.send({"error": problem.detail})


def _take(pump: _BistreamPump, message: str | bytes) -> None:
    document = json.loads(message)
    if document.get("finish") is True:
        pump.end_text()
    else:
        text = document["tts_text"]
        if not isinstance(text, str):
            raise TypeError
        pump.add_text(text)


def _denial_document(problem: Problem) -> dict[str, Any]:
    return {"message": problem.detail}
