"""The size of a client by Little's Law: permits, threads, connections and queue for a rate and a latency.

``L = λ × W`` (J. D. C. Little, "A Proof for the Queuing Formula: L = λW", 1961): the requests in flight are on average
those that arrive a second times the seconds each takes. At 100 requests/s of 0.2 s each that is 20; with a headroom of
2 for slower ones the pool has 40.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cosyclient.config.records import check_count
from cosyclient.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """Hold the sizes that a rate and a latency require."""

    permits: int
    """Requests in flight at once."""
    threads: int
    """Worker threads, one for each permit."""
    connections: int
    """Connections, one for each permit."""
    queue: int
    """Texts accepted and not finished: two full batches for each permit."""
    bound: float
    """Texts a second that this size can send at most."""

    def __repr__(self) -> str:
        return (
            f"<Sizing {self.permits} permits, {self.threads} threads, {self.connections} connections, "
            f"a queue of {self.queue} texts, at most {self.bound:.0f} texts/s>"
        )


def littles_law(
    *,
    rate: float,
    latency: float,
    headroom: float = 2.0,
    connection_limit: int = 50,
    max_batch: int = 64,
    permits: int | None = None,
) -> Sizing:
    """Return the sizes for *rate* requests/s of *latency* seconds each.

    By Little's Law rate × latency requests are in flight on average. *headroom* is a factor for requests slower than
    the average. The service's *connection_limit* caps the result, and is the result where the *rate* is infinite.
    *permits* replaces the law's figure, under the same cap. The queue holds two fillings of everything in flight: one
    to seal batches from, one to arrive meanwhile.
    Raises `ConfigurationError` for a number that is not positive and finite.
    """
    for name, value in (("rate", rate), ("latency", latency), ("headroom", headroom)):
        if not (isinstance(value, (int, float)) and value > 0 and (math.isfinite(value) or name == "rate")):
            raise ConfigurationError(f"{name}: must be a positive number, got {value!r}")
    for name, count in (("connection_limit", connection_limit), ("max_batch", max_batch), ("permits", permits)):
        if count is not None:
            check_count(name, count)
    if permits is None:
        permits = connection_limit if math.isinf(rate) else math.ceil(round(rate * latency * headroom, 6))
    permits = max(1, min(permits, connection_limit))
    return Sizing(
        permits=permits,
        threads=permits,
        connections=permits,
        queue=2 * permits * max_batch,
        bound=min(rate, permits / latency) * max_batch,
    )


def field_report(*, cores: int, concurrency: int, per_route: int = 200) -> int:
    """Return the pool size of the field report's rule of thumb: 2 × cores × concurrency, at most *per_route*.

    The rule is for a pool of many services; for one service with a quota `littles_law` gives a tenth of it.
    """
    if cores < 1 or concurrency < 1 or per_route < 1:
        raise ConfigurationError("cores, concurrency and per_route: must each be at least 1")
    return min(2 * cores * concurrency, per_route)
