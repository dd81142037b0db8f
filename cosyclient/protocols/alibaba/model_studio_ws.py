"""Alibaba Model Studio's CosyVoice over WebSocket: one task per text, many tasks per connection.

From "CosyVoice WebSocket API" (help.aliyun.com/zh/model-studio/cosyvoice-websocket-api) and the official SDK
(dashscope-sdk-python, audio/tts_v2). Unlike that SDK, a task that failed or broke off is an error and never audio.
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any, Final

from cosyclient.errors import (
    BadRequest,
    BadUtterance,
    DecodeError,
    Forbidden,
    ServiceError,
    ServiceFault,
    Throttled,
)
from cosyclient.protocols.alibaba.common import OWN_MEMBERS, WordTimings, extra_and_headers, reclassify_by_code
from cosyclient.protocols.capabilities import Capabilities
from cosyclient.protocols.codecs.json_body import decode_json_object, object_at
from cosyclient.protocols.replies.errors import error_message, reclassify
from cosyclient.protocols.sessions import BaseSession, SessionProtocol, json_message
from cosyclient.util.numbers import int_in_range
from cosyclient.util.redaction import single_line
from cosyclient.wire import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cosyclient.models import VoiceSettings
    from cosyclient.wire import MessageSession

MAX_MESSAGE_CHARACTERS: Final = 20_000
MAX_TASK_CHARACTERS: Final = 200_000
"""Characters of a message and of a task, where a Han character counts as two."""

_HAN: Final = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# The code of these is not documented for a WebSocket.
_THROTTLED_MESSAGES: Final = ("rate limit exceeded", "request rate increased too quickly")
_TASK: Final = {"task_group": "audio", "task": "tts", "function": "SpeechSynthesizer"}


class ModelStudioProtocol(SessionProtocol):
    """Implements Model Studio over WebSocket; an account's default quota is 3 tasks a second, over all keys."""

    name = "model-studio"
    path = "/api-ws/v1/inference"
    capabilities = Capabilities(
        medium="websocket",
        stream=True,
        text_in=True,
        instruct=True,
        seed=True,
        words=True,
        required=("model", "voice"),
        speeds=(0.5, 2.0),
        own_members=OWN_MEMBERS,
    )

    def _new_session(self, settings: VoiceSettings, text: str | None, *, stream: bool) -> MessageSession:
        # The service always streams.
        return Task(settings, text)

    def _headers(self, settings: VoiceSettings) -> tuple[tuple[str, str], ...]:
        return extra_and_headers(settings)[1]


