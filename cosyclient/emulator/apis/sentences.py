"""Render text sentence by sentence while more of it arrives, for the APIs over WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from cosyclient.emulator.apis.base import record, render
from cosyclient.emulator.apis.websocket import ClientGone, ClientSession, apply_to_connection, paced, split_audio
from cosyclient.emulator.core.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.emulator.apis.base import SpeechRequest
    from cosyclient.emulator.faults.plan import Fault
    from cosyclient.emulator.speech.items import Audio

_FAILING = ("throttle", "throttle_bare", "error", "unavailable", "task_failed")
_SENTENCE = re.compile(r"[^。！？；.!?;\n]*[。！？；.!?;\n]+")
_PRONOUNCEABLE = re.compile(r"\w")


def split_sentences(text: str, *, everything: bool) -> tuple[list[str], str]:
    """Return the finished, pronounceable sentences of *text* and the rest; with *everything* the rest is one, too."""
    found = list(_SENTENCE.finditer(text))
    end = found[-1].end() if found else 0
    whole, rest = [each[0] for each in found], text[end:]
    if everything:
        whole, rest = [*whole, rest], ""
    return [sentence for sentence in whole if _PRONOUNCEABLE.search(sentence)], rest


class SentencePump:
    """Render one text that arrives in parts, and send its audio while more arrives; used on one event loop.

    A subclass sends the messages around the audio: it defines `send_failure`, and overrides `refuse`, `begin`,
    `send_piece`, `end` and `done` where its protocol has such messages. The API calls `start` once, `add_text` and
    `end_text` as the client sends, and `stop` when the connection ends. With *whole* the text is rendered in one go at
    its end. *split* takes the finished sentences off a text, as `split_sentences` does.
    """

    def __init__(
        self,
        session: ClientSession,
        request: SpeechRequest,
        *,
        whole: bool = False,
        split: Callable[..., tuple[list[str], str]] = split_sentences,
    ) -> None:
        self.over = False
        """Whether the text is finished or given up, and counted."""
        self.failed = False
        self.last_activity = time.monotonic()
        """When text arrived or audio left last."""
        self._session, self._service, self._request = session, session.service, request
        self._whole, self._split = whole, split
        self._fault: Fault | None = None
        self._text = self._buffer = ""
        self._sentences: asyncio.Queue[str | None] = asyncio.Queue()
        self._started = False
        self._worker: asyncio.Task[None] | None = None

    def start(self, fault: Fault | None) -> None:
        """Count the request and begin to render; *fault* is applied on the way."""
        self.count_start(fault)
        self.start_worker()

    def count_start(self, fault: Fault | None) -> None:
        """Count the request as under way."""
        self._fault, self._started = fault, True
        self._service.counters.start_request()
        self.last_activity = time.monotonic()

    def start_worker(self) -> None:
        """Begin to render."""
        self._worker = asyncio.create_task(self._run())

    def add_text(self, text: str) -> None:
        """Append *text*; its finished sentences are queued."""
        self._text += text
        self._buffer += text
        self.last_activity = time.monotonic()
        self._queue_sentences(everything=False)

    def flush(self) -> None:
        """Queue what was sent as it is, finished or not."""
        self._queue_sentences(everything=True)

    def end_text(self) -> None:
        """Note that no more text comes."""
        if self._whole:
            self._sentences.put_nowait(self._buffer)
        self._queue_sentences(everything=True)
        self._sentences.put_nowait(None)

    def discard(self) -> None:
        """Drop the text that is not rendered yet."""
        self._buffer = ""
        while not self._sentences.empty():
            self._sentences.get_nowait()

    async def stop(self) -> None:
        """Give up what is under way, without a message."""
        worker, self._worker = self._worker, None
        if worker is not None and worker is not asyncio.current_task():
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        self._finish()

    async def fail(self, problem: Problem, *, partial: bool = False) -> None:
        """Tell the client that the text failed; *partial* says that some of its audio was sent."""
        self.failed = True
        with contextlib.suppress(ClientGone):
            await self.send_failure(problem, partial=partial)

    # What a subclass overrides

    async def send_failure(self, problem: Problem, *, partial: bool) -> None:
        """Send the message of *problem*."""
        raise NotImplementedError

    async def refuse(self, number: int, sentence: str) -> bool:
        """Send what refuses a sentence, and return whether it is refused; raises the Problem of a refused text."""
        del number, sentence
        return False

    async def render(self, sentence: str) -> Audio:
        """Return the audio of one sentence."""
        return await render(self._service, replace(self._request, text=sentence), recorded=False)

    async def begin(self, number: int, sentence: str, audio: Audio) -> None:
        """Send what comes before the audio of a sentence."""

    async def send_piece(self, piece: bytes) -> None:
        """Send a piece of audio."""
        await self._session.send(piece)

    async def end(self, number: int, sent_bytes: int, *, failed: bool) -> None:
        """Send what comes after the audio of a sentence."""

    async def done(self, count: int) -> None:
        """Send what comes after the last of *count* sentences."""

    async def apply_early_fault(self) -> bool:
        """Apply the fault before the first sentence; return whether nothing else is to be done."""
        fault = self._fault
        await apply_to_connection(self._session, fault, 0.0)
        match fault.name if fault else "":
            case "hang":
                await asyncio.sleep(3600)
            case "garbage":
                await self._session.send("<html>502 Bad Gateway</html>")
            case "error" if fault and fault["status"] < 500 and fault["status"] != 429:
                await self.fail(Problem("validation_failed", "the request is not valid"))
                return True
        return False

    # The worker

    def _queue_sentences(self, *, everything: bool) -> None:
        if self._whole:
            return
        found, self._buffer = self._split(self._buffer, everything=everything)
        for sentence in found:
            self._sentences.put_nowait(sentence)

    async def _run(self) -> None:
        try:
            if await self.apply_early_fault():
                return
            count = 0
            while (sentence := await self._sentences.get()) is not None:
                if not (self._fault and self._fault.name == "empty"):
                    await self._send_sentence(count, sentence)
                    count += 1
            # Counted first: the client may ask for the counters once it has the last message.
            self._finish()
            await self.done(count)
        except ClientGone:
            pass
        except Problem as problem:
            await self.fail(problem)
        finally:
            self._finish()

    async def _send_sentence(self, number: int, sentence: str) -> None:
        session, fault = self._session, self._fault
        if await self.refuse(number, sentence):
            return
        audio = await self.render(sentence)
        data = audio.data
        await self.begin(number, sentence, audio)
        kept = len(data) // 40 * 2 if fault and fault.name == "truncated_audio" else len(data)
        fails = fault is not None and fault.name in _FAILING
        most = fault["after"] if fault and fault.name == "task_failed" else 0
        sent = count = 0
        pieces = split_audio(self._service, self._request, data[:kept])
        async for piece in paced(self._service, pieces, first=not number):
            if fails and count >= most:
                break
            await apply_to_connection(session, fault, sent / len(data))
            await self.send_piece(piece)
            self.last_activity = time.monotonic()
            sent, count = sent + len(piece), count + 1
        await apply_to_connection(session, fault, 1.0)
        if fails:
            await self.fail_sentence(_problem_of(fault))
        await self.end(number, sent if fails else len(data), failed=fails)

    async def fail_sentence(self, problem: Problem) -> None:
        """Tell the client that a sentence failed; the next one is rendered all the same."""
        await self.fail(problem, partial=True)

    def _finish(self) -> None:
        """Count the text once, as ended, and remember what was understood of it."""
        if self._started and not self.over:
            self.over = True
            self.last_activity = time.monotonic()
            self._service.counters.end_request()
            record(self._service, replace(self._request, text=self._text))
        self._session.wake()


def _problem_of(fault: Fault | None) -> Problem:
    if fault is not None and fault.name == "task_failed":
        return Problem(fault["code"], fault["message"])
    return Problem("overloaded", "the engine is busy")
