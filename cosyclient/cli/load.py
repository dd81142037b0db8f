"""Find out what a service can do: more and more texts at once, until more bring nothing or the service suffers."""

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
"""Texts at once, one a request."""
_MOST_REQUESTS: Final = 2000
"""Texts that are asked for at most: each may be billed."""
_ENOUGH: Final = 0.9
"""Share of the best throughput that counts as all there is to have."""
_GROWN: Final = 4.0
"""Factor on the latency of a lone text beyond which a service is not asked for more."""
_FAILED: Final = 2
"""Failures at which it suffers, and is left alone."""
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}

LOAD_CONFIG: Final = ClientConfig(
    # Nothing is to hide what the service does.
    retry=RetryConfig(wait_for_service=0.0),
    adaptive=AdaptiveConfig(enabled=False),
    breaker=BreakerConfig(minimum_failures=1_000_000),
    pacing=PacingConfig(burst=1),
    queue=QueueConfig(single_flight=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Hold what so many texts at once brought: texts a second, and the seconds one took."""

    at_once: int
    texts: int
    per_second: float
    median: float
    p95: float
    failed: int


def seconds_of(span: str) -> float:
    """Return the seconds of *span*, as 20, 20s or 2m."""
    number, unit = (span[:-1], _UNITS[span[-1]]) if span[-1:] in _UNITS else (span, 1.0)
    try:
        found = float(number) * unit
    except ValueError:
        found = 0.0
    if not 1.0 <= found <= 3600.0:
        raise ConfigurationError(f"--load: must be a span from 1s to 1h, as 20s or 2m, got {span!r}")
    return found


class Ramp:
    """Keep so many texts of *client* under way, step by step, for *span* seconds at most."""

    def __init__(self, client: CosyClient, text: str, *, span: float, most: int) -> None:
        self._client = client
        self._text = text
        self._now = SystemClock.now
        self._most = most
        self._ends = self._now() + span
        self._patience = span / (1 + len([step for step in _STEPS if step <= most]))
        self._finished: Mailbox[tuple[Future[Speech], float]] = Mailbox()
        self._under_way: dict[Future[Speech], float] = {}
        self._sent = 0
        self._trouble: CosyError | None = None
        self.steps: list[Step] = []
        self.stopped = ""

    def run(self) -> None:
        """Ramp up until there is a reason to stop, which ``stopped`` names; all texts are taken back then."""
        for at_once in (step for step in _STEPS if step <= self._most):
            step = self._step(at_once)
            if step is not None:
                self.steps.append(step)
            if self.stopped or (reason := self._reason()):
                self.stopped = self.stopped or reason
                break
        else:
            self.stopped = f"{self._most} at once are all that it may be asked for (--connections)"
        for future in list(self._under_way):
            future.cancel()

    def report(self) -> dict[str, Any]:
        """Return what was seen, and what to configure for it."""
        return {"stopped": self.stopped, "texts": self._sent, "steps": [asdict(step) for step in self.steps]}

    def advice(self) -> dict[str, Any]:
        """Return the concurrency at which the service does all it can, and what it did then."""
        good = [step for step in self.steps if not step.failed] or self.steps
        if not good:
            return {}
        best = max(step.per_second for step in good)
        knee = next(step for step in good if step.per_second >= _ENOUGH * best)
        found: dict[str, Any] = {"concurrency": knee.at_once, "texts_per_second": knee.per_second}
        if self._trouble is not None and self._trouble.throttled:
            # What it granted before it refused; its documented quota is better, where there is one.
            found["requests_per_second"] = best
        return found

    def _step(self, at_once: int) -> Step | None:
        """Return what *at_once* brought, measured once all that is under way began in this step."""
        deadline = min(self._ends, self._now() + self._patience)
        settled, failed = 0, 0
        latencies: list[float] = []
        self._fill(at_once)
        while self._under_way and not self.stopped:
            if (left := self._ends - self._now()) <= 0:
                self.stopped = "its time was over"
                break
            try:
                future, at = self._finished.get(left)
            except Empty:
                continue
            began = self._under_way.pop(future)
            error = future.exception()
            if error is not None:
                failed += 1
                self._trouble = error if isinstance(error, CosyError) else self._trouble
                if failed >= _FAILED or (isinstance(error, CosyError) and error.throttled):
                    self.stopped = f"at {at_once} at once it refused or failed: {type(error).__name__}: {error}"
            settled += 1
            if settled > at_once and error is None:
                latencies.append(at - began)
            if at >= deadline and len(latencies) >= min(2 * at_once, 8):
                break
            self._fill(at_once)
        if len(latencies) < 2:
            return None
        cuts = quantiles(latencies, n=20, method="inclusive")
        return Step(
            at_once=at_once,
            texts=len(latencies),
            # Little's Law once more: steadier than to count what came in a moment, where several come together.
            per_second=at_once / max(fmean(latencies), 1e-6),
            median=cuts[9],
            p95=cuts[18],
            failed=failed,
        )

    def _fill(self, at_once: int) -> None:
        while len(self._under_way) < at_once and not self.stopped:
            if self._sent >= _MOST_REQUESTS:
                self.stopped = f"{_MOST_REQUESTS} texts were asked for"
                return
            self._sent += 1
            # A service that remembers texts would seem faster than it is.
            future = self._client.submit(f"{self._text} {self._sent}")
            self._under_way[future] = self._now()
            future.add_done_callback(lambda done: self._finished.put((done, self._now())))

    def _reason(self) -> str:
        """Return why more at once would tell nothing, if that is so."""
        if len(self.steps) < 3:
            return ""
        one, *_, before, last = self.steps
        best = max(step.per_second for step in self.steps[:-1])
        flat = max(before.per_second, last.per_second) < best / _ENOUGH
        grown = last.median / one.median
        if flat and grown > _GROWN:
            return f"{last.at_once} at once bring no more texts, and each takes {grown:.1f} times as long"
        return ""
