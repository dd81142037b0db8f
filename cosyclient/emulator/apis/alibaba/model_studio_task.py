"""Run one task of Model Studio from run-task to its end."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cosyclient.emulator.apis.alibaba.model_studio_request import (
    CODES,
    MOST_AT_ONCE,
    MOST_OF_A_TASK,
    TAG,
    TaskFailure,
    TaskRequest,
    billed_characters,
    failure_from,
    word_documents,
)
from cosyclient.emulator.apis.base import SpeechRequest, render
from cosyclient.emulator.apis.sentences import SentencePump
from cosyclient.emulator.apis.websocket import ClientSession, apply_to_connection
from cosyclient.emulator.speech.items import Audio
from cosyclient.emulator.speech.wav import wav_header

if TYPE_CHECKING:
    from cosyclient.emulator.core.problems import Problem
    from cosyclient.emulator.faults.plan import Fault


class Task(SentencePump):
    """Run one task, whose client calls it *name*; after a failed one the connection is closed."""

    def __init__(self, session: ClientSession, name: str) -> None:
        super().__init__(session, SpeechRequest(api="model-studio", text=""))
        self.name = name
        self._asked: TaskRequest
        self._pushes = self._characters = self._billed = 0
        self._begin_ms = 0
        self._sentence = ""
        self._index: dict[str, Any] = {}
        self._words: list[dict[str, Any]] = []

    @property
    def running(self) -> bool:
        """Whether it was accepted and is not over."""
        return self._started and not self.over

    def idle_left(self) -> float:
        """Return the seconds until it fails for want of text and audio."""
        return self.last_activity + self._service.settings.task_idle - time.monotonic()

    async def accept(self, request: TaskRequest, fault: Fault | None) -> None:
        """Start the task, unless *fault* prevents it."""
        self._asked, self._request = request, request.speech
        # A file of Ogg pages is made in one go at the end.
        self._whole = request.speech.format == "opus"
        self.count_start(fault)
        match fault.name if fault else "":
            case "throttle" | "throttle_bare" | "error" | "unavailable":
                await self.fail(failure_from(fault))
                return
            case "task_failed" if fault and not fault["after"]:
                await self.fail(TaskFailure(fault["code"], fault["message"]))
                return
            case "garbage":
                await self._session.send("<html>502 Bad Gateway</html>")
            case "hang":
                return
        await apply_to_connection(self._session, fault, 0.0)
        await self._send_event("task-started", {})
        self.start_worker()

    def take(self, action: str, payload: Any) -> None:
        """Apply continue-task or finish-task; raises `TaskFailure`."""
        given = payload.get("input") if isinstance(payload, dict) else None
        if not isinstance(given, dict):
            raise TaskFailure("InvalidParameter", "task can not be null")
        if action == "finish-task":
            if given.get("directive") == "cancel":
                self.discard()
            self.end_text()
            return
        if action != "continue-task":
            raise TaskFailure("InvalidParameter", f"unknown action {action[:40]}")
        text = given.get("text")
        if text is None and given.get("flush") is True:
            self.flush()
            return
        if not isinstance(text, str):
            raise TaskFailure("InvalidParameter", "input.text must be a string")
        self._pushes += 1
        if self._asked.ssml and self._pushes > 1:
            raise TaskFailure("InvalidParameter", "only one continue-task may be sent when enable_ssml is true")
        counted = billed_characters(TAG.sub("", text) if self._asked.ssml else text)
        self._characters += counted
        if counted > MOST_AT_ONCE or self._characters > MOST_OF_A_TASK:
            raise TaskFailure("InvalidParameter", "Range of input length should be [1, 20000], 200000 in all")
        self.add_text(text)

    async def fail(self, problem: Problem, *, partial: bool = False) -> None:
        """Send task-failed and end the task."""
        await super().fail(problem, partial=partial)
        self._finish()

    async def fail_sentence(self, problem: Problem) -> None:
        """Fail the task: it does not go on after a sentence that failed."""
        raise TaskFailure(problem.code, problem.detail)

    async def send_failure(self, problem: Problem, *, partial: bool) -> None:
        """Send task-failed with the code that the service has for *problem*."""
        del partial
        code, message = problem.code, problem.detail
        if not isinstance(problem, TaskFailure):
            code, message = CODES.get(problem.code, ("InternalError", problem.detail))
        await self._send_event("task-failed", {}, error_code=code, error_message=message)

    async def apply_early_fault(self) -> bool:
        """Apply nothing: `accept` did so before task-started."""
        return False

    async def refuse(self, number: int, sentence: str) -> bool:
        """Skip the text of an Opus file that has none."""
        del number
        return not sentence

    async def render(self, sentence: str) -> Audio:
        """Return the audio of one sentence, behind the header of the file if it is a WAV's first."""
        speech = self._request
        bare = "pcm" if speech.format == "wav" else speech.format
        audio = await render(self._service, replace(speech, text=sentence, format=bare), recorded=False)
        if speech.format == "wav" and not self._begin_ms:
            data = wav_header(None, speech.sample_rate) + audio.data
            return Audio(data, audio.media_type, audio.sample_rate, audio.duration_ms)
        return audio

    async def begin(self, number: int, sentence: str, audio: Audio) -> None:
        """Send sentence-begin."""
        words = word_documents(sentence, self._begin_ms, audio.duration_ms) if self._asked.words else []
        self._begin_ms += audio.duration_ms
        self._words += words
        self._billed += billed_characters(sentence)
        self._sentence, self._index = sentence, {"index": number, "words": words}
        await self._send_result("sentence-begin", original_text=sentence, sentence={"index": number, "words": []})

    async def send_piece(self, piece: bytes) -> None:
        """Announce a piece of audio, and send it."""
        await self._send_result("sentence-synthesis", sentence=self._index)
        await self._session.send(piece)

    async def end(self, number: int, sent_bytes: int, *, failed: bool) -> None:
        """Send sentence-end with what is billed so far."""
        del number, sent_bytes, failed
        usage = {"characters": self._billed}
        await self._send_result("sentence-end", original_text=self._sentence, sentence=self._index, usage=usage)

    async def done(self, count: int) -> None:
        """Send task-finished."""
        output = {"sentence": {"index": max(0, count - 1), "words": self._words}} if self._asked.words else {}
        payload = {"output": output, "usage": {"characters": self._billed}}
        await self._send_event("task-finished", payload, attributes={"request_uuid": str(uuid.uuid4())})

    async def _send_result(self, kind: str, *, usage: Any = None, **output: Any) -> None:
        payload = {"output": {"type": kind, **output}}
        await self._send_event("result-generated", payload if usage is None else {**payload, "usage": usage})

    async def _send_event(self, event: str, payload: Any, *, attributes: Any = None, **header: Any) -> None:
        head = {"task_id": self.name, "event": event, "attributes": attributes or {}, **header}
        await self._session.send({"header": head, "payload": payload})
