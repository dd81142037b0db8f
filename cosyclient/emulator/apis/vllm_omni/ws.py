"""Serve vLLM-Omni's speech over WebSocket, as serving_speech_stream.py of vllm-omni 0.30 does."""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cosyclient.emulator.apis.base import SpeechRequest
from cosyclient.emulator.apis.openai.servers import SERVERS
from cosyclient.emulator.apis.openai.timestamps import word_documents
from cosyclient.emulator.apis.sentences import SentencePump
from cosyclient.emulator.apis.vllm_omni.rules import error_in, recording_of
from cosyclient.emulator.apis.websocket import ClientGone, ClientSession, WebSocketApi
from cosyclient.emulator.core.problems import Problem

if TYPE_CHECKING:
    from starlette.websockets import WebSocket


PATH = "/v1/audio/speech/stream"
_FIRST = 10.0
_RATE = 24000
_MOST_TEXT_BYTES = 128 << 10
_FORMATS = ("wav", "pcm", "flac", "mp3", "opus")
# ASCII marks end a sentence only before white space, others anywhere; closing quotes belong to the sentence.
_CLOSING = "\"'”’»)]}』」）】"
_MARKS = {"sentence": (".!?", "。！？…।॥؟"), "clause": (".!?,;", "。！？…।॥؟，；،؛")}


class _Invalid(Exception):
    """Refuse a message with this text."""


@dataclass(frozen=True, slots=True)
class _Config:
    request: SpeechRequest
    split: str
    words: bool
    audio: Any
    transcript: Any


class VllmWebSocketApi(WebSocketApi):
    """Serve vLLM-Omni's WebSocket; used on one event loop."""

    path = PATH

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection to its end."""
        session = ClientSession(self.service, websocket)
        if await session.open(_denial_document):
            connection = _Connection(session)
            try:
                await connection.run()
                await session.close()
            except ClientGone:
                pass
            finally:
                session.release()
                await connection.stop()


class _Connection:
    """Serve one connection: configurations, and utterances one after the other."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._settings = session.service.settings
        self._config: _Config | None = None
        self._utterance: _Utterance | None = None
        self._number = 0

    async def run(self) -> None:
        """Serve until the client closes, or is idle for too long."""
        while True:
            busy = self._utterance is not None and not self._utterance.over
            limit = _FIRST if self._config is None else math.inf if busy else self._settings.socket_idle
            message = await self._session.receive(min(limit, 3600.0))
            if message is None:
                if busy or (self._utterance is not None and self._utterance.over and self._forget()):
                    continue
                waited = "Idle timeout: no message received" if self._config else "Timeout waiting for session.config"
                await self._session.send({"type": "error", "message": waited})
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
                await self._session.send({"type": "error", "message": str(invalid)})
                if self._config is None:
                    return

    async def stop(self) -> None:
        """Stop the utterance under way."""
        if self._utterance is not None:
            await self._utterance.stop()

    def _forget(self) -> bool:
        self._utterance = None
        return True

    def _take(self, kind: str, document: dict[str, Any]) -> None:
        if kind == "session.config":
            if self._utterance is not None and not self._utterance.over:
                raise _Invalid("session.config cannot be applied while an utterance is in progress")
            self._config = self._read_config(document)
        elif self._config is None:
            raise _Invalid(f"Expected session.config, got: {kind[:40]}")
        elif kind == "input.text":
            text = document.get("text")
            if not isinstance(text, str):
                raise _Invalid("input.text requires a string value")
            if len(text) > _MOST_TEXT_BYTES:
                raise _Invalid("input.text message too large")
            self._current().add_text(text)
        elif kind == "input.done":
            if self._utterance is not None and self._utterance.failed:
                # The utterance has failed already.
                self._utterance = None
            else:
                self._current().end_text()
        else:
            raise _Invalid(f"Unknown message type: {kind[:40]}")

    def _current(self) -> _Utterance:
        if self._utterance is None or self._utterance.over:
            assert self._config is not None  # noqa: S101 - `_take` has checked
            self._utterance = _Utterance(self._session, self._config, self._number)
            self._number += 1
            self._utterance.start(self._session.service.draw_fault())
        return self._utterance

    def _read_config(self, document: dict[str, Any]) -> _Config:
        voice, audio, transcript = (document.get(name) for name in ("voice", "ref_audio", "ref_text"))
        voice, model = voice or document.get("speaker") or "", document.get("model") or ""
        format, speed = document.get("response_format") or "wav", document.get("speed") or 1.0
        old = self._settings.dialect_old
        default, splits = ("sentence", _MARKS) if old else ("none", {"none", *_MARKS})
        split, streaming = document.get("split_granularity", default), document.get("stream_audio") is True
        for wrong, why in (
            (not all(isinstance(each, str) for each in (voice, model, audio or "", transcript or "")), "not a string"),
            (format not in _FORMATS, f"response_format: Input should be one of {', '.join(_FORMATS)}"),
            (split not in splits, "split_granularity: Input should be 'sentence' or 'clause'"),
            (not isinstance(speed, (int, float)) or not 0.25 <= speed <= 4.0, "speed: Input should be 0.25 to 4"),
            (
                streaming and (format != "pcm" or speed != 1.0),
                "stream_audio=true requires response_format='pcm' and speed=1.0",
            ),
        ):
            if wrong:
                raise _Invalid(f"Invalid session config: 1 validation error for StreamingSpeechSessionConfig {why}")
        known = SERVERS[self._settings.dialect].models
        if model and known is not None and model not in known:
            raise _Invalid(f"error=ErrorInfo(message='The model `{model}` does not exist.', type='NotFoundError')")
        request = SpeechRequest(
            api="vllm-omni-ws",
            text="",
            mode="zero_shot" if audio else "",
            voice=voice,
            prompt=recording_of(audio) if audio else None,
            prompt_text=transcript or "",
            model=model,
            format=format,
            sample_rate=_RATE,
            speed=float(speed),
            # Older revisions know neither field.
            seed=None if old else document.get("seed"),
            stream=streaming,
        )
        return _Config(request, split, bool(document.get("word_timestamps")) and not old, audio, transcript)


