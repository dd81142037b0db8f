"""One flight per utterance: equal texts under way travel once, and each caller keeps its own deadline."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias

from cosyclient.models import Speech

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cosyclient.errors import CosyError
    from cosyclient.models import Utterance
    from cosyclient.pipeline.queue.batch import Carrier, Flight
    from cosyclient.pipeline.queue.waiters import Waiter

Landing: TypeAlias = "tuple[Flight, Speech | CosyError]"
"""A flight and what became of its text."""


class Coalescer:
    """Keep the flights under way and let callers join the one that already carries their utterance.

    A flight belongs to all its waiters alike: the one who came first may give up and the others keep it, so nobody
    has to be promoted. It ends when the last waiter leaves or when it lands.
    """

    def __init__(self, *, single_flight: bool = True) -> None:
        self._single_flight = single_flight
        self._lock = threading.Lock()
        # All guarded by _lock, with every flight's waiters, until and landed.
        self._by_key: dict[tuple[str, str], Flight] = {}
        self._aloft: set[Flight] = set()
        # Counted here because the lock is held anyway: one lock less for every text.
        self.boarded = 0
        """Waiters taken aboard."""
        self.spoken = 0
        """Flights that ended with a speech."""
        self.failed = 0
        """Flights that ended without."""

    def follow(self, utterance: Utterance, waiter: Waiter) -> Flight | None:
        """Let *waiter* share a flight of *utterance* if there is one, and return that."""
        # Looked up without the lock first: a miss is the rule, and `lead` looks again.
        if not self._single_flight or (key := utterance.key) not in self._by_key:
            return None
        with self._lock:
            flight = self._by_key.get(key)
            if flight is not None:
                self._board_locked(flight, waiter)
            return flight

    def lead(self, flight: Flight, waiter: Waiter) -> Flight:
        """Start *flight* for *waiter* and return it, or the equal one that has started meanwhile and was joined."""
        # Before anything is done for it, so that `leave` finds what is to be undone.
        waiter.flight = flight
        with self._lock:
            if self._single_flight:
                existing = self._by_key.setdefault(flight.key, flight)
                if existing is not flight:
                    self._board_locked(existing, waiter)
                    return existing
            self._aloft.add(flight)
            self._board_locked(flight, waiter)
            return flight

    def leave(self, waiter: Waiter) -> tuple[bool, Flight | None]:
        """Take *waiter* off its flight, also if it was interrupted on its way aboard.

        Return whether nobody else will resolve it any more, and the flight if that has ended because nobody is left who
        wants it: once more on each further call.
        """
        with self._lock:
            flight = waiter.flight
            if flight is None or (flight.landed and flight.waiters):
                return False, None
            aboard = waiter in flight.waiters
            if aboard:
                flight.waiters.remove(waiter)
            if flight.waiters:
                flight.until = max(other.deadline.at for other in flight.waiters)
                return True, None
            if not flight.landed:
                self._land_locked(flight)
                self.failed += aboard
            return True, flight

    def take(self, flights: Iterable[Flight], call: Carrier) -> None:
        """Note that *call* carries *flights* from now on."""
        with self._lock:
            for flight in flights:
                flight.calls = (*flight.calls, call)

    def drop(self, flights: Iterable[Flight], call: Carrier) -> None:
        """Note that *call* carries *flights* no longer."""
        with self._lock:
            for flight in flights:
                # The flight may outlive the call, in a future that its owner keeps.
                flight.calls = tuple(other for other in flight.calls if other is not call)

    def land(
        self, results: Iterable[Landing], ended: list[Landing], call: Carrier | None = None, *, final: bool = False
    ) -> None:
        """End the flights of *results*, noting in *ended* those that had not before: their waiters are to be resolved.

        Several at once, because those of one reply arrive together and the lock is every caller's. An error that
        *call* brings, or somebody who carries nothing, does not end a flight that another call carries as well,
        unless it is *final*. What an interrupt leaves half done is done by the same call once more.
        """
        with self._lock:
            for landing in results:
                flight, result = landing
                if flight.landed:
                    continue
                spoken = isinstance(result, Speech)
                if flight.hedged and not (spoken or final) and any(other is not call for other in flight.calls):
                    continue
                ended += [landing]
                self._land_locked(flight)
                self.spoken += spoken
                self.failed += not spoken

    def aloft(self) -> list[Flight]:
        """Return the flights under way."""
        # Without the lock: in a forked child its owner may not exist, and copying a set is one step anyway.
        return list(self._aloft)

    def under_way(self) -> Callable[[], bool]:
        """Return a function that says whether any of the flights that are under way now still is."""
        flights = self.aloft()
        return lambda: not all(flight.landed for flight in flights)

    def _board_locked(self, flight: Flight, waiter: Waiter) -> None:
        until = max(flight.until, waiter.deadline.at)
        waiter.flight = flight
        flight.waiters += [waiter]
        flight.until = until
        self.boarded += 1

    def _land_locked(self, flight: Flight) -> None:
        if self._by_key.get(flight.key) is flight:
            del self._by_key[flight.key]
        self._aloft -= {flight}
        flight.landed = True

    def __repr__(self) -> str:
        return f"<Coalescer {len(self._aloft)} aloft>"
