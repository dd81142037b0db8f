"""Speak sentences one after the other while more text comes, as the faces over WebSocket without tasks do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cosyclient.emulator.apis.websocket import ClientGone, ClientSession, cut, paced, render, sentences, spoil
from cosyclient.emulator.core.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cosyclient.emulator.apis.base import SpeechRequest
    from cosyclient.emulator.faults.plan import Fault

_FAILING = ("throttle", "throttle_bare", "error", "unavailable", "task_failed")


class SentencePump:
    """Hold one text being spoken; its face says what goes around the audio.

    *begin* is awaited before a sentence with its number, text and rendering, *end* after it with what was sent and
    whether it failed, *done* when all is said, *fail* with the message of what went wrong. *piece* sends a piece of
    audio where it is not sent as it is; *refuse* says what there is to say of a sentence that will not be spoken, and
    returns whether it is one. *split* takes the whole sentences off a text, as `sentences` does.
    """

    def __init__(
        self,
        session: ClientSession,
        request: SpeechRequest,
        *,
        begin: Callable[[int, str, Any], Awaitable[None]],
        end: Callable[[int, int, bool], Awaitable[None]],
        done: Callable[[int], Awaitable[None]],
        fail: Callable[[str, bool], Awaitable[None]],
        whole: bool = False,
        piece: Callable[[bytes], Awaitable[None]] | None = None,
        refuse: Callable[[int, str], Awaitable[bool]] | None = None,
        split: Callable[..., tuple[list[str], str]] = sentences,
    ) -> None:
        self._session, self._service = session, session.service
        self._wish = request
        self._begin, self._end, self._done, self._fail = begin, end, done, fail
        self._piece, self._refuse = piece or session.send, refuse
        self._whole, self._split = whole, split
        self._buffer = self.text = ""
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._fault: Fault | None = None
        self._worker: asyncio.Task[None] | None = None
        self.over = self.failed = False

    def start(self) -> None:
        """Begin to speak."""
        self._fault = self._service.draw_fault()
        self._service.counters.start_request()
        self._worker = asyncio.create_task(self._work())

    def say(self, text: str) -> None:
        """Take more text."""
        self.text += text
        self._buffer += text
        if not self._whole:
            self._release(everything=False)

    def finish(self) -> None:
        """Take it that this was all."""
        if self._whole:
            self._queue.put_nowait(self._buffer)
        else:
            self._release(everything=True)
        self._queue.put_nowait(None)

    async def stop(self) -> None:
        """Break off."""
        worker, self._worker = self._worker, None
        if worker is not None and worker is not asyncio.current_task():
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        self._leave()

    def _release(self, *, everything: bool) -> None:
        found, self._buffer = self._split(self._buffer, everything=everything)
        for sentence in found:
            self._queue.put_nowait(sentence)

    async def _work(self) -> None:
        try:
            if await self._spoiled():
                return
            count = 0
            while (sentence := await self._queue.get()) is not None:
                if not (self._fault and self._fault.name == "empty"):
                    await self._speak(sentence, count)
                    count += 1
            self._leave()
            await self._done(count)
        except ClientGone:
            pass
        except Problem as problem:
            await self._failed(problem.detail, False)
        finally:
            self._leave()

    async def _spoiled(self) -> bool:
        fault = self._fault
        await spoil(self._session, fault, 0.0)
        match fault.name if fault else "":
            case "hang":
                await asyncio.sleep(3600)
            case "garbage":
                await self._session.send("<html>502 Bad Gateway</html>")
            case "error" if fault and fault["status"] < 500 and fault["status"] != 429:
                await self._failed("the request is not valid", False)
                return True
        return False

    async def _speak(self, sentence: str, number: int) -> None:
        fault, service = self._fault, self._service
        if self._refuse is not None and await self._refuse(number, sentence):
            self.failed = True
            return
        audio = await render(service, replace(self._wish, text=sentence))
        data = audio.data
        await self._begin(number, sentence, audio)
        kept = len(data) // 40 * 2 if fault and fault.name == "truncated_audio" else len(data)
        fails = fault is not None and fault.name in _FAILING
        most = fault["after"] if fault and fault.name == "task_failed" else 0
        sent = count = 0
        async for piece in paced(service, cut(service, self._wish, data[:kept]), first=not number):
            if fails and count >= most:
                break
            await spoil(self._session, fault, sent / len(data))
            await self._piece(piece)
            sent, count = sent + len(piece), count + 1
        await spoil(self._session, fault, 1.0)
        if fails:
            await self._failed(
                fault["message"] if fault and fault.name == "task_failed" else "the engine is busy", True
            )
        await self._end(number, sent if fails else len(data), fails)

    async def _failed(self, message: str, partial: bool) -> None:
        self.failed = True
        await self._fail(message, partial)

    def _leave(self) -> None:
        if not self.over:
            self.over = True
            self._service.counters.end_request()
            self._service.counters.add_batch(1)
            self._service.received.append(replace(self._wish, text=self.text).document())
        self._session.wake()
