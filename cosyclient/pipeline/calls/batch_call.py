"""One batch from sealed to resolved: its attempts, what each leaves over, and the waits between them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from cosyclient.clock import Cancellation, Deadline
from cosyclient.errors import BadRequest, CosyError, DeadlineExceeded, DecodeError, Rejected
from cosyclient.events import BatchSealed, raised_by_signal
from cosyclient.models import Speech, has_speech
from cosyclient.pipeline.calls.execution import Execution
from cosyclient.pipeline.calls.retrying import RetryLoop
from cosyclient.protocols.replies.speech import silent_speech_or_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cosyclient.endpoints.endpoint import Permit
    from cosyclient.errors import Attempt
    from cosyclient.pipeline.calls.context import CallContext
    from cosyclient.pipeline.calls.hedging import Hedger
    from cosyclient.pipeline.calls.outage import Outage
    from cosyclient.pipeline.queue.batch import Batch
    from cosyclient.pipeline.queue.coalescer import Coalescer, Completion
    from cosyclient.pipeline.queue.pending import PendingText
    from cosyclient.protocols.base import Item
    from cosyclient.wire import WireRequest


class BatchContext(NamedTuple):
    """Hold what all batches of one client share: texts end through the outage, which keeps those that can wait."""

    calls: CallContext
    coalescer: Coalescer
    outage: Outage
    hedger: Hedger | None


class _AttemptState:
    """Sort the texts of one attempt by what became of them so far."""

    __slots__ = ("audio_seconds", "error", "failed", "retry", "unanswered")

    def __init__(self, texts: Sequence[PendingText]) -> None:
        self.unanswered = dict(enumerate(texts))
        """By position in the request."""
        self.retry: dict[PendingText, CosyError] = {}
        """Those that failed and may be sent again, with why."""
        self.failed = 0
        self.audio_seconds = 0.0
        """Seconds expected of the texts that were spoken."""
        self.error: CosyError | None = None
        """What the attempt as a whole failed with."""


class BatchCall:
    """Take one batch through its attempts, the first of them under *permit*; runs on one thread at a time.

    `_begin` claims the texts. Then, until no text is left:

    1. `_attempt` sends what is pending, under a permit, and reads the reply;
    2. `_complete_items` resolves the texts that the reply answers for good, while it is read;
    3. `_split_failures` resolves those that failed for good, and keeps the others;
    4. `_wait` waits as the retry policy says, and resolves those that cannot wait so long;
    5. `_keep_pending` makes what is left the texts of the next attempt.

    `release` gives back permit and texts. Texts end through `Outage.complete`, which holds those of bulk calls that can
    wait for a service that is down.
    """

    def __init__(self, context: BatchContext, batch: Batch, permit: Permit) -> None:
        self._context, self._coalescer, self._outage, self._hedger = context
        self._texts = batch.texts
        self._permit = permit
        self._first = True
        self._attempts: list[Attempt] = []
        self._cancellation = Cancellation()
        # Events name the batch by its first key; a key stands for one body, and changes with it.
        self._name = self._key = self._context.new_key()
        self._retries = RetryLoop(self._context, self._name)
        self._request: WireRequest | None = None
        self._pending: list[PendingText] = []

    def run(self, left: dict[PendingText, CosyError] | None = None) -> None:
        """Send until nothing is left; every text is resolved then and the permit is given back.

        *left* is what a first attempt left over. Only an interrupt is raised: texts that are not done then belong to
        no call.
        """
        try:
            if left is None:
                self._begin()
            self._run(left)
        finally:
            try:
                self.release()
            except BaseException:  # an interrupt during the release: once more
                self.release()
                raise

    def run_once(self, latest: float) -> dict[PendingText, CosyError]:
        """Send once, on a thread that must be back at *latest*; return what is left for `run` to do on another thread.

        Only an interrupt is raised. Unless `run` follows, the caller must call `release`.
        """
        self._begin()
        try:
            return self._attempt(latest)
        except Exception as error:
            if raised_by_signal(error):
                raise
            self._fail_all(error)
            return {}

    def _run(self, left: dict[PendingText, CosyError] | None) -> None:
        try:
            if left is None:
                left = self._attempt()
            while left:
                self._keep_pending(self._wait(left))
                left = self._attempt()
        except Exception as error:
            if raised_by_signal(error):
                raise
            # A fault of our own must not leave callers waiting for ever.
            self._fail_all(error)

    def release(self) -> None:
        """Give the permit back and let go of the texts; again does nothing."""
        self._permit.cancel()
        self._coalescer.detach(self._texts, self)

    def cancel_if_unwanted(self) -> None:
        """Abort the attempt if none of its texts is wanted any more: its thread is needed elsewhere."""
        if all(text.done for text in self._texts):
            self._cancellation.cancel()

    def unanswered(self) -> list[PendingText]:
        """Return the texts that are not done and that no other call carries."""
        return [text for text in self._pending if not (text.done or text.hedged)]

    @property
    def endpoint(self) -> str:
        """Return the name of the endpoint of the latest attempt."""
        return self._permit.endpoint.name

    def _begin(self) -> None:
        for text in self._texts:
            if not text.hedged:
                text.attempts = self._attempts
        self._coalescer.attach(self._texts, self)
        # Looked at after `attach`: a waiter that gives up from now on calls `cancel_if_unwanted`.
        self._pending = [text for text in self._texts if not text.done]
        if self._context.events.wanted and self._pending:
            self._emit_sealed(self._pending)

    def _keep_pending(self, left: Mapping[PendingText, CosyError]) -> None:
        # In the order they were sent, which the bytes kept for another attempt still have.
        still = [text for text in self._pending if text in left]
        if len(still) != len(self._pending):
            self._drop_key()
        self._pending = still

    def _attempt(self, latest: float = math.inf) -> dict[PendingText, CosyError]:
        """Send what is pending once, resolve what is final, and return what failed and may be sent again."""
        texts = self._pending
        if not texts:
            return {}
        context = self._context
        last, audio_seconds, time_limit = -math.inf, 0.0, math.inf
        for text in texts:
            last = max(last, text.deadline)
            audio_seconds += text.audio_seconds
            time_limit = min(time_limit, text.deadline - text.queued_at)
        deadline = Deadline(min(latest, last), context.clock)
        if not self._first:
            self._permit = context.endpoint.permit()
            context.endpoint.acquire(self._permit, deadline, context.closing)
        self._first = False
        # The same texts are the same bytes and the same key: encoded once, sent in each attempt.
        utterances = [text.utterance for text in texts]
        headers = utterances[0].settings.checked_headers
        if self._request is None:
            self._key = self._key or self._context.new_key()
            self._request = context.protocol.encode(utterances, key=self._key).with_headers(headers)
        number = len(self._attempts) + 1
        execution = Execution(
            context, self._permit, self._request, name=self._name, number=number, texts=len(texts), headers=headers
        )
        this = _AttemptState(texts)
        hedger, check = self._hedger, None
        if hedger is not None:
            check = hedger.start(self, len(self.unanswered()))
        try:
            reply = execution.open(
                deadline=deadline,
                audio_seconds=audio_seconds,
                time_limit=time_limit,
                cancellation=self._cancellation,
            )
            try:
                for items in context.protocol.decode(reply, utterances, wall=context.clock.wall()):
                    self._complete_items(this, execution, items)
            finally:
                reply.close()
            # A finished reply is replayed for its key: what it lacks has to be asked for under another.
            self._drop_key()
            if this.unanswered:
                raise DecodeError(f"the reply left {len(this.unanswered)} of {len(texts)} texts out")
        except CosyError as error:
            execution.explain(error)
            this.error = self._aborted(error, deadline) if self._cancellation.cancelled else error
            if isinstance(error, DecodeError):
                self._drop_key()
        finally:
            if hedger is not None:
                # An attempt that was aborted because its hedge had won tells as much as one that succeeded.
                telling = this.error is None or self._cancellation.cancelled
                hedger.finish(check, context.clock.now() - execution.started if telling else None)
        attempt = execution.finish(
            this.error,
            returned=this.audio_seconds,
            # Only of use where there is an error.
            speakable=this.error is None or any(has_speech(text.utterance.text) for text in texts),
            failed=this.failed + len(this.unanswered),
            recorded=next(iter(this.retry.values()), None),
        )
        self._attempts.append(attempt)
        if attempt.error is None:
            self._retries.succeeded()
        self._split_failures(this, len(texts), deadline)
        return this.retry

    def _complete_items(self, this: _AttemptState, execution: Execution, items: Sequence[Item]) -> None:
        """Resolve the texts that *items* of the reply answer for good."""
        spoken: list[Completion] = []
        rates = self._context.rates
        for position, item in items:
            text = this.unanswered.pop(position)
            if isinstance(item, Speech):
                spoken.append((text, item))
                this.audio_seconds += text.audio_seconds
                if rates is not None and has_speech(text.utterance.text):
                    rates.record(round(item.duration * item.sample_rate), item.sample_rate)
                continue
            this.failed += 1
            execution.redact(item)
            if item.retryable:
                this.retry[text] = item
            else:
                attempts = [*self._attempts, execution.attempt_so_far(item)]
                self._outage.complete([(text, _silence_or(text, item))], attempts, self)
        # Speeches pass the outage as failures do: it is the one way to the completer, and holds back errors only.
        self._outage.complete(spoken, self._attempts, self)

    def _aborted(self, error: CosyError, deadline: Deadline) -> CosyError:
        """Return what *error* becomes in an attempt that we aborted: its waiters gave up, or their deadline passed."""
        kind = DeadlineExceeded if deadline.expired else Rejected
        aborted = kind("nobody waits for these texts any more", sent=True)
        aborted.__cause__ = error
        return aborted

    def _split_failures(self, this: _AttemptState, count: int, deadline: Deadline) -> None:
        """Resolve those of the *count* texts that stay unanswered for good, and keep the others for another attempt."""
        if (error := this.error) is None:
            return
        late = isinstance(error, DeadlineExceeded)
        left = this.unanswered.values()
        again: Iterable[PendingText] = ()
        if late:
            # The deadline may be that of waiters who have given up; a later one of a waiter who joined takes over.
            again = [text for text in left if text.deadline > deadline.at]
        elif error.retryable:
            again = left
        this.retry.update(dict.fromkeys(again, error))
        final = [(text, _silence_or(text, error) if count == 1 else error) for text in left if text not in this.retry]
        self._outage.complete(final, self._attempts, self)
        if late:
            # Set after the others got the error: for them it is final.
            error.retryable = bool(this.retry)

    def _wait(self, left: dict[PendingText, CosyError]) -> dict[PendingText, CosyError]:
        """Wait as the retry policy says; return the texts to be sent again, with the others resolved."""
        left = {text: error for text, error in left.items() if not text.done}
        if not left:
            return {}
        clock, retries = self._context.clock, self._retries
        # The longest wait that was asked for decides; texts without one follow the schedule.
        error = max(left.values(), key=lambda each: each.retry_after or 0.0)
        wait = retries.next_wait(error, remaining=max(text.deadline for text in left) - clock.now())
        if wait is None:
            self._complete_all({text: retries.final(each) for text, each in left.items()})
            return {}
        wakes = clock.now() + wait
        self._complete_all({text: each for text, each in left.items() if text.deadline <= wakes})
        again = {text: each for text, each in left.items() if text.deadline > wakes}
        if again and retries.sleep(wait, error, self._attempts, texts=len(again)):
            self._complete_all(dict.fromkeys(again, retries.closed(error)))
            return {}
        # Those whose waiters have all given up meanwhile are not sent.
        return {text: each for text, each in again.items() if not text.done}

    def _complete_all(self, left: Mapping[PendingText, CosyError]) -> None:
        self._outage.complete(left.items(), self._attempts, self)

    def _fail_all(self, error: BaseException) -> None:
        if not isinstance(error, CosyError):
            fault = CosyError(f"unexpected {type(error).__name__} while a batch was under way; please report it")
            fault.__cause__ = error
            error = fault
        elif self._attempts and (last := self._attempts[-1].error) is not None:
            error.__cause__ = last
        self._complete_all(dict.fromkeys(self._pending, error))

    def _drop_key(self) -> None:
        # An idempotency key stands for one body: fewer texts are a new request.
        self._key = ""
        self._request = None

    def _emit_sealed(self, texts: Sequence[PendingText]) -> None:
        context = self._context
        context.events.emit(
            BatchSealed(
                endpoint=self.endpoint,
                batch=self._name,
                texts=len(texts),
                characters=sum(len(text.utterance.text) for text in texts),
                waited=context.clock.now() - min(text.queued_at for text in texts),
            )
        )


def _silence_or(text: PendingText, error: CosyError) -> Speech | CosyError:
    """Return *error*, or silence for a *text* without speech whose caller asked for that.

    Some services refuse such a text where others return nothing for it.
    """
    utterance = text.utterance
    wanted = utterance.settings.on_silent == "silence" and not has_speech(utterance.text)
    return silent_speech_or_error(utterance, str(error)) if wanted and isinstance(error, BadRequest) else error
