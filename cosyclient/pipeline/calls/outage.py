"""An outage: texts of bulk calls are held while the service is down, and sent once it is back."""

from __future__ import annotations

import math
import random
import threading
from typing import TYPE_CHECKING, Final

from cosyclient.clock import Deadline
from cosyclient.errors import CircuitOpen, ConnectFailed, CosyError, RetryBudgetSpent, ServiceError
from cosyclient.events import ServiceDown, ServiceUp
from cosyclient.policies.breaker import OPEN
from cosyclient.util.timers import DeadlineTimer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cosyclient.clock import Clock
    from cosyclient.endpoints.endpoint import Endpoint
    from cosyclient.errors import Attempt
    from cosyclient.events import Events
    from cosyclient.pipeline.queue.coalescer import Coalescer, Completion
    from cosyclient.pipeline.queue.completion import Completer
    from cosyclient.pipeline.queue.pending import Holder, PendingText

_INTERVAL: Final = 0.1
"""Seconds between two checks whether the service is back; they send nothing."""
_FIRST_PAUSE, _MAX_PAUSE = 1.0, 10.0
"""Seconds before the first text is sent to find out; doubled with each, up to a maximum."""
_NEVER_ANSWERED: Final = 30.0
"""Seconds that texts wait for a service that has never answered: its address may be wrong."""
_MAX_FAILED_SENDS: Final = 3
"""Sends after which a text is held no longer, where the text and not the service may be to blame."""
_UNAVAILABLE: Final = frozenset({502, 503})
"""Statuses that say that the service is not there."""


