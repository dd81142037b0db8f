"""Be the field report's "before": one text a request over a small pool, and no policy at all."""

from __future__ import annotations

import base64
from typing import Any, Self

import httpx


class BeforeClient:
    """Ask for one text at a time: five connections, a time-out of 5 s (the wait for the pool included), no retry."""

    def __init__(self, base_url: str, *, format: str, connections: int = 5, timeout: float = 5.0) -> None:
        self._format = format
        # An idle connection is kept as long as the pool lives: httpx's own 5 s limit would only reopen it.
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.Client(base_url=base_url, limits=limits, timeout=timeout)

    def synthesize(self, text: str) -> bytes:
        """Return the audio of *text*, or raise what httpx or the reply's status says."""
        reply = self._http.post("/batch", json={"texts": [text], "format": self._format})
        reply.raise_for_status()
        results: list[dict[str, Any]] = reply.json()["results"]
        return base64.b64decode(results[0]["audio_data"])

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
