"""The front desk: a text is checked, given a place and a deadline, and its caller told what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cosyclient.clock import Deadline
from cosyclient.errors import ClientClosed, ConfigurationError, CosyError, DeadlineExceeded
from cosyclient.models import Speech, Utterance
from cosyclient.pipeline.flow_control import Places
from cosyclient.pipeline.queue.batch import BULK, Flight
from cosyclient.pipeline.queue.waiters import Waiter
from cosyclient.protocols.base import check_length
from cosyclient.protocols.registry import check
from cosyclient.util.timers import Expiry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableSequence, Sequence

    from cosyclient.clock import Clock
    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.models import VoiceSettings
    from cosyclient.pipeline.calls.dispatcher import Dispatcher
    from cosyclient.pipeline.outage import Outage
    from cosyclient.pipeline.queue.batcher import Batcher
    from cosyclient.pipeline.queue.coalescer import Coalescer
    from cosyclient.pipeline.queue.completion import Arrivals
    from cosyclient.pipeline.queue.waiters import SpeechFuture
    from cosyclient.protocols.base import WireProtocol


class Terms(NamedTuple):
    """Hold what a caller asks for beside the text."""

    settings: VoiceSettings
    timeout: float | None
    """Seconds until the call's deadline; ``None`` leaves them to the configuration."""
    bulk: bool
    """Whether it takes what interactive calls leave."""
    began: float | None = None
    """When the call was made (monotonic seconds), which its deadline counts from; ``None`` is now."""

    def deadline(self, clock: Clock, span: float) -> Deadline:
        """Return the deadline of a call that has *span* seconds."""
        return Deadline((clock.now() if self.began is None else self.began) + span, clock)


