"""What the deadlines benchmark runs, and its targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TARGET_OVERSHOOT: Final = 0.05
"""Seconds a call may take beyond its deadline."""
TARGET_INTERRUPT: Final = 0.5
"""Seconds after Ctrl-C within which a blocked call has to be left."""
SCENARIOS: Final = {
    "no SYN": "the listener's queue is full, connecting is never answered",
    "TLS stall": "connections are accepted, the handshake is not",
    "full pool": "two connections, both taken by calls that hang",
    "drip": "a body that comes byte by byte, ten a second",
    "silence": "status and headers come, and then nothing",
    "Retry-After": "429 with a Retry-After beyond the deadline",
}
CLIENTS: Final = {
    "ours": "synthesize(timeout=…) and defaults, but without the breaker, which would soon refuse",
    "httpx": "Client(timeout=…), Limits of the pool",
    "urllib3": "Timeout(total=…), pool_timeout=…, Retry of 429 that respects Retry-After",
    "requests": "timeout=…, pool_block=True, the same Retry",
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Define how long a call may take, how many there are, and after which time services close connections."""

    deadline: float = 0.5
    cap: float = 4.0
    callers: int = 8
    rounds: int = 4
    interrupts: int = 5


QUICK: Final = Plan(cap=1.5, rounds=1, interrupts=1)
