"""Serve vLLM-Omni's speech over WebSocket, as docs/serving/speech_api.md of vllm-omni describes it."""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cosyclient.emulator.faces.base import Wish
from cosyclient.emulator.faces.sockets import Gone, Visit, routes
from cosyclient.emulator.faces.talking import Talk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute
    from starlette.websockets import WebSocket

    from cosyclient.emulator.problems import Problem
    from cosyclient.emulator.service import Service

PATH = "/v1/audio/speech/stream"
_FIRST = 10.0
_MOST_TEXT_BYTES = 128 << 10
_FORMATS = ("wav", "pcm", "flac", "mp3", "opus")
_SPLITS = ("none", "sentence", "clause")


class _Invalid(Exception):
    """Refuse a message, for this reason."""


@dataclass(frozen=True, slots=True)
class _Config:
    wish: Wish
    whole: bool


class VllmSocketFace:
    """Answer on the path of vLLM-Omni's WebSocket; used on one event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> Sequence[BaseRoute]:
        """Return the paths it answers."""
        return routes(PATH, self._serve)

    def reset(self) -> None:
        """Remember nothing, hence forget nothing."""

    async def _serve(self, websocket: WebSocket) -> None:
        visit = Visit(self._service, websocket)
        if await visit.enter(_denial):
            session = _Session(visit)
            try:
                await session.run()
                await visit.close()
            except Gone:
                pass
            finally:
                visit.leave()
                await session.stop()


class _Session:
    """Serve one connection: configurations, and utterances one after the other."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._settings = visit.service.settings
        self._config: _Config | None = None
        self._talk: Talk | None = None
        self._number = 0

    async def run(self) -> None:
        """Serve until it closes, or has idled too long."""
        while True:
            busy = self._talk is not None and not self._talk.over
            limit = _FIRST if self._config is None else math.inf if busy else self._settings.socket_idle
            message = await self._visit.hear(min(limit, 3600.0))
            if message is None:
                if busy or (self._talk is not None and self._talk.over and self._forget()):
                    continue
                return
            try:
                document = json.loads(message)
                kind = document["type"]
            except (ValueError, KeyError, TypeError):
                document, kind = {}, ""
            if kind == "session.close":
                return
            try:
                self._take(kind, document)
            except _Invalid as invalid:
                await self._visit.say({"type": "error", "message": str(invalid)})
                if self._config is None:
                    return

    async def stop(self) -> None:
        """Break off."""
        if self._talk is not None:
            await self._talk.stop()

    def _forget(self) -> bool:
        self._talk = None
        return True

    def _take(self, kind: str, document: dict[str, Any]) -> None:
        if kind == "session.config":
            self._config = _read_config(document)
            return
        if self._config is None:
            raise _Invalid("the first message must be session.config")
        if kind == "input.text":
            text = document.get("text")
            if not isinstance(text, str) or len(text.encode()) > _MOST_TEXT_BYTES:
                raise _Invalid("text must be a string of at most 131072 bytes")
            self._current().say(text)
        elif kind == "input.done":
            if self._talk is not None and self._talk.failed:
                # This flushed what has failed already.
                self._talk = None
            else:
                self._current().finish()
        else:
            raise _Invalid(f"unknown message type {kind[:40]!r}")

    def _current(self) -> Talk:
        if self._talk is None or self._talk.over:
            assert self._config is not None  # noqa: S101 - looked at before
            wish, number = self._config.wish, self._number
            self._number += 1

            async def begin(index: int, sentence: str, audio: Any) -> None:
                await self._visit.say(
                    {
                        "type": "audio.start",
                        "utterance_index": number,
                        "sentence_index": index,
                        "sentence_text": sentence,
                        "format": wish.format,
                        "sample_rate": audio.sample_rate,
                        "channels": 1,
                    }
                )

            async def end(index: int, total: int, failed: bool) -> None:
                await self._visit.say(
                    {
                        "type": "audio.done",
                        "utterance_index": number,
                        "sentence_index": index,
                        "total_bytes": total,
                        "error": failed,
                    }
                )

            async def done(count: int) -> None:
                await self._visit.say({"type": "session.done", "utterance_index": number, "total_sentences": count})

            async def fail(message: str, partial: bool) -> None:
                document: dict[str, Any] = {"type": "error", "message": message}
                if partial:
                    document |= {"partial_audio": True, "action": "discard"}
                await self._visit.say(document)

            self._talk = Talk(self._visit, wish, begin=begin, end=end, done=done, fail=fail, whole=self._config.whole)
            self._talk.start()
        return self._talk


def _read_config(document: dict[str, Any]) -> _Config:
    voice, audio, said = (document.get(name) for name in ("voice", "ref_audio", "ref_text"))
    if not voice and not (audio and said):
        raise _Invalid("CosyVoice3 needs ref_audio and ref_text, or the name of an uploaded voice")
    format, speed = document.get("response_format") or "wav", document.get("speed") or 1.0
    split, streaming = document.get("split_granularity") or "sentence", document.get("stream_audio") is True
    if format not in _FORMATS:
        raise _Invalid(f"response_format must be one of {', '.join(_FORMATS)}")
    if split not in _SPLITS:
        raise _Invalid(f"split_granularity must be one of {', '.join(_SPLITS)}")
    if not isinstance(speed, (int, float)) or not 0.25 <= speed <= 4.0:
        raise _Invalid("speed must be from 0.25 to 4.0")
    if streaming and (format != "pcm" or speed != 1.0):
        raise _Invalid("stream_audio requires response_format pcm and speed 1.0")
    if document.get("word_timestamps"):
        raise _Invalid("word_timestamps needs a server started with --forced-aligner")
    wish = Wish(
        face="vllm-omni-ws",
        text="",
        mode="zero_shot" if audio else "",
        voice=voice or "",
        prompt=_recording(audio) if audio else None,
        prompt_text=said or "",
        model=document.get("model") or "",
        format=format,
        sample_rate=document.get("sample_rate") or 24000,
        speed=float(speed),
        seed=document.get("seed"),
        stream=streaming,
    )
    return _Config(wish, split == "none")


def _recording(audio: Any) -> bytes:
    head, comma, coded = str(audio).partition(",")
    if not comma or not head.startswith("data:"):
        raise _Invalid("ref_audio must be a data: URL here")
    try:
        return base64.b64decode(coded, validate=True)
    except binascii.Error:
        raise _Invalid("ref_audio is not base64") from None


def _denial(problem: Problem) -> dict[str, Any]:
    return {"error": {"message": problem.detail, "type": "BadRequestError", "param": None, "code": problem.status}}
