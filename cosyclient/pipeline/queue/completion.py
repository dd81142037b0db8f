"""What became of texts, handed to whoever waits for it: flights end, places come back, threads wake in their turn."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from cosyclient.errors import CosyError, Rejected
from cosyclient.events import UtteranceFinished
from cosyclient.models import Speech
from cosyclient.pipeline.queue.waiters import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cosyclient.clock import Clock
    from cosyclient.errors import Attempt
    from cosyclient.events import Events
    from cosyclient.pipeline.queue.batch import Carrier, Flight
    from cosyclient.pipeline.queue.coalescer import Coalescer, Landing
    from cosyclient.pipeline.queue.waiters import Waiter
    from cosyclient.util.timers import Expiry


class Arrivals:
    """End flights and resolve their waiters; *ended* is told of the flights, whose queue places are free then."""

    def __init__(
        self,
        coalescer: Coalescer,
        expiry: Expiry[Waiter],
        *,
        endpoint: str,
        events: Events,
        clock: Clock,
        ended: Callable[[Sequence[Flight]], None],
    ) -> None:
        self._coalescer = coalescer
        self._expiry = expiry
        self._relay = Relay(clock)
        self._endpoint = endpoint
        self._events = events
        self._clock = clock
        self._ended = ended
        self._lock = threading.Lock()
        # Guarded by _lock; the coalescer counts what it takes aboard.
        self.refused = 0
        """Texts that were not accepted."""
        self.rejected = 0
        """Texts that the client itself said no to, accepted before or not."""

    def land(
        self,
        results: Iterable[Landing],
        attempts: Sequence[Attempt] = (),
        call: Carrier | None = None,
        *,
        final: bool = False,
    ) -> None:
        """Resolve the flights of *results*, those that have not ended before, on behalf of *call*.

        *attempts* are those made, oldest first: an error lists the one that brought it, a speech those before. An
        error does not end what another call carries as well, unless it is *final*.
        """
        results = list(results)
        ended: list[Landing] = []
        try:
            self._end(results, ended, attempts, call, final=final)
        except BaseException:
            # Interrupted, on the thread of a caller who carries: the others still get theirs.
            self._end(results, ended, attempts, call, final=final)
            raise
        for flight, result in ended:
            if not isinstance(result, Speech):
                self.count(result, accepted=True)
            if self._events.wanted:
                self._announce(flight, result, flight.tried + len(attempts) + isinstance(result, Speech))

    def _end(
        self,
        results: Sequence[Landing],
        ended: list[Landing],
        attempts: Sequence[Attempt],
        call: Carrier | None,
        *,
        final: bool,
    ) -> None:
        """End flights, free their places and resolve their waiters, those that are not."""
        self._coalescer.land(results, ended, call, final=final)
        if not ended:
            return
        self._ended([flight for flight, _ in ended])
        for flight, result in ended:
            if flight.hedged:
                for other in flight.calls:
                    if other is not call:
                        other.reconsider()
            if isinstance(result, Speech) and (tries := flight.tried + len(attempts) + 1) > 1:
                result = replace(result, attempts=tries)
            for waiter in flight.waiters:
                if not waiter.done:
                    self._expiry.forget(waiter)
                    waiter.resolve(result if isinstance(result, Speech) else result.for_caller(attempts))
        blocked = [waiter for flight, _ in ended for waiter in flight.waiters if waiter.waits]
        if blocked:
            self._relay.start(blocked)

    def dismiss(self, waiters: Iterable[Waiter], error: CosyError, attempts: Sequence[Attempt]) -> None:
        """Resolve *waiters* with *error*, but not those who share their flight."""
        waiters = list(waiters)
        for waiter in waiters:
            pending, ended = self._coalescer.leave(waiter)
            if ended is not None:
                self._ended((ended,))
            if pending:
                self._expiry.forget(waiter)
                waiter.resolve(error.for_caller(attempts))
        if blocked := [waiter for waiter in waiters if waiter.waits]:
            self._relay.start(blocked)

    def count(self, error: CosyError, *, accepted: bool) -> None:
        """Count a text that ended in *error*, *accepted* before or not."""
        with self._lock:
            self.refused += not accepted
            self.rejected += isinstance(error, Rejected)

    def _announce(self, flight: Flight, result: Speech | CosyError, tries: int) -> None:
        speech = result if isinstance(result, Speech) else None
        self._events.emit(
            UtteranceFinished(
                endpoint=self._endpoint,
                fingerprint=flight.utterance.fingerprint,
                characters=len(flight.utterance.text),
                audio_bytes=len(speech.audio) if speech else 0,
                seconds=speech.duration if speech else 0.0,
                latency=self._clock.now() - flight.queued_at,
                attempts=tries,
                error=result if isinstance(result, CosyError) else None,
            )
        )

    def __repr__(self) -> str:
        return f"<Arrivals {self.refused} refused, {self.rejected} rejected>"
