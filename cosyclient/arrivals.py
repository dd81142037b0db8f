"""What became of texts, handed to whoever waits for it: flights end, places come back, threads wake in their turn."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from cosyclient.errors import CosyError, Rejected
from cosyclient.events import UtteranceFinished
from cosyclient.models import Speech
from cosyclient.waiters import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cosyclient.batch import Carrier, Flight
    from cosyclient.clock import Clock
    from cosyclient.coalescer import Coalescer, Landing
    from cosyclient.errors import Attempt
    from cosyclient.events import Events
    from cosyclient.expiry import Expiry
    from cosyclient.waiters import Waiter


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
        ended = self._coalescer.land(results, call, final=final)
        if not ended:
            return
        self._ended([flight for flight, _ in ended])
        wanted = self._events.wanted
        blocked: list[Waiter] = []
        interrupt: BaseException | None = None
        for flight, result in ended:
            tries = flight.tried + len(attempts) + isinstance(result, Speech)
            if isinstance(result, Speech):
                if tries > 1:
                    result = replace(result, attempts=tries)
            else:
                self.count(result, accepted=True)
            if wanted:
                self._announce(flight, result, tries)
            if flight.hedged:
                for other in flight.calls:
                    if other is not call:
                        other.reconsider()
            for waiter in flight.waiters:
                try:
                    self._expiry.forget(waiter)
                    if waiter.resolve(result if isinstance(result, Speech) else result.for_caller(attempts)):
                        blocked.append(waiter)
                except BaseException as error:  # noqa: BLE001 - raised below
                    # Ctrl-C in a callback, on the thread of a caller who carries: the others still get theirs.
                    interrupt = error
        if blocked:
            self._relay.start(blocked)
        if interrupt is not None:
            raise interrupt

    def dismiss(self, waiters: Iterable[Waiter], error: CosyError, attempts: Sequence[Attempt]) -> None:
        """Resolve *waiters* with *error*, but not those who share their flight."""
        blocked = []
        for waiter in waiters:
            pending, ended = self._coalescer.leave(waiter)
            if ended is not None:
                self._ended((ended,))
            if pending:
                self._expiry.forget(waiter)
                if waiter.resolve(error.for_caller(attempts)):
                    blocked.append(waiter)
        if blocked:
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
