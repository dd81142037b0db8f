"""aiohttp: one event loop and one session; what are threads elsewhere are tasks here."""

from __future__ import annotations

from typing import Self

import aiohttp

from benchmarks.peers.single import HEADERS, PATH, TIMEOUT, HttpStatus, audio, request_body


class AiohttpTasks:
    """Post through one session over at most *connections* connections."""

    def __init__(self, base_url: str, *, format: str, connections: int) -> None:
        self._url = base_url + PATH
        self._format = format
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            headers=HEADERS,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        )

    async def synthesize(self, text: str) -> bytes:
        """Return the audio of *text*."""
        return audio(await self.fetch(text))

    async def fetch(self, text: str) -> bytes:
        """Return the body of the reply to *text*."""
        async with self._session.post(self._url, data=request_body(text, self._format)) as reply:
            if reply.status != 200:
                raise HttpStatus(reply.status)
            return await reply.read()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
