"""Our policies against GPUs in fake time: texts arrive by chance, wait in a real queue, and have a deadline."""

from __future__ import annotations

import heapq
import itertools
import random
from typing import TYPE_CHECKING, Any

from cosyclient.adaptation import Adaptation
from cosyclient.batch import BatchLimits, Flight
from cosyclient.batcher import Batcher
from cosyclient.config import AdaptiveConfig
from cosyclient.errors import BulkheadFull, DeadlineExceeded
from cosyclient.events import Events
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.policies.bulkhead import Bulkhead
from cosyclient.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Sequence

_RTF = 0.06
_RTT = 0.01
_VOICE = VoiceSettings()


class GpuWorld:
    """Run *gpus* that render a text each, first come, first served, under *load* times what they can do.

    Clients leave at their deadline, the GPUs do not notice. *stall* keeps them from working for the first seconds,
    *changes* are (instant, GPUs). Afterwards ``goodput`` holds the audio that was back in time in each second over the
    first capacity, ``wasted`` the GPU seconds spent on what was not.
    """

    def __init__(
        self,
        seed: int,
        *,
        load: float,
        seconds: int,
        gpus: int = 4,
        deadline: float = 10.0,
        stall: float = 0.0,
        changes: Sequence[tuple[float, int]] = (),
        config: AdaptiveConfig | None = None,
    ) -> None:
        self._dice = random.Random(seed)
        self._clock = FakeClock(0.0)
        self._deadline = deadline
        self._free_at = [stall] * gpus
        self._capacity = gpus / _RTF
        self._gap = 4.0 / (load * self._capacity)
        self._bulkhead = Bulkhead(40, self._clock, name="in flight", full=BulkheadFull)
        self.adaptation = Adaptation(
            config or AdaptiveConfig(), self._bulkhead, calm=0.0, endpoint="gpu", events=Events()
        )
        limits = BatchLimits(texts=64, body_bytes=1 << 20, seconds=float("inf"))
        self._batcher = Batcher(limits, workers=40, clock=self._clock)
        self._coming: list[tuple[float, int, str, Any]] = []
        self._number = itertools.count()
        self.goodput = [0.0] * seconds
        self.wasted = 0.0
        self.doomed = 0
        self._expect(0.0, "text", None)
        for at, count in changes:
            self._expect(at, "gpus", count)
        self._run(seconds)

    def mean(self, since: int, until: int) -> float:
        """Return the goodput between two instants."""
        return sum(self.goodput[since:until]) / (until - since)

    def _expect(self, at: float, what: str, of: Any) -> None:
        heapq.heappush(self._coming, (at, next(self._number), what, of))

    def _run(self, seconds: int) -> None:
        while True:
            now, _, what, of = heapq.heappop(self._coming)
            if now >= seconds:
                return
            self._clock.advance(now - self._clock.now())
            if what == "text":
                flight = Flight(Utterance("字" * self._dice.randint(10, 30), _VOICE), 100)
                flight.until = now + self._deadline
                self._batcher.put([flight])
                self._expect(now + self._dice.expovariate(1 / self._gap), "text", None)
            elif what == "gpus":
                kept = heapq.nlargest(of, self._free_at)
                self._free_at = kept + [now] * (of - len(kept))
                heapq.heapify(self._free_at)
            else:
                ticket, error, returned = of
                if ticket is not None:
                    self.adaptation.settle(ticket, error, now, returned=returned)
                self._bulkhead.release()
            while self._batcher.queued and self._bulkhead.try_acquire():
                self._send(now)

    def _send(self, now: float) -> None:
        batch, _ = self._batcher.seal(self.adaptation.prospect(now))
        assert batch is not None
        self.doomed += len(batch.doomed)
        if not batch.flights:
            self._bulkhead.release()
            return
        ticket = self.adaptation.start(batch.seconds, now)
        last, returned, finished = max(flight.until for flight in batch.flights), 0.0, now
        for flight in batch.flights:
            work = flight.seconds * _RTF
            done = max(now + _RTT / 2, self._free_at[0]) + work
            heapq.heapreplace(self._free_at, done)
            at = done + _RTT / 2
            finished = max(finished, at)
            if at <= last:
                returned += flight.seconds
            if at > flight.until:
                self.wasted += work
            elif at < len(self.goodput):
                self.goodput[int(at)] += flight.seconds / self._capacity
        error = None if finished <= last else DeadlineExceeded("cut off", sent=True)
        self._expect(min(finished, last), "end", (ticket, error, returned))
