"""Carry one task of Model Renderer from run-task to its end."""

from __future__ import annotations

import asyncio
import contextlib
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
    failure_from,
    streaming_header,
    weight,
    word_timings,
)
from cosyclient.emulator.apis.websocket import ClientGone, ClientSession, cut, paced, render, sentences, spoil
from cosyclient.emulator.core.problems import Problem

if TYPE_CHECKING:
    from cosyclient.emulator.faults.plan import Fault


class Task:
    """Carry one task from run-task to its end."""

    def __init__(self, session: ClientSession, name: str) -> None:
        self.name = name
        self.running = False
        self.failed = False
        self._session = session
        self._service = session.service
        self._request: TaskRequest
        self._fault: Fault | None = None
        self.moved = time.monotonic()
        """When text or audio went to or fro last."""
        self._buffer = ""
        self._text = ""
        self._pushes = 0
        self._weight = 0
        self._finishing = False
        self._sentences: asyncio.Queue[str | None] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None
        self._spoken = 0
        self._pieces = 0
        self._began_audio = False
        self._clock_ms = 0
        self._words: list[dict[str, Any]] = []

    def left(self) -> float:
        """Return the seconds until it fails for want of text and audio."""
        return self.moved + self._service.settings.task_idle - time.monotonic()

    async def start(self, request: TaskRequest, fault: Fault | None) -> None:
        """Accept the task, unless *fault* is in the way."""
        self._request, self._fault = request, fault
        self._service.counters.start_request()
        self.running = True
        self.moved = time.monotonic()
        match fault.name if fault else "":
            case "throttle" | "throttle_bare" | "error" | "unavailable":
                await self.fail(*failure_from(fault))
                return
            case "task_failed" if fault and not fault["after"]:
                await self.fail(fault["code"], fault["message"])
                return
            case "garbage":
                await self._session.send("<html>502 Bad Gateway</html>")
            case "hang":
                return
        await spoil(self._session, fault, 0.0)
        await self._event("task-started", {})
        self._worker = asyncio.create_task(self._work())

    def take(self, action: str, payload: Any) -> None:
        """Take continue-task or finish-task; raises `TaskFailure`."""
        given = payload.get("input") if isinstance(payload, dict) else None
        if not isinstance(given, dict):
            raise TaskFailure("InvalidParameter", "task can not be null")
        if action == "finish-task":
            if given.get("directive") == "cancel":
                self._buffer = ""
                while not self._sentences.empty():
                    self._sentences.get_nowait()
            self._finishing = True
            self._release(everything=True)
            self._sentences.put_nowait(None)
            return
        if action != "continue-task":
            raise TaskFailure("InvalidParameter", f"unknown action {action[:40]}")
        text = given.get("text")
        if text is None and given.get("flush") is True:
            self._release(everything=True)
            return
        if not isinstance(text, str):
            raise TaskFailure("InvalidParameter", "input.text must be a string")
        self._pushes += 1
        if self._request.ssml and self._pushes > 1:
            raise TaskFailure("InvalidParameter", "only one continue-task may be sent when enable_ssml is true")
        counted = weight(TAG.sub("", text) if self._request.ssml else text)
        self._weight += counted
        if counted > MOST_AT_ONCE or self._weight > MOST_OF_A_TASK:
            raise TaskFailure("InvalidParameter", "Range of input length should be [1, 20000], 200000 in all")
        self._text += text
        self._buffer += text
        self.moved = time.monotonic()
        self._release(everything=False)

    def _release(self, *, everything: bool) -> None:
        """Hand what is whole of the buffer to the voice; the files of some formats are made in one go at the end."""
        if self._request.speech.format == "opus":
            if self._finishing and self._buffer:
                self._sentences.put_nowait(self._buffer)
            return
        found, self._buffer = sentences(self._buffer, everything=everything)
        for sentence in found:
            self._sentences.put_nowait(sentence)

    async def _work(self) -> None:
        try:
            index = 0
            while (sentence := await self._sentences.get()) is not None:
                if self._fault and self._fault.name == "empty":
                    continue
                await self._speak(sentence, index)
                index += 1
            output = {"sentence": {"index": max(0, index - 1), "words": self._words}} if self._request.words else {}
            await self._event(
                "task-finished",
                {"output": output, "usage": {"characters": self._spoken}},
                attributes={"request_uuid": str(uuid.uuid4())},
            )
            self._end()
        except ClientGone:
            self._end()
        except Problem as problem:
            code, message = CODES.get(problem.code, ("InternalError", problem.detail))
            await self.fail(code, message)
        except TaskFailure as failure:
            await self.fail(failure.code, failure.message)

    async def _speak(self, sentence: str, index: int) -> None:
        service, request, fault = self._service, self._request, self._fault
        speech = request.speech
        audio = await render(
            service, replace(speech, text=sentence, format="pcm" if speech.format == "wav" else speech.format)
        )
        data = audio.data
        if speech.format == "wav" and not self._began_audio:
            data = streaming_header(speech.sample_rate) + data
        if fault and fault.name == "truncated_audio":
            data = data[: len(data) // 40 * 2]
        words = word_timings(sentence, self._clock_ms, audio.duration_ms) if request.words else []
        self._clock_ms += audio.duration_ms
        self._words += words
        self._spoken += weight(sentence)
        about = {"index": index, "words": words}
        await self._result("sentence-begin", original_text=sentence, sentence={"index": index, "words": []})
        sent = 0
        async for piece in paced(service, cut(service, speech, data), first=not self._began_audio):
            if fault and fault.name == "task_failed" and self._pieces >= fault["after"]:
                raise TaskFailure(fault["code"], fault["message"])
            await spoil(self._session, fault, sent / len(data))
            await self._result("sentence-synthesis", sentence=about)
            await self._session.send(piece)
            self._began_audio = True
            self._pieces += 1
            self.moved = time.monotonic()
            sent += len(piece)
        if fault and fault.name == "task_failed":
            raise TaskFailure(fault["code"], fault["message"])
        await spoil(self._session, fault, 1.0)
        await self._result("sentence-end", original_text=sentence, sentence=about, usage={"characters": self._spoken})

    async def fail(self, code: str, message: str) -> None:
        """Say task-failed; the connection is closed after it."""
        self.failed = True
        with contextlib.suppress(ClientGone):
            await self._event("task-failed", {}, error_code=code, error_message=message)
        self._end()

    async def stop(self) -> None:
        """Drop the task without a word."""
        worker, self._worker = self._worker, None
        if worker is not None and worker is not asyncio.current_task():
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        self._end()

    def _end(self) -> None:
        if self.running:
            self.running = False
            self.moved = time.monotonic()
            self._service.counters.end_request()
            self._service.counters.add_batch(1)
            self._service.received.append(replace(self._request.speech, text=self._text).document())
        self._session.wake()

    async def _result(self, kind: str, *, usage: Any = None, **output: Any) -> None:
        payload = {"output": {"type": kind, **output}}
        await self._event("result-generated", payload if usage is None else {**payload, "usage": usage})

    async def _event(self, event: str, payload: Any, *, attributes: Any = None, **header: Any) -> None:
        await self._session.send(
            {
                "header": {"task_id": self.name, "event": event, "attributes": attributes or {}, **header},
                "payload": payload,
            }
        )
