"""The breaker of one endpoint: whether a request may be sent, given how many failed lately.

    closed ──too many of enough calls failed──▶ open ──its time is over──▶ half-open
       ▲                                          ▲                          │   │
       │                                          └──enough probes failed────┘   │
       └─────────────────────────enough probes succeeded─────────────────────────┘

`Breaker.acquire` issues a `BreakerPermit` or raises `CircuitOpen`; the holder then reports once: `record_success`,
`record_failure`, or `release` where nothing was learnt. All decisions are pure in ``now``.

pybreaker mirrors the state and calls listeners; it does not decide. Its ``call`` would hold its lock for the whole
protected call, ``calling`` would let every call probe, and both count consecutive failures only, on the wall clock. So
no call passes through it: it is moved by hand, outside our lock.
"""

from __future__ import annotations

import random
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

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

_LONGEST_OPEN: Final = 3600.0
"""Seconds of a Retry-After that are respected: a slip in one header must not shut the endpoint out for good."""


class BreakerPermit:
    """Hold one call's right to be tried, and its one report; report in a ``finally``, later reports do nothing.

    Reports of a permit that was never acquired do nothing either: made first and then passed to `Breaker.acquire`, it
    is safe from interrupts.
    """

    __slots__ = ("_breaker", "_generation", "_number")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._generation = -1  # of the state that issued it, until it is reported
        self._number = 0

    def record_success(self, now: float) -> None:
        """Report that the endpoint did its work."""
        self._breaker._record(self, now, failed=False, retry_after=None)

    def record_failure(self, now: float, retry_after: float | None = None, *, cause: str = "") -> None:
        """Report that the endpoint failed; *retry_after* is how many seconds it asked not to be called.

        If this failure opens the breaker, `CircuitOpen` names *cause*: to callers whose own requests were not sent.
        """
        self._breaker._record(self, now, failed=True, retry_after=retry_after, cause=cause)

    def release(self) -> None:
        """Report that nothing was learnt (throttled, our request's fault, cancelled); a probe may be sent again."""
        if self._generation >= 0:
            self._breaker._release(self)

    def __repr__(self) -> str:
        return "<BreakerPermit, none>" if self._generation < 0 else f"<BreakerPermit of state {self._generation}>"


