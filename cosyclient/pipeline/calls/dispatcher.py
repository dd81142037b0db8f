"""The bounded executor: workers that first obtain a permit to send and then seal a batch of what waits."""

from __future__ import annotations

import logging
import math
import threading
from functools import partial
from typing import TYPE_CHECKING

from cosyclient.clock import Deadline
from cosyclient.errors import CircuitOpen, ClientClosed, CosyError
from cosyclient.pipeline.calls.batch_call import BatchCall, BatchContext
from cosyclient.pipeline.calls.hedging import Hedger
from cosyclient.pipeline.calls.outage import Outage
from cosyclient.pipeline.calls.workers import Workers
from cosyclient.policies.hedge import HedgePolicy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from cosyclient.config import HedgeConfig
    from cosyclient.endpoints.endpoint import Permit
    from cosyclient.pipeline.calls.context import CallContext
    from cosyclient.pipeline.queue.batch import Batch
    from cosyclient.pipeline.queue.batcher import Batcher
    from cosyclient.pipeline.queue.coalescer import Coalescer
    from cosyclient.pipeline.queue.completion import Completer
    from cosyclient.pipeline.queue.pending import PendingText

logger = logging.getLogger("cosyclient")


class Dispatcher:
    """Start as many workers as the waiting texts are worth; each sends batches until none is left.

    It owns what acts on its queue beside the workers: the outage, which sends held texts on once the service is back,
    and the hedger, which queues late texts once more.
    """

    def __init__(
        self,
        context: CallContext,
        *,
        coalescer: Coalescer,
        batcher: Batcher,
        completer: Completer,
        workers: int,
        executor: Executor | None,
        hedge: HedgeConfig,
        wait_for_service: float | None,
    ) -> None:
        self._context = context
        self._batcher = batcher
        self._thread = threading.local()
        self.outage = Outage(
            wait_for_service,
            endpoint=context.endpoint,
            coalescer=coalescer,
            completer=completer,
            dispatch=self.dispatch,
            clock=context.clock,
            events=context.events,
        )
        self.hedger = Hedger(HedgePolicy(hedge), context, batcher, self.start_workers) if hedge.extra else None
        self._batches = BatchContext(context, coalescer, self.outage, self.hedger)
        self._workers = Workers(
            workers,
            claim=batcher.claim_workers,
            work=self._work,
            idle=lambda: batcher.idle,
            under_way=coalescer.pending_check,
            executor=executor,
        )

    def dispatch(self, texts: Sequence[PendingText]) -> None:
        """Queue *texts*, those that are not, and start the workers they need."""
        if self._batcher.enqueue(texts):
            self._workers.wake()

    def start_workers(self) -> None:
        """Start the workers that the queue is worth."""
        if self._batcher.needs_workers:
            self._workers.wake()

    def run_inline(self, text: PendingText, latest: float) -> bool:
        """Send *text* on the calling thread if nothing else waits and a permit is free; return whether that was done.

        Handing a lone text to a worker and back costs more than all else it needs. What a first attempt leaves over
        goes to a worker: it may have to wait longer than this caller, who must be back at *latest*. Only an interrupt
        is raised; *text* may be pending then, held by no call. Not for a worker: it must not block.
        """
        permit = self._context.endpoint.permit()
        call: BatchCall | None = None
        handed_over = False
        try:
            if not self._batcher.begin_inline(permit):
                return False
            # Callbacks on this thread may not do what a worker may not, as long as it holds a permit.
            self._thread.is_worker = True
            if not self._context.endpoint.try_acquire(permit):
                return False
            call = BatchCall(self._batches, self._batcher.single(text), permit)
            if left := call.run_once(latest):
                self._workers.submit(partial(self._finish_inline, call, left, permit))
                handed_over = True
            return True
        finally:
            self._thread.is_worker = False
            if not handed_over:
                try:
                    self._end_inline(permit, call)
                except BaseException:  # an interrupt during the release: once more
                    self._end_inline(permit, call)
                    raise

    def run_on_caller(self) -> None:
        """Send one batch of what waits on the calling thread, as the overflow policy ``caller_runs`` asks for."""
        permit = self._context.endpoint.permit()
        sealed: list[Batch] = []
        try:
            self._batcher.add_inline(permit)
            self._thread.is_worker = True
            self._send_batch(permit, sealed, worker=False)
        finally:
            self._thread.is_worker = False
            try:
                self._end_on_caller(permit, sealed)
            except BaseException:  # an interrupt during the release: once more
                self._end_on_caller(permit, sealed)
                raise

    @property
    def on_own_thread(self) -> bool:
        """Return whether the calling thread is a worker or a timer, as in a callback: it must not wait for others."""
        return getattr(self._thread, "is_worker", False) or self.outage.on_own_thread

    def close(self, *, wait: bool) -> None:
        """Let the workers finish, and *wait* for that; their calls end by their deadline or with the transport."""
        if self.hedger is not None:
            self.hedger.close()
        self._workers.close(wait=wait)

    def _end_inline(self, permit: Permit, call: BatchCall | None) -> None:
        """Give back what a thread holds that sends its own text."""
        if call is not None:
            call.release()
        permit.cancel()
        self._batcher.end_inline(permit)

    def _end_on_caller(self, permit: Permit, sealed: Sequence[Batch]) -> None:
        """Give back what a thread holds that sends others' texts; if it was interrupted, they go on without it."""
        permit.cancel()
        left = [text for batch in sealed for text in batch.texts if not (text.done or text.calls)]
        if left:
            self._batcher.restore(left)
        self._batcher.end_inline(permit)
        self.start_workers()

    def _finish_inline(self, call: BatchCall, left: dict[PendingText, CosyError], permit: Permit) -> None:
        # Added once more: an interrupt just after the hand-over has ended it.
        self._batcher.add_inline(permit)
        self._thread.is_worker = True
        try:
            call.run(left)
        finally:
            self._thread.is_worker = False
            self._batcher.end_inline(permit)

    def _work(self) -> None:
        self._thread.is_worker = True
        try:
            while self._send_batch(self._context.endpoint.permit(), []):
                if not threading.main_thread().is_alive():
                    # The interpreter waits for this thread; later texts are for the threads of another reader.
                    self._batcher.release_worker()
                    self.start_workers()
                    return
        finally:
            self._thread.is_worker = False

    def _send_batch(self, permit: Permit, sealed: list[Batch], *, worker: bool = True) -> bool:
        """Wait to fill a batch, obtain the permit, seal, send; return whether to go on.

        Called by a seeking *worker*, or by no worker.
        """
        context, seeking = self._context, worker
        try:
            self._batcher.wait_to_fill()
            deadline = self._batcher.next_deadline()
            if deadline is None:
                return False
            try:
                context.endpoint.acquire(permit, Deadline(deadline, context.clock), context.closing)
            except Exception as error:  # noqa: BLE001 - given to the waiters
                permit.cancel()
                self._fail_next(deadline, error)
                seeking = False
                return worker
            batch = self._batcher.seal(context.endpoint.estimate(), worker=worker, into=sealed)
            if batch is None:
                permit.cancel()
                return False
            seeking = False
        finally:
            if seeking:
                self._batcher.release_worker()
                # A thread that queued a text meanwhile saw a seeking worker, and started no other.
                self.start_workers()
        try:
            self.start_workers()
            if self.hedger is None or batch.first_sends or self.hedger.policy.withdraw_request():
                BatchCall(self._batches, batch, permit).run()
            else:
                # Late texts alone, and no request to spare: they stay with the call that already carries them.
                permit.cancel()
        except BaseException as error:
            if not worker:
                raise
            # Workers are not interrupted. Any other failure must not take the others' texts with it.
            permit.cancel()
            logger.exception("a worker failed")
            self.outage.complete([(text, _unexpected(error)) for text in batch.texts])
        return worker and self._batcher.continue_worker()

    def _fail_next(self, deadline: float, error: Exception) -> None:
        if isinstance(error, (CircuitOpen, ClientClosed)):
            # All that wait would get the same error.
            self._fail_due(math.inf, error)
        elif isinstance(error, CosyError):
            # No permit or pace before that deadline: those that can wait longer go on waiting.
            self._fail_due(deadline, error)
        else:
            logger.exception("a worker failed to obtain a permit")
            self._fail_due(deadline, _unexpected(error))

    def _fail_due(self, before: float, error: CosyError) -> None:
        self.outage.complete([(text, error) for text in self._batcher.pop_due(before)])

    def __repr__(self) -> str:
        return f"<Dispatcher {self._batcher!r}>"


def _unexpected(error: BaseException) -> CosyError:
    fault = CosyError(f"unexpected {type(error).__name__} while a text was to be sent; please report it")
    fault.__cause__ = error
    return fault
