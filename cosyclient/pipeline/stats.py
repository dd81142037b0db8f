"""Statistics: a snapshot of one client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cosyclient.transports.base import PoolStats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosyclient.config.sizing import Sizing


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStats:
    """Show a client at one instant; counts are since its start in this process.

    ``calls`` counts texts accepted or rejected, ``utterances`` texts that became speech, ``executions`` requests that
    left, ``retries`` those of them that were not first tries, ``throttled`` refusals by the service, ``rejected`` by
    the client itself, ``hedged`` texts sent once more because they were late, ``hedge_requests`` the requests that
    carried nothing else. ``limit`` is how many requests may be in flight now; it follows what the service can take.
    ``rate`` is in requests/s over ten seconds, ``latency`` a moving average in seconds, ``concurrency`` their product
    (Little's Law), ``advice`` the sizes these two ask for.
    """

    calls: int = 0
    utterances: int = 0
    failed: int = 0
    rejected: int = 0
    executions: int = 0
    retries: int = 0
    throttled: int = 0
    hedged: int = 0
    hedge_requests: int = 0
    queued: int = 0
    in_flight: int = 0
    limit: int = 0
    workers: int = 0
    pending: int = 0
    retry_budget: int = 0
    pool: PoolStats = field(default_factory=PoolStats)
    breakers: Mapping[str, str] = field(default_factory=dict)
    rate: float = 0.0
    latency: float = 0.0
    concurrency: float = 0.0
    advice: Sizing | None = None
