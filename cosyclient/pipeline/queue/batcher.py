"""Texts that wait, by lane and voice settings, and the count of workers that come for them.

A batch is sealed when a worker has the right to send, not when a timer fires: an idle client sends at once, a busy
one fills its batches, and there is nothing to tune. Interactive texts go first; bulk fills the room they leave.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from cosyclient.clock import closed_gate, open_gate
from cosyclient.pipeline.queue.batch import BULK, INTERACTIVE, Batch
from cosyclient.policies.base import NO_ESTIMATE

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from cosyclient.clock import Clock
    from cosyclient.pipeline.queue.batch import BatchLimits, Flight
    from cosyclient.policies.base import Estimate

    # By the key of their settings: a str, whose hash is not computed in Python. An interrupt in there would be taken by
    # OrderedDict for a key that is missing.
    _Queues: TypeAlias = OrderedDict[str, OrderedDict[Flight, None]]


class Batcher:
    """Hold the waiting flights and say how many workers they are worth.

    A worker is *seeking* from the moment it is called until it has sealed a batch. One seeking worker per batch that
    could be sealed is enough, so three texts do not wake fifty threads.
    """

    def __init__(self, limits: BatchLimits, *, workers: int, clock: Clock, linger: float = 0.0) -> None:
        self._limits = limits
        self._workers = workers
        self._clock = clock
        self._linger = linger
        self._gates: set[threading.Lock] = set()  # of those who wait for company, or for idleness
        # Guards all below and every flight's `queued`.
        self._lock = threading.Lock()
        # By lane. Round robin over the settings; each queue in the order of arrival, with removal from the middle at
        # no cost.
        self._lanes: tuple[_Queues, _Queues] = (OrderedDict(), OrderedDict())
        self._needed = 0
        self._queued = 0
        self._seeking = 0
        self._alive = 0
        self._carried: set[Hashable] = set()

    def put(self, flights: Sequence[Flight]) -> bool:
        """Queue *flights*, those that are not, and return whether there are too few workers: somebody is to `call`."""
        now = self._clock.now()
        with self._lock:
            for flight in flights:
                # Checked here because a caller may have given up between being accepted and being queued.
                if flight.landed or flight.queued:
                    continue
                flight.queued_at = now
                self._append_locked(flight)
        if self._linger:
            self._open_gates()
        return self.wants_workers

    def put_back(self, flights: Iterable[Flight]) -> None:
        """Queue *flights*, which an interrupted `seal` may have taken out or half so, where they are not."""
        with self._lock:
            for flight in flights:
                queue = self._lanes[flight.lane].setdefault(flight.utterance.settings.key, OrderedDict())
                if not flight.landed:
                    queue.setdefault(flight)
                    flight.queued = True
            # Counted anew: what was counted before may be half of it.
            for queues in self._lanes:
                for key in [key for key, queue in queues.items() if not queue]:
                    del queues[key]
            sizes = [len(queue) for queues in self._lanes for queue in queues.values()]
            self._queued, self._needed = sum(sizes), sum(map(self._batches, sizes))

    def put_again(self, flights: Sequence[Flight]) -> None:
        """Queue *flights*, which are under way and late, once more and before all others; call nobody for them yet."""
        with self._lock:
            for flight in reversed(flights):
                if flight.landed or flight.hedged or flight.queued:
                    continue
                flight.hedged = True
                self._append_locked(flight)
                self._lanes[flight.lane][flight.utterance.settings.key].move_to_end(flight, last=False)

    def embark(self, carrier: Hashable) -> bool:
        """Count *carrier* as one that carries its own text, unless it has company; return whether it may.

        Whatever comes of it, it is to `disembark`.
        """
        # Looked at without the lock: whoever is a moment late joins the queue, or leaves beside it. A worker that seeks
        # with nothing queued seeks in vain; where texts do not share requests, those queued are no company either.
        if (self._queued and self._limits.texts > 1) or self._linger:
            return False
        self._carried.add(carrier)
        return True

    def join(self, carrier: Hashable) -> None:
        """Count *carrier*, who carries what waits without being a worker, until it will `disembark`."""
        self._carried.add(carrier)

    def disembark(self, carrier: Hashable) -> None:
        """Count *carrier* no longer; again does nothing."""
        self._carried.discard(carrier)
        self._tell_idle()

    def alone(self, flight: Flight) -> Batch:
        """Return a batch of *flight* alone."""
        flight.queued_at = self._clock.now()
        batch = Batch(flight.utterance.settings, self._limits)
        batch.add(flight)
        return batch

    def head(self) -> float | None:
        """Return the deadline of the flight that is next, or None if there is none."""
        with self._lock:
            if not self._queued:
                return None
            return next(iter(next(iter(self._first_locked().values())))).until

    def seal(
        self, estimate: Estimate = NO_ESTIMATE, *, worker: bool = True, into: list[Batch] | None = None
    ) -> Batch | None:
        """Take the next batch, on a seeking *worker* or a thread that is none; returns None if nothing waits.

        Those that by *estimate* would come back too late let the others go first, and stay if there is no room. The
        batch is put *into* a list before it is filled: whoever is interrupted here is to `put_back` its flights.
        """
        if self._linger:
            self._await_company()
        with self._lock:
            if not self._queued:
                return None
            queues = self._first_locked()
            key = next(iter(queues))
            batch = Batch(next(iter(queues[key])).utterance.settings, self._limits, estimate)
            if into is not None:
                into += [batch]
            self._fill_locked(batch, queues, estimate)
            if queues is self._lanes[INTERACTIVE] and key not in queues:
                self._fill_locked(batch, self._lanes[BULK], estimate)
            self._seeking -= worker
            return batch

    def again(self) -> bool:
        """Return whether a worker that has finished its batch should seek another; otherwise it is dismissed."""
        with self._lock:
            if self._needed > self._seeking:
                self._seeking += 1
                return True
            self._alive -= 1
        self._tell_idle()
        return False

    def call(self) -> int:
        """Return how many workers to start for what waits; each must come to `seal` or be dismissed.

        Only on a thread that nobody interrupts: those not started would be waited for.
        """
        with self._lock:
            wanted = max(0, min(self._needed - self._seeking, self._workers - self._alive))
            self._seeking += wanted
            self._alive += wanted
            return wanted

    def promote(self, flight: Flight) -> None:
        """Let *flight* go on in the interactive lane, if it still waits: somebody who cannot wait has joined it."""
        with self._lock:
            if flight.queued and flight.lane != INTERACTIVE:
                self._remove_locked(flight)
                flight.lane = INTERACTIVE
                self._append_locked(flight)

    def discard(self, flight: Flight) -> bool:
        """Take *flight* out if it still waits; return whether it did."""
        with self._lock:
            if not flight.queued:
                return False
            self._remove_locked(flight)
        self._tell_idle()
        return True

    def take_due(self, before: float) -> list[Flight]:
        """Take out every flight whose deadline is not after *before*."""
        with self._lock:
            due = [
                flight
                for queues in self._lanes
                for queue in queues.values()
                for flight in queue
                if flight.until <= before
            ]
            for flight in due:
                self._remove_locked(flight)
        self._tell_idle()
        return due

    def dismiss(self) -> None:
        """Count one seeking worker less: there is nothing for it, it could not be started, or it broke."""
        with self._lock:
            self._seeking -= 1
            self._alive -= 1
        self._tell_idle()

    def wait_idle(self, until: float) -> bool:
        """Wait until nothing is queued and no worker is under way, at most until the instant *until*."""
        while not self.idle:
            remaining = until - self._clock.now()
            if remaining <= 0:
                return False
            self._wait(remaining, lambda: self.idle)
        return True

    @property
    def wants_workers(self) -> bool:
        """Return whether there are too few workers for what waits, and may be more."""
        return self._needed > self._seeking and self._workers > self._alive

    @property
    def idle(self) -> bool:
        """Return whether nothing is queued and nobody is under way."""
        return not (self._queued or self._alive or self._carried)

    @property
    def queued(self) -> int:
        """Return the texts waiting to be sealed."""
        return self._queued

    @property
    def workers(self) -> int:
        """Return the workers under way."""
        return self._alive

    def _batches(self, texts: int) -> int:
        return -(-texts // self._limits.texts)

    def _wait(self, seconds: float, happened: Callable[[], bool]) -> None:
        gate = closed_gate()
        try:
            self._gates.add(gate)
            if not happened():
                self._clock.wait(gate, seconds)
        finally:
            self._gates.discard(gate)

    def _open_gates(self) -> None:
        for gate in tuple(self._gates):
            open_gate(gate)

    def _tell_idle(self) -> None:
        if self._gates and not (self._alive or self._carried):
            self._open_gates()

    def _first_locked(self) -> _Queues:
        return self._lanes[INTERACTIVE] or self._lanes[BULK]

    def _append_locked(self, flight: Flight) -> None:
        queues, key = self._lanes[flight.lane], flight.utterance.settings.key
        queue = queues.get(key)
        if queue is None:
            queue, first = OrderedDict([(flight, None)]), True
            queues[key] = queue
        else:
            first = len(queue) % self._limits.texts == 0
            queue[flight] = None
        flight.queued = True
        self._queued += 1
        self._needed += first

    def _remove_locked(self, flight: Flight) -> None:
        queues, key = self._lanes[flight.lane], flight.utterance.settings.key
        queue = queues[key]
        left = len(queue) - 1
        needed = self._batches(left) - self._batches(left + 1)
        if left:
            del queue[flight]
        else:
            del queues[key]
        flight.queued = False
        self._queued -= 1
        self._needed += needed

    def _fill_locked(self, batch: Batch, queues: _Queues, estimate: Estimate) -> None:
        """Move what fits from the queue of the batch's settings, which goes to the end of the round if texts stay.

        Texts short of time come along where the others leave room, whoever has most of it left first.
        """
        key = batch.settings.key
        queue = queues.get(key)
        if queue is None:
            return
        sealed = len(batch.flights)
        soonest = self._clock.now() + estimate.needed if estimate.needed else -math.inf
        short: list[Flight] = []
        for flight in queue:
            # One that travels once more is under way already; this is its chance.
            if flight.until < soonest and not flight.hedged:
                short.append(flight)
            elif not batch.add(flight):
                break
        else:
            for flight in sorted(short, key=lambda each: each.until, reverse=True):
                if not batch.add(flight):
                    break
        before, taken = len(queue), batch.flights[sealed:]
        needed = self._batches(before - len(taken)) - self._batches(before)
        if before > len(taken):
            queues.move_to_end(key)
        for flight in taken:
            del queue[flight]
            flight.queued = False
            self._queued -= 1
        self._needed += needed
        if not queue:
            del queues[key]

    def _await_company(self) -> None:
        while (remaining := self._alone_for()) > 0:
            self._wait(remaining, lambda: self._alone_for() <= 0)

    def _alone_for(self) -> float:
        """Return the seconds that the next text still waits for company."""
        with self._lock:
            if not self._queued:
                return 0.0
            queue = next(iter(self._first_locked().values()))
            if len(queue) >= self._limits.texts:
                return 0.0
            return next(iter(queue)).queued_at + self._linger - self._clock.now()

    def __repr__(self) -> str:
        return f"<Batcher {self._queued} queued, {self._alive}/{self._workers} workers, {self._seeking} seeking>"
