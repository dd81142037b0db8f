"""The rooms of one client in one process: built on first use, thrown away in a forked child, closed upstream-first."""

from __future__ import annotations

import threading
import uuid
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from cosyclient.arrivals import Arrivals
from cosyclient.batch import BULK, BatchLimits, Flight
from cosyclient.batcher import Batcher
from cosyclient.call import Caller
from cosyclient.clock import Clock, Deadline
from cosyclient.coalescer import Coalescer
from cosyclient.dispatcher import Dispatcher
from cosyclient.endpoints import Endpoint
from cosyclient.errors import (
    BadUtterance,
    BulkheadFull,
    ClientClosed,
    ConfigurationError,
    CosyError,
    DeadlineExceeded,
)
from cosyclient.events import BreakerChanged, Events
from cosyclient.expiry import Expiry
from cosyclient.hedger import Hedger
from cosyclient.models import Speech, Utterance
from cosyclient.places import Places
from cosyclient.policies.breaker import CLOSED, Breaker
from cosyclient.policies.budget import RetryBudget
from cosyclient.policies.bulkhead import Bulkhead
from cosyclient.policies.hedge import HedgePolicy
from cosyclient.policies.ratelimit import RateLimiter
from cosyclient.policies.retry import RetryPolicy
from cosyclient.protocols.base import StreamingProtocol, check_length, check_settings
from cosyclient.sizing import littles_law
from cosyclient.stats import ClientStats
from cosyclient.streaming import SpeechStream
from cosyclient.waiters import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from cosyclient.models import VoiceSettings
    from cosyclient.protocols.base import WireProtocol
    from cosyclient.settings import ResolvedConfig
    from cosyclient.transports.base import Transport
    from cosyclient.waiters import SpeechFuture


class Terms(NamedTuple):
    """Hold what a caller asks for beside the text."""

    settings: VoiceSettings
    timeout: float | None
    """Seconds until the call's deadline; ``None`` leaves them to the configuration."""
    bulk: bool
    """Whether it takes what interactive calls leave."""


