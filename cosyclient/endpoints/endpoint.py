"""One service instance: its limiter, bulkhead and breaker, the permits to send to it, and counts of what came back."""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from cosyclient.endpoints.concurrency import ConcurrencyController
from cosyclient.errors import ClientClosed, CosyError, DeadlineExceeded, Rejected
from cosyclient.events import Events, RateChanged
from cosyclient.policies.breaker import CLOSED, BreakerPermit
from cosyclient.util.redaction import redact_error

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

_WINDOW: Final = 10.0
"""Seconds over which the ledger measures the rate."""
_SMOOTHING: Final = 0.1
"""Weight of the newest latency in the ledger's moving average."""


class EndpointStats:
    """Count what an endpoint was asked and how it answered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock, like all below.
        self._sent: deque[float] = deque()
        self.executions = 0
        self.retries = 0
        self.failures = 0
        self.throttled = 0
        self.latency = 0.0
        self.first_sent_at: float | None = None
        self.last_answer_at = -math.inf

    def record_start(self, now: float, *, retry: bool) -> None:
        """Note that a request leaves."""
        with self._lock:
            self.executions += 1
            self.retries += retry
            self.first_sent_at = now if self.first_sent_at is None else self.first_sent_at
            self._sent.append(now)
            self._forget_locked(now)

    def record_finish(self, latency: float, error: CosyError | None, now: float, *, answered: bool) -> None:
        """Note how it came back after *latency* seconds, and whether anything of it was *answered*."""
        with self._lock:
            self.latency += (latency - self.latency) * (_SMOOTHING if self.latency else 1.0)
            if answered:
                self.last_answer_at = now
            if error is not None:
                self.failures += 1
                self.throttled += error.throttled

    @property
    def accepted(self) -> int:
        """Return the requests that left and were not refused as too fast, those still on their way included."""
        with self._lock:
            return self.executions - self.throttled

    def rate(self, now: float) -> float:
        """Return the requests per second over the last ten seconds, or since the first if that is less."""
        with self._lock:
            self._forget_locked(now)
            span = 0.0 if self.first_sent_at is None else min(_WINDOW, now - self.first_sent_at)
            return len(self._sent) / max(span, 1.0)

    def _forget_locked(self, now: float) -> None:
        while self._sent and self._sent[0] <= now - _WINDOW:
            self._sent.popleft()


class Permit:
    """Hold the right to send one request, once `Endpoint.acquire` has filled it in.

    Give it back with `settle` or `cancel`, whatever happens, and on any exception once more: an interrupt may have come
    in between, and what is back is not given back again. As a context manager it cancels on the way out; ``with permit,
    permit:`` does so twice.
    """

    __slots__ = (
        "_breaker_permit",
        "_left",
        "_reservation",
        "_samples",
        "_settled",
        "_started",
        "endpoint",
        "expected",
        "read_timeout",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._reservation: Reservation | None = None
        self._breaker_permit = BreakerPermit(endpoint.breaker)
        self._settled = False
        self._started, self._left = 0.0, False
        self._samples: list[Sample] = []
        self.expected = 0.0
        """Seconds that the audio in flight should take, itself included, as far as is known."""
        self.read_timeout = 0.0
        """Seconds that every read of the reply should be given at least."""

    def start(self, now: float, *, retry: bool, audio: float, time_limit: float) -> None:
        """Note that a request for *audio* seconds leaves now, whose most impatient text was *given* so many in all."""
        endpoint = self.endpoint
        self._started, self._left = now, True
        endpoint.stats.record_start(now, retry=retry)
        # What brings no audio is no work, and tells nothing of it.
        if audio and (sample := endpoint.concurrency.start(audio, now, time_limit, into=self._samples)) is not None:
            self.expected, self.read_timeout = sample.expected, sample.read_timeout

    @property
    def sent(self) -> bool:
        """Return whether a request has left with it."""
        return self._left

    def finish(self, error: CosyError | None, now: float, *, returned: float = 0.0, idle: float = 0.0) -> None:
        """Report how the attempt ended: the policies and the ledger each take what concerns them.

        *returned* is how many of the seconds of audio asked for had come by then, *idle* how many seconds of the time
        were the listener's own.
        """
        if self._settled:
            return
        self._settled = True
        endpoint, place = self.endpoint, self._reservation
        assert place is not None  # noqa: S101 - nothing is sent without
        try:
            endpoint.stats.record_finish(now - idle - self._started, error, now, answered=error is None or returned > 0)
            by_chance = False
            if error is None:
                endpoint.limiter.record_success(place)
            elif error.throttled:
                by_chance = endpoint.record_throttled(error, now, place)
            for sample in self._samples:
                endpoint.concurrency.finish(sample, error, now, returned=returned, idle=idle, by_chance=by_chance)
            if error is None:
                self._breaker_permit.record_success(now)
            elif error.endpoint_fault:
                self._breaker_permit.record_failure(now, error.retry_after)
        finally:
            self._give_back()

    def cancel(self) -> None:
        """Give the right back: unused, or as an attempt that was broken off if something has left with it."""
        if self._left and not self._settled:
            self.finish(Rejected("broken off", sent=True), self.endpoint.now())
        else:
            self._give_back()

    def _give_back(self) -> None:
        """Give back whatever is still held."""
        endpoint = self.endpoint
        try:
            if self._reservation is not None and not self._left:
                endpoint.limiter.cancel(self._reservation)
            for sample in self._samples:
                endpoint.concurrency.finish(sample, Rejected("broken off", sent=True), endpoint.now(), returned=0.0)
            self._breaker_permit.release()
        finally:
            endpoint.bulkhead.release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


class Endpoint:
    """Stand for one service instance and issue permits to send to it.

    The order is bulkhead, limiter, breaker: the limiter comes last of the two that wait, because a permit to send
    now is worth nothing after a wait for something else (permits saved up behind a full bulkhead would leave together
    and break the quota); the breaker is asked first, so that nobody waits for a no, and again last.
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
        self._max_hold = max_pause
        self._lock = threading.Lock()
        self._reported_rate: float | None = None  # the lowered rate listeners know of; guarded by _lock

    def acquire(self, permit: Permit, deadline: Deadline, wake: Flag) -> None:
        """Wait for the right to send, at most until *deadline* or until *wake* is set, which means the client closes.

        Raises `CircuitOpen`, `BulkheadFull`, `RateLimited`, `DeadlineExceeded` or `ClientClosed`. Whatever it raises,
        *permit* is to be cancelled.
        """
        self.breaker.check(self._clock.now())
        self.bulkhead.acquire(deadline, permit)
        self._pace(permit, deadline, wake)
        self.breaker.acquire(self._clock.now(), permit._breaker_permit)

    def try_acquire(self, permit: Permit) -> bool:
        """Fill *permit* in if the right to send is to be had without waiting; return whether it was.

        A breaker that is not closed gives none. Whatever comes of it, *permit* is to be cancelled unless it was used.
        """
        now = self._clock.now()
        if self.breaker.state != CLOSED or not self.bulkhead.try_acquire(permit):
            return False
        try:
            permit._reservation = self.limiter.reserve(now, max_wait=0.0)
            if self._reported_rate is not None and not self.limiter.slowed:
                self._tell_recovery()
            self.breaker.acquire(now, permit._breaker_permit)
        except Rejected:
            return False
        return True

    def now(self) -> float:
        """Return the monotonic seconds that permits go by."""
        return self._clock.now()

    def estimate(self) -> Estimate:
        """Return what an attempt that leaves now should know."""
        return self.concurrency.estimate(self._clock.now())

    def redact(self, error: CosyError | None, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Take out of *error* the key and what was sent in *headers*: some services quote what they refuse."""
        own = [] if self._secret is None else [self._secret.reveal()]
        # "Bearer …" may be quoted without its first word.
        redact_error(error, [*own, *(part for _, value in headers for part in (value, value.rpartition(" ")[2]))])

    def silent_since(self, instant: float) -> bool:
        """Return whether no attempt has brought anything at all since *instant*."""
        return self.stats.last_answer_at <= instant

    def record_throttled(self, error: CosyError, now: float, reservation: Reservation) -> bool:
        """Slow down after the refusal of what was sent at *place*, and pause if the service asked for it.

        Return whether it was refused by chance, as far as the limiter can tell: then neither is done, and only those
        refused wait.
        """
        old = self.limiter.rate
        verdict = self.limiter.record_throttled(
            now, reservation, accepted=self.stats.accepted, sent=self.stats.rate(now)
        )
        if verdict == "chance":
            return True
        hold = 0.0
        if error.retry_after is not None:
            hold = min(error.retry_after, self._max_hold)
            self.limiter.pause(now, hold)
        new = self.limiter.rate
        if new != old or hold:
            with self._lock:
                self._reported_rate = new if self.limiter.slowed else None
            self._events.emit(RateChanged(endpoint=self.name, old=old, new=new, hold=hold))
        return False

    def apply_quota(self, quota: Quota) -> None:
        """Take the service's word for its own limit, where it is lower than what we were told."""
        old = self.limiter.rate
        self.limiter.apply_quota(quota.limit, quota.window)
        if (new := self.limiter.rate) != old:
            self._events.emit(RateChanged(endpoint=self.name, old=old, new=new, hold=0.0))

    def _pace(self, permit: Permit, deadline: Deadline, wake: Flag) -> None:
        now = self._clock.now()
        if now >= deadline.at:
            raise DeadlineExceeded("the deadline passed before this text's turn to be sent came")
        place = permit._reservation = self.limiter.reserve(now, max_wait=deadline.at - now)
        if self._reported_rate is not None and not self.limiter.slowed:
            self._tell_recovery()
        while (wait := place.wait(now)) > 0:
            if self._clock.sleep(wait, wake):
                raise ClientClosed("the client was closed while this text waited for its turn")
            now = self._clock.now()
            place = permit._reservation = self.limiter.recheck(place, now, max_wait=deadline.at - now)

    def _tell_recovery(self) -> None:
        with self._lock:
            old, self._reported_rate = self._reported_rate, None
        if old is not None:
            self._events.emit(RateChanged(endpoint=self.name, old=old, new=self.limiter.rate, hold=0.0))

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.breaker!r} {self.limiter!r} {self.bulkhead!r}>"
