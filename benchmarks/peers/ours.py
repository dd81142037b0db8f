"""cosyclient as a whole and its transport alone, with one text a request like the others."""

from __future__ import annotations

from typing import Final

from benchmarks.peers.single import HEADERS, PATH, TIMEOUT, HttpStatus, SingleTextClient, request_body
from cosyclient import CosyClient
from cosyclient.clock import Deadline, SystemClock
from cosyclient.config.resolve import resolve
from cosyclient.transports.http.transport import HttpTransport
from cosyclient.wire import WireRequest

_CLOCK: Final = SystemClock()


class OurClient(SingleTextClient):
    """Run the whole stack, configured not to batch, not to pace and not to retry."""

    def __init__(self, base_url: str, *, format: str, connections: int) -> None:
        super().__init__(base_url, format=format, connections=connections)
        self._client = CosyClient(
            base_url,
            format=format,
            max_batch=1,
            max_retries=0,
            concurrency=connections,
            max_connections=connections,
            requests_per_second=None,
            timeout=TIMEOUT,
        )

    def synthesize(self, text: str) -> bytes:
        """Return the audio of *text*."""
        return self._client.synthesize(text).audio

    def fetch(self, text: str) -> bytes:
        """Raise: the whole client always decodes."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the client."""
        self._client.close()


class OurTransport(SingleTextClient):
    """Run the transport alone, in the callers' own threads."""

    def __init__(self, base_url: str, *, format: str, connections: int) -> None:
        super().__init__(base_url, format=format, connections=connections)
        settings = resolve(
            base_url=base_url,
            api_key=None,
            protocol="batch",
            voice={},
            requests_per_second=None,
            max_connections=connections,
            concurrency=connections,
            max_batch=1,
            timeout=None,
            max_retries=0,
            config=None,
            environ={},
        )
        self._transport = HttpTransport(settings, clock=_CLOCK)

    def fetch(self, text: str) -> bytes:
        """Return the body of the reply to *text*."""
        request = WireRequest(
            method="POST", path=PATH, headers=tuple(HEADERS.items()), body=request_body(text, self.format)
        )
        reply = self._transport.send(request, deadline=Deadline.after(_CLOCK, TIMEOUT), read_timeout=TIMEOUT)
        try:
            if reply.status != 200:
                raise HttpStatus(reply.status)
            return b"".join(reply.chunks())
        finally:
            reply.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()
