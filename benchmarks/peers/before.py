"""The field report's "before": one text a request over a small pool, and no policy at all."""

from __future__ import annotations

from typing import Self

import urllib3

from benchmarks.peers.single import HttpStatus, audio


class BeforeClient:
    """Send one text a request: a pool of five connections, time-outs of 5 s (the wait for the pool too), no retry.

    On urllib3, which is what requests runs on: httpx's own pool collapses under so many waiting threads.
    """

    def __init__(self, base_url: str, *, format: str, connections: int = 5, timeout: float = 5.0) -> None:
        self._format = format
        self._timeout = timeout
        self._pool = urllib3.connection_from_url(
            base_url, maxsize=connections, block=True, timeout=urllib3.Timeout(connect=timeout, read=timeout)
        )

    def synthesize(self, text: str) -> bytes:
        """Return the audio of *text*, or raise what urllib3 says or `HttpStatus`."""
        reply = self._pool.request(
            "POST",
            "/batch",
            json={"texts": [text], "format": self._format},
            retries=False,
            pool_timeout=self._timeout,
        )
        if reply.status != 200:
            raise HttpStatus(reply.status)
        return audio(reply.data)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
