"""What several policies share: outcomes counted over a window of time, and the estimate for the next attempt."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

_BUCKETS: Final = 30


class SlidingWindow:
    """Count calls and failures of the last *seconds*, to a thirtieth of that span; pure in ``now``.

    `Breaker` owns it and guards it by its lock. Recording and reading cost the same however many calls there are:
    outcomes are summed per bucket, buckets in running totals (resilience4j's time-based window).
    """

    def __init__(self, seconds: float) -> None:
        self._width = seconds / _BUCKETS
        self._buckets: deque[list[float]] = deque()  # [number of the bucket, calls, failures], oldest first
        self.calls = 0
        self.failures = 0

    def record(self, now: float, *, failed: bool) -> None:
        """Count a call that ended at *now*, and drop those older than the window."""
        number = now // self._width
        self.forget(now)
        # Threads read the clock before they get here: a slightly older instant joins the newest bucket.
        if not self._buckets or self._buckets[-1][0] < number:
            self._buckets.append([number, 0, 0])
        self._buckets[-1][1] += 1
        self.calls += 1
        if failed:
            self._buckets[-1][2] += 1
            self.failures += 1

    def forget(self, now: float) -> None:
        """Drop what is older than the window at *now*."""
        oldest = now // self._width - _BUCKETS
        while self._buckets and self._buckets[0][0] <= oldest:
            _, calls, failures = self._buckets.popleft()
            self.calls -= int(calls)
            self.failures -= int(failures)

    def clear(self) -> None:
        """Drop everything."""
        self._buckets.clear()
        self.calls = self.failures = 0

    def __repr__(self) -> str:
        return f"<SlidingWindow {self.failures} of {self.calls} failed>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Advise what an attempt that is sent now should carry, in seconds; the batcher seals its batch by it."""

    max_audio: float = math.inf
    """Seconds of audio that it should ask for at most."""
    safe_latency: float = 0.0
    """Seconds until the deadline that a text should have left; with fewer it probably fails, so others go first."""


NO_ESTIMATE: Final = Estimate()
