"""Completion: what became of texts is given to their waiters, permits are given back, threads are woken in turn."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from cosyclient.errors import CosyError, DeadlineExceeded, Rejected
from cosyclient.events import UtteranceFinished
from cosyclient.models import Speech
from cosyclient.util.timers import DeadlineTimer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cosyclient.clock import Clock
    from cosyclient.errors import Attempt
    from cosyclient.events import Events
    from cosyclient.pipeline.queue.batcher import Batcher
    from cosyclient.pipeline.queue.coalescer import Coalescer, Completion
    from cosyclient.pipeline.queue.flow_control import FlowController
    from cosyclient.pipeline.queue.pending import Holder, PendingText, Waiter


class Completer:
    """End pending texts and resolve their waiters: with a speech, with an error, or because nobody waits any more.

    Its ``timer`` resolves the waiters that no thread waits for at their deadline.
    """

    def __init__(
        self,
        coalescer: Coalescer,
        flow: FlowController,
        batcher: Batcher,
        *,
        endpoint: str,
        events: Events,
        clock: Clock,
    ) -> None:
        """Name *endpoint* in the events of texts that no call carried."""
        self._coalescer = coalescer
        self._flow = flow
        self._batcher = batcher
        self._endpoint = endpoint
        self._events = events
        self._clock = clock
        self._wakeups = batcher.wakeups
        self.timer: DeadlineTimer[Waiter] = DeadlineTimer(clock, self._expire)
        self._lock = threading.Lock()
        # Guarded by _lock; the coalescer counts what was accepted.
        self.not_accepted = 0
        """Texts that were not accepted."""
        self.rejected = 0
        """Texts that the client itself rejected, accepted before or not."""

    def complete(
        self,
        results: Iterable[Completion],
        attempts: Sequence[Attempt] = (),
        call: Holder | None = None,
        *,
        final: bool = False,
    ) -> None:
        """Resolve the texts of *results* that are not done, on behalf of *call*.

        *attempts* are those made, oldest first: an error lists the one that brought it, a speech those before. An
        error does not end a text that another call carries as well, unless it is *final*.
        """
        results = list(results)
        ended: list[Completion] = []
        try:
            self._complete(results, ended, attempts, call, final=final)
        except BaseException:
            # Interrupted on a caller's thread that sends others' texts: those still get their results.
            self._complete(results, ended, attempts, call, final=final)
            raise
        wanted = self._events.wanted
        for text, result in ended:
            if not isinstance(result, Speech):
                self.count_error(result, accepted=True)
            if wanted:
                count = text.earlier_count + len(attempts) + isinstance(result, Speech)
                self._emit_finished(text, result, call, count)

    def _complete(
        self,
        results: Sequence[Completion],
        ended: list[Completion],
        attempts: Sequence[Attempt],
        call: Holder | None,
        *,
        final: bool,
    ) -> None:
        """End texts, release their permits and resolve their waiters, those that are not; twice does no harm."""
        self._coalescer.complete(results, ended, call, final=final)
        if not ended:
            return
        self._flow.release([text for text, _ in ended])
        waiters = [waiter for text, _ in ended for waiter in text.waiters]
        locked: list[tuple[Waiter, Speech | CosyError]] = []
        self.timer.discard_all(waiters)
        for text, result in ended:
            if text.hedged:
                for other in text.calls:
                    if other is not call:
                        other.cancel_if_unwanted()
            if isinstance(result, Speech) and (attempts or text.earlier_attempts):
                result = replace(result, attempts=text.earlier_count + len(attempts) + 1)
            for waiter in text.waiters:
                if waiter.result is not None:
                    continue
                given = result if isinstance(result, Speech) else result.for_caller(text.all_attempts(attempts))
                if waiter.future is not None and waiter.future.is_locked():
                    locked.append((waiter, given))
                else:
                    waiter.resolve(given)
        if blocked := [waiter for waiter in waiters if waiter.needs_wakeup]:
            self._wakeups.start(blocked)
        for waiter, given in locked:
            waiter.resolve(given)

    def fail_waiters(self, waiters: Iterable[Waiter], error: CosyError, attempts: Sequence[Attempt]) -> None:
        """Resolve *waiters* with *error*, but not those who share their texts."""
        waiters = list(waiters)
        for waiter in waiters:
            unresolved, ended = self._coalescer.abandon(waiter)
            if ended is not None:
                self._flow.release((ended,))
            if unresolved:
                self.timer.discard(waiter)
                waiter.resolve(error.for_caller(attempts))
        if blocked := [waiter for waiter in waiters if waiter.needs_wakeup]:
            self._wakeups.start(blocked)

    def abandon(self, waiter: Waiter) -> bool:
        """Take *waiter* off its text; return whether it was unresolved, so that nobody else will resolve it.

        A text without waiters is not sent if it is queued, and its attempt is aborted if it is in flight.
        """
        unresolved, text = self._coalescer.abandon(waiter)
        if unresolved:
            self.timer.discard(waiter)
        if text is not None:
            self._flow.release((text,))
            self._batcher.discard(text)
            for call in text.calls:
                call.cancel_if_unwanted()
        return unresolved

    def start_timer(self, waiter: Waiter) -> None:
        """Have *waiter* resolved at its deadline though no thread waits for it."""
        if not waiter.done:
            self.timer.add(waiter)

    def deadline_error(self, waiter: Waiter) -> DeadlineExceeded:
        """Return the error of a *waiter* whose deadline has passed, with the attempts made until then."""
        text = waiter.pending_text
        queued = text is not None and text.queued and not text.hedged
        attempts = () if text is None else text.all_attempts(text.attempts)
        outage = None if text is None else text.outage_error
        where = "waiting to be sent" if queued else f"under way, {len(attempts)} attempts had failed before"
        if outage is not None:
            where = f"waiting for the service to recover: {outage}"
        sent = not queued if outage is None else outage.sent
        error = DeadlineExceeded(f"no speech before the deadline; the text was {where}", sent=sent)
        error.__cause__ = outage or (attempts[-1].error if attempts else None)
        return error.for_caller(attempts)

    def count_error(self, error: CosyError, *, accepted: bool) -> None:
        """Count a text that ended in *error*, *accepted* before or not."""
        with self._lock:
            self.not_accepted += not accepted
            self.rejected += isinstance(error, Rejected)

    def _expire(self, waiter: Waiter) -> None:
        error = self.deadline_error(waiter)
        if self.abandon(waiter):
            waiter.resolve(error)

    def _emit_finished(self, text: PendingText, result: Speech | CosyError, call: Holder | None, attempts: int) -> None:
        speech = result if isinstance(result, Speech) else None
        self._events.emit(
            UtteranceFinished(
                endpoint=self._endpoint if call is None else call.endpoint,
                fingerprint=text.utterance.fingerprint,
                characters=len(text.utterance.text),
                audio_bytes=len(speech.audio) if speech else 0,
                seconds=speech.duration if speech else 0.0,
                latency=self._clock.now() - text.queued_at,
                attempts=attempts,
                error=result if isinstance(result, CosyError) else None,
            )
        )

    def __repr__(self) -> str:
        return f"<Completer {self.not_accepted} not accepted, {self.rejected} rejected>"
