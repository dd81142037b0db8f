"""Serve ``POST /batch``: the batch protocol from the first check to the last frame."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.routing import Route

from cosyclient.emulator.apis.batch.replies import Reply, frame_of, frames, frames_end, frames_head, json_pieces
from cosyclient.emulator.apis.batch.request import check_media_type, inflate, read_batch
from cosyclient.emulator.core.idempotency import Record, ReplyRecords, read_key
from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.faults import injection
from cosyclient.emulator.server.exchange import Exchange, Receive, Scope, Send
from cosyclient.emulator.server.negotiation import FRAMES, JSON, wants_frames

if TYPE_CHECKING:
    from cosyclient.emulator.core.service import Service
    from cosyclient.emulator.faults.plan import Fault
    from cosyclient.emulator.speech.items import Batch

_FRAMES_V1 = f"{FRAMES};v=1"


@dataclass(frozen=True)
class _BatchRequest:
    """A valid request, and the fault to apply to it."""

    batch: Batch
    frames: bool
    fault: Fault | None

    @property
    def media_type(self) -> str:
        return _FRAMES_V1 if self.frames else JSON


class BatchApi:
    """Answer batch requests: one ASGI application, used on one event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._counters = service.counters
        self._settings = service.settings
        self._records = ReplyRecords()

    def __repr__(self) -> str:
        return f"<BatchApi of {self._service!r}>"

    def routes(self) -> list[Route]:
        """Return the routes it answers."""
        return [Route("/batch", self, methods=["POST"])]

    def reset(self) -> None:
        """Drop the replies kept for retries."""
        self._records.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(scope, receive, send, self._counters, gzip=self._settings.gzip)
        self._counters.start_request()
        try:
            await self._serve(exchange)
        except Problem as problem:
            await exchange.refuse(problem)
        except ConnectionResetError:
            pass  # the client has disconnected
        finally:
            self._counters.end_request()

    async def _serve(self, exchange: Exchange) -> None:
        await self._service.admit(exchange)
        body = await exchange.body(self._settings.max_body_bytes)
        as_frames = wants_frames(exchange.header("accept"), self._settings.frames)
        check_media_type(exchange.header("content-type"))
        body = inflate(body, exchange.header("content-encoding"), self._settings.max_body_bytes)
        batch = read_batch(body)
        key = exchange.header("idempotency-key")
        name = f"{exchange.header('authorization')}\n{read_key(key)}" if key else ""
        self._counters.add_batch(len(batch.texts))
        request = _BatchRequest(batch, as_frames, self._service.draw_fault())
        if request.fault and await injection.answer_with(exchange, request.fault, self._service.rng):
            return
        await self._answer(exchange, request, name, hashlib.sha256(body).digest())

    async def _answer(self, exchange: Exchange, request: _BatchRequest, name: str, digest: bytes) -> None:
        if not name:
            await self._perform(exchange, request, None)
            return
        record = self._records.begin(name, digest, time.monotonic())
        if record.reply is not None:
            self._counters.replays += 1
            await self._send_whole(exchange, request, record.reply)
            return
        try:
            await self._perform(exchange, request, record)
        finally:
            self._records.abandon(record)

    async def _perform(self, exchange: Exchange, request: _BatchRequest, record: Record | None) -> None:
        reply, waits, work = await self._speak(request.batch, request.frames)
        if waits and request.frames and not injection.affects_delivery(request.fault):
            await self._send_paced(exchange, request, reply, waits, work, record)
            return
        if waits and await _client_leaves(exchange, max(waits)):
            # The GPU queue keeps its order: the texts are rendered although the client has left.
            self._counters.gpu_seconds_wasted += sum(work)
            await _sleep_until(max(waits))
        if record:
            self._records.finish(record, reply, time.monotonic())
        await self._send_whole(exchange, request, reply)

    async def _speak(self, batch: Batch, as_frames: bool) -> tuple[Reply, list[float], list[float]]:
        """Return the reply, when each item may be sent (empty when all may at once), and the GPU seconds of each."""
        items, waits, work = await self._service.render(batch)
        if as_frames and self._settings.item_delay:
            now = time.monotonic()
            waits = waits or [now] * len(items)
            waits = [max(wait, now + index * self._settings.item_delay) for index, wait in enumerate(waits)]
        rate = next((item.sample_rate for item in items if hasattr(item, "sample_rate")), batch.sample_rate)
        lengths, indices = [len(text) for text in batch.texts], range(len(items))
        reply = Reply(str(uuid.uuid4()), batch.model, batch.format, rate, items, lengths, indices)
        return reply, waits, work

    async def _send_whole(self, exchange: Exchange, request: _BatchRequest, reply: Reply) -> None:
        # The fault is applied to this delivery only: the reply kept for a retry stays good.
        reply = self._about_to_send(request, reply)
        pieces = list(frames(reply)) if request.frames else json_pieces(reply, self._settings.json_shape)
        if request.fault and injection.affects_delivery(request.fault):
            await injection.apply_to_delivery(exchange, request.fault, request.media_type, b"".join(pieces))
        else:
            await exchange.reply_pieces(200, request.media_type, pieces)

    async def _send_paced(
        self,
        exchange: Exchange,
        request: _BatchRequest,
        reply: Reply,
        waits: list[float],
        work: list[float],
        record: Record | None,
    ) -> None:
        """Send each item when it is ready, the earliest first."""
        sent = self._about_to_send(request, reply)
        await exchange.start(200, [(b"content-type", _FRAMES_V1.encode()), *exchange.headers])
        await exchange.write(frames_head(sent))
        waits += [waits[-1]] * (len(sent.items) - len(waits))
        work += [0.0] * (len(sent.items) - len(work))
        for position in sorted(range(len(sent.items)), key=waits.__getitem__):
            if await _client_leaves(exchange, waits[position]):
                self._counters.gpu_seconds_wasted += work[position]
                continue
            await exchange.write(b"".join(frame_of(sent.indices[position], sent.items[position])))
        await _sleep_until(max(waits))
        if record:
            self._records.finish(record, reply, time.monotonic())
        await exchange.write(frames_end(sent), last=True)

    def _about_to_send(self, request: _BatchRequest, reply: Reply) -> Reply:
        reply = injection.apply_to_reply(reply, request.fault, self._service.rng)
        self._counters.items_failed += reply.failed()
        self._counters.audio_seconds += sum(getattr(item, "duration_ms", 0) for item in reply.items) / 1000
        return reply


async def _client_leaves(exchange: Exchange, then: float) -> bool:
    """Wait until *then*; return True as soon as the client disconnects."""
    delay = then - time.monotonic()
    return delay > 0 and await exchange.wait_for_disconnect(delay)


async def _sleep_until(then: float) -> None:
    delay = then - time.monotonic()
    if delay > 0:
        await asyncio.sleep(delay)