class Task(BaseSession):
    """Runs one task: run-task, continue-task for each text, finish-task, and the events that answer them."""

    idle_limit = 50.0  # the service closes after 60
    writer_idle_limit = 23.0

    def __init__(self, settings: VoiceSettings, text: str | None = None) -> None:
        super().__init__()
        self.id = uuid.uuid4().hex
        self.characters = 0
        """Characters that the service has counted and bills."""
        self._settings = settings
        self._started = False
        self._kept: list[str] = []
        self._weight = 0
        self._words = WordTimings()
        if text is not None:
            self.send_text(text)
            self.end_text()

    def open(self) -> Sequence[str | bytes]:
        """Return run-task."""
        asked = self._settings
        parameters: dict[str, Any] = {
            "text_type": "PlainText",
            "voice": asked.voice_name,
            "format": asked.format,
            "sample_rate": asked.sample_rate,
            "rate": asked.speed,
        }
        if asked.seed is not None:
            parameters["seed"] = asked.seed
        if asked.instruct is not None:
            parameters["instruction"] = asked.instruct
        if asked.words:
            parameters["word_timestamp_enabled"] = True
        parameters |= extra_and_headers(asked)[0]
        # The input must be there and must be empty.
        return [self._frame("run-task", {**_TASK, "model": asked.model, "parameters": parameters, "input": {}})]

    def send_text(self, text: str) -> Sequence[str | bytes]:
        """Return continue-task with *text*, several if it is long; before the task starts it is kept."""
        weight = count_characters(text)
        if self._weight + weight > MAX_TASK_CHARACTERS:
            raise BadUtterance(f"text: a task takes at most {MAX_TASK_CHARACTERS} characters (a Han character is two)")
        self._weight += weight
        self.sent_texts.append(text)
        # As many characters as fit even if each counts twice.
        step = MAX_MESSAGE_CHARACTERS if weight <= MAX_MESSAGE_CHARACTERS else MAX_MESSAGE_CHARACTERS // 2
        pieces = [text[start : start + step] for start in range(0, len(text), step)]
        return self._now_or_later(self._frame("continue-task", {"input": {"text": piece}}) for piece in pieces)

    def end_text(self) -> Sequence[str | bytes]:
        """Return finish-task, once; without it the service never makes the audio of the last words."""
        if self.text_ended:
            return ()
        self.text_ended = True
        return self._now_or_later([self._frame("finish-task", {"input": {}})])

    def receive(self, message: str | bytes) -> Step:
        """Return what one event leads to, or the audio of a binary message."""
        if isinstance(message, bytes):
            if not self._started:
                raise DecodeError("reply: audio before the task had started", retryable=True)
            return Step(audio=message)
        document = decode_json_object(message)
        header, payload = object_at(document, "header"), object_at(document, "payload")
        if (named := header.get("task_id")) is not None and named != self.id:
            # Audio of another task could be mixed with that of this one.
            raise DecodeError("reply: an event of another task", retryable=True)
        match header.get("event"):
            case "task-started":
                self._started = True
                kept, self._kept = self._kept, []
                return Step(send=tuple(kept))
            case "result-generated":
                self._update(payload)
            case "task-finished":
                if not (self._started and self.text_ended):
                    raise DecodeError("reply: the task finished before its text", retryable=True)
                self._update(payload)
                self.reusable = True
                return Step(done=True)
            case "task-failed":
                raise self._failure(header)
        return Step()

    def _update(self, payload: dict[str, Any]) -> None:
        counted = int_in_range(object_at(payload, "usage").get("characters"), 0, 1 << 31)
        if counted is not None:
            self.characters = counted
        if self._settings.words:
            self._words.add(object_at(payload, "output").get("sentence"))
            self.words = self._words.in_order()

    def _failure(self, header: dict[str, Any]) -> ServiceError:
        code, detail = header.get("error_code"), header.get("error_message")
        code = single_line(code, 64) if isinstance(code, str) and code.isprintable() else None
        detail = detail if isinstance(detail, str) else ""
        error = task_error(code, detail, self.sent_texts, request_id=self.id)
        if not self.text_ended and _timed_out(code, detail):
            error.args = (f"{error}; its writer said nothing for too long: feed it, or finish",)
        return error

    def _now_or_later(self, frames: Iterable[str]) -> Sequence[str | bytes]:
        if self._started:
            return list(frames)
        self._kept += frames
        return ()

    def _frame(self, action: str, payload: dict[str, Any]) -> str:
        return json_message(
            {"header": {"action": action, "task_id": self.id, "streaming": "duplex"}, "payload": payload}
        )


def count_characters(text: str) -> int:
    """Return the characters of *text* as Model Studio counts them, a Han character as two."""
    return len(text) + len(_HAN.findall(text)) if not text.isascii() else len(text)


def task_error(code: str | None, detail: str, texts: Iterable[str], *, request_id: str | None = None) -> ServiceError:
    """Return the error that *code* and message stand for, `ServiceFault` if neither is known."""
    message = error_message("task failed", code, detail, texts)
    if "return error code: 418" in detail:
        message = f"{message}; the voice is not one of this model's generation"
    if _timed_out(code, detail):
        # The connection or the writer stalled: worth another attempt, but no fault of the endpoint.
        return ServiceError(message, code=code, request_id=request_id, retryable=True)
    error = reclassify_by_code(ServiceFault(message, code=code, request_id=request_id))
    if any(part in detail.casefold() for part in _THROTTLED_MESSAGES):
        return reclassify(error, Throttled)
    if code is not None and code.endswith("AccessDenied"):  # Model.AccessDenied, Workspace.AccessDenied
        return reclassify(error, Forbidden)
    return reclassify(error, BadRequest) if code == "CLIENT_ERROR" else error


def _timed_out(code: str | None, detail: str) -> bool:
    return code == "CLIENT_ERROR" and "timeout" in detail.casefold()
