"""What all APIs share: the speech request as it was understood, and its audio, whole or while it is generated."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.speech.items import Audio, Batch
from cosyclient.emulator.speech.voices import DEFAULT_MODEL, VOICES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.routing import BaseRoute

    from cosyclient.emulator.core.service import Service

_SEGMENT_UNITS = 80
"""Most units of a segment, as in CosyVoice's front end (cosyvoice/utils/frontend_utils.py)."""
_SHORTEST_SEGMENT = 20
_ENDS = re.compile(r"(?<=[。！？；.!?;])")
_PRONOUNCEABLE = re.compile(r"\w")


class Api(Protocol):
    """Serve one protocol; one instance per service, used on one event loop."""

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes it answers."""

    def reset(self) -> None:
        """Drop what was kept since the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechRequest:
    """What an API understood of one request.

    Tests compare it with what the client was asked for, so every field that a client can send must be here."""

    api: str
    text: str
    mode: str = ""
    voice: str = ""
    prompt: bytes | None = None
    prompt_text: str = ""
    instruct: str = ""
    model: str = ""
    format: str = "pcm"
    sample_rate: int = 24000
    speed: float = 1.0
    seed: int | None = None
    stream: bool = False

    def document(self) -> dict[str, Any]:
        """Return the fields as plain values, the prompt as its length and digest."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "prompt"}
        if self.prompt is not None:
            values |= {
                "prompt_bytes": len(self.prompt),
                "prompt_sha256": hashlib.sha256(self.prompt).hexdigest(),
            }
        return values

    def as_batch(self) -> Batch:
        """Return the batch that the engines render; an unknown voice or a recording is mapped to one of theirs."""
        known = list(VOICES)
        voice = self.voice
        if self.prompt is not None:
            voice = known[zlib.crc32(self.prompt) % len(known)]
        elif voice not in VOICES:
            voice = known[zlib.crc32(voice.encode()) % len(known)] if voice else known[0]
        return Batch(
            texts=[self.text],
            model=self.model or DEFAULT_MODEL,
            voice=voice,
            format=self.format,
            sample_rate=self.sample_rate,
            speed=self.speed,
            instruct=self.instruct or None,
            seed=self.seed,
        )


def record(service: Service, request: SpeechRequest) -> None:
    """Remember what was understood of *request*, and count it as a batch of one."""
    service.received.append(request.document())
    service.counters.add_batch(1)


async def render(service: Service, request: SpeechRequest, *, recorded: bool = True) -> Audio:
    """Return the audio of *request* when the GPUs are done with it; raises the Problem of a text that has none.

    Without *recorded* the caller calls `record` itself.
    """
    if recorded:
        record(service, request)
    items, waits, _ = await service.render(request.as_batch())
    item = items[0]
    if not isinstance(item, Audio):
        raise Problem(item.code, item.detail)
    if waits:
        await asyncio.sleep(max(0.0, waits[0] - time.monotonic()))
    service.counters.audio_seconds += item.duration_ms / 1000
    return item


async def stream(
    service: Service, request: SpeechRequest, pieces: Sequence[str] | None = None, *, hop: int = 1
) -> AsyncIterator[bytes]:
    """Yield samples of *request* as a model makes them: the first after ``first_chunk``, more ``chunk_gap`` apart.

    Pieces last ``chunk_seconds`` each; where *pieces* of the text are given, each of them is one. Silence at the end
    fills the last hop of *hop* samples, as a vocoder does.
    """
    settings = service.settings
    audio = await render(service, request)
    await asyncio.sleep(settings.first_chunk)
    data = audio.data + bytes(-len(audio.data) % (2 * hop)) if hop > 1 else audio.data
    step = max(2, int(settings.chunk_seconds * request.sample_rate) * 2)
    if pieces is not None:
        step = max(2, len(data) // (2 * max(1, len(pieces))) * 2)
    for start in range(0, len(data), step):
        if start:
            await asyncio.sleep(settings.chunk_gap)
        yield data[start : start + step]


def segments(text: str) -> list[str]:
    """Split *text* as CosyVoice's front end does: at the ends of sentences, into at most about 80 units each.

    Segments without a pronounceable character are dropped, so punctuation alone gives none.
    """
    found: list[str] = []
    for sentence in _ENDS.split(text):
        fits = found and _units(found[-1]) + _units(sentence) <= _SEGMENT_UNITS
        if fits or (found and _units(sentence) < _SHORTEST_SEGMENT):
            found[-1] += sentence
        elif sentence:
            found.append(sentence)
    return [segment for segment in found if _PRONOUNCEABLE.search(segment)]


def _units(text: str) -> int:
    return len(text) if not text.isascii() else len(text.split())
