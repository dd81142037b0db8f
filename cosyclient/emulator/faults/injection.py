"""Apply faults: replies that replace the right one, wrong items, and broken deliveries."""

from __future__ import annotations

import asyncio
import functools
import struct
import time
import zlib
from email.utils import formatdate
from typing import TYPE_CHECKING

from cosyclient.emulator.core.problems import Problem, code_of
from cosyclient.emulator.server.negotiation import FRAMES, JSON
from cosyclient.emulator.speech.items import Audio, Failure
from cosyclient.emulator.speech.wav import HEADER_BYTES, split_wav, wav_header

if TYPE_CHECKING:
    import random

    from cosyclient.emulator.apis.batch.replies import Reply
    from cosyclient.emulator.faults.plan import Fault
    from cosyclient.emulator.server.exchange import Exchange, Headers

ITEMS = frozenset(
    {"not_audio", "truncated_audio", "silent_audio", "joined_audio", "unsized_audio", "mislabelled_audio"}
)
"""Faults of the audio of one text."""
CONTENT = ITEMS | {"wrong_count", "wrong_index", "failed_items"}
"""Faults of the items inside a reply."""
DELIVERY = frozenset({"cut", "drip", "drip_headers", "hang_body"})
"""Faults of a reply's delivery; ``reset`` with ``at`` is one more."""

_FRAMES_V1 = FRAMES + ";v=1"
PAGE = b"<!doctype html><title>Welcome</title><p>This is not the service you are looking for.\n"


def affects_delivery(fault: Fault | None) -> bool:
    """Return whether a fault applies to the delivery of a reply."""
    return fault is not None and (fault.name in DELIVERY or (fault.name == "reset" and fault["at"] is not None))


async def answer_with(exchange: Exchange, fault: Fault, rng: random.Random) -> bool:
    """Answer with the fault; return False when the fault replaces no reply and one is still due."""
    match fault.name:
        case "throttle":
            raise _throttle(fault)
        case "throttle_bare":
            raise Problem("rate_limited", "too many requests")
        case "error":
            if fault["after"] and await exchange.wait_for_disconnect(fault["after"]):
                return True
            raise _error(fault)
        case "unavailable":
            # At once and without a Retry-After, as a balancer answers for a node that is down.
            raise Problem("unavailable", "no node is ready", status=503)
        case "hang":
            return await exchange.wait_for_disconnect(fault["seconds"])
        case "reset" if fault["at"] is None:
            await exchange.reset()
        case "garbage":
            await exchange.reply(200, JSON, rng.randbytes(fault["bytes"]))
        case "html":
            await exchange.reply(fault["status"], "text/html; charset=utf-8", PAGE)
        case "noise":
            await exchange.reply(200, _FRAMES_V1, rng.randbytes(fault["bytes"]))
        case "empty":
            await exchange.reply(200, JSON, b"")
        case "bomb":
            packed = await asyncio.to_thread(bomb, fault["bytes"])
            await exchange.reply(200, JSON, packed, [(b"content-encoding", b"gzip")])
        case _:
            return False
    return True


def _throttle(fault: Fault) -> Problem:
    after, milliseconds = fault["retry_after"], fault["ms"]
    if after == "date":
        seconds = 1.0 if milliseconds is None else milliseconds / 1000
        header = formatdate(time.time() + seconds, usegmt=True)
    else:
        seconds = float(after) if milliseconds is None else milliseconds / 1000
        header = str(after)
    return Problem("rate_limited", "too many requests", retry_after=seconds, header=header)


def _error(fault: Fault) -> Problem:
    status, retry_after = fault["status"], fault["retry_after"]
    if retry_after is None and status == 503:
        retry_after = 1.0
    code = fault["code"] or code_of(status)
    return Problem(code, "a fault was asked for", status=status, retry_after=retry_after)


@functools.lru_cache(maxsize=2)
def bomb(size: int) -> bytes:
    """Return gzip bytes that expand to *size* spaces, which JSON takes for white space."""
    block = b" " * (1 << 20)
    whole, rest = divmod(size, len(block))
    # A full flush ends on a byte and refers to nothing before it, so one compressed block serves all.
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, zlib.DEFLATED, -15)
    checksum = 0
    for _ in range(whole):
        checksum = zlib.crc32(block, checksum)
    checksum = zlib.crc32(block[:rest], checksum)
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    tail = last.compress(block[:rest]) + last.flush() + struct.pack("<II", checksum, size & 0xFFFFFFFF)
    return b"".join([head, packed * whole, tail])


