"""One service instance: its limiter, bulkhead and breaker, the permits to send to it, and counts of what came back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Self

from cosyclient.endpoints.concurrency import ConcurrencyController
from cosyclient.endpoints.stats import EndpointStats
from cosyclient.errors import ClientClosed, CosyError, DeadlineExceeded, Rejected
from cosyclient.events import Events, RateChanged
from cosyclient.policies.breaker import CLOSED, BreakerPermit
from cosyclient.util.redaction import redact_error, single_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cosyclient.clock import Clock, Deadline, Flag
    from cosyclient.config import AdaptiveConfig
    from cosyclient.config.resolve import Secret
    from cosyclient.policies.adaptive import Sample
    from cosyclient.policies.base import Estimate
    from cosyclient.policies.breaker import Breaker
    from cosyclient.policies.bulkhead import Bulkhead
    from cosyclient.policies.ratelimit.limiter import RateLimiter, Reservation
    from cosyclient.protocols.base import Quota
    from cosyclient.transports.base import Transport

_MAX_CAUSE: Final = 300
"""Characters of the error that opened the breaker, as `CircuitOpen` quotes it."""


class Permit:
    """Hold the right to send one request, once `Endpoint.acquire` has filled it in.

    Call `start` when the request is sent. Give the permit back with `finish` or `cancel`, whatever happens, and on any
    exception once more: an interrupt may have come in between, and what is back is not given back again. As a context
    manager it cancels on the way out; ``with permit, permit:`` does so twice.
    """

    __slots__ = (
        "_breaker_permit",
        "_finished",
        "_released",
        "_reservation",
        "_samples",
        "_started",
        "endpoint",
        "expected",
        "read_timeout",
        "sent",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._reservation: Reservation | None = None
        self._breaker_permit = BreakerPermit(endpoint.breaker)
        self._finished = self._released = False
        self._started, self.sent = 0.0, False
        self._samples: list[Sample] = []
        self.expected = 0.0
        """Seconds that the audio in flight should take, its own included, as far as is known."""
        self.read_timeout = 0.0
        """Seconds that every read of the reply should be given at least."""

    def start(self, now: float, *, retry: bool, audio: float, time_limit: float) -> None:
        """Note that a request for *audio* seconds is sent, whose most urgent text has a *time_limit* of so many."""
        endpoint = self.endpoint
        self._started, self.sent = now, True
        endpoint.stats.record_start(now, retry=retry)
        # A request without audio is no work for the service, and its latency says nothing of it.
        if audio and (sample := endpoint.concurrency.start(audio, now, time_limit, into=self._samples)) is not None:
            self.expected, self.read_timeout = sample.expected, sample.read_timeout

    def finish(
        self, error: CosyError | None, now: float, *, returned: float = 0.0, listener_seconds: float = 0.0
    ) -> None:
        """Report how the attempt ended to the policies and the statistics, and give the permit back.

        *returned* of the seconds of audio asked for had come by then; for *listener_seconds* of its time the
        service waited for the listener.
        """
        if self._finished:
            return
        self._finished = True
        endpoint, reservation = self.endpoint, self._reservation
        assert reservation is not None  # noqa: S101 - nothing is sent without
        try:
            latency = now - listener_seconds - self._started
            endpoint.stats.record_finish(latency, error, now, answered=error is None or returned > 0)
            by_chance = False
            if error is None:
                endpoint.limiter.record_success(reservation)
            elif error.throttled:
                by_chance = endpoint.record_throttled(error, now, reservation)
            for sample in self._samples:
                endpoint.concurrency.finish(
                    sample, error, now, returned=returned, listener_seconds=listener_seconds, by_chance=by_chance
                )
            if error is None:
                self._breaker_permit.record_success(now)
            elif error.endpoint_fault:
                cause = single_line(f"{type(error).__name__}: {error}", _MAX_CAUSE)
                self._breaker_permit.record_failure(now, error.retry_after, cause=cause)
        finally:
            self._release()

    def cancel(self) -> None:
        """Give the permit back: unused, or as a cancelled attempt if a request was sent with it."""
        if self._released:
            return
        if self.sent and not self._finished:
            self.finish(Rejected("cancelled", sent=True), self.endpoint.now())
        else:
            self._release()

    def _release(self) -> None:
        """Give back what is still held."""
        endpoint = self.endpoint
        try:
            if self._reservation is not None and not self.sent:
                endpoint.limiter.cancel(self._reservation)
            for sample in self._samples:
                if sample.in_flight:
                    endpoint.concurrency.finish(sample, Rejected("cancelled", sent=True), endpoint.now(), returned=0.0)
            self._breaker_permit.release()
        finally:
            endpoint.bulkhead.release(self)
        # Last: what was interrupted before is done again.
        self._released = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


class Endpoint:
    """Issue the permits to send to one service instance, and report its changes of rate to listeners.

    The order is bulkhead, limiter, breaker. The limiter comes last of the two that wait, because the instant it
    reserves is worth nothing after a wait for something else (reservations saved up behind a full bulkhead would be
    sent together and exceed the quota). The breaker is checked first, so that no caller waits for a rejection, and
    acquired last.
    """

    def __init__(
        self,
        name: str,
        transport: Transport,
        *,
        limiter: RateLimiter,
        bulkhead: Bulkhead,
        breaker: Breaker,
        adaptive: AdaptiveConfig,
        latency_floor: float,
        clock: Clock,
        events: Events,
        max_pause: float,
        slow_down: bool = True,
        secret: Secret | None = None,
    ) -> None:
        self.name = name
        self._secret = secret
        self.transport = transport
        self.limiter = limiter
        self.bulkhead = bulkhead
        self.breaker = breaker
        self.concurrency = ConcurrencyController(
            adaptive, bulkhead, latency_floor=latency_floor, endpoint=name, events=events
        )
        self.stats = EndpointStats()
        self._clock = clock
        self._events = events
        self._max_pause = max_pause
        self._slow_down = slow_down
        self._lock = threading.Lock()
        self._reported_rate: float | None = None  # the lowered rate last reported; guarded by _lock

    def permit(self) -> Permit:
        """Return a permit to be filled in by `acquire`, and to be cancelled whatever happens."""
        return Permit(self)

    def acquire(self, permit: Permit, deadline: Deadline, wake: Flag) -> None:
        """Fill *permit* in, waiting until *deadline* at most, or until *wake* is set because the client closes.

        Raises `CircuitOpen`, `BulkheadFull`, `RateLimited`, `DeadlineExceeded` or `ClientClosed`. Whatever it raises,
        *permit* is to be cancelled.
        """
        self.breaker.check(self._clock.now())
        self.bulkhead.acquire(deadline, permit)
        self._pace(permit, deadline, wake)
        self.breaker.acquire(self._clock.now(), permit._breaker_permit)

    def try_acquire(self, permit: Permit) -> bool:
        """Fill *permit* in if that needs no wait and the breaker is closed; return whether it is.

        In any case *permit* is to be cancelled unless a request is sent with it.
        """
        now = self._clock.now()
        if self.breaker.state != CLOSED or not self.bulkhead.try_acquire(permit):
            return False
        try:
            permit._reservation = self.limiter.reserve(now, max_wait=0.0)
            if self._reported_rate is not None and not self.limiter.slowed:
                self._report_recovery()
            self.breaker.acquire(now, permit._breaker_permit)
        except Rejected:
            return False
        return True

    def now(self) -> float:
        """Return the instant on the clock that permits use."""
        return self._clock.now()

    def estimate(self) -> Estimate:
        """Return what an attempt that is sent now should carry."""
        return self.concurrency.estimate(self._clock.now())

    def redact(self, error: CosyError | None, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Take the key and the values of *headers* out of *error*: some services quote what they refuse."""
        own = [] if self._secret is None else [self._secret.reveal()]
        # "Bearer …" may be quoted without its first word.
        redact_error(error, [*own, *(part for _, value in headers for part in (value, value.rpartition(" ")[2]))])

    def silent_since(self, instant: float) -> bool:
        """Return whether no attempt has brought anything at all since *instant*."""
        return self.stats.last_answer_at <= instant

    def record_throttled(self, error: CosyError, now: float, reservation: Reservation) -> bool:
        """Slow down after the refusal of what was sent with *reservation*, and pause if the service asked for it.

        Return whether it was refused by chance, as far as the limiter can tell, or *slow_down* is off: then neither is
        done, and only the call that was refused waits.
        """
        if not self._slow_down:
            return True
        old = self.limiter.rate
        verdict = self.limiter.record_throttled(
            now, reservation, accepted=self.stats.accepted, sent=self.stats.rate(now)
        )
        if verdict == "chance":
            return True
        pause = 0.0
        if error.retry_after is not None:
            pause = min(error.retry_after, self._max_pause)
            self.limiter.pause(now, pause)
        new = self.limiter.rate
        if new != old or pause:
            with self._lock:
                self._reported_rate = new if self.limiter.slowed else None
            self._events.emit(RateChanged(endpoint=self.name, old=old, new=new, hold=pause))
        return False

    def apply_quota(self, quota: Quota) -> None:
        """Keep to the quota that the service reports, where it is lower than the configured one."""
        old = self.limiter.rate
        self.limiter.apply_quota(quota.limit, quota.window)
        if (new := self.limiter.rate) != old:
            self._events.emit(RateChanged(endpoint=self.name, old=old, new=new, hold=0.0))

    def _pace(self, permit: Permit, deadline: Deadline, wake: Flag) -> None:
        now = self._clock.now()
        if now >= deadline.at:
            raise DeadlineExceeded("the deadline passed before this text's turn to be sent came")
        reservation = permit._reservation = self.limiter.reserve(now, max_wait=deadline.at - now)
        if self._reported_rate is not None and not self.limiter.slowed:
            self._report_recovery()
        while (delay := reservation.delay(now)) > 0:
            if self._clock.sleep(delay, wake):
                raise ClientClosed("the client was closed while this text waited for its turn")
            now = self._clock.now()
            reservation = permit._reservation = self.limiter.recheck(reservation, now, max_wait=deadline.at - now)

    def _report_recovery(self) -> None:
        with self._lock:
            old, self._reported_rate = self._reported_rate, None
        if old is not None:
            self._events.emit(RateChanged(endpoint=self.name, old=old, new=self.limiter.rate, hold=0.0))

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.breaker!r} {self.limiter!r} {self.bulkhead!r}>"
