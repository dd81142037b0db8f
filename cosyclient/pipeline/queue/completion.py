"""What became of texts, handed to whoever waits for it: texts end, places come back, threads wake in their turn."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from cosyclient.errors import CosyError, Rejected
from cosyclient.events import UtteranceFinished
from cosyclient.models import Speech
from cosyclient.pipeline.queue.waiters import WakeupChain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cosyclient.clock import Clock
    from cosyclient.errors import Attempt
    from cosyclient.events import Events
    from cosyclient.pipeline.queue.batch import Holder, PendingText
    from cosyclient.pipeline.queue.coalescer import Coalescer, Completion
    from cosyclient.pipeline.queue.waiters import Waiter
    from cosyclient.util.timers import DeadlineTimer


class Completer:
    """End texts and resolve their waiters; *ended* is told of the texts, whose queue places are free then."""

    def __init__(
        self,
        coalescer: Coalescer,
        expiry: DeadlineTimer[Waiter],
        *,
        endpoint: str,
        events: Events,
        clock: Clock,
        ended: Callable[[Sequence[PendingText]], None],
    ) -> None:
        self._coalescer = coalescer
        self._timer = expiry
        self._chain = WakeupChain(clock)
        self._endpoint = endpoint
        self._events = events
        self._clock = clock
        self._on_complete = ended
        self._lock = threading.Lock()
        # Guarded by _lock; the coalescer counts what it takes aboard.
        self.not_accepted = 0
        """Texts that were not accepted."""
        self.rejected = 0
        """Texts that the client itself said no to, accepted before or not."""

    def complete(
        self,
        results: Iterable[Completion],
        attempts: Sequence[Attempt] = (),
        call: Holder | None = None,
        *,
        final: bool = False,
    ) -> None:
        """Resolve the texts of *results*, those that have not ended before, on behalf of *call*.

        *attempts* are those made, oldest first: an error lists the one that brought it, a speech those before. An
        error does not end what another call carries as well, unless it is *final*.
        """
        results = list(results)
        ended: list[Completion] = []
        try:
            self._complete(results, ended, attempts, call, final=final)
        except BaseException:
            # Interrupted, on the thread of a caller who carries: the others still get theirs.
            self._complete(results, ended, attempts, call, final=final)
            raise
        for text, result in ended:
            if not isinstance(result, Speech):
                self.count_error(result, accepted=True)
            if self._events.wanted:
                self._emit_finished(text, result, text.earlier_attempts + len(attempts) + isinstance(result, Speech))

    def _complete(
        self,
        results: Sequence[Completion],
        ended: list[Completion],
        attempts: Sequence[Attempt],
        call: Holder | None,
        *,
        final: bool,
    ) -> None:
        """End texts, free their places and resolve their waiters, those that are not."""
        self._coalescer.complete(results, ended, call, final=final)
        if not ended:
            return
        self._on_complete([text for text, _ in ended])
        for text, result in ended:
            if text.hedged:
                for other in text.calls:
                    if other is not call:
                        other.cancel_if_unwanted()
            if isinstance(result, Speech) and (tries := text.earlier_attempts + len(attempts) + 1) > 1:
                result = replace(result, attempts=tries)
            for waiter in text.waiters:
                if not waiter.done:
                    self._timer.discard(waiter)
                    waiter.resolve(result if isinstance(result, Speech) else result.for_caller(attempts))
        blocked = [waiter for text, _ in ended for waiter in text.waiters if waiter.needs_wakeup]
        if blocked:
            self._chain.start(blocked)

    def fail_waiters(self, waiters: Iterable[Waiter], error: CosyError, attempts: Sequence[Attempt]) -> None:
        """Resolve *waiters* with *error*, but not those who share their text."""
        waiters = list(waiters)
        for waiter in waiters:
            pending, ended = self._coalescer.abandon(waiter)
            if ended is not None:
                self._on_complete((ended,))
            if pending:
                self._timer.discard(waiter)
                waiter.resolve(error.for_caller(attempts))
        if blocked := [waiter for waiter in waiters if waiter.needs_wakeup]:
            self._chain.start(blocked)

    def count_error(self, error: CosyError, *, accepted: bool) -> None:
        """Count a text that ended in *error*, *accepted* before or not."""
        with self._lock:
            self.not_accepted += not accepted
            self.rejected += isinstance(error, Rejected)

    def _emit_finished(self, text: PendingText, result: Speech | CosyError, tries: int) -> None:
        speech = result if isinstance(result, Speech) else None
        self._events.emit(
            UtteranceFinished(
                endpoint=self._endpoint,
                fingerprint=text.utterance.fingerprint,
                characters=len(text.utterance.text),
                audio_bytes=len(speech.audio) if speech else 0,
                seconds=speech.duration if speech else 0.0,
                latency=self._clock.now() - text.queued_at,
                attempts=tries,
                error=result if isinstance(result, CosyError) else None,
            )
        )

    def __repr__(self) -> str:
        return f"<Completer {self.not_accepted} not accepted, {self.rejected} rejected>"
