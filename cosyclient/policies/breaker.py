"""The breaker of one endpoint: pybreaker shows the state and tells listeners, a sliding window of our own decides.

    closed ──too many of enough calls failed──▶ open ──its time is over──▶ half-open
       ▲                                          ▲                          │   │
       │                                          └──enough probes failed────┘   │
       └─────────────────────────enough probes succeeded─────────────────────────┘

pybreaker's ``call`` would hold its lock for the whole protected call, ``calling`` would let everybody probe, both count
consecutive failures only, on the wall clock. So no call passes through it: it is moved by hand, outside our lock.
"""

from __future__ import annotations

import random
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

import pybreaker

from cosyclient.errors import CircuitOpen
from cosyclient.events import invoke_callback
from cosyclient.policies.base import SlidingWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.config import BreakerConfig

CLOSED = pybreaker.STATE_CLOSED
OPEN = pybreaker.STATE_OPEN
HALF_OPEN = pybreaker.STATE_HALF_OPEN

# A Retry-After is heeded up to here; beyond, a slip in one header would shut the endpoint out for good.
_LONGEST_OPEN = 3600.0


class BreakerPermit:
    """Carry one call's right to be tried and its one report; report in a ``finally``, later reports change nothing.

    Nor do reports of what was never admitted: made beforehand and given to `Breaker.admit`, it is safe from interrupts.
    """

    __slots__ = ("_breaker", "_generation", "_number")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._generation = -1  # of the state that admitted it, until it is reported
        self._number = 0

    def record_success(self, now: float) -> None:
        """Report that the endpoint did its work."""
        self._breaker._report(self, now, failed=False, retry_after=None)

    def record_failure(self, now: float, retry_after: float | None = None) -> None:
        """Report that the endpoint failed; *retry_after* is how many seconds it asked to be left alone."""
        self._breaker._report(self, now, failed=True, retry_after=retry_after)

    def release(self) -> None:
        """Report that nothing was learnt (throttled, our request's fault, cancelled); a probe's permit goes back."""
        if self._generation >= 0:
            self._breaker._ignore(self)

    def __repr__(self) -> str:
        return "<Admission, none>" if self._generation < 0 else f"<Admission by state {self._generation}>"


