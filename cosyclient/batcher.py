"""Texts that wait, by lane and voice settings, and the count of workers that come for them.

A batch is sealed when a worker has the right to send, not when a timer fires: an idle client sends at once, a busy
one fills its batches, and there is nothing to tune. Interactive texts go first; bulk fills the room they leave.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from cosyclient.batch import BULK, INTERACTIVE, NO_ESTIMATE, Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosyclient.batch import BatchLimits, Estimate, Flight
    from cosyclient.clock import Clock
    from cosyclient.models import VoiceSettings

    _Queues: TypeAlias = OrderedDict[VoiceSettings, OrderedDict[Flight, None]]


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
        # Guards all below and every flight's `queued`; the condition on it tells of company and of idleness. Taken by
        # itself, it costs a third of what the condition does.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        # By lane. Round robin over the settings; each queue in the order of arrival, with removal from the middle at
        # no cost.
        self._lanes: tuple[_Queues, _Queues] = (OrderedDict(), OrderedDict())
        self._needed = 0
        self._queued = 0
        self._seeking = 0
        self._alive = 0
        self._carried = 0

    def put(self, flights: Sequence[Flight]) -> int:
        """Queue *flights* and return how many workers to start; each must come to `seal` or `leave`."""
        now = self._clock.now()
        with self._lock:
            for flight in flights:
                # Checked here because a caller may have given up between being accepted and being queued.
                if flight.landed:
                    continue
                flight.queued_at = now
                self._append_locked(flight)
            if self._linger:
                self._changed.notify_all()
            return self._call_workers_locked()

    def put_again(self, flights: Sequence[Flight]) -> None:
        """Queue *flights*, which are under way and late, once more and before all others; call nobody for them yet."""
        with self._lock:
            for flight in reversed(flights):
                if flight.landed or flight.hedged or flight.queued:
                    continue
                flight.hedged = True
                self._append_locked(flight)
                self._lanes[flight.lane][flight.utterance.settings].move_to_end(flight, last=False)

    def embark(self) -> bool:
        """Count the calling thread as one that carries its own text, unless it has company; return whether it may."""
        # Looked at without the lock: whoever is a moment late joins the queue, or leaves beside it. A worker that seeks
        # with nothing queued seeks in vain; where texts do not share requests, those queued are no company either.
        if (self._queued and self._limits.texts > 1) or self._linger:
            return False
        with self._lock:
            self._carried += 1
            return True

    def disembark(self) -> None:
        """Count one such thread less."""
        with self._lock:
            self._carried -= 1
            self._tell_idle_locked()

    def alone(self, flight: Flight) -> Batch:
        """Return a batch of *flight* alone."""
        flight.queued_at = self._clock.now()
        batch = Batch(flight.utterance.settings, self._limits)
        batch.add(flight)
        return batch

    def enlist(self) -> None:
        """Count the calling thread as one more seeking worker, beyond the limit: the caller runs."""
        with self._lock:
            self._seeking += 1
            self._alive += 1

    def head(self) -> float | None:
        """Return the deadline of the flight that is next, or None, which also dismisses the seeking worker."""
        with self._lock:
            if not self._queued:
                self._dismiss_locked()
                return None
            return next(iter(next(iter(self._first_locked().values())))).until

    def seal(self, estimate: Estimate = NO_ESTIMATE) -> tuple[Batch | None, int]:
        """Take the next batch and say how many more workers to start; None dismisses the seeking worker.

        Those that by *estimate* would come back too late let the others go first, and stay if there is no room.
        """
        with self._lock:
            if self._linger:
                self._await_company_locked()
            if not self._queued:
                self._dismiss_locked()
                return None, 0
            queues = self._first_locked()
            settings = next(iter(queues))
            batch = Batch(settings, self._limits, estimate)
            self._fill_locked(batch, queues, estimate)
            if queues is self._lanes[INTERACTIVE] and settings not in queues:
                self._fill_locked(batch, self._lanes[BULK], estimate)
            for flight in batch.flights:
                flight.queued = False
                self._queued -= 1
            self._seeking -= 1
            return batch, self._call_workers_locked()

    def again(self) -> bool:
        """Return whether a worker that has finished its batch should seek another; otherwise it is dismissed."""
        with self._lock:
            if self._needed > self._seeking:
                self._seeking += 1
                return True
            self._leave_locked()
            return False

    def leave(self) -> None:
        """Dismiss a worker that has finished its batch and will not seek another."""
        with self._lock:
            self._leave_locked()

    def call(self) -> int:
        """Return how many workers to start for what waits; one that ran beyond the limit may have stood in the way."""
        with self._lock:
            return self._call_workers_locked()

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
            return due

    def dismiss(self) -> None:
        """Count one seeking worker less: it could not be started, or broke."""
        with self._lock:
            self._dismiss_locked()

    def wait_idle(self, until: float) -> bool:
        """Wait until nothing is queued and no worker is under way, at most until the instant *until*."""
        with self._lock:
            while self._queued or self._alive or self._carried:
                remaining = until - self._clock.now()
                if remaining <= 0:
                    return False
                self._clock.wait(self._changed, remaining)
            return True

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

    def _call_workers_locked(self) -> int:
        wanted = max(0, min(self._needed - self._seeking, self._workers - self._alive))
        self._seeking += wanted
        self._alive += wanted
        return wanted

    def _dismiss_locked(self) -> None:
        self._seeking -= 1
        self._leave_locked()

    def _leave_locked(self) -> None:
        self._alive -= 1
        self._tell_idle_locked()

    def _tell_idle_locked(self) -> None:
        if not (self._alive or self._carried):
            self._changed.notify_all()

    def _first_locked(self) -> _Queues:
        return self._lanes[INTERACTIVE] or self._lanes[BULK]

    def _append_locked(self, flight: Flight) -> None:
        queues, settings = self._lanes[flight.lane], flight.utterance.settings
        queue = queues.get(settings)
        if queue is None:
            queue = queues[settings] = OrderedDict()
        if len(queue) % self._limits.texts == 0:
            self._needed += 1
        queue[flight] = None
        flight.queued = True
        self._queued += 1

    def _remove_locked(self, flight: Flight) -> None:
        queues, settings = self._lanes[flight.lane], flight.utterance.settings
        queue = queues[settings]
        before = self._batches(len(queue))
        del queue[flight]
        flight.queued = False
        self._queued -= 1
        self._needed += self._batches(len(queue)) - before
        if not queue:
            del queues[settings]

    def _fill_locked(self, batch: Batch, queues: _Queues, estimate: Estimate) -> None:
        """Move what fits from the queue of the batch's settings, which goes to the end of the round if texts stay.

        Texts short of time come along where the others leave room, whoever has most of it left first.
        """
        queue = queues.pop(batch.settings, None)
        if queue is None:
            return
        before, sealed = self._batches(len(queue)), len(batch.flights)
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
        for flight in batch.flights[sealed:]:
            del queue[flight]
        self._needed += self._batches(len(queue)) - before
        if queue:
            queues[batch.settings] = queue

    def _await_company_locked(self) -> None:
        while self._queued:
            queue = next(iter(self._first_locked().values()))
            remaining = next(iter(queue)).queued_at + self._linger - self._clock.now()
            if remaining <= 0 or len(queue) >= self._limits.texts:
                return
            self._clock.wait(self._changed, remaining)

    def __repr__(self) -> str:
        return f"<Batcher {self._queued} queued, {self._alive}/{self._workers} workers, {self._seeking} seeking>"
