"""Serve Alibaba Model Studio's speech synthesis over WebSocket: tasks one after the other on one connection.

As documented on "CosyVoice WebSocket API" (help.aliyun.com/zh/model-studio/cosyvoice-websocket-api) and as its Python
SDK speaks it.
"""

from __future__ import annotations

import asyncio
import json
import re
import struct
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cosyclient.emulator.faces.base import Wish
from cosyclient.emulator.faces.sockets import Gone, Visit, cut, paced, render, routes, sentences, spoil
from cosyclient.emulator.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute
    from starlette.websockets import WebSocket

    from cosyclient.emulator.faults import Fault
    from cosyclient.emulator.service import Service

PATH = "/api-ws/v1/inference"

_FORMATS = ("pcm", "wav", "mp3", "opus")
_RATES = (8000, 16000, 22050, 24000, 44100, 48000)
_MOST_AT_ONCE = 20_000
_MOST_OF_A_TASK = 200_000
_TAG = re.compile(r"<[^>]*>")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
# A voice belongs to a generation of models; one not listed here may be a clone, which any may have.
_GENERATIONS = {"longanyang": "v3", "longanhuan": "v3", "longxiaochun_v2": "v2", "longxiaochun": "v1", "longwan": "v1"}
_CODES = {
    "rate_limited": ("Throttling.RateQuota", "Requests rate limit exceeded, please try again later."),
    "overloaded": ("Throttling.AllocationQuota", "Allocated quota exceeded, please increase your quota limit."),
    "unauthorized": ("InvalidApiKey", "Invalid API-key provided."),
    "loading": ("ServiceUnavailable", "The service is unavailable, please try again later."),
}
_UNKNOWN_SIZE = 0xFFFFFFFF


class _Failure(Exception):
    """Fail the task, with this code and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class _Order:
    """Hold what run-task asked for."""

    task: str
    wish: Wish
    ssml: bool
    words: bool


class ModelStudioFace:
    """Answer on the path of Model Studio's WebSocket; used on one event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> Sequence[BaseRoute]:
        """Return the paths it answers."""
        return routes(PATH, self._serve)

    def reset(self) -> None:
        """Remember nothing, hence forget nothing."""

    async def _serve(self, websocket: WebSocket) -> None:
        visit, settings = Visit(self._service, websocket), self._service.settings
        if not await visit.enter(_denial):
            return
        task: _Task | None = None
        since = time.monotonic()
        try:
            while task is None or not task.failed:
                if task is not None and task.running:
                    if (left := task.left()) <= 0:
                        await task.fail("CLIENT_ERROR", f"request timeout after {settings.task_idle:g} seconds.")
                        continue
                elif (left := max(since, task.moved if task else 0.0) + settings.socket_idle - time.monotonic()) <= 0:
                    break
                message = await visit.hear(left)
                if message is not None:
                    task = await self._take(visit, task, message)
            await visit.close()
        except Gone:
            pass
        finally:
            visit.leave()
            if task is not None:
                await task.stop()

    async def _take(self, visit: Visit, task: _Task | None, message: str | bytes) -> _Task | None:
        try:
            document = json.loads(message)
            header, payload = document["header"], document["payload"]
            action, name = header["action"], str(header["task_id"])
        except (ValueError, KeyError, TypeError, UnicodeDecodeError):
            await visit.close(1007)
            raise Gone from None
        if action == "run-task":
            if task is not None:
                # The old one is dropped without a word.
                await task.stop()
            return await self._run(visit, name, payload)
        if task is None or not task.running or task.name != name:
            # What comes late for a task that is over changes nothing.
            return task
        try:
            task.take(action, payload)
        except _Failure as failure:
            await task.fail(failure.code, failure.message)
        return task

    async def _run(self, visit: Visit, name: str, payload: Any) -> _Task:
        service = self._service
        task = _Task(visit, name)
        try:
            order = _read_order(name, payload)
            try:
                service.pace(visit.address)
            except Problem as problem:
                raise _Failure(*_CODES[problem.code]) from problem
        except _Failure as failure:
            await task.fail(failure.code, failure.message)
            return task
        await task.start(order, service.draw_fault())
        return task


