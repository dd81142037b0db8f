"""The least that does the work: urllib3, orjson and pybase64 in each calling thread, a full batch a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import urllib3

from benchmarks.peers.single import HEADERS, PATH, TIMEOUT, HttpStatus

if TYPE_CHECKING:
    from collections.abc import Sequence


class BareLoop:
    """Send one batch a call: no queue, no quota, no retry, no deadline of the whole call, no check but the status."""

    def __init__(self, base_url: str, *, format: str, connections: int) -> None:
        import orjson
        import pybase64

        self._dumps, self._loads, self._decode = orjson.dumps, orjson.loads, pybase64.b64decode
        self._format = format
        parts = urlsplit(base_url)
        self._pool = urllib3.HTTPConnectionPool(
            parts.hostname or "", parts.port, maxsize=connections, block=True, timeout=TIMEOUT, retries=False
        )

    def synthesize(self, texts: Sequence[str]) -> list[bytes]:
        """Return the audio of *texts*, at most 64."""
        body = self._dumps({"texts": texts, "format": self._format})
        reply = self._pool.request("POST", PATH, body=body, headers=HEADERS)
        if reply.status != 200:
            raise HttpStatus(reply.status)
        return [self._decode(each["audio_data"], validate=True) for each in self._loads(reply.data)["results"]]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()
