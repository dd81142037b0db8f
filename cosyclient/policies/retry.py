"""Whether to try again and after which wait: back-off with jitter, within the deadline and the Retry-After.

Each call has its own `RetrySchedule`; it asks `next_wait` after each failed attempt, waits, and tries again.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosyclient.config import RetryConfig
    from cosyclient.errors import CosyError


class RetryPolicy:
    """Hold how often and after which waits every call of a client tries again; immutable, so all threads share it.

    *jitter* maps a wait's ceiling to the wait, *uniform* draws the spread added to a Retry-After. The defaults are
    200 ms × 2ⁿ under full jitter, at most 20 s (AWS Architecture Blog, "Exponential Backoff And Jitter").
    """

    def __init__(
        self,
        config: RetryConfig,
        max_retries: int,
        *,
        jitter: Callable[[float], float] = backoff.full_jitter,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.config = config
        self.max_retries = max_retries
        self.jitter = jitter
        self.uniform = uniform

    def schedule(self) -> RetrySchedule:
        """Return the schedule of one call, with no retry used up."""
        return RetrySchedule(self)

    def __repr__(self) -> str:
        return (
            f"<RetryPolicy at most {self.max_retries} retries,"
            f" {self.config.initial:g} s × 2ⁿ up to {self.config.cap:g} s>"
        )


class RetrySchedule:
    """Decide for one call how long to wait before its next attempt; not shared between threads."""

    __slots__ = ("_ceilings", "_policy", "retries")

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        # Made for the first retry: most calls need none.
        self._ceilings: Iterator[float] | None = None
        self.retries = 0
        """Retries allowed so far."""

    def next_wait(self, error: CosyError, *, remaining: float) -> float | None:
        """Return the seconds to wait before trying again, or ``None`` when the call should fail with *error* now.

        ``None`` means: *error* is not retryable, the retries are used up, or the wait would not end before the
        *remaining* seconds of the deadline (or asks for more than ``max_retry_after``). A wait is never shorter than
        the service's Retry-After, nor than the back-off.
        """
        policy = self._policy
        if not error.retryable or self.retries >= policy.max_retries:
            return None
        asked = error.retry_after
        if asked is None or math.isnan(asked) or asked < 0.0:
            asked = 0.0  # nonsense counts as no header
        if asked > policy.config.max_retry_after or asked >= remaining:
            return None
        if self._ceilings is None:
            self._ceilings = _ceilings(policy.config.initial, policy.config.cap)
        wait = max(0.0, policy.jitter(next(self._ceilings)))
        if asked:
            # Upwards only: full jitter on a Retry-After would send most retries too early.
            wait = max(wait, asked + policy.uniform(0.0, min(asked, 1.0)))
        if not wait < remaining:
            return None
        self.retries += 1
        return wait

    def __repr__(self) -> str:
        return f"<RetrySchedule {self.retries} of {self._policy.max_retries} retries used>"


def _ceilings(initial: float, cap: float) -> Iterator[float]:
    # The exponent stops growing at the cap; the floor keeps a tiny `initial` from needing 2**1024 to get there.
    ceilings: Iterator[float] = backoff.expo(base=2, factor=max(initial, cap * 2.0**-1000), max_value=cap)
    next(ceilings)  # backoff's generators first yield None, for its own send()
    return ceilings
