"""Render a batch: from the cache, at once, or on worker threads."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from cosyclient.emulator.speech.engines import Engine, estimate_seconds
from cosyclient.emulator.speech.items import Audio, Failure

if TYPE_CHECKING:
    from collections.abc import Hashable

    from cosyclient.emulator.speech.items import Batch

_MOST_CACHED_BYTES = 256 << 20
# A frame carries at most 64 MiB, and WAV adds its header.
_MOST_AUDIO_BYTES = (64 << 20) - 44
_LONGEST = 1800.0


class Renderer:
    """Render texts, each distinct one once, and remember the audio within bounds.

    Used on the event loop only; the worker threads use the engine only.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cache: OrderedDict[Hashable, Audio] = OrderedDict()
        self._cached_bytes = 0
        self._pending: dict[Hashable, asyncio.Future[Audio]] = {}
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="emulator-renderer")

    def __repr__(self) -> str:
        engine = type(self._engine).__name__
        return f"<Renderer {engine} cached={len(self._cache)} bytes={self._cached_bytes} pending={len(self._pending)}>"

    async def render(self, batch: Batch) -> list[Audio | Failure]:
        """Return one item per text, in order."""
        key_of, cache = self._engine.key, self._cache
        items: list[Audio | Failure] = []
        missing: dict[Hashable, list[int]] = {}
        for index, text in enumerate(batch.texts):
            key = key_of(text, batch)
            audio = cache.get(key)
            if audio is None:
                missing.setdefault(key, []).append(index)
                items.append(_NOT_YET)
            else:
                cache.move_to_end(key)
                items.append(audio)
        if missing:
            await self._fill(batch, items, missing)
        return items

    def close(self) -> None:
        """End the worker threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _fill(self, batch: Batch, items: list[Audio | Failure], missing: dict[Hashable, list[int]]) -> None:
        texts = {key: batch.texts[indices[0]] for key, indices in missing.items()}
        failures = {key: failure for key, text in texts.items() if (failure := _too_long(text, batch))}
        tasks = {key: self._rendering(key, text, batch) for key, text in texts.items() if key not in failures}
        rendered = dict(zip(tasks, await asyncio.gather(*tasks.values()), strict=True))
        for key, indices in missing.items():
            item: Audio | Failure = failures[key] if key in failures else rendered[key]
            for index in indices:
                items[index] = item

    def _rendering(self, key: Hashable, text: str, batch: Batch) -> asyncio.Future[Audio]:
        loop = asyncio.get_running_loop()
        if self._engine.instant:
            done = loop.create_future()
            done.set_result(self._engine.render(text, batch))
            return done
        pending = self._pending.get(key)
        if pending is None:
            pending = self._pending[key] = loop.run_in_executor(self._threads, self._engine.render, text, batch)
            pending.add_done_callback(lambda finished: self._keep(key, finished))
        return asyncio.shield(pending)  # other requests may wait for the same rendering

    def _keep(self, key: Hashable, finished: asyncio.Future[Audio]) -> None:
        del self._pending[key]
        if finished.cancelled() or finished.exception() is not None:
            return
        audio = self._cache[key] = finished.result()
        self._cached_bytes += len(audio.data)
        while self._cached_bytes > _MOST_CACHED_BYTES and len(self._cache) > 1:
            _, oldest = self._cache.popitem(last=False)
            self._cached_bytes -= len(oldest.data)


_NOT_YET = Failure("internal", "not rendered", retryable=True)


def _too_long(text: str, batch: Batch) -> Failure | None:
    seconds = estimate_seconds(text, batch.speed)
    plain = batch.format in ("wav", "pcm")
    if seconds <= _LONGEST and not (plain and seconds * batch.sample_rate * 2 > _MOST_AUDIO_BYTES):
        return None
    detail = f"about {seconds:.0f} s of audio do not fit into one {batch.format} item at {batch.sample_rate} Hz"
    return Failure("text_too_long", detail, retryable=False)
