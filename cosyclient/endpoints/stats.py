"""What is counted of an endpoint's attempts: requests sent, failures, throttling, rate and latency."""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cosyclient.errors import CosyError

_WINDOW: Final = 10.0
"""Seconds over which the rate is measured."""
_SMOOTHING: Final = 0.1
"""Weight of the newest latency in the moving average."""


class EndpointStats:
    """Count what was sent to an endpoint and how it answered; its `Permit`s report, safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock, like all below.
        self._sent: deque[float] = deque()
        self.executions = 0
        """Requests sent."""
        self.retries = 0
        """Of these, how many were retries."""
        self.failures = 0
        """Requests that failed."""
        self.throttled = 0
        """Of these, how many were refused as too many."""
        self.latency = 0.0
        """Moving average of the seconds a request took; 0 before the first has ended."""
        self.first_sent_at: float | None = None
        self.last_answer_at = -math.inf
        """The instant at which anything of a reply last came."""

    def record_start(self, now: float, *, retry: bool) -> None:
        """Note that a request is sent."""
        with self._lock:
            self.executions += 1
            self.retries += retry
            self.first_sent_at = now if self.first_sent_at is None else self.first_sent_at
            self._sent.append(now)
            self._drop_old_locked(now)

    def record_finish(self, latency: float, error: CosyError | None, now: float, *, answered: bool) -> None:
        """Note how a request ended after *latency* seconds, and whether anything of it was *answered*."""
        with self._lock:
            self.latency += (latency - self.latency) * (_SMOOTHING if self.latency else 1.0)
            if answered:
                self.last_answer_at = now
            if error is not None:
                self.failures += 1
                self.throttled += error.throttled

    @property
    def accepted(self) -> int:
        """Return the requests sent that were not throttled, those in flight included."""
        with self._lock:
            return self.executions - self.throttled

    def rate(self, now: float) -> float:
        """Return the requests per second over the last ten seconds, or since the first if that is less."""
        with self._lock:
            self._drop_old_locked(now)
            span = 0.0 if self.first_sent_at is None else min(_WINDOW, now - self.first_sent_at)
            return len(self._sent) / max(span, 1.0)

    def _drop_old_locked(self, now: float) -> None:
        while self._sent and self._sent[0] <= now - _WINDOW:
            self._sent.popleft()
