"""The rooms of one client in one process: built on first use, thrown away in a forked child, closed upstream-first."""

from __future__ import annotations

import contextlib
import uuid
import weakref
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from cosyclient.audio.rate_check import RateWatch
from cosyclient.clock import Clock, Deadline, Flag
from cosyclient.config.sizing import littles_law
from cosyclient.endpoints.endpoint import Endpoint
from cosyclient.errors import (
    BadUtterance,
    BulkheadFull,
    ClientClosed,
)
from cosyclient.events import BreakerChanged, Events
from cosyclient.pipeline.admission import Reception
from cosyclient.pipeline.calls.advice import Advice
from cosyclient.pipeline.calls.batch_call import Caller
from cosyclient.pipeline.calls.dispatcher import Dispatcher
from cosyclient.pipeline.calls.duplex import LONGEST, ConversationStream, Feeder
from cosyclient.pipeline.calls.hedging import Hedger
from cosyclient.pipeline.calls.stream import Forgotten, SpeechStream
from cosyclient.pipeline.calls.unary import ask
from cosyclient.pipeline.outage import Outage
from cosyclient.pipeline.queue.batch import BatchLimits
from cosyclient.pipeline.queue.batcher import Batcher
from cosyclient.pipeline.queue.coalescer import Coalescer
from cosyclient.pipeline.queue.completion import Arrivals
from cosyclient.pipeline.stats import ClientStats
from cosyclient.policies.breaker import CLOSED, Breaker
from cosyclient.policies.budget import RetryBudget
from cosyclient.policies.bulkhead import Bulkhead
from cosyclient.policies.hedge import HedgePolicy
from cosyclient.policies.ratelimit.limiter import RateLimiter
from cosyclient.policies.retry import RetryPolicy
from cosyclient.protocols.base import ListingProtocol, StreamingProtocol, TextInProtocol, UploadingProtocol

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Executor

    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.pipeline.admission import Terms
    from cosyclient.pipeline.queue.batch import Flight
    from cosyclient.protocols.base import VoiceUpload, WireProtocol
    from cosyclient.transports.base import Transport
    from cosyclient.util.extra_fields import Headers
    from cosyclient.wire import WireReply, WireRequest


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
        self._closing = Flag()
        self._forgotten: deque[Forgotten] = deque()

        self._protocol = protocol
        self._budget = RetryBudget(rest.retry, in_flight=sizing.permits)
        self._endpoint = Endpoint(
            settings.base_url,
            make_transport(settings, clock),
            limiter=RateLimiter(rate=settings.requests_per_second, burst=rest.pacing.burst),
            bulkhead=Bulkhead(sizing.permits, clock, name="in flight", full=BulkheadFull),
            adaptive=rest.adaptive,
            # What the pool was sized for is no sign of overload.
            latency_floor=rest.pool.expected_latency * rest.pool.headroom,
            breaker=Breaker(
                rest.breaker,
                name=settings.base_url,
                on_change=lambda old, new: events.emit(BreakerChanged(endpoint=settings.base_url, old=old, new=new)),
            ),
            clock=clock,
            events=events,
            max_hold=rest.retry.max_retry_after,
            secret=settings.api_key,
        )
        self._coalescer = Coalescer(single_flight=rest.queue.single_flight)
        self.desk = desk = Reception(settings, protocol, self._coalescer, clock)
        self._arrivals = Arrivals(
            self._coalescer,
            desk.expiry,
            endpoint=settings.base_url,
            events=events,
            clock=clock,
            ended=desk.places.give_back,
        )
        self._outage = Outage(
            rest.retry.wait_for_service,
            endpoint=self._endpoint,
            coalescer=self._coalescer,
            arrivals=self._arrivals,
            dispatch=self._dispatch,
            clock=clock,
            events=events,
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
            advice=Advice(
                base_url=settings.base_url,
                protocol=protocol.name,
                key_source=settings.key_source,
                key_names=settings.key_names,
            ),
            coalescer=self._coalescer,
            hedger=self._hedger,
            rates=RateWatch(hops, events, self._endpoint.name) if (hops := protocol.capabilities.hops) else None,
            land=self._outage.land,
        )
        self._dispatcher = Dispatcher(
            batcher=self._batcher,
            endpoint=self._endpoint,
            caller=self._caller,
            workers=sizing.threads,
            executor=executor,
            clock=clock,
            closing=self._closing,
            land=self._outage.land,
        )
        desk.open(self._arrivals, self._batcher, self._dispatcher, self._outage)
        self._streams: weakref.WeakSet[SpeechStream] = weakref.WeakSet()

    # Streams and questions

    def stream(self, text: str, terms: Terms) -> SpeechStream:
        """Return the samples of *text* as they arrive, once the first of them are there."""
        protocol = self._protocol
        if not (protocol.capabilities.stream and isinstance(protocol, StreamingProtocol)):
            raise BadUtterance(f"stream: protocol {protocol.name} sends audio whole only; use synthesize")
        utterance = self.desk.utterance(text, terms.settings)
        self.desk.check_open()
        # Whoever plays what arrives takes as long as the audio lasts.
        span = terms.timeout or self._settings.timeout
        span = span or self._settings.rest.timeouts.of_call(len(text)) + 2 * utterance.expected_seconds
        stream = SpeechStream(
            self._caller,
            protocol,
            utterance,
            protocol.encode_stream(utterance, key=uuid.uuid4().hex).with_headers(terms.settings.sent_headers),
            terms.deadline(self._clock, span),
            self._forgotten,
        )
        self._streams.add(stream)
        return stream.open()

    def converse(self, texts: Iterable[str], terms: Terms) -> SpeechStream:
        """Return the samples of a text that is still being written, once the first of them are there."""
        protocol = self._protocol
        if not (protocol.capabilities.text_in and isinstance(protocol, TextInProtocol)):
            raise BadUtterance(f"stream_text: protocol {protocol.name} takes whole texts only; use stream")
        self.desk.fit(terms.settings)
        self.desk.check_open()
        deadline = terms.deadline(self._clock, terms.timeout or self._settings.timeout or LONGEST)
        feeder = Feeder(texts, self._clock)
        utterance = feeder.begin(terms.settings)
        request = protocol.encode_duplex(terms.settings, key=uuid.uuid4().hex).with_headers(terms.settings.sent_headers)
        stream = ConversationStream(self._caller, protocol, feeder, utterance, request, deadline, self._forgotten)
        self._streams.add(stream)
        return stream.open()

    def voices(self, headers: Headers | None) -> list[str]:
        """Return the names of the service's voices, asked for under *headers*."""
        protocol = self._protocol
        if not (protocol.capabilities.lists_voices and isinstance(protocol, ListingProtocol)):
            raise BadUtterance(f"voices: protocol {protocol.name} cannot list them; see what its service says")
        return self._ask(
            protocol.encode_voices().with_headers(headers),
            lambda reply: protocol.decode_voices(reply, wall=self._clock.wall()),
            repeatable=True,
        )

    def upload(self, recording: VoiceUpload, headers: Headers | None) -> str:
        """Have the service keep *recording*, sent under *headers*; return the name it has there."""
        protocol = self._protocol
        if not (protocol.capabilities.keeps_voices and isinstance(protocol, UploadingProtocol)):
            raise BadUtterance(f"upload_voice: protocol {protocol.name} keeps no recordings")
        return self._ask(
            protocol.encode_upload(recording).with_headers(headers),
            lambda reply: protocol.decode_upload(reply, recording, wall=self._clock.wall()),
            repeatable=False,
        )

    def _ask(self, request: WireRequest, decode: Callable[[WireReply], T], *, repeatable: bool) -> T:
        self.desk.check_open()
        span = self._settings.timeout or self._settings.rest.timeouts.base
        return ask(self._caller, request, decode, Deadline.after(self._clock, span), repeatable=repeatable)

    # Seams between rooms

    def _dispatch(self, flights: Sequence[Flight]) -> None:
        # The outage is made before the dispatcher, whose refusals it hears of.
        self._dispatcher.dispatch(flights)

    def _call_workers(self) -> None:
        # The hedger is made before the dispatcher, whose calls it watches.
        self._dispatcher.call_workers()

    def _may_hedge(self) -> bool:
        """Return whether the service works, keeps up, and retries are few: an ailing one needs less load, not more."""
        half_full = 2 * self._budget.available > self._budget.full
        well = self._endpoint.breaker.state == CLOSED and not self._endpoint.concurrency.overloaded
        return half_full and well

    # Looking and closing

    def sweep(self) -> None:
        """Let go of what streams held that were dropped without being closed: their finalizers must not."""
        while self._forgotten:
            try:
                forgotten = self._forgotten[0]
            except IndexError:  # another thread was faster
                return
            forgotten.let_go()
            with contextlib.suppress(ValueError):
                self._forgotten.remove(forgotten)

    @property
    def useful(self) -> tuple[float, float]:
        """Return the texts, and their seconds of audio, that fill twice what may be in flight now."""
        fillings = 2.0 * self._endpoint.bulkhead.limit
        return fillings * self._settings.max_batch, fillings * self._endpoint.estimate().audio

    def stats(self) -> ClientStats:
        """Return a snapshot."""
        self.sweep()
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
            pending=self.desk.places.in_use,
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
        self.desk.refusing = True
        self.desk.places.close()
        # Nobody who closes wants to wait for a service that is down.
        self._outage.close()
        try:
            if drain:
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
            self.sweep()
            self._endpoint.bulkhead.close()
            self._endpoint.transport.close()
            self._dispatcher.close(wait=not self.desk.on_own_thread())
            self.desk.expiry.close()

    def orphan(self) -> None:
        """Fail what was under way when this process was forked; called in the child, where no other thread runs."""
        for flight in self._coalescer.aloft():
            for waiter in flight.waiters:
                if waiter.future is not None:
                    waiter.future.orphan()
        for stream in list(self._streams):
            stream.orphan()