class Breaker:
    """Keep calls away from an endpoint that mostly fails, and probe whether it is back; safe to share between threads.

    Opens when ``minimum_failures`` or more of the calls within ``window`` failed, and ``failure_rate`` of them; those
    still under way count as calls, for failures may come back sooner than what succeeds. What was under way at the
    first failure and fails as well counts no more: a restart that resets all connections is one event. It stays open
    for ``open_for`` ± ``jitter``, or as long as the endpoint asked for, then hands out ``probes`` permits and decides
    by their results. A result counts only for the state that admitted it. *on_change* hears the old and the new
    state's name, as do listeners added to `breaker`; one that raises is logged.
    """

    def __init__(
        self,
        config: BreakerConfig,
        *,
        name: str,
        uniform: Callable[[float, float], float] = random.uniform,
        on_change: Callable[[str, str], None] | None = None,
    ) -> None:
        self._config = config
        self._name = name
        self._uniform = uniform
        self._on_change = on_change
        self._shown = _ByHand(
            name=name, fail_max=sys.maxsize, reset_timeout=config.open_for, throw_new_error_on_trip=False
        )
        self._lock = threading.Lock()  # guards everything below
        self._state = CLOSED
        self._generation = 0  # numbers the states, so that a result finds the one that admitted it
        self._window = SlidingWindow(config.window)
        self._under_way = 0  # closed: calls admitted and not yet reported
        self._admitted = 0  # calls admitted so far
        self._first_failed = 0  # how many had been admitted at the first failure in the window
        self._until = 0.0  # open: when probing begins; half-open: when probes that do not report are given up
        self._asked = 0.0  # the instant before which the endpoint asked to be left alone
        self._permits = self._good = self._bad = 0  # half-open: probes left to hand out, and their results
        self._patience = 0.0
        self._untold: deque[tuple[str, str]] = deque()  # changes, in order, that listeners have not heard of
        self._teller: object = None  # who tells them

    @property
    def state(self) -> str:
        """Return ``closed``, ``open`` or ``half-open``; open turns half-open when the next call is admitted."""
        return self._state

    @property
    def circuit_breaker(self) -> pybreaker.CircuitBreaker:
        """Return the pybreaker that shows this breaker's state; add listeners to it, but send no call through it."""
        return self._shown

    def check(self, now: float) -> None:
        """Raise `CircuitOpen` if a call would be rejected at *now*; take nothing."""
        if self._state != CLOSED:
            with self._lock:
                self._reject_locked(now)

    def acquire(self, now: float, permit: BreakerPermit | None = None) -> BreakerPermit:
        """Return the *permit* of a call, or raise `CircuitOpen` with the seconds to wait in ``retry_after``."""
        permit = permit or BreakerPermit(self)
        with self._lock:
            if closed := self._state == CLOSED:
                self._under_way += 1
            else:
                self._reject_locked(now)
                self._prepare_permits_locked()
                self._permits -= 1
                self._until = now + self._patience
            self._admitted += 1
            permit._number = self._admitted
            permit._generation = self._generation
        if self._untold and not closed:
            self._tell()
        return permit

    def allow_probe(self, now: float) -> None:
        """Let probing begin at *now* if it is open, unless the endpoint asked to be left alone for longer."""
        with self._lock:
            if self._state == OPEN:
                self._until = min(self._until, max(now, self._asked))

    def _reject_locked(self, now: float) -> None:
        free = self._state == CLOSED or (self._state == HALF_OPEN and self._permits > 0)
        if not free and now < self._until:
            wait = self._until - now
            raise CircuitOpen(f"{self._name}: breaker is {self._state}, next probe in {wait:.1f} s", retry_after=wait)

    def _prepare_permits_locked(self) -> None:
        if self._state == OPEN:
            self._patience = self._config.open_for
            self._move_locked(HALF_OPEN)
            self._renew_locked()
        elif not self._permits:
            # The probes fell silent; whatever they still report is too late. Twice the patience for the next ones,
            # or an endpoint slower than that could never prove itself.
            self._patience *= 2
            self._generation += 1
            self._renew_locked()

    def _renew_locked(self) -> None:
        self._permits = self._config.probes
        self._good = self._bad = 0

    def _report(self, permit: BreakerPermit, now: float, *, failed: bool, retry_after: float | None) -> None:
        with self._lock:
            generation, permit._generation = permit._generation, -1
            if generation != self._generation:
                return  # it speaks of a state that is over
            if self._state == CLOSED:
                self._under_way -= 1
            if failed and retry_after is not None and retry_after > 0.0:
                self._asked = max(self._asked, now + min(retry_after, _LONGEST_OPEN))
            if self._state == CLOSED:
                self._window.forget(now)
                first = failed and not self._window.failures
                if first:
                    self._first_failed = self._admitted
                if not failed or first or permit._number > self._first_failed:
                    self._window.record(now, failed=failed)
                calls, failures = self._window.calls + self._under_way, self._window.failures
                enough = failures >= self._config.minimum_failures
                if failed and enough and failures / calls >= self._config.failure_rate:
                    self._open_locked(now)
            else:
                self._good += not failed
                self._bad += failed
                # As soon as the probes still out cannot change the verdict, it is given.
                if self._bad / self._config.probes >= self._config.failure_rate:
                    self._open_locked(now)
                elif (self._config.probes - self._good) / self._config.probes < self._config.failure_rate:
                    self._asked = 0.0
                    self._move_locked(CLOSED)
        if self._untold:
            self._tell()

    def _ignore(self, permit: BreakerPermit) -> None:
        with self._lock:
            generation, permit._generation = permit._generation, -1
            if generation != self._generation:
                return
            if self._state == HALF_OPEN:
                self._permits += 1
            elif self._state == CLOSED:
                self._under_way -= 1

    def _open_locked(self, now: float) -> None:
        span = self._config.open_for * self._uniform(1.0 - self._config.jitter, 1.0 + self._config.jitter)
        self._until = max(now + span, self._asked)
        self._move_locked(OPEN)

    def _move_locked(self, state: str) -> None:
        self._window.clear()
        self._untold += [(self._state, state)]
        self._state = state
        self._generation += 1
        self._under_way = 0

    def _tell(self) -> None:
        # One thread tells at a time, in order; a change made meanwhile, even by a listener, is told by that thread.
        teller = object()
        try:
            while True:
                with self._lock:
                    if self._teller not in (None, teller):
                        return
                    # Under the lock: who makes another change from here on tells it himself.
                    self._teller = teller if self._untold else None
                    if not self._untold:
                        return
                    old, new = self._untold[0]
                    del self._untold[0]
                invoke_callback(self._shown.show, new)
                if self._on_change is not None:
                    invoke_callback(self._on_change, old, new)
        finally:
            if self._teller is teller:
                self._teller = None

    def __repr__(self) -> str:
        with self._lock:
            if self._state == CLOSED:
                words = f"closed, {self._window.failures} of {self._window.calls} failed"
            elif self._state == OPEN:
                words = f"open until {self._until:.3f}"
            else:
                words = f"half-open, {self._permits} of {self._config.probes} permits left, {self._bad} failed"
        return f"<Breaker {self._name}: {words}>"


class _ByHand(pybreaker.CircuitBreaker):
    """Show the state it is moved to; it is never asked to decide."""

    def show(self, state: str) -> None:
        if state == OPEN:
            self.open()
        elif state == HALF_OPEN:
            self.half_open()
        else:
            self.close()

    def add_listener(self, listener: pybreaker.CircuitBreakerListener) -> None:
        super().add_listener(_Guest(listener))

    def remove_listener(self, listener: pybreaker.CircuitBreakerListener) -> None:
        for guest in self.listeners:
            if guest is listener or (isinstance(guest, _Guest) and guest.listener is listener):
                super().remove_listener(guest)
                return
        raise ValueError(f"{listener!r} is not a listener")


class _Guest(pybreaker.CircuitBreakerListener):
    """Pass a change on to *listener* and log what it raises: pybreaker would forget the change."""

    def __init__(self, listener: pybreaker.CircuitBreakerListener) -> None:
        self.listener = listener

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        invoke_callback(self.listener.state_change, cb, old_state, new_state)
