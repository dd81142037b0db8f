"""The field report's own asyncio client, faults included, as its text describes it."""

from __future__ import annotations

import asyncio
import base64
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Sequence


class FieldReportClient:
    """Send batches of 64, *concurrency* at once, over one aiohttp session with a total time-out of 5 s.

    At most three tries. Only a 5xx raises; any other status but 200 is a failed try without a wait after it, 429
    among them. After an exception it waits 0.2 s × 2ⁿ, without jitter.
    """

    BATCH = 64
    CONCURRENCY = 200
    TRIES = 3

    def __init__(self, base_url: str, *, format: str, concurrency: int = CONCURRENCY) -> None:
        self.slept = 0.0
        """The seconds all its calls have slept between tries."""
        self._url = f"{base_url}/batch"
        self._format = format
        self._semaphore = asyncio.Semaphore(concurrency)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency), timeout=aiohttp.ClientTimeout(total=5)
        )

    async def batch_synth(self, texts: Sequence[str]) -> list[bytes]:
        """Return the audio of all *texts*; one failed batch raises and loses all the others."""
        batches = await asyncio.gather(*map(self.synth, cut(texts, self.BATCH)))
        return list(chain.from_iterable(batches))

    async def synth(self, texts: Sequence[str]) -> list[bytes]:
        """Return the audio of one batch, once the semaphore lets it through."""
        async with self._semaphore:
            return await self.send(texts)

    async def send(self, texts: Sequence[str]) -> list[bytes]:
        """Send one batch until it succeeds or its tries are used up."""
        failure: BaseException | None = None
        for attempt in range(self.TRIES):
            try:
                async with self._session.post(self._url, json={"texts": list(texts), "format": self._format}) as reply:
                    if reply.status == 200:
                        return _audio(await reply.json())
                    if reply.status >= 500:
                        reply.raise_for_status()
                    failure = TriesUsedUp(f"HTTP {reply.status} after {self.TRIES} tries")
            except (aiohttp.ClientError, TimeoutError) as error:
                failure = error
                self.slept += 0.2 * 2**attempt
                await asyncio.sleep(0.2 * 2**attempt)
        raise failure or TriesUsedUp()

    async def close(self) -> None:
        """Close the session."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class TriesUsedUp(Exception):
    """Report that three tries have met a status that is neither 200 nor 5xx."""


def cut(texts: Sequence[str], size: int) -> list[Sequence[str]]:
    """Return *texts* in pieces of *size*."""
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def _audio(document: dict[str, Any]) -> list[bytes]:
    return [base64.b64decode(item["audio_data"]) for item in document["results"]]
