"""One batch from sealed to resolved: attempts, what each left over, and the wait before the next."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cosyclient.clock import Cancellation, Deadline
from cosyclient.endpoints.endpoint import Permit
from cosyclient.errors import (
    Attempt,
    BadRequest,
    ClientClosed,
    CosyError,
    DeadlineExceeded,
    DecodeError,
    Rejected,
    RetryBudgetSpent,
    ServiceFault,
)
from cosyclient.events import AttemptFinished, BatchSealed, Events, RetryScheduled, raised_by_signal
from cosyclient.models import Speech, has_speech
from cosyclient.protocols.replies.speech import silent_speech_or_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cosyclient.audio.rate_check import SampleRateCheck
    from cosyclient.clock import Clock, Flag
    from cosyclient.config import TimeoutConfig
    from cosyclient.endpoints.endpoint import Endpoint
    from cosyclient.models import Utterance
    from cosyclient.pipeline.calls.advice import Advice
    from cosyclient.pipeline.calls.hedging import Hedger
    from cosyclient.pipeline.queue.batch import Batch, Holder, PendingText
    from cosyclient.pipeline.queue.coalescer import Coalescer, Completion
    from cosyclient.policies.budget import RetryBudget
    from cosyclient.policies.retry import RetryPolicy
    from cosyclient.protocols.base import Item, WireProtocol
    from cosyclient.wire import WireRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """Fly batches: hold what all calls share, so that a `Call` is only what one batch needs.

    *land* resolves texts with their speeches or errors on behalf of a call; it never raises, and one resolved
    before stays as it is. *hedger* is there if late texts are to travel once more, *rates* if the service names none.
    """

    protocol: WireProtocol
    endpoint: Endpoint
    retry: RetryPolicy
    budget: RetryBudget
    timeouts: TimeoutConfig
    clock: Clock
    closing: Flag
    events: Events
    advice: Advice
    coalescer: Coalescer
    hedger: Hedger | None
    rates: SampleRateCheck | None
    complete: Callable[[Iterable[Completion], Sequence[Attempt], Holder], None]


class _AttemptState:
    """Keep what one try has to show so far."""

    __slots__ = ("_endpoint", "again", "audio", "error", "failed", "number", "started", "text_count", "unanswered")

    def __init__(self, texts: Sequence[PendingText], *, number: int, endpoint: str, started: float) -> None:
        self.number = number
        self.started = started
        self.text_count = len(texts)
        self.unanswered = dict(enumerate(texts))
        self.again: dict[PendingText, CosyError] = {}
        self.failed = 0
        self.audio = 0.0
        """Seconds expected of the texts that were spoken."""
        self.error: CosyError | None = None
        self._endpoint = endpoint

    def attempt(self, now: float, error: CosyError | None) -> Attempt:
        """Return it as callers see it."""
        return Attempt(self.number, self._endpoint, self.started, now - self.started, error)


class BatchCall:
    """Carry one batch through its attempts, the first of them with *permit*; lives on one thread at a time."""

    def __init__(self, context: CallContext, batch: Batch, permit: Permit) -> None:
        self._context = context
        self._texts = batch.texts
        self._permit = permit
        self._acquired = True
        self._schedule = context.retry.schedule()
        self._attempts: list[Attempt] = []
        self._cancellation = Cancellation()
        self._spent = 0
        # Events name the batch by its first key; a key names one body, and changes with it.
        self._name = self._key = uuid.uuid4().hex
        self._request: WireRequest | None = None
        self._pending: list[PendingText] = []

    def run(self, left: dict[PendingText, CosyError] | None = None) -> None:
        """Fly until nothing is left; every text is resolved then and the permit is back.

        *left* is what a first attempt left over. Only an interrupt is raised: what has not landed is nobody's then.
        """
        try:
            if left is None:
                self._begin()
            self._run(left)
        finally:
            try:
                self.release()
            except BaseException:  # an interrupt amid the giving back: once more
                self.release()
                raise

    def run_once(self, latest: float) -> dict[PendingText, CosyError]:
        """Fly once, on a thread that has to be back at *latest*; return what is left for `run` to do elsewhere.

        Only an interrupt is raised. Unless it is run on, the caller is to `end` it.
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
                self._keep_pending(self._pause(left))
                left = self._attempt()
        except Exception as error:
            if raised_by_signal(error):
                raise
            # A fault of our own must not leave callers waiting for ever.
            self._fail_all(error)

    def release(self) -> None:
        """Give the permit back and let go of the texts; again does nothing."""
        self._permit.cancel()
        self._context.coalescer.detach(self._texts, self)

    def _begin(self) -> None:
        for text in self._texts:
            if not text.hedged:
                text.attempts = self._attempts
        self._context.coalescer.attach(self._texts, self)
        # Looked at after the line above: whoever gives up from now on is heard of.
        self._pending = [text for text in self._texts if not text.done]
        if self._context.events.wanted and self._pending:
            self._emit_sealed(self._pending)

    def _keep_pending(self, left: Mapping[PendingText, CosyError]) -> None:
        # In the order they were sent, which the bytes kept for another try still have.
        still = [text for text in self._pending if text in left]
        if len(still) != len(self._pending):
            self._drop_key()
        self._pending = still

    def cancel_if_unwanted(self) -> None:
        """Break the attempt off when none of its texts is wanted any more: its thread has better things to do."""
        if all(text.done for text in self._texts):
            self._cancellation.cancel()

    def unanswered(self) -> list[PendingText]:
        """Return the texts that have not landed and travel with this call alone."""
        return [text for text in self._pending if not (text.done or text.hedged)]

    def _attempt(self, latest: float = math.inf) -> dict[PendingText, CosyError]:
        """Send what is pending once, resolve what is final, and return what failed but may travel again."""
        texts = self._pending
        if not texts:
            return {}
        context, clock = self._context, self._context.clock
        deadline = Deadline(min(latest, max(text.deadline for text in texts)), clock)
        if not self._acquired:
            self._permit = Permit(context.endpoint)
            context.endpoint.acquire(self._permit, deadline, context.closing)
        permit, self._acquired = self._permit, False
        # The same texts are the same bytes and the same key; encoded once, sent per attempt.
        utterances = [text.utterance for text in texts]
        request = self._request
        if request is None:
            self._key = self._key or uuid.uuid4().hex
            encoded = context.protocol.encode(utterances, key=self._key)
            request = self._request = encoded.with_headers(utterances[0].settings.sent_headers)
        this = _AttemptState(texts, number=len(self._attempts) + 1, endpoint=permit.endpoint.name, started=clock.now())
        expected = math.fsum(text.audio_seconds for text in texts)
        given = min(text.deadline - text.queued_at for text in texts)
        permit.start(this.started, retry=this.number > 1, audio=expected, time_limit=given)
        hedger, watch = context.hedger, None
        if hedger is not None:
            watch = hedger.start(self, len(self.unanswered()))
        try:
            self._exchange(this, permit, request, utterances, expected, deadline)
        except CosyError as error:
            permit.endpoint.redact(error, self._given_headers)
            context.advice.add(error, request)
            this.error = self._explain(error, this, permit, clock.now(), deadline)
        finally:
            if hedger is not None:
                # One broken off because its hedge had won tells as much as one that came through.
                told = this.error is None or self._cancellation.cancelled
                hedger.finish(watch, clock.now() - this.started if told else None)
        permit.finish(this.error, clock.now(), returned=this.audio)
        self._record(this)
        self._split_failures(this, deadline)
        return this.again

    def _exchange(
        self,
        this: _AttemptState,
        permit: Permit,
        request: WireRequest,
        utterances: Sequence[Utterance],
        expected: float,
        deadline: Deadline,
    ) -> None:
        """Send, and resolve the texts as they are answered."""
        context = self._context
        reply = permit.endpoint.transport.send(
            request,
            deadline=deadline,
            # A time-out is a guess: each try is given twice the time of the one before.
            read_timeout=max(context.timeouts.of_reads(expected) * 2.0 ** (this.number - 1), permit.read_timeout),
            cancellation=self._cancellation,
        )
        try:
            # A refusal says it as well, and there it matters most: before decoding, which raises.
            if (quota := context.protocol.quota(reply)) is not None:
                permit.endpoint.apply_quota(quota)
            for items in context.protocol.decode(reply, utterances, wall=context.clock.wall()):
                self._complete_items(this, items)
        finally:
            reply.close()
        # A finished reply is replayed for its key: what it lacks has to be asked for under another.
        self._drop_key()
        if this.unanswered:
            raise DecodeError(f"the reply left {len(this.unanswered)} of {len(utterances)} texts out")

    def _complete_items(self, this: _AttemptState, items: Sequence[Item]) -> None:
        spoken: list[Completion] = []
        for position, item in items:
            text = this.unanswered.pop(position)
            if isinstance(item, Speech):
                spoken.append((text, item))
                this.audio += text.audio_seconds
                if self._context.rates is not None and has_speech(text.utterance.text):
                    self._context.rates.record(round(item.duration * item.sample_rate), item.sample_rate)
                continue
            this.failed += 1
            self._context.endpoint.redact(item, self._given_headers)
            if item.retryable:
                this.again[text] = item
            else:
                attempt = this.attempt(self._context.clock.now(), item)
                self._context.complete([(text, _stand_in(text, item))], [*self._attempts, attempt], self)
        self._context.complete(spoken, self._attempts, self)

    @property
    def _given_headers(self) -> tuple[tuple[str, str], ...]:
        # Those of the texts, which share their settings: a request is gone once its reply is finished.
        headers = self._texts[0].utterance.settings.sent_headers
        return headers.fields() if headers is not None else ()

    def _explain(
        self, error: CosyError, this: _AttemptState, permit: Permit, now: float, deadline: Deadline
    ) -> CosyError:
        """Return *error* with what only the call knows about it."""
        if self._cancellation.cancelled:
            # Broken off by us, because the callers changed their minds or because their deadline passed.
            kind = DeadlineExceeded if deadline.expired else Rejected
            broken_off = kind("nobody waits for these texts any more", sent=True)
            broken_off.__cause__ = error
            error = broken_off
        if isinstance(error, DecodeError):
            self._drop_key()
        elif isinstance(error, DeadlineExceeded):
            # To blame for letting it pass is only a service that was given a fair time and answered nothing meanwhile,
            # to nobody: one that is slow, or that we gave too much to do, works.
            fair = now - this.started >= max(self._context.timeouts.first_byte, permit.expected)
            silent = not this.audio and permit.endpoint.silent_since(this.started)
            error.endpoint_fault = fair and silent
        elif isinstance(error, ServiceFault) and not any(has_speech(each.utterance.text) for each in self._pending):
            # Servers stumble over a text without speech, and are well with every other.
            error.endpoint_fault = False
        return error

    def _record(self, this: _AttemptState) -> None:
        context = self._context
        attempt = this.attempt(context.clock.now(), this.error or next(iter(this.again.values()), None))
        self._attempts.append(attempt)
        if attempt.error is None:
            context.budget.deposit(self._spent)
        if context.events.wanted:
            context.events.emit(
                AttemptFinished(
                    endpoint=attempt.endpoint,
                    batch=self._name,
                    number=attempt.number,
                    texts=this.text_count,
                    failed=this.failed + len(this.unanswered),
                    latency=attempt.latency,
                    error=this.error,
                )
            )

    def _split_failures(self, this: _AttemptState, deadline: Deadline) -> None:
        """Resolve the unanswered that will not travel again, and add the others to those that will."""
        if (error := this.error) is None:
            return
        late = isinstance(error, DeadlineExceeded)
        final: list[Completion] = []
        for text in this.unanswered.values():
            # The deadline may be that of callers who have given up; one who joined later takes over.
            if text.deadline > deadline.at if late else error.retryable:
                this.again[text] = error
            else:
                final.append((text, _stand_in(text, error) if this.text_count == 1 else error))
        self._context.complete(final, self._attempts, self)
        # Said after the others were told: to them it is final.
        error.retryable = bool(this.again) if late else error.retryable

    def _pause(self, left: dict[PendingText, CosyError]) -> dict[PendingText, CosyError]:
        """Wait as the retry policy says; return those that still want to travel, the others are resolved."""
        left = {text: error for text, error in left.items() if not text.done}
        if not left:
            return {}
        context, clock = self._context, self._context.clock
        # The longest wait asked for decides; texts without one follow the schedule.
        error = max(left.values(), key=lambda each: each.retry_after or 0.0)
        latest = max(text.deadline for text in left)
        wait = self._schedule.next_wait(error, remaining=latest - clock.now())
        if wait is None:
            self._complete_all(left)
            return {}
        cost = context.budget.withdraw(throttled=error.throttled)
        if not cost:
            self._complete_all({text: budget_spent(each) for text, each in left.items()})
            return {}
        self._spent += cost
        wakes = clock.now() + wait
        self._complete_all({text: each for text, each in left.items() if text.deadline <= wakes})
        patient = {text: each for text, each in left.items() if text.deadline > wakes}
        if patient:
            context.events.emit(
                RetryScheduled(
                    endpoint=context.endpoint.name,
                    batch=self._name,
                    number=len(self._attempts) + 1,
                    texts=len(patient),
                    wait=wait,
                    error=error,
                )
            )
            if clock.sleep(wait, context.closing):
                closed = ClientClosed("the client was closed before this text's next attempt")
                closed.__cause__ = error
                self._complete_all(dict.fromkeys(patient, closed))
                return {}
        # Those whose callers have all given up meanwhile need not be paid for.
        return {text: each for text, each in patient.items() if not text.done}

    def _complete_all(self, left: Mapping[PendingText, CosyError]) -> None:
        self._context.complete(left.items(), self._attempts, self)

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
                endpoint=context.endpoint.name,
                batch=self._name,
                texts=len(texts),
                characters=sum(len(text.utterance.text) for text in texts),
                waited=context.clock.now() - min(text.queued_at for text in texts),
            )
        )


def _stand_in(text: PendingText, error: CosyError) -> Speech | CosyError:
    """Return what a text becomes that failed for good: silence, if its text is without speech and may be that.

    Some services refuse such a text where others make nothing of it.
    """
    utterance = text.utterance
    wanted = utterance.settings.on_silent == "silence" and not has_speech(utterance.text)
    return silent_speech_or_error(utterance, str(error)) if wanted and isinstance(error, BadRequest) else error


def budget_spent(error: CosyError) -> RetryBudgetSpent:
    """Return what *error* becomes where the budget has nothing left for another try."""
    spent = RetryBudgetSpent(
        f"not tried again, the retry budget is spent: {error}", sent=error.sent, retry_after=error.retry_after
    )
    spent.__cause__ = error
    return spent
