"""urllib3 without anything added: one pool, as many connections as threads."""

from __future__ import annotations

from urllib.parse import urlsplit

import urllib3

from benchmarks.peers.single import HEADERS, PATH, TIMEOUT, HttpStatus, SingleTextClient, request_body


class Urllib3Threads(SingleTextClient):
    """Post to one blocking pool; no retries."""

    def __init__(self, base_url: str, *, format: str, connections: int) -> None:
        super().__init__(base_url, format=format, connections=connections)
        parts = urlsplit(base_url)
        self._pool = urllib3.HTTPConnectionPool(
            parts.hostname or "", parts.port, maxsize=connections, block=True, timeout=TIMEOUT, retries=False
        )

    def fetch(self, text: str) -> bytes:
        """Return the body of the reply to *text*."""
        reply = self._pool.request("POST", PATH, body=request_body(text, self.format), headers=HEADERS)
        if reply.status != 200:
            raise HttpStatus(reply.status)
        return reply.data

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()
