"""requests in threads: one session, with as many connections as threads."""

from __future__ import annotations

import requests
from requests.adapters import HTTPAdapter

from benchmarks.peers.single import HEADERS, PATH, TIMEOUT, HttpStatus, SingleTextClient, request_body


class RequestsThreads(SingleTextClient):
    """Post through one session that all threads share."""

    def __init__(self, base_url: str, *, format: str, connections: int) -> None:
        super().__init__(base_url, format=format, connections=connections)
        self._session = requests.Session()
        # Without this it looks for proxies and a .netrc at every request.
        self._session.trust_env = False
        self._session.headers.update(HEADERS)
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=connections, pool_block=True)
        self._session.mount(base_url, adapter)
        self._url = base_url + PATH

    def fetch(self, text: str) -> bytes:
        """Return the body of the reply to *text*."""
        reply = self._session.post(self._url, data=request_body(text, self.format), timeout=TIMEOUT)
        if reply.status_code != 200:
            raise HttpStatus(reply.status_code)
        return bytes(reply.content)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
