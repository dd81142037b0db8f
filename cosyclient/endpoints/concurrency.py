"""The concurrency limit of an endpoint: every attempt is reported to an adaptive limit, which resizes the bulkhead."""

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
    """Classify how attempts end for an `AdaptiveLimit`, and resize the bulkhead by it; does nothing when it is off.

    `Permit` calls `start` when a request is sent and `finish` with the sample when it has ended.
    """

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
        """Return what an attempt that is sent now should carry."""
        return NO_ESTIMATE if self._limit is None else self._limit.estimate(now)

    def start(self, audio: float, now: float, time_limit: float, *, into: list[Sample] | None = None) -> Sample | None:
        """Note that an attempt at *audio* seconds is sent, whose most urgent text has a *time_limit* of so many.

        The sample is appended to *into* before it counts, so that a caller interrupted here can end it.
        """
        if self._limit is None:
            return None
        sample = self._limit.start(audio, now, time_limit, into=into)
        self._resize(self._limit)
        return sample

    def finish(
        self,
        sample: Sample,
        error: CosyError | None,
        now: float,
        *,
        returned: float,
        listener_seconds: float = 0.0,
        by_chance: bool = False,
    ) -> None:
        """Report how the attempt of *sample* ended; again does nothing.

        *returned* seconds of audio were there, *listener_seconds* of its time were not the service's. A refusal
        *by_chance* was not for too high a rate, so it does not lower the limit.
        """
        limit = self._limit
        assert limit is not None  # noqa: S101 - it issued the sample
        if not sample.in_flight:
            return
        sample.listener_seconds = listener_seconds
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
        self._resize(limit)

    def _resize(self, limit: AdaptiveLimit) -> None:
        # Two threads may resize in the wrong order: the next one corrects that.
        if self._bulkhead.limit != limit.limit:
            self._bulkhead.resize(limit.limit)
            if (change := limit.take_change()) is not None:
                self._events.emit(LimitChanged(endpoint=self._endpoint, old=change[0], new=change[1]))

    def __repr__(self) -> str:
        return "<ConcurrencyController off>" if self._limit is None else f"<ConcurrencyController {self._limit!r}>"