class Reception:
    """Accept texts and see to it that each caller hears of his by his deadline.

    Built before the rooms it sends texts to, which report to it: `open` brings them in.
    """

    _arrivals: Arrivals
    _batcher: Batcher
    _dispatcher: Dispatcher
    _outage: Outage

    def __init__(self, settings: ResolvedConfig, protocol: WireProtocol, coalescer: Coalescer, clock: Clock) -> None:
        self._settings = settings
        self._protocol = protocol
        self._coalescer = coalescer
        self._clock = clock
        self.refusing = False
        self.places = Places(settings, clock, carry=self._carry_one, may_not_wait=self.on_own_thread)
        self.expiry: Expiry[Waiter] = Expiry(clock, self._expire)
        # The last settings found fit for the protocol: most calls share them.
        self._fit: VoiceSettings | None = None

    def open(self, arrivals: Arrivals, batcher: Batcher, dispatcher: Dispatcher, outage: Outage) -> None:
        """Begin to accept."""
        self._arrivals, self._batcher, self._dispatcher, self._outage = arrivals, batcher, dispatcher, outage

    def speak(self, text: str, terms: Terms) -> Speech | CosyError:
        """Return what becomes of *text*, on a thread that waits for it anyway and so may carry it itself."""
        waiter = self._waiter(text, terms)
        try:
            flight = self._admit(waiter, text, terms)
            if flight is not None and not self._dispatcher.carry(flight, waiter.deadline.at):
                self._dispatcher.dispatch((flight,))
        except BaseException:
            self._take_back(waiter)
            raise
        return self.outcome(waiter)

    def outcome(self, waiter: Waiter) -> Speech | CosyError:
        """Wait for what becomes of *waiter*, at most until its deadline, which is an error then."""
        try:
            there = waiter.wait()
        except BaseException:
            self._take_back(waiter)
            raise
        if there and waiter.result is not None:
            return waiter.result
        overdue = self.overdue(waiter)
        self.abandon(waiter)
        return overdue

    def admit(self, text: str, terms: Terms, future: SpeechFuture | None = None) -> Waiter:
        """Accept *text* and send it on its way; raises what it is refused for at once."""
        waiter = self._waiter(text, terms, future=future)
        try:
            flight = self._admit(waiter, text, terms)
            if flight is not None:
                self._dispatcher.dispatch((flight,))
            if future is not None:
                self.watch(waiter)
        except BaseException:
            self._take_back(waiter)
            raise
        return waiter

    def admit_many(
        self,
        texts: Sequence[str],
        terms: Terms,
        *,
        audio: float,
        into: MutableSequence[Waiter],
        notify: Callable[[Waiter], None] | None = None,
    ) -> None:
        """Accept *texts* together, so that they leave in full batches; a refused one's waiter holds the error.

        *audio* is how many seconds of it their job has under way by now: each may have to wait for all of that. Each
        text's waiter is put *into* a sequence before anything is taken for it: whoever is interrupted here is to
        `take_back` those.
        """
        flights: list[Flight] = []
        for text in texts:
            waiter = self._waiter(text, terms, job=audio, notify=notify)
            into += [waiter]
            try:
                flight = self._accept(waiter, text, terms, flights)
            except CosyError as error:
                self._take_back(waiter)
                self._arrivals.count(error, accepted=False)
                waiter.resolve(error)
                continue
            if flight is not None:
                flights.append(flight)
        if flights:
            self._dispatcher.dispatch(flights)

    def check_open(self) -> None:
        """Raise if nothing new is accepted any more."""
        if self.refusing:
            raise ClientClosed("the client is closed; make a new one")

    def check_may_block(self) -> None:
        """Raise if the calling thread is one of ours: a worker could wait for itself, the timer delays others."""
        if self.on_own_thread():
            raise ConfigurationError("on_done: must not call what blocks on the client's own thread; use submit there")

    def on_own_thread(self) -> bool:
        """Return whether the calling thread is one of ours, which must not wait for the others."""
        return self._dispatcher.on_worker or self.expiry.on_timer or self._outage.on_timer

    def watch(self, waiter: Waiter) -> None:
        """Make sure *waiter* resolves at its deadline though no thread waits for it."""
        if not waiter.done:
            self.expiry.watch(waiter)

    def abandon(self, waiter: Waiter) -> bool:
        """Take *waiter* back and return whether it was still pending; if so, nobody else will resolve it.

        A flight nobody wants any more is not sent if it still waits, and broken off if it is under way.
        """
        pending, flight = self._coalescer.leave(waiter)
        if pending:
            self.expiry.forget(waiter)
        if flight is not None:
            self.places.give_back((flight,))
            self._batcher.discard(flight)
            for call in flight.calls:
                call.reconsider()
        return pending

    def take_back(self, waiters: Iterable[Waiter]) -> None:
        """Undo what was done for those of *waiters* that have not been told yet; interrupted, call it once more."""
        for waiter in waiters:
            if not waiter.done:
                self._undo(waiter)

    def _take_back(self, waiter: Waiter) -> None:
        """Undo what was done for *waiter* so far, also if a second interrupt comes amid that; others keep theirs."""
        try:
            self._undo(waiter)
        except BaseException:
            self._undo(waiter)
            raise

    def _undo(self, waiter: Waiter) -> None:
        self.abandon(waiter)
        flight = waiter.flight
        if flight is not None and not (flight.landed or flight.queued or flight.calls or flight.held):
            # Others have joined; they are not interrupted.
            self._dispatcher.dispatch((flight,))
        self._dispatcher.call_workers()

    def _waiter(
        self,
        text: str,
        terms: Terms,
        *,
        job: float | None = None,
        future: SpeechFuture | None = None,
        notify: Callable[[Waiter], None] | None = None,
    ) -> Waiter:
        timeouts = self._settings.rest.timeouts
        span = terms.timeout or self._settings.timeout
        # What is no text is refused later, in words.
        length = len(text) if isinstance(text, str) else 0
        span = span or (timeouts.of_call(length) if job is None else timeouts.of_job(job))
        return Waiter(terms.deadline(self._clock, span), bulk=terms.bulk, future=future, notify=notify)

    def _admit(self, waiter: Waiter, text: str, terms: Terms) -> Flight | None:
        try:
            return self._accept(waiter, text, terms, [])
        except CosyError as error:
            self._arrivals.count(error, accepted=False)
            raise

    def _accept(self, waiter: Waiter, text: str, terms: Terms, held: list[Flight]) -> Flight | None:
        """Let *waiter* in; return the flight to be sent for it, or None where it shares one. If this raises: undo."""
        utterance = self.utterance(text, terms.settings)
        self.check_open()
        joined = self._coalescer.follow(utterance, waiter)
        if joined is None:
            flight = Flight(utterance, self._protocol.weigh(utterance), bulk=terms.bulk)
            # Before its place is taken, so that whoever undoes this finds what to give back.
            waiter.flight = flight
            self.places.take(flight, waiter.deadline, lambda: self._dispatch_held(held))
            try:
                joined = self._coalescer.lead(flight, waiter)
                if joined is flight:
                    return flight
                self.places.give_back((flight,))
            except BaseException:
                self.places.give_back((flight,))
                raise
        if not terms.bulk:
            if joined.lane == BULK:
                self._batcher.promote(joined)
            if joined.held is not None:
                self._outage.release(joined)
        return None

    def utterance(self, text: str, settings: VoiceSettings) -> Utterance:
        """Return the utterance if the protocol can serve it; nothing is sent otherwise."""
        utterance = Utterance(text, settings)
        self.fit(settings)
        check_length(self._protocol.name, self._protocol.capabilities, utterance)
        return utterance

    def fit(self, settings: VoiceSettings) -> None:
        """Raise the `BadUtterance` of *settings* that the protocol cannot serve."""
        if settings is not self._fit:
            check(self._protocol, settings)
            self._fit = settings

    def _carry_one(self) -> bool:
        """Carry a waiting batch on the calling thread, if one waits."""
        if not self._batcher.queued:
            return False
        self._dispatcher.run_here()
        return True

    def _dispatch_held(self, held: list[Flight]) -> None:
        # What is held back for a fuller batch leaves before anybody waits: its places are what he waits for.
        if held:
            self._dispatcher.dispatch(held)
            held.clear()

    def _expire(self, waiter: Waiter) -> None:
        error = self.overdue(waiter)
        if self.abandon(waiter):
            waiter.resolve(error)

    def overdue(self, waiter: Waiter) -> DeadlineExceeded:
        """Return the error of a waiter whose deadline passed first, with the attempts made until then."""
        flight = waiter.flight
        queued = flight is not None and flight.queued and not flight.hedged
        attempts = () if flight is None else tuple(flight.attempts)
        held = None if flight is None else flight.held
        where = "waiting to be sent" if queued else f"under way, {len(attempts)} attempts had failed before"
        if held is not None:
            where = f"waiting for the service to recover: {held}"
        sent = not queued if held is None else held.sent
        error = DeadlineExceeded(f"no speech before the deadline; the text was {where}", sent=sent)
        error.__cause__ = held or (attempts[-1].error if attempts else None)
        return error.for_caller(attempts)

    def __repr__(self) -> str:
        return f"<Reception {'closed' if self.refusing else 'open'} {self.places!r}>"
