"""The rooms of one client in one process: built on first use, thrown away in a forked child, closed upstream-first."""

from __future__ import annotations

import contextlib
import uuid
import weakref
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from cosyclient.audio.rate_check import SampleRateCheck
from cosyclient.clock import Clock, Deadline, Flag
from cosyclient.config.sizing import littles_law
from cosyclient.endpoints.endpoint import Endpoint
from cosyclient.errors import (
    BadUtterance,
    BulkheadFull,
    ClientClosed,
)
from cosyclient.events import BreakerChanged, Events
from cosyclient.pipeline.admission import Admission
from cosyclient.pipeline.calls.advice import Advice
from cosyclient.pipeline.calls.batch_call import CallContext
from cosyclient.pipeline.calls.dispatcher import Dispatcher
from cosyclient.pipeline.calls.duplex import LONGEST, DuplexStream, TextFeeder
from cosyclient.pipeline.calls.hedging import Hedger
from cosyclient.pipeline.calls.stream import DroppedStream, SpeechStream
from cosyclient.pipeline.calls.unary import call_unary
from cosyclient.pipeline.outage import Outage
from cosyclient.pipeline.queue.batch import BatchLimits
from cosyclient.pipeline.queue.batcher import Batcher
from cosyclient.pipeline.queue.coalescer import Coalescer
from cosyclient.pipeline.queue.completion import Completer
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
    from cosyclient.pipeline.admission import CallOptions
    from cosyclient.pipeline.queue.batch import PendingText
    from cosyclient.protocols.base import VoiceUpload, WireProtocol
    from cosyclient.transports.base import Transport
    from cosyclient.util.extra_fields import Headers
    from cosyclient.wire import WireReply, WireRequest


