"""An endpoint's attempts in flight, made to follow what becomes of them: the limit told, the bulkhead resized."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosyclient.errors import AttemptTimeout, DeadlineExceeded, Rejected
from cosyclient.events import LimitChanged
from cosyclient.policies.adaptive import AdaptiveLimit
from cosyclient.policies.base import NO_ESTIMATE

if TYPE_CHECKING:
    from cosyclient.config import AdaptiveConfig
    from cosyclient.errors import CosyError
    from cosyclient.events import Events
    from cosyclient.policies.adaptive import Sample
    from cosyclient.policies.base import Estimate
    from cosyclient.policies.bulkhead import Bulkhead


class ConcurrencyController:
    """Tell the limit of every attempt, and resize the bulkhead; does nothing when it is off."""

    def __init__(
        self, config: AdaptiveConfig, bulkhead: Bulkhead, *, latency_floor: float, endpoint: str, events: Events
    ) -> None:
        self._bulkhead = bulkhead
        self._endpoint = endpoint
        self._events = events
        self._limit = (
            AdaptiveLimit(config, max_limit=bulkhead.limit, latency_floor=latency_floor) if config.enabled else None
        )

    @property
    def overloaded(self) -> bool:
        """Return whether there is evidence that the service has more to do than it can."""
        return self._limit is not None and self._limit.overloaded

    def estimate(self, now: float) -> Estimate:
        """Return what an attempt that leaves now should know."""
        return NO_ESTIMATE if self._limit is None else self._limit.estimate(now)

    def start(self, audio: float, now: float, time_limit: float, *, into: list[Sample] | None = None) -> Sample | None:
        """Note that an attempt at *audio* seconds leaves, whose most impatient text was *given* so many in all.

        The sample is put *into* a list before it counts.
        """
        if self._limit is None:
            return None
        sample = self._limit.start(audio, now, time_limit, into=into)
        self._follow(self._limit)
        return sample

    def finish(
        self,
        sample: Sample,
        error: CosyError | None,
        now: float,
        *,
        returned: float,
        idle: float = 0.0,
        by_chance: bool = False,
    ) -> None:
        """Learn from how it ended: *returned* seconds of audio were there, *idle* seconds were not the service's.

        A refusal *by_chance* was not for asking too much. One that is not in flight (any more) is left as it is.
        """
        limit = self._limit
        assert limit is not None  # noqa: S101 - it issued the sample
        if not sample.in_flight:
            return
        sample.idle = idle
        if error is None:
            limit.record_success(sample, now, returned)
        elif error.throttled and by_chance:
            limit.record_failure(sample, now, returned)
        elif error.throttled or (error.retry_after is not None and not isinstance(error, Rejected)):
            limit.record_throttled(sample, now, returned)
        elif isinstance(error, (DeadlineExceeded, AttemptTimeout)):
            limit.record_timeout(sample, now, returned)
        elif isinstance(error, Rejected):
            limit.record_cancelled(sample, now, returned)
        else:
            limit.record_failure(sample, now, returned)
        self._follow(limit)

    def _follow(self, limit: AdaptiveLimit) -> None:
        # Two threads may get here in the wrong order: the next one puts it right.
        if self._bulkhead.limit != limit.limit:
            self._bulkhead.resize(limit.limit)
            if (moved := limit.take_change()) is not None:
                self._events.emit(LimitChanged(endpoint=self._endpoint, old=moved[0], new=moved[1]))

    def __repr__(self) -> str:
        return "<ConcurrencyController off>" if self._limit is None else f"<ConcurrencyController {self._limit!r}>"
