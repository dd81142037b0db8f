"""An endpoint's attempts in flight, made to follow what becomes of them: limit and forecast together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cosyclient.batch import NOTHING_KNOWN, Prospect
from cosyclient.errors import AttemptTimeout, CosyError, DeadlineExceeded, Rejected, ServiceError
from cosyclient.events import Events, LimitChanged
from cosyclient.policies.adaptive import AdaptiveLimit, Passage
from cosyclient.policies.forecast import Departure, Forecast

if TYPE_CHECKING:
    from cosyclient.config import AdaptiveConfig
    from cosyclient.policies.bulkhead import Bulkhead

_OVERLOADED: Final = frozenset({503, 504, 529})
"""Statuses by which a service says that it has more to do than it can."""


class Ticket(NamedTuple):
    """Stand for one attempt with both policies; exactly one `Adaptation.settle` ends it."""

    passage: Passage
    departure: Departure


class Adaptation:
    """Tell limit and forecast of every attempt, and resize the bulkhead; does nothing when it is off."""

    def __init__(
        self, config: AdaptiveConfig, bulkhead: Bulkhead, *, calm: float, endpoint: str, events: Events
    ) -> None:
        self._bulkhead = bulkhead
        self._endpoint = endpoint
        self._events = events
        self._forecast = Forecast(config)
        self._limit = AdaptiveLimit(config, most=bulkhead.limit, calm=calm) if config.enabled else None
        if self._limit is not None:
            bulkhead.resize(self._limit.limit)

    def prospect(self, now: float) -> Prospect:
        """Return what an attempt that leaves now may expect."""
        return NOTHING_KNOWN if self._limit is None else self._forecast.prospect(now, granted=self._bulkhead.in_use)

    def start(self, seconds: float, now: float) -> Ticket | None:
        """Note that an attempt at *seconds* of audio leaves."""
        if self._limit is None:
            return None
        return Ticket(self._limit.leave(seconds, now), self._forecast.leave(seconds, now))

    def settle(self, ticket: Ticket, error: CosyError | None, now: float, *, returned: float) -> None:
        """Learn from how it ended, with *returned* seconds of its audio there."""
        limit = self._limit
        assert limit is not None  # noqa: S101 - it issued the ticket
        if error is None:
            self._forecast.arrive(ticket.departure, now)
            moved = limit.arrive(ticket.passage, now)
        else:
            abandoned = isinstance(error, (DeadlineExceeded, Rejected, AttemptTimeout))
            stuck = self._forecast.lose(ticket.departure, returned, now, abandoned=abandoned)
            back_off = limit.collapse if stuck else limit.congest if _congested(error) else limit.lose
            moved = back_off(ticket.passage, now)
        # Two threads may get here in the wrong order: the next one puts it right.
        if self._bulkhead.limit != limit.limit:
            self._bulkhead.resize(limit.limit)
        if moved is not None:
            self._events.emit(LimitChanged(endpoint=self._endpoint, old=moved[0], new=moved[1]))

    def __repr__(self) -> str:
        return "<Adaptation off>" if self._limit is None else f"<Adaptation {self._limit!r} {self._forecast!r}>"


def _congested(error: CosyError) -> bool:
    overloaded = isinstance(error, ServiceError) and error.status in _OVERLOADED
    return error.throttled or overloaded or isinstance(error, AttemptTimeout)
