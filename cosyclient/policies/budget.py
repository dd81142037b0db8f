"""How many extra attempts all calls of a client may make together: a token bucket that successes refill.

A retry first withdraws its cost and then waits; a call that succeeds deposits what its retries cost, or one token.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosyclient.config import RetryConfig


class RetryBudget:
    """Allow retries while the service mostly works, and stop them when it does not; safe to share between threads.

    Withdraw before the back-off wait: retries that wait are load already. A call that succeeds in the end gets all
    back, so only calls that fail for good use the budget up: a service that fails one request in five costs nothing,
    and an outage causes ``budget / transient_cost`` extra attempts per client at most. The figures are botocore's of
    2026, which gives only the last retry's cost back and runs empty at that share of failures. By default all that may
    be *in_flight* can be tried again once: a restart that resets every connection fails no text.
    """

    def __init__(self, config: RetryConfig, *, in_flight: int = 0) -> None:
        self._config = config
        self._lock = threading.Lock()  # guards _available
        self.full = self._available = config.full_budget(in_flight)
        """Tokens when none is withdrawn."""

    @property
    def available(self) -> int:
        """Return the tokens left."""
        return self._available

    def withdraw(self, *, throttled: bool) -> int:
        """Withdraw what one retry costs and return it, or return 0 when too few tokens are left."""
        cost = self._config.throttle_cost if throttled else self._config.transient_cost
        with self._lock:
            if cost > self._available:
                return 0
            self._available -= cost
            return cost

    def deposit(self, returned: int = 0) -> None:
        """Give back what a successful call's retries cost (*returned*), or add one token when it needed none."""
        tokens = returned if returned > 0 else 1
        with self._lock:
            self._available = min(self.full, self._available + tokens)

    def __repr__(self) -> str:
        return f"<RetryBudget {self._available} of {self.full} tokens>"