class _Utterance(SentencePump):
    """Send one utterance: a message before the audio of each sentence and one after it, behind its word timings."""

    def __init__(self, session: ClientSession, config: _Config, number: int) -> None:
        whole = config.split == "none"
        super().__init__(session, config.request, whole=whole, split=_splitter(config.split))
        self._config = config
        self._position: dict[str, Any] = {"utterance_index": number, "sentence_index": 0}
        self._sentence, self._sent_bytes, self._chunks = "", 0, 0

    async def begin(self, number: int, sentence: str, audio: object = None) -> None:
        """Send audio.start."""
        del audio
        self._position["sentence_index"] = number
        self._sentence, self._sent_bytes, self._chunks = sentence, 0, 0
        format = self._request.format
        start = {"type": "audio.start", **self._position, "sentence_text": sentence, "format": format}
        if self._request.stream:
            start["sample_rate"] = _RATE
        if self._config.words:
            start["word_timestamps"] = True
        await self._session.send(start)

    async def send_piece(self, piece: bytes) -> None:
        """Send samples as they are, or in a document where word timings follow."""
        if self._config.words:
            await self._send_chunk(piece, None)
        else:
            await super().send_piece(piece)

    async def end(self, number: int, sent_bytes: int, *, failed: bool) -> None:
        """Send the word timings, and audio.done."""
        del number
        if self._config.words and not failed:
            await self._send_chunk(b"", word_documents(self._sentence, self._sent_ms()))
        await self._session.send({"type": "audio.done", **self._position, "total_bytes": sent_bytes, "error": failed})

    async def done(self, count: int) -> None:
        """Send session.done."""
        number = self._position["utterance_index"]
        await self._session.send({"type": "session.done", "utterance_index": number, "total_sentences": count})

    async def send_failure(self, problem: Problem, *, partial: bool) -> None:
        """Send the message of *problem*; after *partial* audio it says to discard that."""
        document: dict[str, Any] = {"type": "error", "message": problem.detail}
        if partial:
            document["message"] = self._at_sentence(problem.detail)
            document |= {"partial_audio": True, "action": "discard"}
        await self._session.send(document)

    async def refuse(self, number: int, sentence: str) -> bool:
        """Refuse a sentence that breaks a rule, or whose word timings cannot be made."""
        config, service = self._config, self._service
        if config.words and not service.settings.aligner:
            await self._fail("word_timestamps=true but the server was launched without --forced-aligner")
            return True
        if config.words and not self._request.stream:
            await self._fail("word_timestamps=true requires stream_audio=true and response_format='pcm'")
            return True
        wrong = error_in(sentence, self._request.voice, config.audio, config.transcript, service.uploads)
        if wrong:
            await self.begin(number, sentence)
            await self._fail(self._at_sentence(wrong))
            await self.end(number, 0, failed=True)
        return bool(wrong)

    async def _fail(self, message: str) -> None:
        await self.fail(Problem("validation_failed", message))

    def _at_sentence(self, message: str) -> str:
        utterance, sentence = self._position["utterance_index"], self._position["sentence_index"]
        return f"Generation failed for utterance {utterance}, sentence {sentence}: {message}"

    async def _send_chunk(self, data: bytes, times: list[dict[str, Any]] | None) -> None:
        before = self._sent_ms() if data else 0
        self._sent_bytes += len(data)
        await self._session.send(
            {
                "type": "audio.chunk",
                **self._position,
                "chunk_id": self._chunks,
                "chunk_start_ms": before,
                "chunk_end_ms": self._sent_ms(),
                "sample_rate": _RATE,
                "audio_b64": base64.b64encode(data).decode(),
                "timestamps": times,
            }
        )
        self._chunks += 1

    def _sent_ms(self) -> int:
        return round(self._sent_bytes / (2 * _RATE) * 1000)


def _splitter(split: str) -> Any:
    """Return a `split_sentences` for sentences or clauses, which never splits within a number."""
    ascii_marks, marks = _MARKS.get(split, _MARKS["sentence"])
    run = f"[{re.escape(ascii_marks + marks + _CLOSING)}]*"
    ends = re.compile(f"(?:[{re.escape(marks)}]{run}|[{re.escape(ascii_marks)}]{run}(?=\\s))")

    def take(text: str, *, everything: bool) -> tuple[list[str], str]:
        found, start = [], 0
        for match in ends.finditer(text):
            if match.end() == len(text) and not everything:
                break  # more of it may follow
            found.append(text[start : match.end()].strip())
            start = match.end()
        rest = text[start:]
        if everything:
            found, rest = [*found, rest.strip()], ""
        return [each for each in found if each], rest

    return take


def _denial_document(problem: Problem) -> dict[str, Any]:
    return {"error": {"message": problem.detail, "type": "BadRequestError", "param": None, "code": problem.status}}
