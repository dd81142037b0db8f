"""What several policies share: outcomes counted over a sliding window of time, and what an attempt may expect."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

_BUCKETS = 30


class SlidingWindow:
    """Count calls and failures of the last *seconds*, to a thirtieth of that span; guarded by its owner's lock.

    Recording and reading cost the same however many calls there are: outcomes are summed per bucket, buckets in
    running totals (resilience4j's time-based window).
    """

    def __init__(self, seconds: float) -> None:
        self._width = seconds / _BUCKETS
        self._buckets: deque[list[float]] = deque()  # [number of the bucket, calls, failures], oldest first
        self.calls = 0
        self.failures = 0

    def record(self, now: float, *, failed: bool) -> None:
        """Count a call that ended at *now* (seconds), and forget those the window has left behind."""
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
        """Drop what the window has left behind at *now*."""
        oldest = now // self._width - _BUCKETS
        while self._buckets and self._buckets[0][0] <= oldest:
            _, calls, failures = self._buckets.popleft()
            self.calls -= int(calls)
            self.failures -= int(failures)

    def clear(self) -> None:
        """Forget everything."""
        self._buckets.clear()
        self.calls = self.failures = 0

    def __repr__(self) -> str:
        return f"<SlidingWindow {self.failures} of {self.calls} failed>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Say what an attempt that leaves now should know of its endpoint, in seconds.

    Its audio should not exceed ``audio``. Texts with less than ``needed`` left will probably come back too late: others
    go first.
    """

    max_audio: float = math.inf
    safe_latency: float = 0.0


NO_ESTIMATE: Final = Estimate()
