"""Serve ``POST /batch``: the batch protocol from the first check to the last frame."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cosyclient.emulator import sabotage
from cosyclient.emulator.counters import Tally
from cosyclient.emulator.engines import build_engine
from cosyclient.emulator.exchange import Exchange, Receive, Scope, Send
from cosyclient.emulator.faults import Fault, FaultPlan
from cosyclient.emulator.gpu import GpuFarm
from cosyclient.emulator.idempotency import Record, ReplyRecords, read_key
from cosyclient.emulator.limits import ConnectionCensus, TokenBuckets
from cosyclient.emulator.negotiation import FRAMES, JSON, wants_frames
from cosyclient.emulator.problems import Problem
from cosyclient.emulator.reading import Batch, check_media_type, inflate, read_batch
from cosyclient.emulator.replies import Reply, frame_of, frames, frames_end, frames_head, json_pieces
from cosyclient.emulator.studio import Studio

if TYPE_CHECKING:
    from cosyclient.emulator.settings import Settings

_FRAMES_V1 = f"{FRAMES};v=1"
_STRAGGLING = 10.0


@dataclass(frozen=True)
class _Order:
    """Hold what the client asked for, and what shall go wrong."""

    batch: Batch
    frames: bool
    fault: Fault | None

    @property
    def media_type(self) -> str:
        return _FRAMES_V1 if self.frames else JSON


class BatchService:
    """Answer batch requests as the settings say: one ASGI application, used on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tally = Tally()
        self.census = ConnectionCensus(settings.connections)
        self._chance = random.Random(settings.seed)
        self.faults = FaultPlan(settings.fault, self._chance)
        self._buckets = TokenBuckets(settings.rate, settings.burst)
        self._farm = settings
        self._gpus = GpuFarm(settings.gpus, settings.rtf)
        self._records = ReplyRecords()
        self._studio = Studio(build_engine(settings.engine))
        self._started = time.monotonic()

    def __repr__(self) -> str:
        return f"<BatchService engine={self.settings.engine} {self.tally!r} {self.census!r}>"

    def reset(self) -> None:
        """Start over: counters, faults asked for, buckets, GPU queue and remembered replies."""
        self.tally.clear()
        self.census.restart()
        self.faults.clear()
        self._buckets.clear()
        self.set_gpus(gpus=self.settings.gpus, rtf=self.settings.rtf)
        self._gpus.clear()
        self._records.clear()

    def set_gpus(self, *, gpus: int | None = None, rtf: float | None = None) -> None:
        """Change the GPUs under way, until a reset; None leaves the one as it is, ValueError names a broken rule."""
        given: dict[str, Any] = {name: value for name, value in (("gpus", gpus), ("rtf", rtf)) if value is not None}
        # A copy, checked as the switches are: the settings stay what the service was started with.
        self._farm = replace(self._farm, **given)
        self._gpus.resize(self._farm.gpus, self._farm.rtf, time.monotonic())

    def counts(self) -> dict[str, Any]:
        """Return the counters as plain values."""
        connections = {
            f"connections_{name}": getattr(self.census, name) for name in ("seen", "open", "peak", "refused")
        }
        return {**vars(self.tally), **connections}

    def check_ready(self) -> None:
        """Raise the Problem of a model that is still loading."""
        left = self._started + self.settings.slow_start - time.monotonic()
        if left > 0:
            raise Problem("loading", "the model is loading", retry_after=left)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(scope, receive, send, self.tally, gzip=self.settings.gzip)
        self.tally.enter()
        try:
            await self._serve(exchange)
        except Problem as problem:
            await exchange.refuse(problem)
        except ConnectionResetError:
            pass  # nobody is left to answer
        finally:
            self.tally.leave()

    async def _serve(self, exchange: Exchange) -> None:
        await self._admit(exchange)
        body = await exchange.body(self.settings.max_body_bytes)
        as_frames = wants_frames(exchange.header("accept"), self.settings.frames)
        check_media_type(exchange.header("content-type"))
        body = inflate(body, exchange.header("content-encoding"), self.settings.max_body_bytes)
        batch = read_batch(body)
        key = exchange.header("idempotency-key")
        name = f"{exchange.header('authorization')}\n{read_key(key)}" if key else ""
        self.tally.batch(len(batch.texts))
        order = _Order(batch, as_frames, self.faults.draw())
        if order.fault:
            self.tally.faults[order.fault.name] += 1
            if await sabotage.instead(exchange, order.fault, self._chance):
                return
        await self._answer(exchange, order, name, hashlib.sha256(body).digest())

    async def _admit(self, exchange: Exchange) -> None:
        if self.settings.rtt:
            await asyncio.sleep(self._round_trip())
        if exchange.connection.refused:
            most = self.settings.connections
            raise Problem(
                "too_many_connections", f"at most {most} connections per address", retry_after=1.0, close=True
            )
        self.check_ready()
        self._authorize(exchange.header("authorization"))
        grant = self._buckets.acquire(exchange.address, time.monotonic())
        if grant:
            if self.settings.quota_headers:
                exchange.headers += grant.headers
            if not grant.granted:
                raise Problem("rate_limited", f"at most {self.settings.rate:g} requests/s", retry_after=grant.wait)

    def _round_trip(self) -> float:
        settings, seconds = self.settings, self.settings.rtt
        if settings.jitter:
            seconds *= self._chance.lognormvariate(0.0, settings.jitter)
        if settings.stragglers and self._chance.random() < settings.stragglers:
            self.tally.stragglers += 1
            seconds *= _STRAGGLING
        return seconds

    def _authorize(self, shown: str) -> None:
        if self.settings.api_key is None:
            return
        scheme, _, token = shown.partition(" ")
        known = hmac.compare_digest(token.strip().encode("latin-1"), self.settings.api_key.encode())
        if scheme.lower() != "bearer" or not known:
            raise Problem("unauthorized", "Authorization must carry a valid bearer token")

    async def _answer(self, exchange: Exchange, order: _Order, name: str, digest: bytes) -> None:
        if not name:
            await self._perform(exchange, order, None)
            return
        record = self._records.begin(name, digest, time.monotonic())
        if record.reply is not None:
            self.tally.replays += 1
            await self._send_whole(exchange, order, record.reply)
            return
        try:
            await self._perform(exchange, order, record)
        finally:
            self._records.abandon(record)

    async def _perform(self, exchange: Exchange, order: _Order, record: Record | None) -> None:
        reply, waits, work = await self._speak(order.batch, order.frames)
        if waits and order.frames and not sabotage.spoils_delivery(order.fault):
            await self._send_paced(exchange, order, reply, waits, work, record)
            return
        if waits and await _gone(exchange, max(waits)):
            # The queue is first come, first served: the GPUs render it for nobody.
            self.tally.gpu_seconds_wasted += sum(work)
            await _until(max(waits))
        if record:
            self._records.finish(record, reply, time.monotonic())
        await self._send_whole(exchange, order, reply)

    async def _speak(self, batch: Batch, as_frames: bool) -> tuple[Reply, list[float], list[float]]:
        """Return the reply, when each item may leave (nothing when all may at once), and the GPU seconds of each."""
        now = time.monotonic()
        backlog = self._gpus.backlog(now)
        if 0 < self.settings.max_wait < backlog:
            raise Problem("overloaded", f"the queue is {backlog:.1f} s long", retry_after=backlog)
        items = await self._studio.speak(batch)
        audios = [getattr(item, "duration_ms", 0) / 1000 for item in items]
        waits = self._gpus.schedule(audios, now)
        work = list(map(self._gpus.work, audios))
        self.tally.gpu_seconds += sum(work)
        if as_frames and self.settings.item_delay:
            waits = waits or [now] * len(items)
            waits = [max(wait, now + index * self.settings.item_delay) for index, wait in enumerate(waits)]
        rate = next((item.sample_rate for item in items if hasattr(item, "sample_rate")), batch.sample_rate)
        lengths, indices = [len(text) for text in batch.texts], range(len(items))
        reply = Reply(str(uuid.uuid4()), batch.model, batch.format, rate, items, lengths, indices)
        return reply, waits, work

    async def _send_whole(self, exchange: Exchange, order: _Order, reply: Reply) -> None:
        # What a fault spoils is this delivery: the reply kept for a retry is the good one.
        reply = self._about_to_send(order, reply)
        pieces = list(frames(reply)) if order.frames else json_pieces(reply, self.settings.json_shape)
        if order.fault and sabotage.spoils_delivery(order.fault):
            await sabotage.deliver(exchange, order.fault, order.media_type, b"".join(pieces))
        else:
            await exchange.reply_pieces(200, order.media_type, pieces)

    async def _send_paced(
        self,
        exchange: Exchange,
        order: _Order,
        reply: Reply,
        waits: list[float],
        work: list[float],
        record: Record | None,
    ) -> None:
        """Send each item when it is ready, the earliest first."""
        sent = self._about_to_send(order, reply)
        await exchange.start(200, [(b"content-type", _FRAMES_V1.encode()), *exchange.headers])
        await exchange.write(frames_head(sent))
        waits += [waits[-1]] * (len(sent.items) - len(waits))
        work += [0.0] * (len(sent.items) - len(work))
        for position in sorted(range(len(sent.items)), key=waits.__getitem__):
            if await _gone(exchange, waits[position]):
                self.tally.gpu_seconds_wasted += work[position]
                continue
            await exchange.write(b"".join(frame_of(sent.indices[position], sent.items[position])))
        await _until(max(waits))
        if record:
            self._records.finish(record, reply, time.monotonic())
        await exchange.write(frames_end(sent), last=True)

    def _about_to_send(self, order: _Order, reply: Reply) -> Reply:
        reply = sabotage.distort(reply, order.fault, self._chance)
        self.tally.items_failed += reply.failed()
        self.tally.audio_seconds += sum(getattr(item, "duration_ms", 0) for item in reply.items) / 1000
        return reply


async def _gone(exchange: Exchange, then: float) -> bool:
    """Wait until *then*; return at once, and true, when the client has left."""
    delay = then - time.monotonic()
    return delay > 0 and await exchange.gone(delay)


async def _until(then: float) -> None:
    delay = then - time.monotonic()
    if delay > 0:
        await asyncio.sleep(delay)