class House:
    """Take texts in, see them through the rooms, and hand out what becomes of them."""

    def __init__(
        self,
        settings: ResolvedConfig,
        protocol: WireProtocol,
        *,
        make_transport: Callable[[ResolvedConfig, Clock], Transport],
        events: Events,
        clock: Clock,
        executor: Executor | None,
    ) -> None:
        rest, sizing = settings.rest, settings.sizing
        self._settings = settings
        self._clock = clock
        self._events = events
        self.refusing = False
        self._closing = threading.Event()

        self._protocol = protocol
        self._budget = RetryBudget(rest.retry)
        self._places = Places(settings, clock, carry=self._carry_one, may_not_wait=self._on_own_thread)
        self._endpoint = Endpoint(
            settings.base_url,
            make_transport(settings, clock),
            limiter=RateLimiter(rate=settings.requests_per_second, burst=rest.pacing.burst),
            bulkhead=Bulkhead(sizing.permits, clock, name="in flight", full=BulkheadFull),
            adaptive=rest.adaptive,
            # What the pool was sized for is no sign of congestion.
            calm=rest.pool.expected_latency * rest.pool.headroom,
            breaker=Breaker(
                rest.breaker,
                name=settings.base_url,
                on_change=lambda old, new: events.emit(BreakerChanged(endpoint=settings.base_url, old=old, new=new)),
            ),
            clock=clock,
            events=events,
            max_hold=rest.retry.max_retry_after,
        )
        self._coalescer = Coalescer(single_flight=rest.queue.single_flight)
        self._expiry: Expiry[Waiter] = Expiry(clock, self._expire)
        self._arrivals = Arrivals(
            self._coalescer,
            self._expiry,
            endpoint=settings.base_url,
            events=events,
            clock=clock,
            ended=self._places.give_back,
        )
        self._batcher = Batcher(
            BatchLimits(
                texts=settings.max_batch, body_bytes=rest.wire.max_request_bytes, seconds=rest.wire.max_batch_seconds
            ),
            workers=sizing.threads,
            clock=clock,
            linger=rest.queue.linger,
        )
        self._hedger = None
        if rest.hedge.extra:
            self._hedger = Hedger(
                HedgePolicy(rest.hedge),
                clock=clock,
                allowed=self._may_hedge,
                board=self._batcher.put_again,
                leave=self._call_workers,
            )
        self._caller = Caller(
            protocol=self._protocol,
            endpoint=self._endpoint,
            retry=RetryPolicy(rest.retry, settings.max_retries),
            budget=self._budget,
            timeouts=rest.timeouts,
            clock=clock,
            closing=self._closing,
            events=events,
            coalescer=self._coalescer,
            hedger=self._hedger,
            land=self._arrivals.land,
        )
        self._dispatcher = Dispatcher(
            batcher=self._batcher,
            endpoint=self._endpoint,
            caller=self._caller,
            executor=executor or ThreadPoolExecutor(sizing.threads, thread_name_prefix="cosyclient"),
            clock=clock,
            closing=self._closing,
            land=self._arrivals.land,
        )
        # The last settings found fit for the protocol: most calls share them.
        self._fit: VoiceSettings | None = None
        self._streams: weakref.WeakSet[SpeechStream] = weakref.WeakSet()

    # Accepting

    def speak(self, text: str, terms: Terms) -> Speech | CosyError:
        """Return what becomes of *text*, on a thread that waits for it anyway and so may carry it itself."""
        waiter, flight = self._admit(text, terms, None)
        try:
            if flight is not None and not self._dispatcher.carry(flight, waiter.deadline.at):
                self._dispatcher.dispatch((flight,))
        except BaseException:
            self.abandon(waiter)
            if flight is not None and not flight.landed:
                # Others have joined; they are not interrupted.
                self._dispatcher.dispatch((flight,))
            raise
        return self.outcome(waiter)

    def outcome(self, waiter: Waiter) -> Speech | CosyError:
        """Wait for what becomes of *waiter*, at most until its deadline, which is an error then."""
        try:
            there = waiter.wait()
        except BaseException:
            self.abandon(waiter)
            raise
        if there and waiter.result is not None:
            return waiter.result
        overdue = self.overdue(waiter)
        self.abandon(waiter)
        return overdue

    def admit(self, text: str, terms: Terms, future: SpeechFuture | None = None) -> Waiter:
        """Accept *text* and send it on its way; raises what it is refused for at once."""
        waiter, flight = self._admit(text, terms, future)
        if flight is not None:
            self._dispatcher.dispatch((flight,))
        return waiter

    def admit_many(
        self, texts: Sequence[str], terms: Terms, notify: Callable[[Waiter], None] | None = None
    ) -> list[Waiter]:
        """Accept *texts* together, so that they leave in full batches; a refused one's waiter holds the error."""
        waiters: list[Waiter] = []
        flights: list[Flight] = []
        for text in texts:
            try:
                waiter, flight = self._accept(text, terms, flights, notify=notify)
            except CosyError as error:
                self._arrivals.count(error, accepted=False)
                waiter, flight = Waiter(Deadline(0.0, self._clock), notify=notify), None
                waiter.resolve(error)
            waiters.append(waiter)
            if flight is not None:
                flights.append(flight)
        if flights:
            self._dispatcher.dispatch(flights)
        return waiters

    def check_may_block(self) -> None:
        """Raise if the calling thread is one of ours: a worker could wait for itself, the timer delays others."""
        if self._on_own_thread():
            raise ConfigurationError("on_done: must not call what blocks on the client's own thread; use submit there")

    def _on_own_thread(self) -> bool:
        return self._dispatcher.on_worker or self._expiry.on_timer

    def watch(self, waiter: Waiter) -> None:
        """Make sure *waiter* resolves at its deadline though no thread waits for it."""
        if not waiter.done:
            self._expiry.watch(waiter)

    def abandon(self, waiter: Waiter) -> bool:
        """Take *waiter* back and return whether it was still pending; if so, nobody else will resolve it.

        A flight nobody wants any more is not sent if it still waits, and broken off if it is under way.
        """
        pending, flight = self._coalescer.leave(waiter)
        if pending:
            self._expiry.forget(waiter)
        if flight is not None:
            self._places.give_back((flight,))
            self._batcher.discard(flight)
            for call in flight.calls:
                call.reconsider()
        return pending

    def _admit(self, text: str, terms: Terms, future: SpeechFuture | None) -> tuple[Waiter, Flight | None]:
        try:
            return self._accept(text, terms, [], future=future)
        except CosyError as error:
            self._arrivals.count(error, accepted=False)
            raise

    def _accept(
        self,
        text: str,
        terms: Terms,
        held: list[Flight],
        *,
        future: SpeechFuture | None = None,
        notify: Callable[[Waiter], None] | None = None,
    ) -> tuple[Waiter, Flight | None]:
        utterance = self._utterance(text, terms.settings)
        span = terms.timeout or self._settings.timeout or self._settings.rest.timeouts.of_call(len(text))
        waiter = Waiter(Deadline.after(self._clock, span), future=future, notify=notify)
        if self.refusing:
            raise ClientClosed("the client is closed; make a new one")
        joined = self._coalescer.follow(utterance, waiter)
        if joined is None:
            self._places.take(terms.bulk, waiter.deadline, lambda: self._dispatch_held(held))
            flight = Flight(utterance, self._protocol.weigh(utterance), bulk=terms.bulk)
            joined = self._coalescer.lead(flight, waiter)
            if joined is flight:
                return waiter, flight
            self._places.give_back((flight,))
        if joined.lane == BULK and not terms.bulk:
            self._batcher.promote(joined)
        return waiter, None

    def _utterance(self, text: str, settings: VoiceSettings) -> Utterance:
        """Return the utterance if the protocol can serve it; nothing is sent otherwise."""
        utterance = Utterance(text, settings)
        protocol = self._protocol
        if settings is not self._fit:
            check_settings(protocol.name, protocol.capabilities, settings)
            self._fit = settings
        check_length(protocol.name, protocol.capabilities, utterance)
        return utterance

    def stream(self, text: str, terms: Terms) -> SpeechStream:
        """Return the samples of *text* as they arrive, once the first of them are there."""
        protocol = self._protocol
        if not (protocol.capabilities.stream and isinstance(protocol, StreamingProtocol)):
            raise BadUtterance(f"stream: protocol {protocol.name} sends audio whole only; use synthesize")
        utterance = self._utterance(text, terms.settings)
        if self.refusing:
            raise ClientClosed("the client is closed; make a new one")
        # Whoever plays what arrives takes as long as the audio lasts.
        span = terms.timeout or self._settings.timeout
        span = span or self._settings.rest.timeouts.of_call(len(text)) + 2 * utterance.expected_seconds
        stream = SpeechStream(
            self._caller,
            protocol,
            utterance,
            protocol.encode_stream(utterance, key=uuid.uuid4().hex),
            Deadline.after(self._clock, span),
        )
        self._streams.add(stream)
        return stream.open()

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

    # Resolving

    def _call_workers(self) -> None:
        # The hedger is made before the dispatcher, whose calls it watches.
        self._dispatcher.call_workers()

    def _may_hedge(self) -> bool:
        """Return whether the service works and retries are few: an ailing one needs less load, not more."""
        half_full = 2 * self._budget.available > self._settings.rest.retry.budget
        return half_full and self._endpoint.breaker.state == CLOSED

    def _expire(self, waiter: Waiter) -> None:
        error = self.overdue(waiter)
        if self.abandon(waiter):
            waiter.resolve(error)

    def overdue(self, waiter: Waiter) -> DeadlineExceeded:
        """Return the error of a waiter whose deadline passed first, with the attempts made until then."""
        flight = waiter.flight
        queued = flight is not None and flight.queued and not flight.hedged
        attempts = () if flight is None else tuple(flight.attempts)
        where = "waiting to be sent" if queued else f"under way, {len(attempts)} attempts had failed before"
        error = DeadlineExceeded(f"no speech before the deadline; the text was {where}", sent=not queued)
        error.__cause__ = attempts[-1].error if attempts else None
        return error.for_caller(attempts)

    # Looking and closing

    @property
    def useful(self) -> tuple[float, float]:
        """Return the texts, and their seconds of audio, that fill twice what may be in flight now."""
        fillings = 2.0 * self._endpoint.bulkhead.limit
        return fillings * self._settings.max_batch, fillings * self._endpoint.prospect().audio

    def stats(self) -> ClientStats:
        """Return a snapshot."""
        endpoint, ledger, settings = self._endpoint, self._endpoint.ledger, self._settings
        rate, latency = ledger.rate(self._clock.now()), ledger.latency
        advice = None
        if rate > 0 and latency > 0:
            advice = littles_law(
                rate=rate,
                latency=latency,
                headroom=settings.rest.pool.headroom,
                connection_limit=settings.max_connections,
                max_batch=settings.max_batch,
            )
        return ClientStats(
            calls=self._coalescer.boarded + self._arrivals.refused,
            utterances=self._coalescer.spoken,
            failed=self._coalescer.failed + self._arrivals.refused,
            rejected=self._arrivals.rejected,
            executions=ledger.executions,
            retries=ledger.retries,
            throttled=ledger.throttled,
            hedged=self._hedger.policy.sent if self._hedger else 0,
            hedge_requests=self._hedger.policy.requests if self._hedger else 0,
            queued=self._batcher.queued,
            in_flight=endpoint.bulkhead.in_use,
            limit=endpoint.bulkhead.limit,
            workers=self._batcher.workers,
            pending=self._places.in_use,
            retry_budget=self._budget.available,
            pool=endpoint.transport.stats(),
            breakers={endpoint.name: endpoint.breaker.state},
            rate=rate,
            latency=latency,
            concurrency=rate * latency,
            advice=advice,
        )

    def close(self, *, drain: bool) -> None:
        """Refuse what is new, finish (or fail) what is under way, then let go of threads and connections."""
        self.refusing = True
        self._places.close()
        try:
            if drain and not self._dispatcher.on_worker:
                latest = max((flight.until for flight in self._coalescer.aloft()), default=0.0)
                # Whoever stops at a deadline needs a moment to say so.
                self._batcher.wait_idle(latest + 1.0)
        finally:
            # After a drain there is nothing left to fail; without one, or when it was interrupted, all callers wake.
            self._closing.set()
            closed = ClientClosed("the client was closed")
            self._batcher.take_due(float("inf"))
            self._arrivals.land([(flight, closed) for flight in self._coalescer.aloft()], final=True)
            if self._hedger is not None:
                self._hedger.close()
            for stream in list(self._streams):
                stream.close()
            self._endpoint.bulkhead.close()
            self._endpoint.transport.close()
            self._dispatcher.close()
            self._expiry.close()

    def orphan(self) -> None:
        """Fail what was under way when this process was forked; called in the child, where no other thread runs."""
        for flight in self._coalescer.aloft():
            for waiter in flight.waiters:
                if waiter.future is not None:
                    waiter.future.orphan()
