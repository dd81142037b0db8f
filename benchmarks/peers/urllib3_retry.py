"""urllib3 with its own `Retry`, as its documentation shows it for an API that answers 5xx now and then."""

from __future__ import annotations

import threading
from typing import Any, Self

import urllib3

from benchmarks.peers.single import audio


class Urllib3RetryClient:
    """Send one text a request; at most three retries of 429 and 5xx, 0.2 s × 2ⁿ apart, the first at once.

    POST is not retried unless ``allowed_methods=None`` says so. Call it from a ThreadPoolExecutor.
    """

    def __init__(self, base_url: str, *, format: str, connections: int = 50, timeout: float = 5.0) -> None:
        self.slept = Slept()
        """The seconds all its calls have slept between tries."""
        self._format = format
        self._pool = urllib3.connection_from_url(
            base_url, maxsize=connections, block=True, timeout=urllib3.Timeout(connect=timeout, read=timeout)
        )
        self._retry = _CountedRetry(
            slept=self.slept,
            total=3,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=None,
            backoff_factor=0.2,
        )

    def synthesize(self, text: str) -> bytes:
        """Return the audio of *text*, or raise urllib3's error."""
        body = {"texts": [text], "format": self._format}
        reply = self._pool.request("POST", "/batch", json=body, retries=self._retry, pool_timeout=30.0)
        if reply.status != 200:
            raise urllib3.exceptions.ResponseError(f"HTTP {reply.status}")
        return audio(reply.data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()


class Slept:
    """Add up seconds from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count *seconds* more."""
        with self._lock:
            self.seconds += seconds

    def __repr__(self) -> str:
        return f"<Slept {self.seconds:.1f} s>"


class _CountedRetry(urllib3.Retry):
    """Do what Retry does, and count how long it sleeps."""

    def __init__(self, *args: Any, slept: Slept, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._slept = slept

    def new(self, **kwargs: Any) -> Self:
        return super().new(slept=self._slept, **kwargs)

    def _sleep_backoff(self) -> None:
        self._slept.add(self.get_backoff_time())
        super()._sleep_backoff()