class _Task:
    """Carry one task from run-task to its end."""

    def __init__(self, visit: Visit, name: str) -> None:
        self.name = name
        self.running = False
        self.failed = False
        self._visit = visit
        self._service = visit.service
        self._order: _Order
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

    async def start(self, order: _Order, fault: Fault | None) -> None:
        """Accept the task, unless *fault* is in the way."""
        self._order, self._fault = order, fault
        self._service.tally.enter()
        self.running = True
        self.moved = time.monotonic()
        match fault.name if fault else "":
            case "throttle" | "throttle_bare" | "error":
                await self.fail(*_failure_of(fault))
                return
            case "task_failed" if fault and not fault["after"]:
                await self.fail(fault["code"], fault["message"])
                return
            case "garbage":
                await self._visit.say("<html>502 Bad Gateway</html>")
            case "hang":
                return
        await spoil(self._visit, fault, 0.0)
        await self._event("task-started", {})
        self._worker = asyncio.create_task(self._work())

    def take(self, action: str, payload: Any) -> None:
        """Take continue-task or finish-task; raises `_Failure`."""
        given = payload.get("input") if isinstance(payload, dict) else None
        if not isinstance(given, dict):
            raise _Failure("InvalidParameter", "task can not be null")
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
            raise _Failure("InvalidParameter", f"unknown action {action[:40]}")
        text = given.get("text")
        if text is None and given.get("flush") is True:
            self._release(everything=True)
            return
        if not isinstance(text, str):
            raise _Failure("InvalidParameter", "input.text must be a string")
        self._pushes += 1
        if self._order.ssml and self._pushes > 1:
            raise _Failure("InvalidParameter", "only one continue-task may be sent when enable_ssml is true")
        weight = _weight(_TAG.sub("", text) if self._order.ssml else text)
        self._weight += weight
        if weight > _MOST_AT_ONCE or self._weight > _MOST_OF_A_TASK:
            raise _Failure("InvalidParameter", "Range of input length should be [1, 20000], 200000 in all")
        self._text += text
        self._buffer += text
        self.moved = time.monotonic()
        self._release(everything=False)

    def _release(self, *, everything: bool) -> None:
        """Hand what is whole of the buffer to the voice; the files of some formats are made in one go at the end."""
        if self._order.wish.format == "opus":
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
            output = {"sentence": {"index": max(0, index - 1), "words": self._words}} if self._order.words else {}
            await self._event(
                "task-finished",
                {"output": output, "usage": {"characters": self._spoken}},
                attributes={"request_uuid": str(uuid.uuid4())},
            )
            self._end()
        except Gone:
            self._end()
        except Problem as problem:
            code, message = _CODES.get(problem.code, ("InternalError", problem.detail))
            await self.fail(code, message)
        except _Failure as failure:
            await self.fail(failure.code, failure.message)

    async def _speak(self, sentence: str, index: int) -> None:
        service, order, fault = self._service, self._order, self._fault
        wish = order.wish
        audio = await render(service, replace(wish, text=sentence, format="pcm" if wish.format == "wav" else wish.format))
        data = audio.data
        if wish.format == "wav" and not self._began_audio:
            data = _streaming_header(wish.sample_rate) + data
        if fault and fault.name == "truncated_audio":
            data = data[: len(data) // 40 * 2]
        words = _words(sentence, self._clock_ms, audio.duration_ms) if order.words else []
        self._clock_ms += audio.duration_ms
        self._words += words
        self._spoken += _weight(sentence)
        about = {"index": index, "words": words}
        await self._result("sentence-begin", original_text=sentence, sentence={"index": index, "words": []})
        sent = 0
        async for piece in paced(service, cut(service, wish, data), first=not self._began_audio):
            if fault and fault.name == "task_failed" and self._pieces >= fault["after"]:
                raise _Failure(fault["code"], fault["message"])
            await spoil(self._visit, fault, sent / len(data))
            await self._result("sentence-synthesis", sentence=about)
            await self._visit.say(piece)
            self._began_audio = True
            self._pieces += 1
            self.moved = time.monotonic()
            sent += len(piece)
        if fault and fault.name == "task_failed":
            raise _Failure(fault["code"], fault["message"])
        await spoil(self._visit, fault, 1.0)
        await self._result(
            "sentence-end", original_text=sentence, sentence=about, usage={"characters": self._spoken}
        )

    async def fail(self, code: str, message: str) -> None:
        """Say task-failed; the connection is closed after it."""
        self.failed = True
        try:
            await self._event("task-failed", {}, error_code=code, error_message=message)
        finally:
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
            self._service.tally.leave()
            self._service.tally.batch(1)
            self._service.heard.append(replace(self._order.wish, text=self._text).heard())
        self._visit.wake()

    async def _result(self, kind: str, *, usage: Any = None, **output: Any) -> None:
        payload = {"output": {"type": kind, **output}}
        await self._event("result-generated", payload if usage is None else {**payload, "usage": usage})

    async def _event(self, event: str, payload: Any, *, attributes: Any = None, **header: Any) -> None:
        await self._visit.say(
            {
                "header": {"task_id": self.name, "event": event, "attributes": attributes or {}, **header},
                "payload": payload,
            }
        )


def _read_order(name: str, payload: Any) -> _Order:
    if not isinstance(payload, dict) or payload.get("input") != {}:
        raise _Failure("InvalidParameter", "task can not be null")
    expected = {"task_group": "audio", "task": "tts", "function": "SpeechSynthesizer"}
    if any(payload.get(key) != value for key, value in expected.items()):
        raise _Failure("InvalidParameter", "task_group, task or function is not known")
    model, asked = payload.get("model"), payload.get("parameters")
    if not isinstance(model, str) or not model.startswith("cosyvoice"):
        raise _Failure("ModelNotFound", "Model not exist.")
    if not isinstance(asked, dict):
        raise _Failure("InvalidParameter", "parameters must be an object")
    voice = asked.get("voice")
    if not isinstance(voice, str) or not voice:
        raise _Failure("InvalidParameter", "voice is required")
    if (generation := _GENERATIONS.get(voice)) is not None and not model.startswith(f"cosyvoice-{generation}"):
        raise _Failure("InvalidParameter", "[tts:]Engine return error code: 418")
    # The SDK's default, which the service reads as its own.
    format = "mp3" if asked.get("format", "mp3") == "Default" else asked.get("format", "mp3")
    rate = asked.get("sample_rate", 22050) or 22050
    speed, seed = asked.get("rate", 1.0), asked.get("seed", 0)
    for fine, what in (
        (format in _FORMATS and not (format == "opus" and model == "cosyvoice-v1"), "format"),
        (rate in _RATES, "sample_rate"),
        (isinstance(speed, (int, float)) and 0.5 <= speed <= 2.0, "rate"),
        (isinstance(asked.get("pitch", 1.0), (int, float)) and 0.5 <= asked.get("pitch", 1.0) <= 2.0, "pitch"),
        (type(asked.get("volume", 50)) is int and 0 <= asked.get("volume", 50) <= 100, "volume"),
        (type(seed) is int and 0 <= seed <= 65535, "seed"),
        (isinstance(asked.get("instruction", ""), str), "instruction"),
        (asked.get("text_type", "PlainText") == "PlainText", "text_type"),
    ):
        if not fine:
            raise _Failure("InvalidParameter", f"the parameter {what} is not supported")
    wish = Wish(
        face="model-studio",
        text="",
        voice=voice,
        model=model,
        instruct=asked.get("instruction", ""),
        format=format,
        sample_rate=rate,
        speed=float(speed),
        seed=seed or None,
        stream=True,
    )
    return _Order(name, wish, asked.get("enable_ssml") is True, asked.get("word_timestamp_enabled") is True)


def _failure_of(fault: Fault | None) -> tuple[str, str]:
    if fault is None or fault.name != "error" or fault["status"] == 429:
        return _CODES["rate_limited"]
    code = "InternalError" if fault["status"] >= 500 else "InvalidParameter"
    return fault["code"] or code, "a fault that was asked for"


def _denial(problem: Problem) -> dict[str, Any]:
    code, message = _CODES.get(problem.code, ("AccessDenied" if problem.status == 403 else "InternalError", problem.detail))
    return {"code": code, "message": message, "request_id": str(uuid.uuid4())}


def _weight(text: str) -> int:
    return len(text) + len(_HAN.findall(text))


def _words(sentence: str, begins: int, lasts: int) -> list[dict[str, Any]]:
    found = list(re.finditer(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+", sentence))
    step = lasts / max(1, len(found))
    return [
        {
            "text": word[0],
            "begin_index": word.start(),
            "end_index": word.end(),
            "begin_time": round(begins + number * step),
            "end_time": round(begins + (number + 1) * step),
        }
        for number, word in enumerate(found)
    ]


def _streaming_header(rate: int) -> bytes:
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", _UNKNOWN_SIZE, b"WAVE"),
        *(b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16),
        *(b"data", _UNKNOWN_SIZE),
    )
