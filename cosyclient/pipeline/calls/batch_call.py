"""One batch from sealed to resolved: attempts, what each left over, and the wait before the next."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cosyclient.clock import Cancellation, Deadline
from cosyclient.endpoints.endpoint import Grant
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
from cosyclient.protocols.replies.speech import unspoken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cosyclient.audio.rate_check import RateWatch
    from cosyclient.clock import Clock, Flag
    from cosyclient.config import TimeoutConfig
    from cosyclient.endpoints.endpoint import Endpoint
    from cosyclient.models import Utterance
    from cosyclient.pipeline.calls.advice import Advice
    from cosyclient.pipeline.calls.hedging import Hedger
    from cosyclient.pipeline.queue.batch import Batch, Carrier, Flight
    from cosyclient.pipeline.queue.coalescer import Coalescer, Landing
    from cosyclient.policies.budget import RetryBudget
    from cosyclient.policies.retry import RetryPolicy
    from cosyclient.protocols.base import Item, WireProtocol
    from cosyclient.wire import WireRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Fly batches: hold what all calls share, so that a `Call` is only what one batch needs.

    *land* resolves flights with their speeches or errors on behalf of a call; it never raises, and one resolved
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
    rates: RateWatch | None
    land: Callable[[Iterable[Landing], Sequence[Attempt], Carrier], None]


class _Try:
    """Keep what one try has to show so far."""

    __slots__ = ("_endpoint", "again", "audio", "error", "failed", "number", "started", "texts", "unanswered")

    def __init__(self, flights: Sequence[Flight], *, number: int, endpoint: str, started: float) -> None:
        self.number = number
        self.started = started
        self.texts = len(flights)
        self.unanswered = dict(enumerate(flights))
        self.again: dict[Flight, CosyError] = {}
        self.failed = 0
        self.audio = 0.0
        """Seconds expected of the texts that were spoken."""
        self.error: CosyError | None = None
        self._endpoint = endpoint

    def attempt(self, now: float, error: CosyError | None) -> Attempt:
        """Return it as callers see it."""
        return Attempt(self.number, self._endpoint, self.started, now - self.started, error)


class Call:
    """Carry one batch through its attempts, the first of them with *grant*; lives on one thread at a time."""

    def __init__(self, caller: Caller, batch: Batch, grant: Grant) -> None:
        self._caller = caller
        self._flights = batch.flights
        self._grant = grant
        self._granted = True
        self._schedule = caller.retry.schedule()
        self._attempts: list[Attempt] = []
        self._cancellation = Cancellation()
        self._spent = 0
        # Events name the batch by its first key; a key names one body, and changes with it.
        self._name = self._key = uuid.uuid4().hex
        self._request: WireRequest | None = None
        self._pending: list[Flight] = []

    def run(self, left: dict[Flight, CosyError] | None = None) -> None:
        """Fly until nothing is left; every flight is resolved then and the grant is back.

        *left* is what a first attempt left over. Only an interrupt is raised: what has not landed is nobody's then.
        """
        try:
            if left is None:
                self._begin()
            self._run(left)
        finally:
            try:
                self.end()
            except BaseException:  # an interrupt amid the giving back: once more
                self.end()
                raise

    def run_once(self, latest: float) -> dict[Flight, CosyError]:
        """Fly once, on a thread that has to be back at *latest*; return what is left for `run` to do elsewhere.

        Only an interrupt is raised. Unless it is run on, the caller is to `end` it.
        """
        self._begin()
        try:
            return self._attempt(latest)
        except Exception as error:
            if raised_by_signal(error):
                raise
            self._resolve_all(error)
            return {}

    def _run(self, left: dict[Flight, CosyError] | None) -> None:
        try:
            if left is None:
                left = self._attempt()
            while left:
                self._keep(self._pause(left))
                left = self._attempt()
        except Exception as error:
            if raised_by_signal(error):
                raise
            # A fault of our own must not leave callers waiting for ever.
            self._resolve_all(error)

    def end(self) -> None:
        """Give the grant back and let go of the flights; again does nothing."""
        self._grant.cancel()
        self._caller.coalescer.drop(self._flights, self)

    def _begin(self) -> None:
        for flight in self._flights:
            if not flight.hedged:
                flight.attempts = self._attempts
        self._caller.coalescer.take(self._flights, self)
        # Looked at after the line above: whoever gives up from now on is heard of.
        self._pending = [flight for flight in self._flights if not flight.landed]
        if self._caller.events.wanted and self._pending:
            self._announce(self._pending)

    def _keep(self, left: Mapping[Flight, CosyError]) -> None:
        # In the order they were sent, which the bytes kept for another try still have.
        still = [flight for flight in self._pending if flight in left]
        if len(still) != len(self._pending):
            self._rename()
        self._pending = still

    def reconsider(self) -> None:
        """Break the attempt off when none of its flights is wanted any more: its thread has better things to do."""
        if all(flight.landed for flight in self._flights):
            self._cancellation.cancel()

    def unanswered(self) -> list[Flight]:
        """Return the flights that have not landed and travel with this call alone."""
        return [flight for flight in self._pending if not (flight.landed or flight.hedged)]

    def _attempt(self, latest: float = math.inf) -> dict[Flight, CosyError]:
        """Send what is pending once, resolve what is final, and return what failed but may travel again."""
        flights = self._pending
        if not flights:
            return {}
        caller, clock = self._caller, self._caller.clock
        deadline = Deadline(min(latest, max(flight.until for flight in flights)), clock)
        if not self._granted:
            self._grant = Grant(caller.endpoint)
            caller.endpoint.acquire(self._grant, deadline, caller.closing)
        grant, self._granted = self._grant, False
        # The same flights are the same bytes and the same key; encoded once, sent per attempt.
        utterances = [flight.utterance for flight in flights]
        request = self._request
        if request is None:
            self._key = self._key or uuid.uuid4().hex
            encoded = caller.protocol.encode(utterances, key=self._key)
            request = self._request = encoded.with_headers(utterances[0].settings.sent_headers)
        this = _Try(flights, number=len(self._attempts) + 1, endpoint=grant.endpoint.name, started=clock.now())
        expected = math.fsum(flight.seconds for flight in flights)
        given = min(flight.until - flight.queued_at for flight in flights)
        grant.start(this.started, retry=this.number > 1, audio=expected, given=given)
        hedger, watch = caller.hedger, None
        if hedger is not None:
            watch = hedger.watch(self, len(self.unanswered()))
        try:
            self._exchange(this, grant, request, utterances, expected, deadline)
        except CosyError as error:
            grant.endpoint.conceal(error, self._given_headers)
            caller.advice.add(error, request)
            this.error = self._explained(error, this, grant, clock.now(), deadline)
        finally:
            if hedger is not None:
                # One broken off because its hedge had won tells as much as one that came through.
                told = this.error is None or self._cancellation.cancelled
                hedger.unwatch(watch, clock.now() - this.started if told else None)
        grant.settle(this.error, clock.now(), returned=this.audio)
        self._record(this)
        self._sort_out(this, deadline)
        return this.again

    def _exchange(
        self,
        this: _Try,
        grant: Grant,
        request: WireRequest,
        utterances: Sequence[Utterance],
        expected: float,
        deadline: Deadline,
    ) -> None:
        """Send, and resolve the texts as they are answered."""
        caller = self._caller
        reply = grant.endpoint.transport.send(
            request,
            deadline=deadline,
            # A time-out is a guess: each try is given twice the time of the one before.
            read_timeout=max(caller.timeouts.of_reads(expected) * 2.0 ** (this.number - 1), grant.read_timeout),
            cancellation=self._cancellation,
        )
        try:
            # A refusal says it as well, and there it matters most: before decoding, which raises.
            if (quota := caller.protocol.quota(reply)) is not None:
                grant.endpoint.heed(quota)
            for items in caller.protocol.decode(reply, utterances, wall=caller.clock.wall()):
                self._take(this, items)
        finally:
            reply.close()
        # A finished reply is replayed for its key: what it lacks has to be asked for under another.
        self._rename()
        if this.unanswered:
            raise DecodeError(f"the reply left {len(this.unanswered)} of {len(utterances)} texts out")

    def _take(self, this: _Try, items: Sequence[Item]) -> None:
        spoken: list[Landing] = []
        for position, item in items:
            flight = this.unanswered.pop(position)
            if isinstance(item, Speech):
                spoken.append((flight, item))
                this.audio += flight.seconds
                if self._caller.rates is not None and has_speech(flight.utterance.text):
                    self._caller.rates.hear(round(item.duration * item.sample_rate), item.sample_rate)
                continue
            this.failed += 1
            self._caller.endpoint.conceal(item, self._given_headers)
            if item.retryable:
                this.again[flight] = item
            else:
                attempt = this.attempt(self._caller.clock.now(), item)
                self._caller.land([(flight, _stand_in(flight, item))], [*self._attempts, attempt], self)
        self._caller.land(spoken, self._attempts, self)

    @property
    def _given_headers(self) -> tuple[tuple[str, str], ...]:
        # Those of the flights, which share their settings: a request is gone once its reply is finished.
        headers = self._flights[0].utterance.settings.sent_headers
        return headers.fields() if headers is not None else ()

    def _explained(self, error: CosyError, this: _Try, grant: Grant, now: float, deadline: Deadline) -> CosyError:
        """Return *error* with what only the call knows about it."""
        if self._cancellation.cancelled:
            # Broken off by us, because the callers changed their minds or because their deadline passed.
            kind = DeadlineExceeded if deadline.expired else Rejected
            broken_off = kind("nobody waits for these texts any more", sent=True)
            broken_off.__cause__ = error
            error = broken_off
        if isinstance(error, DecodeError):
            self._rename()
        elif isinstance(error, DeadlineExceeded):
            # To blame for letting it pass is only a service that was given a fair time and answered nothing meanwhile,
            # to nobody: one that is slow, or that we gave too much to do, works.
            fair = now - this.started >= max(self._caller.timeouts.first_byte, grant.expected)
            silent = not this.audio and grant.endpoint.silent_since(this.started)
            error.endpoint_fault = fair and silent
        elif isinstance(error, ServiceFault) and not any(has_speech(each.utterance.text) for each in self._pending):
            # Servers stumble over a text without speech, and are well with every other.
            error.endpoint_fault = False
        return error

    def _record(self, this: _Try) -> None:
        caller = self._caller
        attempt = this.attempt(caller.clock.now(), this.error or next(iter(this.again.values()), None))
        self._attempts.append(attempt)
        if attempt.error is None:
            caller.budget.deposit(self._spent)
        if caller.events.wanted:
            caller.events.emit(
                AttemptFinished(
                    endpoint=attempt.endpoint,
                    batch=self._name,
                    number=attempt.number,
                    texts=this.texts,
                    failed=this.failed + len(this.unanswered),
                    latency=attempt.latency,
                    error=this.error,
                )
            )

    def _sort_out(self, this: _Try, deadline: Deadline) -> None:
        """Resolve the unanswered that will not travel again, and add the others to those that will."""
        if (error := this.error) is None:
            return
        late = isinstance(error, DeadlineExceeded)
        final: list[Landing] = []
        for flight in this.unanswered.values():
            # The deadline may be that of callers who have given up; one who joined later takes over.
            if flight.until > deadline.at if late else error.retryable:
                this.again[flight] = error
            else:
                final.append((flight, _stand_in(flight, error) if this.texts == 1 else error))
        self._caller.land(final, self._attempts, self)
        # Said after the others were told: to them it is final.
        error.retryable = bool(this.again) if late else error.retryable

    def _pause(self, left: dict[Flight, CosyError]) -> dict[Flight, CosyError]:
        """Wait as the retry policy says; return those that still want to travel, the others are resolved."""
        left = {flight: error for flight, error in left.items() if not flight.landed}
        if not left:
            return {}
        caller, clock = self._caller, self._caller.clock
        # The longest wait asked for decides; texts without one follow the schedule.
        error = max(left.values(), key=lambda each: each.retry_after or 0.0)
        latest = max(flight.until for flight in left)
        wait = self._schedule.next_wait(error, remaining=latest - clock.now())
        if wait is None:
            self._land_all(left)
            return {}
        cost = caller.budget.withdraw(throttled=error.throttled)
        if not cost:
            self._land_all({flight: budget_spent(each) for flight, each in left.items()})
            return {}
        self._spent += cost
        wakes = clock.now() + wait
        self._land_all({flight: each for flight, each in left.items() if flight.until <= wakes})
        patient = {flight: each for flight, each in left.items() if flight.until > wakes}
        if patient:
            caller.events.emit(
                RetryScheduled(
                    endpoint=caller.endpoint.name,
                    batch=self._name,
                    number=len(self._attempts) + 1,
                    texts=len(patient),
                    wait=wait,
                    error=error,
                )
            )
            if clock.sleep(wait, caller.closing):
                closed = ClientClosed("the client was closed before this text's next attempt")
                closed.__cause__ = error
                self._land_all(dict.fromkeys(patient, closed))
                return {}
        # Those whose callers have all given up meanwhile need not be paid for.
        return {flight: each for flight, each in patient.items() if not flight.landed}

    def _land_all(self, left: Mapping[Flight, CosyError]) -> None:
        self._caller.land(left.items(), self._attempts, self)

    def _resolve_all(self, error: BaseException) -> None:
        if not isinstance(error, CosyError):
            fault = CosyError(f"unexpected {type(error).__name__} while a batch was under way; please report it")
            fault.__cause__ = error
            error = fault
        elif self._attempts and (last := self._attempts[-1].error) is not None:
            error.__cause__ = last
        self._land_all(dict.fromkeys(self._pending, error))

    def _rename(self) -> None:
        # An idempotency key stands for one body: fewer texts are a new request.
        self._key = ""
        self._request = None

    def _announce(self, flights: Sequence[Flight]) -> None:
        caller = self._caller
        caller.events.emit(
            BatchSealed(
                endpoint=caller.endpoint.name,
                batch=self._name,
                texts=len(flights),
                characters=sum(len(flight.utterance.text) for flight in flights),
                waited=caller.clock.now() - min(flight.queued_at for flight in flights),
            )
        )


def _stand_in(flight: Flight, error: CosyError) -> Speech | CosyError:
    """Return what a flight becomes that failed for good: silence, if its text is without speech and may be that.

    Some services refuse such a text where others make nothing of it.
    """
    utterance = flight.utterance
    wanted = utterance.settings.on_silent == "silence" and not has_speech(utterance.text)
    return unspoken(utterance, str(error)) if wanted and isinstance(error, BadRequest) else error


def budget_spent(error: CosyError) -> RetryBudgetSpent:
    """Return what *error* becomes where the budget has nothing left for another try."""
    spent = RetryBudgetSpent(
        f"not tried again, the retry budget is spent: {error}", sent=error.sent, retry_after=error.retry_after
    )
    spent.__cause__ = error
    return spent
