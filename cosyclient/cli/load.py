"""A load ramp: more and more requests at once, until the throughput stops growing or the service slows or fails."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from queue import Empty
from statistics import fmean, quantiles
from typing import TYPE_CHECKING, Any, Final

from cosyclient.clock import Mailbox, SystemClock
from cosyclient.config import AdaptiveConfig, BreakerConfig, ClientConfig, PacingConfig, QueueConfig, RetryConfig
from cosyclient.errors import ConfigurationError, CosyError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cosyclient.client import CosyClient
    from cosyclient.models import Speech

_STEPS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Requests at once, one text each."""
_MAX_TEXTS: Final = 2000
"""Most texts of a ramp: each may be billed."""
_FULL_THROUGHPUT: Final = 0.9
"""Share of the best throughput that counts as full throughput."""
_LATENCY_GROWTH: Final = 4.0
"""Factor over the latency of a single request at which the ramp stops, if throughput has stopped growing too."""
_MAX_FAILURES: Final = 2
"""Failures in one step at which the ramp stops; refusals as too fast (429) do not count."""
_CHANCE_SHARE: Final = 0.05
"""Share of a step's texts up to which refusals come by chance, as from a sick node or a quota that others use, too."""
_REFUSED_IN_A_ROW: Final = 3
"""Refusals in a row, or in a step with a larger share, that are no chance: the load is above the service's quota."""
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}

LOAD_CONFIG: Final = ClientConfig(
    # Nothing may change the load: no retries while it is down, no adaptive limit, no breaker, no bursts, no lower pace
    # after a refusal, no coalescing.
    retry=RetryConfig(wait_for_service=0.0),
    adaptive=AdaptiveConfig(enabled=False),
    breaker=BreakerConfig(minimum_failures=1_000_000),
    pacing=PacingConfig(burst=1, slow_down=False),
    queue=QueueConfig(single_flight=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RampStep:
    """The result of one step: texts a second, and latencies in seconds.

    Of the *failed* texts, *refused* ones were refused as too fast; *above_quota*: more of them than come by chance.
    """

    at_once: int
    texts: int
    per_second: float
    median: float
    p95: float
    failed: int
    refused: int = 0
    above_quota: bool = False


def parse_span(span: str) -> float:
    """Return the seconds of *span*, such as 20, 20s or 2m; raises `ConfigurationError`."""
    number, unit = (span[:-1], _UNITS[span[-1]]) if span[-1:] in _UNITS else (span, 1.0)
    try:
        found = float(number) * unit
    except ValueError:
        found = 0.0
    if not 1.0 <= found <= 3600.0:
        raise ConfigurationError(f"--load: must be a span from 1s to 1h, such as 20s or 2m, got {span!r}")
    return found


class Ramp:
    """Keeps more and more texts of *client* in flight, up to *most*, step by step, for at most *span* seconds."""

    def __init__(self, client: CosyClient, text: str, *, span: float, most: int) -> None:
        self._client = client
        self._text = text
        self._now = SystemClock.now
        self._most = most
        self._ends = self._now() + span
        self._step_span = span / (1 + len([step for step in _STEPS if step <= most]))
        self._finished: Mailbox[tuple[Future[Speech], float]] = Mailbox()
        self._in_flight: dict[Future[Speech], float] = {}
        self._sent = 0
        self._above_quota = False
        self.steps: list[RampStep] = []
        self.stopped = ""

    def run(self) -> None:
        """Ramp up until there is a reason to stop, which ``stopped`` names; then cancel all texts."""
        for at_once in (step for step in _STEPS if step <= self._most):
            step = self._step(at_once)
            if step is not None:
                self.steps.append(step)
            if self.stopped or (reason := self._reason_to_stop()):
                self.stopped = self.stopped or reason
                break
        else:
            self.stopped = f"{self._most} at once is the limit (--connections)"
        for future in list(self._in_flight):
            future.cancel()

    def report(self) -> dict[str, Any]:
        """Return the results of all steps."""
        return {"stopped": self.stopped, "texts": self._sent, "steps": [asdict(step) for step in self.steps]}

    def advice(self) -> dict[str, Any]:
        """Return the smallest concurrency with full throughput; and the rate, if the service refused a higher one."""
        good = [step for step in self.steps if step.failed == step.refused and not step.above_quota]
        if not good:
            return {}
        best = max(step.per_second for step in good)
        knee = next(step for step in good if step.per_second >= _FULL_THROUGHPUT * best)
        found: dict[str, Any] = {"concurrency": knee.at_once}
        if self._above_quota:
            # The highest rate that it accepted: every request had one text.
            found["requests_per_second"] = best
        return found

    def _step(self, at_once: int) -> RampStep | None:
        """Return the result of *at_once* texts in flight, of those sent after the step was filled; None if too few."""
        deadline = min(self._ends, self._now() + self._step_span)
        finished, failed, refused, in_a_row = 0, 0, 0, 0
        above_quota = False
        latencies: list[float] = []
        self._fill(at_once)
        while self._in_flight and not self.stopped:
            if (left := self._ends - self._now()) <= 0:
                self.stopped = "the time was over"
                break
            try:
                future, at = self._finished.get(left)
            except Empty:
                continue
            began = self._in_flight.pop(future)
            error = future.exception()
            finished += 1
            in_a_row = in_a_row + 1 if isinstance(error, CosyError) and error.throttled else 0
            if error is not None:
                failed += 1
                refused += bool(in_a_row)
                above_quota = in_a_row >= _REFUSED_IN_A_ROW
                if above_quota or failed - refused >= _MAX_FAILURES:
                    self.stopped = f"at {at_once} at once it refused or failed: {type(error).__name__}: {error}"
            if finished > at_once and error is None:
                latencies.append(at - began)
            if at >= deadline and len(latencies) >= min(2 * at_once, 8):
                break
            self._fill(at_once)
        if not self.stopped and refused >= _REFUSED_IN_A_ROW and refused > _CHANCE_SHARE * finished:
            above_quota = True
            self.stopped = f"at {at_once} at once it refused {refused} of {finished} texts as too fast"
        self._above_quota = above_quota
        if len(latencies) < 2:
            return None
        cuts = quantiles(latencies, n=20, method="inclusive")
        return RampStep(
            at_once=at_once,
            texts=len(latencies),
            # By Little's Law; counting finished texts would vary more, where several finish together.
            per_second=at_once / max(fmean(latencies), 1e-6),
            median=cuts[9],
            p95=cuts[18],
            failed=failed,
            refused=refused,
            above_quota=above_quota,
        )

    def _fill(self, at_once: int) -> None:
        while len(self._in_flight) < at_once and not self.stopped:
            if self._sent >= _MAX_TEXTS:
                self.stopped = f"{_MAX_TEXTS} texts were sent"
                return
            self._sent += 1
            # Every text differs: a service with a cache would seem faster than it is.
            future = self._client.submit(f"{self._text} {self._sent}")
            self._in_flight[future] = self._now()
            future.add_done_callback(lambda done: self._finished.put((done, self._now())))

    def _reason_to_stop(self) -> str:
        """Return why a further step would show nothing new, or ""."""
        if len(self.steps) < 3:
            return ""
        one, *_, before, last = self.steps
        best = max(step.per_second for step in self.steps[:-1])
        flat = max(before.per_second, last.per_second) < best / _FULL_THROUGHPUT
        grown = last.median / one.median
        if flat and grown > _LATENCY_GROWTH:
            return f"{last.at_once} at once bring no higher throughput, and each takes {grown:.1f} times as long"
        return ""
