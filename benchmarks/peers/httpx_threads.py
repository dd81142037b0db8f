"""httpx in threads, and its successor httpx2, over their own pools and over other transports."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

from benchmarks.peers.single import HEADERS, PATH, TIMEOUT, HttpStatus, SingleTextClient, request_body
from cosyclient.transports.http.urllib3_transport import Urllib3Transport


class HttpxThreads(SingleTextClient):
    """Post through one client that all threads share; every connection is kept for reuse."""

    MODULE: ClassVar = "httpx"

    def __init__(self, base_url: str, *, format: str, connections: int) -> None:
        super().__init__(base_url, format=format, connections=connections)
        httpx = import_module(self.MODULE)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._client = httpx.Client(
            base_url=base_url,
            headers=HEADERS,
            limits=limits,
            timeout=TIMEOUT,
            trust_env=False,
            transport=self.transport(),
        )

    def transport(self) -> Any:
        """Return the transport the client sends over; None is its own."""
        return None

    def fetch(self, text: str) -> bytes:
        """Return the body of the reply to *text*."""
        reply = self._client.post(PATH, content=request_body(text, self.format))
        if reply.status_code != 200:
            raise HttpStatus(reply.status_code)
        return bytes(reply.content)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class Httpx2Threads(HttpxThreads):
    """Do the same with httpx2."""

    MODULE: ClassVar = "httpx2"


class PyreqwestThreads(HttpxThreads):
    """Send over pyreqwest's transport, as its documentation shows it."""

    def transport(self) -> Any:
        """Return reqwest's transport, which keeps every idle connection."""
        return import_module("pyreqwest.compatibility.httpx").SyncHttpxTransport()


class OurPoolUnderHttpx(HttpxThreads):
    """Send over our pool."""

    def transport(self) -> Any:
        """Return our pool."""
        return Urllib3Transport(connections=self.connections)
