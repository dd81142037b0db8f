"""Whether texts of a slow attempt may be sent again: a moving quantile says what is slow, two buckets limit the cost.

A hedger compares an attempt's age with `delay`, withdraws tokens for the texts it sends again, and one more for a
request that carries nothing else. Attempts report with `record_sent` and `record_latency`.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cosyclient.config import HedgeConfig

_SAMPLES: Final = 400
_MIN_SAMPLES: Final = 40
"""Latencies that the quantile is taken from, at most and at least."""
_STALE: Final = 10
"""Samples after which the quantile is computed anew: sorting all of them for each one would be too slow."""
_TEXTS_PER_REQUEST: Final = 2.5
"""Texts that may be sent again per extra request: most share a request that is sent anyway and has room."""
_REQUEST_BURST: Final = 3.0
_TEXT_BURST: Final = 256.0
"""Tokens that each bucket holds when it is full."""


class HedgePolicy:
    """Decide after which time an attempt is slow, and how much may be sent again; safe to share between threads.

    Of all texts at most 2.5 × ``extra`` are sent twice, those that take longer than the quantile 1 - 2.5 × ``extra`` of
    the last 400 attempts; of all requests at most ``extra`` carry nothing but such texts (Dean and Barroso, "The Tail
    at Scale", hedge after the 95th percentile; the quantile tied to the budget is Finagle's). When everything is slow
    the buckets are empty and hedging stops.
    """

    def __init__(self, config: HedgeConfig) -> None:
        self._extra = config.extra
        self._lock = threading.Lock()
        # All guarded by _lock.
        self._latencies: deque[float] = deque(maxlen=_SAMPLES)
        self._new_samples = 0
        self._delay: float | None = None
        self._request_tokens = 1.0
        self._text_tokens = _TEXT_BURST / 4
        self.hedged_texts = 0
        """Texts sent again so far."""
        self.hedge_requests = 0
        """Requests sent so far for nothing else."""

    @property
    def delay(self) -> float | None:
        """Return the seconds after which an attempt is slow; ``None`` while too few latencies are known."""
        return self._delay

    def record_sent(self, texts: int) -> None:
        """Note that a request is sent with *texts* texts that were not sent before, and refill the buckets."""
        with self._lock:
            self._request_tokens = min(_REQUEST_BURST, self._request_tokens + self._extra)
            self._text_tokens = min(_TEXT_BURST, self._text_tokens + _TEXTS_PER_REQUEST * self._extra * texts)

    def record_latency(self, latency: float) -> None:
        """Note that an attempt took *latency* seconds, or was cancelled after them because its hedge was faster."""
        with self._lock:
            self._latencies.append(latency)
            self._new_samples += 1
            if len(self._latencies) >= _MIN_SAMPLES and (self._new_samples >= _STALE or self._delay is None):
                self._new_samples = 0
                share = 1.0 - _TEXTS_PER_REQUEST * self._extra
                ranked = sorted(self._latencies)
                self._delay = ranked[min(len(ranked) - 1, int(len(ranked) * share))]

    def withdraw_texts(self, wanted: int) -> int:
        """Withdraw the tokens of up to *wanted* texts and return for how many there were."""
        with self._lock:
            count = min(wanted, int(self._text_tokens))
            self._text_tokens -= count
            self.hedged_texts += count
            return count

    def withdraw_request(self) -> bool:
        """Withdraw the token of one request, and return whether there was one."""
        with self._lock:
            if self._request_tokens < 1.0:
                return False
            self._request_tokens -= 1.0
            self.hedge_requests += 1
            return True

    def __repr__(self) -> str:
        delay = "unknown" if self._delay is None else f"{self._delay:.3f} s"
        return f"<HedgePolicy delay {delay}, {self.hedged_texts} texts again, {self.hedge_requests} extra requests>"