class Pipeline:
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
        config, sizing = settings.config, settings.sizing
        self._settings = settings
        self._clock = clock
        self._events = events
        self._closing = Flag()
        self._dropped: deque[DroppedStream] = deque()

        self._protocol = protocol
        self._budget = RetryBudget(config.retry, in_flight=sizing.permits)
        self._endpoint = Endpoint(
            settings.base_url,
            make_transport(settings, clock),
            limiter=RateLimiter(rate=settings.requests_per_second, burst=config.pacing.burst),
            bulkhead=Bulkhead(sizing.permits, clock, name="in text", full_error=BulkheadFull),
            adaptive=config.adaptive,
            # What the pool was sized for is no sign of overload.
            latency_floor=config.pool.expected_latency * config.pool.headroom,
            breaker=Breaker(
                config.breaker,
                name=settings.base_url,
                on_change=lambda old, new: events.emit(BreakerChanged(endpoint=settings.base_url, old=old, new=new)),
            ),
            clock=clock,
            events=events,
            max_pause=config.retry.max_retry_after,
            secret=settings.api_key,
        )
        self._coalescer = Coalescer(single_flight=config.queue.single_flight)
        self.admission = admission = Admission(settings, protocol, self._coalescer, clock)
        self._completer = Completer(
            self._coalescer,
            admission.timer,
            endpoint=settings.base_url,
            events=events,
            clock=clock,
            ended=admission.flow.release,
        )
        self._outage = Outage(
            config.retry.wait_for_service,
            endpoint=self._endpoint,
            coalescer=self._coalescer,
            completer=self._completer,
            dispatch=self._dispatch,
            clock=clock,
            events=events,
        )
        self._batcher = Batcher(
            BatchLimits(
                max_texts=settings.max_batch,
                body_bytes=config.wire.max_request_bytes,
                audio_seconds=config.wire.max_batch_seconds,
            ),
            workers=sizing.threads,
            clock=clock,
            linger=config.queue.linger,
        )
        self._hedger = None
        if config.hedge.extra:
            self._hedger = Hedger(
                HedgePolicy(config.hedge),
                clock=clock,
                allowed=self._may_hedge,
                board=self._batcher.requeue_front,
                leave=self._call_workers,
            )
        self._context = CallContext(
            protocol=self._protocol,
            endpoint=self._endpoint,
            retry=RetryPolicy(config.retry, settings.max_retries),
            budget=self._budget,
            timeouts=config.timeouts,
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
            rates=SampleRateCheck(hops, events, self._endpoint.name) if (hops := protocol.capabilities.hops) else None,
            complete=self._outage.complete,
        )
        self._dispatcher = Dispatcher(
            batcher=self._batcher,
            endpoint=self._endpoint,
            context=self._context,
            workers=sizing.threads,
            executor=executor,
            clock=clock,
            closing=self._closing,
            land=self._outage.complete,
        )
        admission.open(self._completer, self._batcher, self._dispatcher, self._outage)
        self._streams: weakref.WeakSet[SpeechStream] = weakref.WeakSet()

    # Streams and questions

    def stream(self, text: str, options: CallOptions) -> SpeechStream:
        """Return the samples of *text* as they arrive, once the first of them are there."""
        protocol = self._protocol
        if not (protocol.capabilities.stream and isinstance(protocol, StreamingProtocol)):
            raise BadUtterance(f"stream: protocol {protocol.name} sends audio whole only; use synthesize")
        utterance = self.admission.make_utterance(text, options.settings)
        self.admission.check_open()
        # Whoever plays what arrives takes as long as the audio lasts.
        span = options.timeout or self._settings.timeout
        span = span or self._settings.config.timeouts.of_call(len(text)) + 2 * utterance.expected_seconds
        stream = SpeechStream(
            self._context,
            protocol,
            utterance,
            protocol.encode_stream(utterance, key=uuid.uuid4().hex).with_headers(options.settings.sent_headers),
            options.deadline(self._clock, span),
            self._dropped,
        )
        self._streams.add(stream)
        return stream.open()

    def duplex(self, texts: Iterable[str], options: CallOptions) -> SpeechStream:
        """Return the samples of a text that is still being written, once the first of them are there."""
        protocol = self._protocol
        if not (protocol.capabilities.text_in and isinstance(protocol, TextInProtocol)):
            raise BadUtterance(f"stream_text: protocol {protocol.name} takes whole texts only; use stream")
        self.admission.check_settings(options.settings)
        self.admission.check_open()
        deadline = options.deadline(self._clock, options.timeout or self._settings.timeout or LONGEST)
        feeder = TextFeeder(texts, self._clock)
        utterance = feeder.begin(options.settings)
        request = protocol.encode_duplex(options.settings, key=uuid.uuid4().hex).with_headers(
            options.settings.sent_headers
        )
        stream = DuplexStream(self._context, protocol, feeder, utterance, request, deadline, self._dropped)
        self._streams.add(stream)
        return stream.open()

    def voices(self, headers: Headers | None) -> list[str]:
        """Return the names of the service's voices, asked for under *headers*."""
        protocol = self._protocol
        if not (protocol.capabilities.lists_voices and isinstance(protocol, ListingProtocol)):
            raise BadUtterance(f"voices: protocol {protocol.name} cannot list them; see what its service says")
        return self._call_unary(
            protocol.encode_voices().with_headers(headers),
            lambda reply: protocol.decode_voices(reply, wall=self._clock.wall()),
            repeatable=True,
        )

    def upload(self, recording: VoiceUpload, headers: Headers | None) -> str:
        """Have the service keep *recording*, sent under *headers*; return the name it has there."""
        protocol = self._protocol
        if not (protocol.capabilities.keeps_voices and isinstance(protocol, UploadingProtocol)):
            raise BadUtterance(f"upload_voice: protocol {protocol.name} keeps no recordings")
        return self._call_unary(
            protocol.encode_upload(recording).with_headers(headers),
            lambda reply: protocol.decode_upload(reply, recording, wall=self._clock.wall()),
            repeatable=False,
        )

    def _call_unary(self, request: WireRequest, decode: Callable[[WireReply], T], *, repeatable: bool) -> T:
        self.admission.check_open()
        span = self._settings.timeout or self._settings.config.timeouts.base
        return call_unary(self._context, request, decode, Deadline.after(self._clock, span), repeatable=repeatable)

    # Seams between rooms

    def _dispatch(self, texts: Sequence[PendingText]) -> None:
        # The outage is made before the dispatcher, whose refusals it hears of.
        self._dispatcher.dispatch(texts)

    def _call_workers(self) -> None:
        # The hedger is made before the dispatcher, whose calls it watches.
        self._dispatcher.start_workers()

    def _may_hedge(self) -> bool:
        """Return whether the service works, keeps up, and retries are few: an ailing one needs less load, not more."""
        half_full = 2 * self._budget.available > self._budget.full
        well = self._endpoint.breaker.state == CLOSED and not self._endpoint.concurrency.overloaded
        return half_full and well

    # Looking and closing

    def release_dropped_streams(self) -> None:
        """Let go of what streams held that were dropped without being closed: their finalizers must not."""
        while self._dropped:
            try:
                forgotten = self._dropped[0]
            except IndexError:  # another thread was faster
                return
            forgotten.release()
            with contextlib.suppress(ValueError):
                self._dropped.remove(forgotten)

    @property
    def bulk_capacity(self) -> tuple[float, float]:
        """Return the texts, and their seconds of audio, that fill twice what may be in text now."""
        fillings = 2.0 * self._endpoint.bulkhead.limit
        return fillings * self._settings.max_batch, fillings * self._endpoint.estimate().max_audio

    def stats(self) -> ClientStats:
        """Return a snapshot."""
        self.release_dropped_streams()
        endpoint, counts, settings = self._endpoint, self._endpoint.stats, self._settings
        rate, latency = counts.rate(self._clock.now()), counts.latency
        advice = None
        if rate > 0 and latency > 0:
            advice = littles_law(
                rate=rate,
                latency=latency,
                headroom=settings.config.pool.headroom,
                connection_limit=settings.max_connections,
                max_batch=settings.max_batch,
            )
        return ClientStats(
            calls=self._coalescer.accepted + self._completer.not_accepted,
            utterances=self._coalescer.succeeded,
            failed=self._coalescer.failed + self._completer.not_accepted,
            rejected=self._completer.rejected,
            executions=counts.executions,
            retries=counts.retries,
            throttled=counts.throttled,
            hedged=self._hedger.policy.hedged_texts if self._hedger else 0,
            hedge_requests=self._hedger.policy.hedge_requests if self._hedger else 0,
            queued=self._batcher.queued,
            in_flight=endpoint.bulkhead.in_use,
            limit=endpoint.bulkhead.limit,
            workers=self._batcher.workers,
            pending=self.admission.flow.in_use,
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
        self.admission.closing = True
        self.admission.flow.close()
        # Nobody who closes wants to wait for a service that is down.
        self._outage.close()
        try:
            if drain:
                latest = max((text.deadline for text in self._coalescer.pending()), default=0.0)
                # Whoever stops at a deadline needs a moment to say so.
                self._batcher.wait_idle(latest + 1.0)
        finally:
            # After a drain there is nothing left to fail; without one, or when it was interrupted, all callers wake.
            self._closing.set()
            closed = ClientClosed("the client was closed")
            self._batcher.pop_due(float("inf"))
            self._completer.complete([(text, closed) for text in self._coalescer.pending()], final=True)
            if self._hedger is not None:
                self._hedger.close()
            for stream in list(self._streams):
                stream.close()
            self.release_dropped_streams()
            self._endpoint.bulkhead.close()
            self._endpoint.transport.close()
            self._dispatcher.close(wait=not self.admission.on_own_thread())
            self.admission.timer.close()

    def reset_after_fork(self) -> None:
        """Fail what was under way when this process was forked; called in the child, where no other thread runs."""
        for text in self._coalescer.pending():
            for waiter in text.waiters:
                if waiter.future is not None:
                    waiter.future.reset_after_fork()
        for stream in list(self._streams):
            stream.reset_after_fork()
