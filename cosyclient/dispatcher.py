"""The bounded executor: workers that first obtain the right to send and then seal what waits."""

from __future__ import annotations

import logging
import math
import threading
from typing import TYPE_CHECKING

from cosyclient.clock import Deadline
from cosyclient.errors import CircuitOpen, ClientClosed, CosyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from cosyclient.batch import Flight
    from cosyclient.batcher import Batcher
    from cosyclient.call import Caller
    from cosyclient.clock import Clock
    from cosyclient.coalescer import Landing
    from cosyclient.endpoints import Endpoint

logger = logging.getLogger("cosyclient")


class Dispatcher:
    """Start as many workers as the waiting texts are worth, and let each carry batches until none is left.

    The executor's own queue never holds more than the batcher called for, so its being unbounded does not matter.
    """

    def __init__(
        self,
        *,
        batcher: Batcher,
        endpoint: Endpoint,
        caller: Caller,
        executor: Executor,
        clock: Clock,
        closing: threading.Event,
        land: Callable[[list[Landing]], None],
    ) -> None:
        self._batcher = batcher
        self._endpoint = endpoint
        self._caller = caller
        self._executor = executor
        self._clock = clock
        self._closing = closing
        self._land = land
        self._thread = threading.local()

    def dispatch(self, flights: Sequence[Flight]) -> None:
        """Queue *flights* and wake the workers they need."""
        self._start(self._batcher.put(flights))

    def call_workers(self) -> None:
        """Start the workers that the queue is worth."""
        self._start(self._batcher.call())

    def carry(self, flight: Flight, latest: float) -> bool:
        """Fly *flight* on the calling thread if nothing else waits and it may leave at once; return whether it did.

        Two hand-overs between threads would cost a lone text more than all else. What a first attempt leaves over is
        a worker's: it may have to wait longer than this caller, who is back at *latest*. Only an interrupt is raised;
        *flight* may still be up then, with nobody to carry it. Not for a worker: it may not block.
        """
        if not self._batcher.embark():
            return False
        rest = grant = None
        # What a worker may not do, callbacks on this thread may not do either, as long as it holds a permit.
        self._thread.works = True
        try:
            grant = self._endpoint.try_grant()
            if grant is None:
                return False
            rest = self._caller.fly_once(self._batcher.alone(flight), grant, latest)
            return True
        except BaseException:
            if grant is not None:
                grant.cancel()
            raise
        finally:
            self._thread.works = False
            if rest is None:
                self._batcher.disembark()
            else:
                self._continue(rest, flight)

    def run_here(self) -> None:
        """Carry one batch on the calling thread, as the ``caller_runs`` overflow policy has it."""
        self._batcher.enlist()
        try:
            self._turn(keep=False)
        finally:
            self.call_workers()

    @property
    def on_worker(self) -> bool:
        """Return whether the calling thread is a worker, as in a callback: it must not wait for the others."""
        return getattr(self._thread, "works", False)

    def close(self) -> None:
        """Wait for the workers to finish; what they carry ends by its deadline or with the transport."""
        self._executor.shutdown(wait=not self.on_worker)

    def _start(self, workers: int) -> None:
        for started in range(workers):
            try:
                self._executor.submit(self._work)
            except RuntimeError as error:  # the interpreter or the client is shutting down
                for _ in range(workers - started):
                    self._batcher.dismiss()
                if not self._batcher.workers:
                    closed = ClientClosed("no thread can be started any more")
                    closed.__cause__ = error
                    self._refuse(math.inf, closed)
                return

    def _continue(self, rest: Callable[[], None], flight: Flight) -> None:
        try:
            self._executor.submit(self._finish, rest)
        except RuntimeError as error:  # the interpreter or the client is shutting down
            self._batcher.disembark()
            closed = ClientClosed("no thread can be started any more")
            closed.__cause__ = error
            self._land([(flight, closed)])

    def _finish(self, rest: Callable[[], None]) -> None:
        self._thread.works = True
        try:
            rest()
        finally:
            self._thread.works = False
            self._batcher.disembark()

    def _work(self) -> None:
        self._thread.works = True
        while self._turn():
            pass
        self._thread.works = False

    def _turn(self, *, keep: bool = True) -> bool:
        """Obtain the right to send, seal, fly; return whether to go on. Called by a seeking worker only."""
        head = self._batcher.head()
        if head is None:
            return False
        try:
            grant = self._endpoint.grant(Deadline(head, self._clock), self._closing)
        except BaseException as error:
            self._refuse_head(head, error)
            if not isinstance(error, Exception):
                self._batcher.dismiss()
                raise
            if not keep:
                self._batcher.dismiss()
            return keep
        batch, workers = self._batcher.seal(self._endpoint.estimate())
        if batch is None:
            grant.cancel()
            return False
        try:
            self._start(workers)
        finally:
            hedger = self._caller.hedger
            if hedger is None or batch.news or hedger.policy.afford_request():
                self._caller.fly(batch, grant)
            else:
                # Late texts alone, and no request to spare: they stay with the call they are under way with.
                grant.cancel()
        if keep:
            return self._batcher.again()
        self._batcher.leave()
        return False

    def _refuse_head(self, head: float, error: BaseException) -> None:
        if isinstance(error, (CircuitOpen, ClientClosed)):
            # What waits behind would hear the same.
            self._refuse(math.inf, error)
        elif isinstance(error, CosyError):
            # No place or pace before that deadline: those that can wait longer go on waiting.
            self._refuse(head, error)
        else:
            logger.exception("a worker failed to obtain the right to send")
            fault = CosyError(f"unexpected {type(error).__name__} before sending; please report it")
            fault.__cause__ = error
            self._refuse(head, fault)

    def _refuse(self, before: float, error: CosyError) -> None:
        self._land([(flight, error) for flight in self._batcher.take_due(before)])

    def __repr__(self) -> str:
        return f"<Dispatcher {self._batcher!r}>"
