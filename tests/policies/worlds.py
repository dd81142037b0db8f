"""Services in fake time: slots that serve one attempt each, a network that does not care how many come, and GPUs."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cosyclient.config import AdaptiveConfig
from cosyclient.policies.adaptive import AdaptiveLimit

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from cosyclient.policies.adaptive import Passage


class Service(Protocol):
    """Say when an attempt will be answered."""

    def answer_at(self, now: float, seconds: float) -> float:
        """Return the instant at which an attempt for *seconds* of audio that leaves *now* is answered."""


class Slots:
    """Serve *count* attempts at once, first come, first served, each in a time in proportion to its audio."""

    def __init__(self, count: int, per_second: float = 0.25, fixed: float = 0.0) -> None:
        self._free_at = [0.0] * count
        self._per_second = per_second
        self._fixed = fixed

    def answer_at(self, now: float, seconds: float) -> float:
        end = max(now, self._free_at[0]) + seconds * self._per_second
        heapq.heapreplace(self._free_at, end)
        return end + self._fixed

    def resize(self, count: int, now: float) -> None:
        """Go on with another number of slots; what is queued is finished as promised."""
        kept = heapq.nlargest(count, self._free_at)
        self._free_at = kept + [now] * (count - len(kept))
        heapq.heapify(self._free_at)


class Network:
    """Answer after a latency that neither the audio nor the other attempts change."""

    def __init__(self, latency: Callable[[], float]) -> None:
        self.latency = latency

    def answer_at(self, now: float, seconds: float) -> float:
        return now + self.latency()


@dataclass
class Course:
    """Hold what came of a run: (instant, limit, attempts in flight) ten times a second, and the audio that came."""

    looks: list[tuple[float, int, int]] = field(default_factory=list)
    answered: list[tuple[float, float]] = field(default_factory=list)

    def limits(self, since: float, until: float = float("inf")) -> list[int]:
        """Return the limits looked at between two instants."""
        return [limit for at, limit, _ in self.looks if since <= at < until]

    def mean(self, since: float, until: float = float("inf")) -> float:
        """Return their mean."""
        limits = self.limits(since, until)
        return sum(limits) / len(limits)

    def audio(self, since: float, until: float) -> float:
        """Return the seconds of audio answered between two instants."""
        return sum(seconds for at, seconds in self.answered if since <= at < until)


def run(
    service: Service,
    audio: Callable[[], float],
    until: float,
    *,
    most: int = 40,
    demand: int = 10**9,
    events: Sequence[tuple[float, Callable[[float], object]]] = (),
    config: AdaptiveConfig | None = None,
) -> Course:
    """Keep as many attempts in flight as the limit allows, and *demand*, and return the course."""
    limit = AdaptiveLimit(config or AdaptiveConfig(), most=most)
    course, coming = Course(), deque(events)
    pending: list[tuple[float, int, Passage]] = []
    now, look, number = 0.0, 0.0, 0
    while True:
        while len(pending) < min(limit.limit, demand):
            seconds, number = audio(), number + 1
            heapq.heappush(pending, (service.answer_at(now, seconds), number, limit.leave(seconds, now)))
        then = min(pending[0][0], coming[0][0] if coming else until)
        while look < min(then, until):
            course.looks.append((look, limit.limit, len(pending)))
            look += 0.1
        if then >= until:
            return course
        now = then
        if coming and coming[0][0] == now:
            coming.popleft()[1](now)
            continue
        _, _, passage = heapq.heappop(pending)
        limit.arrive(passage, now)
        course.answered.append((now, passage.seconds))


def exponential(dice: random.Random, mean: float = 4.0) -> Callable[[], float]:
    """Return audio lengths that make the slots an M/M/C queue."""
    return lambda: dice.expovariate(1 / mean)


def batches(dice: random.Random) -> Callable[[], float]:
    """Return the audio of batches of 1 to 64 texts of 4 s."""
    return lambda: 4.0 * dice.randint(1, 64)