class Breaker:
    """Reject calls to an endpoint that mostly fails, and probe whether it has recovered; safe to share between threads.

    Opens when ``minimum_failures`` or more of the calls within ``window`` failed, and ``failure_rate`` of them; those
    still in flight count as calls, for failures may come back sooner than successes. What was in flight at the first
    failure and fails as well counts no more: a restart that resets all connections is one event. It stays open for
    ``open_for`` ± ``jitter``, or as long as the endpoint asked for, then issues ``probes`` permits and decides by their
    results. A result counts only for the state that issued its permit. *on_change* is called with the old and the new
    state's name, as are listeners added to `circuit_breaker`; what one raises is logged.
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
        self._mirror = _MirrorBreaker(
            name=name, fail_max=sys.maxsize, reset_timeout=config.open_for, throw_new_error_on_trip=False
        )
        self._lock = threading.Lock()  # guards everything below
        self._state = CLOSED
        self._generation = 0  # numbers the states, so that a result finds the one that issued its permit
        self._window = SlidingWindow(config.window)
        self._in_flight = 0  # closed: permits issued and not yet reported
        self._issued = 0  # permits issued so far
        self._issued_at_first_failure = 0  # how many that were at the first failure in the window
        self._probe_at = 0.0  # open: when probing begins; half-open: when probes that do not report are given up
        self._opened_by = ""  # what the failure that opened it last was
        self._retry_at = 0.0  # the instant before which the endpoint asked not to be called
        self._probes_left = 0  # half-open: probes that may still be sent, and the results of the others
        self._probe_successes = self._probe_failures = 0
        self._probe_timeout = 0.0  # half-open: seconds that probes are given to report
        self._unreported: deque[tuple[str, str]] = deque()  # changes that were not passed to listeners yet, in order
        self._reporter: object = None  # the run of `_report_changes` that passes them on; it ends without the lock

    @property
    def state(self) -> str:
        """Return ``closed``, ``open`` or ``half-open``; open turns half-open when the next permit is issued."""
        return self._state

    @property
    def circuit_breaker(self) -> pybreaker.CircuitBreaker:
        """Return the pybreaker that mirrors this breaker's state; add listeners to it, but send no call through it."""
        return self._mirror

    def check(self, now: float) -> None:
        """Raise `CircuitOpen` if a call would be rejected at *now*; issue no permit."""
        if self._state != CLOSED:
            with self._lock:
                self._check_locked(now)

    def acquire(self, now: float, permit: BreakerPermit | None = None) -> BreakerPermit:
        """Return the *permit* of a call, or raise `CircuitOpen` with the seconds to wait in ``retry_after``.

        One that was made before may be passed in. It is to be reported in any case.
        """
        permit = permit or BreakerPermit(self)
        with self._lock:
            if closed := self._state == CLOSED:
                self._in_flight += 1
            else:
                self._check_locked(now)
                self._prepare_probes_locked()
                self._probes_left -= 1
                self._probe_at = now + self._probe_timeout
            self._issued += 1
            permit._number = self._issued
            permit._generation = self._generation
        if self._unreported and not closed:
            self._report_changes()
        return permit

    def allow_probe(self, now: float) -> None:
        """Let probing begin at *now* if it is open, unless the endpoint asked not to be called for longer."""
        with self._lock:
            if self._state == OPEN:
                self._probe_at = min(self._probe_at, max(now, self._retry_at))

    def _check_locked(self, now: float) -> None:
        free = self._state == CLOSED or (self._state == HALF_OPEN and self._probes_left > 0)
        if not free and now < self._probe_at:
            wait = self._probe_at - now
            after = f"; it opened after: {self._opened_by}" if self._opened_by else ""
            raise CircuitOpen(
                f"{self._name}: breaker is {self._state}, next probe in {wait:.1f} s{after}", retry_after=wait
            )

    def _prepare_probes_locked(self) -> None:
        if self._state == OPEN:
            self._probe_timeout = self._config.open_for
            self._change_state_locked(HALF_OPEN)
            self._renew_probes_locked()
        elif not self._probes_left:
            # The probes did not report in time; what they still report is ignored. The next ones are given twice the
            # time, or an endpoint slower than that could never close the breaker.
            self._probe_timeout *= 2
            self._generation += 1
            self._renew_probes_locked()

    def _renew_probes_locked(self) -> None:
        self._probes_left = self._config.probes
        self._probe_successes = self._probe_failures = 0

    def _record(
        self, permit: BreakerPermit, now: float, *, failed: bool, retry_after: float | None, cause: str = ""
    ) -> None:
        with self._lock:
            generation, permit._generation = permit._generation, -1
            if generation != self._generation:
                return  # the state that issued it is over
            if self._state == CLOSED:
                self._in_flight -= 1
            if failed and retry_after is not None and retry_after > 0.0:
                self._retry_at = max(self._retry_at, now + min(retry_after, _LONGEST_OPEN))
            if self._state == CLOSED:
                self._window.forget(now)
                first = failed and not self._window.failures
                if first:
                    self._issued_at_first_failure = self._issued
                if not failed or first or permit._number > self._issued_at_first_failure:
                    self._window.record(now, failed=failed)
                calls, failures = self._window.calls + self._in_flight, self._window.failures
                enough = failures >= self._config.minimum_failures
                if failed and enough and failures / calls >= self._config.failure_rate:
                    self._open_locked(now, cause)
            else:
                self._probe_successes += not failed
                self._probe_failures += failed
                # Decided as soon as the probes still in flight cannot change the result.
                if self._probe_failures / self._config.probes >= self._config.failure_rate:
                    self._open_locked(now, cause)
                elif (self._config.probes - self._probe_successes) / self._config.probes < self._config.failure_rate:
                    self._retry_at = 0.0
                    self._change_state_locked(CLOSED)
        if self._unreported:
            self._report_changes()

    def _release(self, permit: BreakerPermit) -> None:
        with self._lock:
            generation, permit._generation = permit._generation, -1
            if generation != self._generation:
                return
            if self._state == HALF_OPEN:
                self._probes_left += 1
            elif self._state == CLOSED:
                self._in_flight -= 1

    def _open_locked(self, now: float, cause: str) -> None:
        span = self._config.open_for * self._uniform(1.0 - self._config.jitter, 1.0 + self._config.jitter)
        self._probe_at = max(now + span, self._retry_at)
        self._opened_by = cause
        self._change_state_locked(OPEN)

    def _change_state_locked(self, state: str) -> None:
        self._window.clear()
        self._unreported += [(self._state, state)]
        self._state = state
        self._generation += 1
        self._in_flight = 0

    def _report_changes(self) -> None:
        # One thread reports at a time, in order; it also reports a change made meanwhile, even by a listener.
        run = object()
        try:
            while True:
                with self._lock:
                    if self._reporter not in (None, run):
                        return
                    # Under the lock: a thread that makes another change from here on reports it itself.
                    self._reporter = run if self._unreported else None
                    if not self._unreported:
                        return
                    old, new = self._unreported[0]
                    del self._unreported[0]
                invoke_callback(self._mirror.move_to, new)
                if self._on_change is not None:
                    invoke_callback(self._on_change, old, new)
        finally:
            if self._reporter is run:
                self._reporter = None

    def __repr__(self) -> str:
        with self._lock:
            if self._state == CLOSED:
                state = f"closed, {self._window.failures} of {self._window.calls} failed"
            elif self._state == OPEN:
                state = f"open until {self._probe_at:.3f}"
            else:
                left = f"{self._probes_left} of {self._config.probes} probes left"
                state = f"half-open, {left}, {self._probe_failures} failed"
        return f"<Breaker {self._name}: {state}>"


class _MirrorBreaker(pybreaker.CircuitBreaker):
    """Have the state it is moved to, and guard its listeners; it never decides."""

    def move_to(self, state: str) -> None:
        if state == OPEN:
            self.open()
        elif state == HALF_OPEN:
            self.half_open()
        else:
            self.close()

    def add_listener(self, listener: pybreaker.CircuitBreakerListener) -> None:
        super().add_listener(_GuardedListener(listener))

    def remove_listener(self, listener: pybreaker.CircuitBreakerListener) -> None:
        for each in self.listeners:
            if each is listener or (isinstance(each, _GuardedListener) and each.listener is listener):
                super().remove_listener(each)
                return
        raise ValueError(f"{listener!r} is not a listener")


class _GuardedListener(pybreaker.CircuitBreakerListener):
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
