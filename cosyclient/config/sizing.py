"""Little's Law: how many permits, threads, connections and queue places a rate and a latency need."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cosyclient.config.records import check_count
from cosyclient.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """Hold what a rate and a latency ask for; ``bound`` is the texts per second this size can carry."""

    permits: int
    threads: int
    connections: int
    queue: int
    bound: float

    def __repr__(self) -> str:
        return (
            f"<Sizing {self.permits} permits, {self.threads} threads, {self.connections} connections, "
            f"{self.queue} queue places, at most {self.bound:.0f} texts/s>"
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

    Little's Law says rate × latency requests are in flight; *headroom* covers what is slower than the average, and
    the service's *connection_limit* caps the result, and is the result where the *rate* is infinite. *permits*
    overrides the law's figure, under the same cap. The queue holds two fillings of everything in flight: one to seal
    from, one to arrive meanwhile.
    Raises `ConfigurationError` for a number that is not positive and finite.
    """
    for name, value in (("rate", rate), ("latency", latency), ("headroom", headroom)):
        if not (isinstance(value, (int, float)) and value > 0 and (math.isfinite(value) or name == "rate")):
            raise ConfigurationError(f"{name}: must be a positive number, got {value!r}")
    for name, count in (("connection_limit", connection_limit), ("max_batch", max_batch), ("permits", permits)):
        if count is not None:
            check_count(name, count)
    if permits is not None:
        wanted = permits
    else:
        wanted = connection_limit if math.isinf(rate) else math.ceil(round(rate * latency * headroom, 6))
    granted = max(1, min(wanted, connection_limit))
    return Sizing(
        permits=granted,
        threads=granted,
        connections=granted,
        queue=2 * granted * max_batch,
        bound=min(rate, granted / latency) * max_batch,
    )


def field_report(*, cores: int, concurrency: int, per_route: int = 200) -> int:
    """Return the field report's pool size: 2 × cores × concurrency, at most *per_route*.

    Its rule of thumb sizes a pool for many services at once; for one service with a quota `littles_law` needs a tenth.
    """
    if cores < 1 or concurrency < 1 or per_route < 1:
        raise ConfigurationError("cores, concurrency and per_route: must each be at least 1")
    return min(2 * cores * concurrency, per_route)
