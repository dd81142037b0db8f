"""The bounded executor: workers that first obtain the right to send and then seal what waits."""

from __future__ import annotations

import logging
import math
import threading
from functools import partial
from typing import TYPE_CHECKING

from cosyclient.clock import Deadline
from cosyclient.endpoints.endpoint import Permit
from cosyclient.errors import CircuitOpen, ClientClosed, CosyError
from cosyclient.pipeline.calls.batch_call import BatchCall
from cosyclient.pipeline.calls.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from cosyclient.clock import Clock, Flag
    from cosyclient.endpoints.endpoint import Endpoint
    from cosyclient.pipeline.calls.batch_call import CallContext
    from cosyclient.pipeline.queue.batch import Batch, PendingText
    from cosyclient.pipeline.queue.batcher import Batcher
    from cosyclient.pipeline.queue.coalescer import Completion

logger = logging.getLogger("cosyclient")


class Dispatcher:
    """Start as many workers as the waiting texts are worth, and let each carry batches until none is left."""

    def __init__(
        self,
        *,
        batcher: Batcher,
        endpoint: Endpoint,
        context: CallContext,
        workers: int,
        executor: Executor | None,
        clock: Clock,
        closing: Flag,
        land: Callable[[list[Completion]], None],
    ) -> None:
        self._batcher = batcher
        self._endpoint = endpoint
        self._context = context
        self._clock = clock
        self._closing = closing
        self._complete = land
        self._thread = threading.local()
        self._workers = Workers(
            workers,
            call=batcher.claim_workers,
            work=self._work,
            idle=lambda: batcher.idle,
            under_way=context.coalescer.pending_check,
            executor=executor,
        )

    def dispatch(self, texts: Sequence[PendingText]) -> None:
        """Queue *texts*, those that are not, and wake the workers they need."""
        if self._batcher.enqueue(texts):
            self._workers.wake()

    def start_workers(self) -> None:
        """Start the workers that the queue is worth."""
        if self._batcher.needs_workers:
            self._workers.wake()

    def run_inline(self, text: PendingText, latest: float) -> bool:
        """Fly *text* on the calling thread if nothing else waits and it may leave at once; return whether it did.

        Two hand-overs between threads would cost a lone text more than all else. What a first attempt leaves over is
        a worker's: it may have to wait longer than this caller, who is back at *latest*. Only an interrupt is raised;
        *text* may still be up then, with nobody to carry it. Not for a worker: it may not block.
        """
        permit = Permit(self._endpoint)
        call: BatchCall | None = None
        handed_over = False
        try:
            if not self._batcher.begin_inline(permit):
                return False
            # What a worker may not do, callbacks on this thread may not do either, as long as it holds a permit.
            self._thread.works = True
            if not self._endpoint.try_acquire(permit):
                return False
            call = BatchCall(self._context, self._batcher.single(text), permit)
            if left := call.run_once(latest):
                self._workers.submit(partial(self._finish_inline, call, left, permit))
                handed_over = True
            return True
        finally:
            self._thread.works = False
            if not handed_over:
                try:
                    self._end_inline(permit, call)
                except BaseException:  # an interrupt amid the giving back: once more
                    self._end_inline(permit, call)
                    raise

    def run_on_caller(self) -> None:
        """Carry one batch on the calling thread, as the ``caller_runs`` overflow policy has it."""
        permit = Permit(self._endpoint)
        sealed: list[Batch] = []
        try:
            self._batcher.add_inline(permit)
            self._thread.works = True
            self._send_batch(permit, sealed, worker=False)
        finally:
            self._thread.works = False
            try:
                self._end_on_caller(permit, sealed)
            except BaseException:  # an interrupt amid the giving back: once more
                self._end_on_caller(permit, sealed)
                raise

    @property
    def on_worker_thread(self) -> bool:
        """Return whether the calling thread is a worker, as in a callback: it must not wait for the others."""
        return getattr(self._thread, "works", False)

    def close(self, *, wait: bool) -> None:
        """Let the workers finish, and *wait* for that; what they carry ends by its deadline or with the transport."""
        self._workers.close(wait=wait)

    def _end_inline(self, permit: Permit, call: BatchCall | None) -> None:
        """Give back what a thread that carries its own text holds."""
        if call is not None:
            call.release()
        permit.cancel()
        self._batcher.end_inline(permit)

    def _end_on_caller(self, permit: Permit, sealed: Sequence[Batch]) -> None:
        """Give back what a thread that carries for others holds: their texts go on without it if it was interrupted."""
        permit.cancel()
        left = [text for batch in sealed for text in batch.texts if not (text.done or text.calls)]
        if left:
            self._batcher.restore(left)
        self._batcher.end_inline(permit)
        self.start_workers()

    def _finish_inline(self, call: BatchCall, left: dict[PendingText, CosyError], permit: Permit) -> None:
        # Once more: an interrupt just after the handing over has taken it off.
        self._batcher.add_inline(permit)
        self._thread.works = True
        try:
            call.run(left)
        finally:
            self._thread.works = False
            self._batcher.end_inline(permit)

    def _work(self) -> None:
        self._thread.works = True
        try:
            while self._send_batch(Permit(self._endpoint), []):
                if not threading.main_thread().is_alive():
                    # The interpreter waits for this thread; what is asked of it from now on is not its affair.
                    self._batcher.release_worker()
                    self.start_workers()
                    return
        finally:
            self._thread.works = False

    def _send_batch(self, permit: Permit, sealed: list[Batch], *, worker: bool = True) -> bool:
        """Obtain the right to send, seal, fly; return whether to go on. Called by a seeking worker, or by none."""
        seeking = worker
        try:
            head = self._batcher.next_deadline()
            if head is None:
                return False
            try:
                self._endpoint.acquire(permit, Deadline(head, self._clock), self._closing)
            except Exception as error:  # noqa: BLE001 - told to those who wait
                permit.cancel()
                self._fail_next(head, error)
                seeking = False
                return worker
            batch = self._batcher.seal(self._endpoint.estimate(), worker=worker, into=sealed)
            if batch is None:
                permit.cancel()
                return False
            seeking = False
        finally:
            if seeking:
                self._batcher.release_worker()
                # Whoever queued a text meanwhile saw one that seeks, and called no other.
                self.start_workers()
        try:
            self.start_workers()
            hedger = self._context.hedger
            if hedger is None or batch.first_sends or hedger.policy.withdraw_request():
                BatchCall(self._context, batch, permit).run()
            else:
                # Late texts alone, and no request to spare: they stay with the call they are under way with.
                permit.cancel()
        except BaseException as error:
            if not worker:
                raise
            # No interrupt finds a worker. What else comes this far must not take the others' texts with it.
            permit.cancel()
            logger.exception("a worker failed")
            self._complete([(text, _unexpected(error)) for text in batch.texts])
        return worker and self._batcher.continue_worker()

    def _fail_next(self, head: float, error: Exception) -> None:
        if isinstance(error, (CircuitOpen, ClientClosed)):
            # What waits behind would hear the same.
            self._fail_due(math.inf, error)
        elif isinstance(error, CosyError):
            # No place or pace before that deadline: those that can wait longer go on waiting.
            self._fail_due(head, error)
        else:
            logger.exception("a worker failed to obtain the right to send")
            self._fail_due(head, _unexpected(error))

    def _fail_due(self, before: float, error: CosyError) -> None:
        self._complete([(text, error) for text in self._batcher.pop_due(before)])

    def __repr__(self) -> str:
        return f"<Dispatcher {self._batcher!r}>"


def _unexpected(error: BaseException) -> CosyError:
    fault = CosyError(f"unexpected {type(error).__name__} while a text was to be sent; please report it")
    fault.__cause__ = error
    return fault
