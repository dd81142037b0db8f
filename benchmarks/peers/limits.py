"""Limit what is in flight as Netflix's concurrency-limits 0.5.4 does, under the same client: Gradient2 and AIMD.

Formulas and defaults are those of ``Gradient2Limit.java`` and ``AIMDLimit.java``, except for the bounds: both
start at the pool's size, as ours does, and may go down to 1. The round-trip time is what the library takes: raw.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol

from cosyclient.errors import CosyError, Rejected
from cosyclient.policies.adaptive import Sample
from cosyclient.policies.base import NO_ESTIMATE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cosyclient import CosyClient
    from cosyclient.policies.base import Estimate
    from cosyclient.policies.bulkhead import Bulkhead


class Limit(Protocol):
    """Adjust a limit to how attempts end."""

    value: float

    def update(self, rtt: float, in_flight: int, *, dropped: bool) -> None:
        """Take one attempt into account: its seconds, how many were in flight when it started, whether it failed."""


class Aimd:
    """Multiply by 0.9 when an attempt is dropped or takes over 5 s, else add 1 where at least half is in use."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.value = float(most)

    def update(self, rtt: float, in_flight: int, *, dropped: bool) -> None:
        if dropped or rtt > 5.0:
            self.value = max(1.0, 0.9 * self.value)
        elif 2 * in_flight >= self.value:
            self.value = min(float(self._most), self.value + 1.0)


class Gradient2:
    """Follow the ratio of the long-term to the newest round-trip time, smoothed, with a queue of four allowed."""

    _TOLERANCE: Final = 1.5
    _QUEUE: Final = 4.0
    _SMOOTHING: Final = 0.2
    _WINDOW: Final = 600

    def __init__(self, most: int) -> None:
        self._most = most
        self.value = float(most)
        self._long = 0.0
        self._count = 0

    def update(self, rtt: float, in_flight: int, *, dropped: bool) -> None:  # noqa: ARG002 - it looks at time alone
        # Ten plain means first, as ExpAvgMeasurement warms up.
        self._count += 1
        weight = 1.0 / self._count if self._count <= 10 else 2.0 / (self._WINDOW + 1)
        self._long += weight * (rtt - self._long)
        if self._long / rtt > 2.0:
            self._long *= 0.95
        if in_flight < self.value / 2:
            return
        gradient = max(0.5, min(1.0, self._TOLERANCE * self._long / rtt))
        wanted = self.value * gradient + self._QUEUE
        self.value = max(1.0, min(float(self._most), (1 - self._SMOOTHING) * self.value + self._SMOOTHING * wanted))


LIMITS: Final[Mapping[str, Callable[[int], Limit]]] = {"gradient": Gradient2, "aimd": Aimd}
"""The limits by name, each made with the most attempts that may be in flight."""


class Controller:
    """Replace the client's own controller, and resize the bulkhead by another limit."""

    def __init__(self, limit: Limit, bulkhead: Bulkhead) -> None:
        self._limit = limit
        self._bulkhead = bulkhead
        self._lock = threading.Lock()
        self._in_flight = 0  # guarded by _lock, as the limit is

    overloaded = False
    """These limits have no such state, and nothing is hedged here."""

    def estimate(self, _: float) -> Estimate:
        """Return no estimate: these limits say how many, not how long."""
        return NO_ESTIMATE

    def start(self, audio: float, now: float, span: float, *, into: list[Sample]) -> Sample:
        """Record that an attempt starts."""
        with self._lock:
            self._in_flight += 1
            sample = Sample(audio, float(self._in_flight), now, span)
            sample.in_flight = True
        into.append(sample)
        return sample

    def finish(self, sample: Sample, error: CosyError | None, now: float, **_: object) -> None:
        """Take its end into account; what callers cancelled is ignored, as the library's ``onIgnore`` does."""
        with self._lock:
            if not sample.in_flight:
                return
            sample.in_flight = False
            self._in_flight -= 1
            if not isinstance(error, Rejected):
                rtt = max(1e-6, now - sample.started)
                self._limit.update(rtt, int(sample.other_audio), dropped=error is not None)
            limit = max(1, int(self._limit.value))
        if limit != self._bulkhead.limit:
            self._bulkhead.resize(limit)


def install(client: CosyClient, name: str) -> None:
    """Have *client* limited by *name* from now on; call this before its first use."""
    endpoint = client._shared.pipeline()._endpoint
    endpoint.concurrency = Controller(LIMITS[name](endpoint.bulkhead.limit), endpoint.bulkhead)  # type: ignore[assignment]