class Outage:
    """Hold the texts of bulk calls that fail because the service is down, and send them when it is back.

    A text is held until its deadline, or until the outage has lasted *wait* seconds (None: no limit). One text at a
    time is sent to find out, first after a second, then less and less often; its answer releases all. A text that fails
    while others are answered is not held: its failure is its own. *dispatch* queues texts.
    """

    def __init__(
        self,
        wait: float | None,
        *,
        endpoint: Endpoint,
        coalescer: Coalescer,
        completer: Completer,
        dispatch: Callable[[Sequence[PendingText]], None],
        clock: Clock,
        events: Events,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._wait = wait
        self._endpoint = endpoint
        self._coalescer = coalescer
        self._completer = completer
        self._dispatch = dispatch
        self._clock = clock
        self._events = events
        self._uniform = uniform
        self._timer: DeadlineTimer[_Check] = DeadlineTimer(
            clock, self._check, name="cosyclient-outage", resolution=_INTERVAL / 2
        )
        self._lock = threading.Lock()
        # All guarded by _lock; `_hold` alone sets _checking without it.
        self._held: dict[PendingText, CosyError] = {}
        self._checking = False
        self._closed = False
        self._since: float | None = None
        self._max_wait = math.inf
        self._failed_at = 0.0
        self._pause = _FIRST_PAUSE
        self._next = 0.0

    def complete(
        self, results: Iterable[Completion], attempts: Sequence[Attempt] = (), call: Holder | None = None
    ) -> None:
        """Complete the texts of *results* on behalf of *call*, but hold those that can wait for the service."""
        final, held = [], []
        for text, result in results:
            if isinstance(result, CosyError):
                if call is not None and call not in text.calls:
                    continue  # held before, and on its way again by now
                if self._waits(text, result, attempts, call):
                    held.append((text, result))
                    continue
            final.append((text, result))
        if held:
            final += self._hold(held, attempts, call)
        self._completer.complete(final, attempts, call)

    def release(self, text: PendingText) -> None:
        """Send *text* if it is held: an interactive waiter has joined it, who wants to know what is wrong."""
        with self._lock:
            held = self._held.pop(text, None) is not None
        if held:
            self._send([text])

    @property
    def on_own_thread(self) -> bool:
        """Return whether the calling thread is this timer's."""
        return self._timer.on_own_thread

    def close(self) -> None:
        """Hold no text any more; those held fail with the error they were held for."""
        with self._lock:
            self._closed = True
            held, self._held = self._held, {}
        self._timer.close()
        self._completer.complete(held.items())

    def _waits(self, text: PendingText, error: CosyError, attempts: Sequence[Attempt], call: Holder | None) -> bool:
        """Return whether *text*, which failed with *error*, is to wait for the service."""
        if self._wait == 0 or text.done or any(other is not call for other in text.calls):
            return False
        if not any(waiter.bulk for waiter in text.waiters) or not (now := self._clock.now()) < text.deadline:
            return False
        cause = error.__cause__ if isinstance(error, RetryBudgetSpent) else error
        if isinstance(error, CircuitOpen):
            return True
        if not (isinstance(cause, CosyError) and cause.retryable and (cause.endpoint_fault or cause.throttled)):
            return False
        if now + (error.retry_after or 0.0) >= text.deadline:
            return False
        if isinstance(cause, ConnectFailed) or cause.throttled:
            return True
        unavailable = isinstance(cause, ServiceError) and cause.status in _UNAVAILABLE
        if not unavailable and text.failed_sends >= _MAX_FAILED_SENDS:
            return False
        # If others have been answered since this text first failed, the text is to blame.
        return isinstance(error, RetryBudgetSpent) or self._silent(attempts)

    def _silent(self, attempts: Sequence[Attempt]) -> bool:
        return not attempts or self._endpoint.silent_since(attempts[0].started + attempts[0].latency)

    def _hold(
        self, held: Sequence[tuple[PendingText, CosyError]], attempts: Sequence[Attempt], call: Holder | None
    ) -> list[Completion]:
        """Hold the texts of *held*; return those that waited too long."""
        now = self._clock.now()
        down: CosyError | None = None
        up: float | None = None
        made = tuple(attempts)
        too_late: list[Completion] = []
        left: list[tuple[PendingText, CosyError]] = []
        with self._lock:
            for text, error in held:
                refused = isinstance(error, CircuitOpen)
                if self._since is not None and not self._endpoint.silent_since(self._since):
                    up = now - self._since
                    self._over_locked()
                if self._since is None and (
                    self._endpoint.breaker.state == OPEN if refused else self._silent(attempts)
                ):
                    self._since, self._pause, down = now, _FIRST_PAUSE, error
                    answered = error.throttled or not self._endpoint.silent_since(-math.inf)
                    self._max_wait = (math.inf if answered else _NEVER_ANSWERED) if self._wait is None else self._wait
                    self._next = now + self._random_pause()
                # An open breaker tells less than what this text's own latest attempt failed with.
                tried = (made or text.earlier_attempts)[-1:] if refused else ()
                reason = (tried[0].error if tried else None) or error
                if self._closed or self._expired_locked(now):
                    too_late.append((text, reason))
                    continue
                kept = text.attempts_to_keep(made)
                self._held[text] = text.outage_error = reason
                text.earlier_attempts, text.attempts = kept, ()
                self._failed_at = now
                if not refused:
                    text.failed_sends += error.sent
                    self._next = max(self._next, now + (error.retry_after or 0.0))
                    text.not_before = now + (error.retry_after or self._random_pause())
                left.append((text, error))
            check = bool(left) and not self._checking
        if check:
            # First the timer, then the mark, without the lock: an interrupt in between, or another thread here, adds a
            # second check, which does no harm; without any check the texts would never be sent.
            self._timer.add(_Check(Deadline.after(self._clock, _INTERVAL)))
            self._checking = True
        if call is not None:
            self._coalescer.detach([text for text, _ in left], call)
        for text, error in left:
            # Waiters of other than bulk calls do not wait for the service.
            self._completer.fail_waiters(
                [waiter for waiter in text.waiters if not waiter.bulk], error, text.all_attempts(())
            )
        if up is not None:
            self._events.emit(ServiceUp(endpoint=self._endpoint.name, seconds=up))
        if down is not None and left:
            self._events.emit(ServiceDown(endpoint=self._endpoint.name, error=down))
        return too_late

    def _check(self, _: _Check) -> None:
        """Send the held texts that may be sent now."""
        now = self._clock.now()
        given_up: dict[PendingText, CosyError] = {}
        released: list[PendingText] = []
        up: float | None = None
        with self._lock:
            self._held = {text: error for text, error in self._held.items() if not text.done}
            due = [text for text in self._held if text.not_before <= now]
            if not self._endpoint.silent_since(self._failed_at) or (self._since is None and due):
                up = None if self._since is None else now - self._since
                self._over_locked()
                released = due if self._may_send(now) else []
            elif self._expired_locked(now):
                given_up, self._held = self._held, {}
            elif due and now >= self._next:
                # One text finds out for all. The breaker allows this probe before its time: texts wait for the result.
                self._endpoint.breaker.allow_probe(now)
                if self._may_send(now):
                    released = due[:1]
                    self._pause = min(2.0 * self._pause, _MAX_PAUSE)
                    self._next = now + self._random_pause()
            for text in released:
                del self._held[text]
            self._checking = bool(self._held) and not self._closed
            checking = self._checking
        if up is not None:
            self._events.emit(ServiceUp(endpoint=self._endpoint.name, seconds=up))
        if given_up:
            self._completer.complete(given_up.items())
        self._send(released)
        if checking:
            self._timer.add(_Check(Deadline.after(self._clock, _INTERVAL)))

    def _send(self, texts: list[PendingText]) -> None:
        for text in texts:
            text.outage_error, text.hedged = None, False
        if texts:
            self._dispatch(texts)

    def _may_send(self, now: float) -> bool:
        try:
            self._endpoint.breaker.check(now)
        except CircuitOpen:
            return False
        return True

    def _random_pause(self) -> float:
        # Random, so that many clients do not probe at the same time.
        return self._pause * self._uniform(0.75, 1.0)

    def _expired_locked(self, now: float) -> bool:
        return self._since is not None and now - self._since >= self._max_wait

    def _over_locked(self) -> None:
        self._since, self._pause = None, _FIRST_PAUSE

    def __repr__(self) -> str:
        state = "none" if self._since is None else f"since {self._since:.3f}"
        return f"<Outage {state}, {len(self._held)} texts held>"


class _Check:
    """Mark when to check next."""

    __slots__ = ("deadline", "done", "scheduled")

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.done = False
        self.scheduled = False