def apply_to_reply(reply: Reply, fault: Fault | None, rng: random.Random) -> Reply:
    """Return the reply with the fault applied to its items."""
    if fault is None or fault.name not in CONTENT:
        return reply
    items, count = list(reply.items), len(reply.items)
    if fault.name == "wrong_count":
        keep = max(0, count + fault["delta"])
        extra = max(0, keep - count)
        return reply.altered(
            items=[*items[:keep], *items[-1:] * extra],
            characters=[*reply.characters[:keep], *reply.characters[-1:] * extra],
            indices=list(range(keep)),
        )
    if fault.name == "wrong_index":
        wrong = count if fault["index"] is None else fault["index"]
        return reply.altered(indices=[*reply.indices[:-1], wrong])
    if fault.name == "failed_items":
        failure = Failure(fault["code"], "a fault was asked for", fault["retryable"], fault["retry_after_ms"])
        if fault["indices"] is None:
            return reply.altered(items=[failure if rng.random() < fault["share"] else item for item in items])
        return reply.altered(items=[failure if index in fault["indices"] else item for index, item in enumerate(items)])
    chosen = range(count) if fault["indices"] is None else fault["indices"]
    return reply.altered(
        items=[
            apply_to_audio(item, fault) if isinstance(item, Audio) and index in chosen else item
            for index, item in enumerate(items)
        ]
    )


def apply_to_audio(audio: Audio, fault: Fault | None) -> Audio:
    """Return the audio with the fault applied, if it is a fault of items."""
    if fault is None or fault.name not in ITEMS:
        return audio
    data, kind = audio.data, audio.media_type
    header, samples = split_wav(data)
    match fault.name:
        case "not_audio":
            data = PAGE
        case "truncated_audio":
            # A WAV header stays and promises all the samples; only some follow.
            data = data[: max(HEADER_BYTES, len(data) // 2)]
        case "silent_audio" if kind.startswith(("audio/wav", "audio/pcm")):
            data = header + bytes(len(samples))
        case "joined_audio" if header:
            step = max(2, len(samples) // fault["files"] // 2 * 2)
            parts = [samples[at : at + step] for at in range(0, len(samples), step)]
            data = b"".join([wav_header(len(part), audio.sample_rate) + part for part in parts])
        case "unsized_audio" if header:
            data = header[:40] + struct.pack("<I", fault["size"] & 0xFFFFFFFF) + samples
        case "mislabelled_audio":
            kind = fault["media_type"]
    return Audio(data, kind, audio.sample_rate, audio.duration_ms)


async def apply_to_delivery(exchange: Exchange, fault: Fault, media_type: str, body: bytes) -> None:
    """Send a reply with the fault applied to its delivery; an empty media type sends no header."""
    chunked = fault.name == "cut" and fault["chunked"]
    length = (b"transfer-encoding", b"chunked") if chunked else (b"content-length", b"%d" % len(body))
    head: Headers = [*([(b"content-type", media_type.encode())] if media_type else []), length]
    match fault.name:
        case "drip":
            await _drip(exchange, fault, [*head, *exchange.headers], body)
        case "drip_headers":
            await _drip_headers(exchange, fault, [*head, (b"connection", b"close")], body)
        case "hang_body":
            exchange.write_raw(exchange.raw_head(200, head) + body[: fault["at"]])
            if not await exchange.wait_for_disconnect(fault["seconds"]):
                exchange.write_raw(body[fault["at"] :])
                await exchange.close_connection()
        case "reset":
            exchange.write_raw(exchange.raw_head(200, head) + body[: fault["at"]])
            # A reset discards bytes the peer has not read yet: give it a moment to read them.
            await exchange.wait_for_disconnect(0.05)
            await exchange.reset()
        case _:
            part = body[: int(len(body) * fault["share"])]
            if chunked:
                part = b"%x\r\n%b\r\n" % (len(part), part) if part else b""
            exchange.write_raw(exchange.raw_head(200, head) + part)
            await exchange.close_connection()


async def _drip(exchange: Exchange, fault: Fault, head: Headers, body: bytes) -> None:
    await exchange.start(200, head)
    step = fault["bytes"]
    for at in range(0, len(body), step):
        await exchange.write(body[at : at + step], last=at + step >= len(body))
        if await exchange.wait_for_disconnect(fault["interval"]):
            return


async def _drip_headers(exchange: Exchange, fault: Fault, head: Headers, body: bytes) -> None:
    raw, step = exchange.raw_head(200, head), fault["bytes"]
    for at in range(0, len(raw), step):
        exchange.write_raw(raw[at : at + step])
        if await exchange.wait_for_disconnect(fault["interval"]):
            return
    exchange.write_raw(body)
    await exchange.close_connection()
