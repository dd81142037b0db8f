"""Queued texts, by lane and voice settings, and how many workers they need.

A batch is sealed when a worker holds a permit to send, not when a timer fires: an idle client sends at once, a busy one
fills its batches, and there is nothing to tune. Interactive texts go first; bulk texts fill the room they leave.

Where the service answers faster than this process can hand out its replies, permits are always free. Without more, each
caller that has its result would send its next text alone, and every such request costs as much as 64 texts in one. So
while callers are being woken, texts wait for theirs: 1,750 threads made 1.7 texts a request and 2,000 texts/s without
this, 59 and 12,800 with it.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeAlias

from cosyclient.clock import closed_gate, open_gate
from cosyclient.pipeline.queue.batch import Batch
from cosyclient.pipeline.queue.pending import BULK, INTERACTIVE
from cosyclient.pipeline.queue.wakeups import WakeupChain
from cosyclient.policies.base import NO_ESTIMATE

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from cosyclient.clock import Clock
    from cosyclient.pipeline.queue.batch import BatchLimits
    from cosyclient.pipeline.queue.pending import PendingText
    from cosyclient.policies.base import Estimate

    # By the key of their settings: a str, whose hash is not computed in Python. OrderedDict takes an interrupt in there
    # for a missing key.
    _Queues: TypeAlias = OrderedDict[str, OrderedDict[PendingText, None]]


# The longest such wait: one turn of the interpreter, which the text would wait anyway.
_WAIT_FOR_WOKEN: Final = 0.005


class Batcher:
    """Hold the queued texts and count the workers that come for them.

    A worker is *seeking* from the moment it is claimed until it has sealed a batch. One seeking worker for each batch
    that could be sealed is enough, so three texts do not wake fifty threads. A thread that sends without being a worker
    is *inline*: it counts as under way until `end_inline`. ``wakeups`` wakes the threads whose results are there.
    *linger* is how many seconds a text waits for others to fill its batch.
    """

    def __init__(self, limits: BatchLimits, *, workers: int, clock: Clock, linger: float = 0.0) -> None:
        self.wakeups = WakeupChain(clock, on_rest=self._open_gates)
        self._limits = limits
        self._workers = workers
        self._clock = clock
        self._linger = linger
        self._gates: set[threading.Lock] = set()  # of threads that wait for more texts, or until nothing is under way
        # Guards all below and every text's `queued`.
        self._lock = threading.Lock()
        # By lane: round robin over the settings; each queue in the order of arrival, with cheap removal from the
        # middle.
        self._lanes: tuple[_Queues, _Queues] = (OrderedDict(), OrderedDict())
        self._batches_waiting = 0
        self._queued = 0
        self._seeking = 0
        self._alive = 0
        self._inline: set[Hashable] = set()

    def enqueue(self, texts: Sequence[PendingText]) -> bool:
        """Queue *texts*, those that are not; return whether the caller must have more workers started."""
        now = self._clock.now()
        with self._lock:
            for text in texts:
                # A waiter may have given up between the acceptance of its text and this.
                if text.done or text.queued:
                    continue
                text.queued_at = now
                self._append_locked(text)
        if self._gates and (self._linger or self._queued >= self._limits.max_texts):
            self._open_gates()
        return self.needs_workers

    def restore(self, texts: Iterable[PendingText]) -> None:
        """Queue those of *texts* that are not, after an interrupted `seal` may have taken them out halfway."""
        with self._lock:
            for text in texts:
                queue = self._lanes[text.lane].setdefault(text.utterance.settings.key, OrderedDict())
                if not text.done:
                    queue.setdefault(text)
                    text.queued = True
            # Counted anew: an interrupted count may be halfway, too.
            for queues in self._lanes:
                for key in [key for key, queue in queues.items() if not queue]:
                    del queues[key]
            sizes = [len(queue) for queues in self._lanes for queue in queues.values()]
            self._queued, self._batches_waiting = sum(sizes), sum(map(self._batch_count, sizes))

    def requeue_front(self, texts: Sequence[PendingText]) -> None:
        """Queue *texts*, which are in flight and late, once more and first; no worker is needed for them yet."""
        with self._lock:
            for text in reversed(texts):
                if text.done or text.hedged or text.queued:
                    continue
                text.hedged = True
                self._append_locked(text)
                self._lanes[text.lane][text.utterance.settings.key].move_to_end(text, last=False)

    def begin_inline(self, holder: Hashable) -> bool:
        """Count *holder* as inline unless its text could share a request with queued ones; return whether it counts.

        Whatever is returned or raised, the caller must `end_inline`.
        """
        # Looked at without the lock: a text that comes a moment later is queued, or sent beside this one. Where texts
        # do not share requests, others are no reason to wait.
        if self._limits.max_texts > 1 and (self._queued or self._linger or self.wakeups.running):
            return False
        self._inline.add(holder)
        return True

    def add_inline(self, holder: Hashable) -> None:
        """Count *holder* as inline, until `end_inline`."""
        self._inline.add(holder)

    def end_inline(self, holder: Hashable) -> None:
        """Count *holder* as inline no longer; again does nothing."""
        self._inline.discard(holder)
        self._wake_if_idle()

    def single(self, text: PendingText) -> Batch:
        """Return a batch of *text* alone, which was never queued."""
        text.queued_at = self._clock.now()
        batch = Batch(text.utterance.settings, self._limits)
        batch.add(text)
        return batch

    def wait_to_fill(self) -> None:
        """Wait for more texts, as *linger* says or while callers are being woken; a seeking worker calls it first."""
        if self._linger or self.wakeups.running:
            while (seconds := self._time_to_fill()) > 0:
                self._wait(seconds, lambda: self._time_to_fill() <= 0)

    def next_deadline(self) -> float | None:
        """Return the deadline of the text that is next in turn, or None if none is queued."""
        with self._lock:
            if not self._queued:
                return None
            return next(iter(next(iter(self._first_locked().values())))).deadline

    def seal(
        self, estimate: Estimate = NO_ESTIMATE, *, worker: bool = True, into: list[Batch] | None = None
    ) -> Batch | None:
        """Take the next batch, for a seeking *worker* or an inline thread; return None if nothing is queued.

        Texts that by *estimate* would come back too late let the others go first, and stay if there is no room. The
        batch is put *into* a list before it is filled: a caller that is interrupted here must `restore` its texts.
        """
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

    def continue_worker(self) -> bool:
        """Return whether a worker that has finished its batch is to seek another; otherwise it is counted no longer."""
        with self._lock:
            if self._batches_waiting > self._seeking:
                self._seeking += 1
                return True
            self._alive -= 1
        self._wake_if_idle()
        return False

    def claim_workers(self) -> int:
        """Count as many new workers as the queue needs, and return how many: each must `seal` or be released.

        Only on a thread that is never interrupted: a worker that is counted and not started would be waited for.
        """
        with self._lock:
            wanted = max(0, min(self._batches_waiting - self._seeking, self._workers - self._alive))
            self._seeking += wanted
            self._alive += wanted
            return wanted

    def promote(self, text: PendingText) -> None:
        """Move *text* to the interactive lane if it is queued: an interactive waiter has joined it."""
        with self._lock:
            if text.queued and text.lane != INTERACTIVE:
                self._remove_locked(text)
                text.lane = INTERACTIVE
                self._append_locked(text)

    def discard(self, text: PendingText) -> bool:
        """Take *text* out if it is queued; return whether it was."""
        with self._lock:
            if not text.queued:
                return False
            self._remove_locked(text)
        self._wake_if_idle()
        return True

    def pop_due(self, before: float) -> list[PendingText]:
        """Take out every text whose deadline is not after *before*."""
        with self._lock:
            due = [
                text for queues in self._lanes for queue in queues.values() for text in queue if text.deadline <= before
            ]
            for text in due:
                self._remove_locked(text)
        self._wake_if_idle()
        return due

    def release_worker(self) -> None:
        """Count one seeking worker less: there is nothing for it, it could not be started, or it failed."""
        with self._lock:
            self._seeking -= 1
            self._alive -= 1
        self._wake_if_idle()

    def wait_idle(self, until: float) -> bool:
        """Wait until nothing is queued or under way, at most until the instant *until*; return whether it is so."""
        while not self.idle:
            remaining = until - self._clock.now()
            if remaining <= 0:
                return False
            self._wait(remaining, lambda: self.idle)
        return True

    @property
    def needs_workers(self) -> bool:
        """Return whether the queue needs more workers than it has, and more are allowed."""
        # Without the lock, as every text comes through here: a worker that seals, or finds nothing, looks again.
        return self._batches_waiting > self._seeking and self._workers > self._alive

    @property
    def idle(self) -> bool:
        """Return whether nothing is queued and no worker or inline thread is under way."""
        return not (self._queued or self._alive or self._inline)

    @property
    def queued(self) -> int:
        """Return how many texts are queued."""
        return self._queued

    @property
    def workers(self) -> int:
        """Return how many workers are under way."""
        return self._alive

    def _batch_count(self, texts: int) -> int:
        return -(-texts // self._limits.max_texts)

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

    def _wake_if_idle(self) -> None:
        if self._gates and not (self._alive or self._inline):
            self._open_gates()

    def _first_locked(self) -> _Queues:
        return self._lanes[INTERACTIVE] or self._lanes[BULK]

    def _append_locked(self, text: PendingText) -> None:
        queues, key = self._lanes[text.lane], text.utterance.settings.key
        queue = queues.get(key)
        if queue is None:
            queue, first = OrderedDict([(text, None)]), True
            queues[key] = queue
        else:
            first = len(queue) % self._limits.max_texts == 0
            queue[text] = None
        text.queued = True
        self._queued += 1
        self._batches_waiting += first

    def _remove_locked(self, text: PendingText) -> None:
        queues, key = self._lanes[text.lane], text.utterance.settings.key
        queue = queues[key]
        left = len(queue) - 1
        needed = self._batch_count(left) - self._batch_count(left + 1)
        if left:
            del queue[text]
        else:
            del queues[key]
        text.queued = False
        self._queued -= 1
        self._batches_waiting += needed

    def _fill_locked(self, batch: Batch, queues: _Queues, estimate: Estimate) -> None:
        """Move what fits from the queue of the batch's settings, which goes to the end of the round if texts stay.

        Texts that are short of time fill the room the others leave, those with most time left first.
        """
        key = batch.settings.key
        queue = queues.get(key)
        if queue is None:
            return
        sealed = len(batch.texts)
        soonest = self._clock.now() + estimate.safe_latency if estimate.safe_latency else -math.inf
        short: list[PendingText] = []
        for text in queue:
            # A hedged text is in flight already: it is sent again whatever time it has.
            if text.deadline < soonest and not text.hedged:
                short.append(text)
            elif not batch.add(text):
                break
        else:
            for text in sorted(short, key=lambda each: each.deadline, reverse=True):
                if not batch.add(text):
                    break
        before, taken = len(queue), batch.texts[sealed:]
        needed = self._batch_count(before - len(taken)) - self._batch_count(before)
        if before > len(taken):
            queues.move_to_end(key)
        for text in taken:
            del queue[text]
            text.queued = False
            self._queued -= 1
        self._batches_waiting += needed
        if not queue:
            del queues[key]

    def _time_to_fill(self) -> float:
        """Return the seconds that the next text still waits for others to fill its batch."""
        with self._lock:
            if not self._queued:
                return 0.0
            queue = next(iter(self._first_locked().values()))
            if len(queue) >= self._limits.max_texts:
                return 0.0
            wait = max(self._linger, _WAIT_FOR_WOKEN) if self.wakeups.running else self._linger
            return next(iter(queue)).queued_at + wait - self._clock.now()

    def __repr__(self) -> str:
        return f"<Batcher {self._queued} queued, {self._alive}/{self._workers} workers, {self._seeking} seeking>"
