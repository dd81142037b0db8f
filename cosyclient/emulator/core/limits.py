"""Keep each client address within its rate and its number of connections."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

_MOST_ADDRESSES = 10_000


@dataclass(frozen=True)
class Grant:
    """Answer one request for tokens: granted or not, and the state of the bucket in quota headers."""

    granted: bool
    remaining: float
    wait: float
    headers: list[tuple[bytes, bytes]]


class TokenBuckets:
    """Refill a bucket of tokens per client address; the arithmetic takes the time and never waits."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        quota, window = (math.floor(rate), 1) if rate >= 1 else (1, math.ceil(1 / rate) if rate else 1)
        self._policy = (b"ratelimit-policy", f'"ip";q={quota};w={window}'.encode())

    def __repr__(self) -> str:
        return f"<TokenBuckets {self._rate:g}/s burst={self._burst:g} addresses={len(self._buckets)}>"

    def clear(self) -> None:
        """Fill every bucket again."""
        self._buckets.clear()

    def acquire(self, address: str, now: float, weight: float = 1.0) -> Grant | None:
        """Take *weight* tokens for *address*, or return how long until there are enough; None means no limit."""
        if not self._rate:
            return None
        tokens, then = self._buckets.pop(address, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        granted = tokens >= weight
        wait = 0.0 if granted else (weight - tokens) / self._rate
        if granted:
            tokens -= weight
        self._buckets[address] = (tokens, now)
        if len(self._buckets) > _MOST_ADDRESSES:
            self._buckets.popitem(last=False)
        reset = max(1, math.ceil((self._burst - tokens) / self._rate))
        state = (b"ratelimit", f'"ip";r={math.floor(tokens)};t={reset}'.encode())
        return Grant(granted, tokens, wait, [self._policy, state])


class ConnectionCounter:
    """Count the connections of each client address and refuse those beyond the limit (0 = none)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_address: dict[str, int] = {}
        self.seen = 0
        self.open = 0
        self.peak = 0
        self.refused = 0

    def __repr__(self) -> str:
        limit = self._limit or "none"
        return f"<ConnectionCounter open={self.open} peak={self.peak} refused={self.refused} limit={limit}>"

    def admit(self, address: str) -> bool:
        """Count a connection; return False for one beyond the limit."""
        self.seen += 1
        held = self._by_address.get(address, 0)
        if self._limit and held >= self._limit:
            self.refused += 1
            return False
        self._by_address[address] = held + 1
        self.open += 1
        self.peak = max(self.peak, self.open)
        return True

    def release(self, address: str) -> None:
        """Count an admitted connection as closed."""
        self.open -= 1
        held = self._by_address[address] - 1
        if held:
            self._by_address[address] = held
        else:
            del self._by_address[address]

    def reset(self) -> None:
        """Start counting anew; open connections stay counted and are the new peak."""
        self.seen = self.refused = 0
        self.peak = self.open
