"""The ceiling on extra attempts: one token bucket that all calls of a client share, fed by successes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosyclient.config import RetryConfig


class RetryBudget:
    """Grant retries while the service mostly works, and stop them when it does not; safe to share between threads.

    Charge it before the back-off sleep: retries that are asleep are load already. A call that succeeds in the end gets
    all back, so only those that fail for good use it up: a service that fails one request in five costs nothing, an
    outage is spared all but ``budget / transient_cost`` extra attempts per client (figures: botocore 2026, which
    returns the last retry's cost alone and runs dry at that share). By default all that may be *in_flight* can be tried
    again once: a restart that resets every connection costs no text.
    """

    def __init__(self, config: RetryConfig, *, in_flight: int = 0) -> None:
        self._config = config
        self._lock = threading.Lock()  # guards _available
        self.full = self._available = config.full_budget(in_flight)
        """Tokens when none is spent."""

    @property
    def available(self) -> int:
        """Return the tokens left."""
        return self._available

    def withdraw(self, *, throttled: bool) -> int:
        """Take what one retry costs and return it, or take nothing and return 0 when it cannot be afforded."""
        cost = self._config.throttle_cost if throttled else self._config.transient_cost
        with self._lock:
            if cost > self._available:
                return 0
            self._available -= cost
            return cost

    def deposit(self, returned: int = 0) -> None:
        """Give back what a successful call's retries cost (*returned*), or one token when it needed none."""
        tokens = returned if returned > 0 else 1
        with self._lock:
            self._available = min(self.full, self._available + tokens)

    def __repr__(self) -> str:
        return f"<RetryBudget {self._available} of {self.full} tokens>"
