"""Whether what is late may travel once more: a moving quantile says what is late, two buckets what that may cost."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cosyclient.config import HedgeConfig

_SAMPLES: Final = 400
_FEWEST_SAMPLES: Final = 40
# The quantile is looked up anew after so many samples: sorting them all for each would cost more than it tells.
_STALE: Final = 10
# Late texts travel aboard requests that leave anyway, where there is room; so more texts may than requests.
_TEXTS_PER_REQUEST: Final = 2.5
_REQUEST_BURST: Final = 3.0
_TEXT_BURST: Final = 256.0


class HedgePolicy:
    """Tell after which time an attempt is late, and how much of it may be sent again; safe to share between threads.

    Of all texts at most 2.5 × ``extra`` travel twice, those that take longer than the quantile 1 - 2.5 × ``extra`` of
    the last 400 attempts; of all requests at most ``extra`` carry nothing but such texts (Dean and Barroso, "The Tail
    at Scale", hedge after the 95th percentile; the quantile tied to the budget is Finagle's). When everything is slow
    the buckets are empty and hedging stops by itself.
    """

    def __init__(self, config: HedgeConfig) -> None:
        self._extra = config.extra
        self._lock = threading.Lock()
        # All guarded by _lock.
        self._latencies: deque[float] = deque(maxlen=_SAMPLES)
        self._unseen = 0
        self._delay: float | None = None
        self._requests = 1.0
        self._texts = _TEXT_BURST / 4
        self.hedged_texts = 0
        """Texts sent again."""
        self.hedge_requests = 0
        """Requests sent for nothing else."""

    @property
    def delay(self) -> float | None:
        """Return the seconds after which an attempt is late; ``None`` while too few have been seen."""
        return self._delay

    def record_sent(self, texts: int) -> None:
        """Note that a request with *texts* texts leaves that were not sent before."""
        with self._lock:
            self._requests = min(_REQUEST_BURST, self._requests + self._extra)
            self._texts = min(_TEXT_BURST, self._texts + _TEXTS_PER_REQUEST * self._extra * texts)

    def record_latency(self, latency: float) -> None:
        """Note that an attempt took *latency* seconds, or was broken off after them because its hedge had won."""
        with self._lock:
            self._latencies.append(latency)
            self._unseen += 1
            if len(self._latencies) >= _FEWEST_SAMPLES and (self._unseen >= _STALE or self._delay is None):
                self._unseen = 0
                share = 1.0 - _TEXTS_PER_REQUEST * self._extra
                ranked = sorted(self._latencies)
                self._delay = ranked[min(len(ranked) - 1, int(len(ranked) * share))]

    def withdraw_texts(self, wanted: int) -> int:
        """Take the tokens of up to *wanted* texts and return of how many."""
        with self._lock:
            granted = min(wanted, int(self._texts))
            self._texts -= granted
            self.hedged_texts += granted
            return granted

    def withdraw_request(self) -> bool:
        """Take the token of one request, and return whether there was one."""
        with self._lock:
            if self._requests < 1.0:
                return False
            self._requests -= 1.0
            self.hedge_requests += 1
            return True

    def __repr__(self) -> str:
        delay = "unknown" if self._delay is None else f"{self._delay:.3f} s"
        return f"<HedgePolicy delay {delay}, {self.hedged_texts} texts again, {self.hedge_requests} extra requests>"
