"""What one client runs in one process: made on first use, replaced in a forked child, closed upstream first."""

from __future__ import annotations

import contextlib
import weakref
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from cosyclient.audio.rate_check import SampleRateCheck
from cosyclient.clock import Clock, Deadline, Flag
from cosyclient.config.sizing import littles_law
from cosyclient.endpoints.endpoint import Endpoint
from cosyclient.errors import BadUtterance, BulkheadFull, ClientClosed
from cosyclient.events import BreakerChanged, Events
from cosyclient.pipeline.admission import Admission
from cosyclient.pipeline.calls.context import CallContext
from cosyclient.pipeline.calls.dispatcher import Dispatcher
from cosyclient.pipeline.calls.duplex import DEFAULT_TIMEOUT, DuplexStream, TextFeeder
from cosyclient.pipeline.calls.hints import ErrorHints
from cosyclient.pipeline.calls.stream import DroppedStream, SpeechStream
from cosyclient.pipeline.calls.unary import call_unary
from cosyclient.pipeline.queue.batch import BatchLimits
from cosyclient.pipeline.queue.batcher import Batcher
from cosyclient.pipeline.queue.coalescer import Coalescer
from cosyclient.pipeline.queue.completion import Completer
from cosyclient.pipeline.queue.flow_control import FlowController
from cosyclient.pipeline.stats import ClientStats
from cosyclient.policies.breaker import Breaker
from cosyclient.policies.budget import RetryBudget
from cosyclient.policies.bulkhead import Bulkhead
from cosyclient.policies.ratelimit.limiter import RateLimiter
from cosyclient.policies.retry import RetryPolicy
from cosyclient.protocols.base import ListingProtocol, StreamingProtocol, TextInProtocol, UploadingProtocol
from cosyclient.protocols.registry import protocols_where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.pipeline.admission import CallOptions
    from cosyclient.protocols.base import VoiceUpload, WireProtocol
    from cosyclient.transports.base import Transport
    from cosyclient.util.extra_fields import Headers
    from cosyclient.wire import WireReply, WireRequest

T = TypeVar("T")


class Pipeline:
    """Connect the parts a text passes: admission, queue, calls, endpoint; and make streams and unary calls."""

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
        config, sizing, name = settings.config, settings.sizing, settings.base_url
        self._settings = settings
        self._protocol = protocol
        self._clock = clock
        self._closing = Flag()
        self._dropped: deque[DroppedStream] = deque()
        self._streams: weakref.WeakSet[SpeechStream] = weakref.WeakSet()
        self._endpoint = endpoint = Endpoint(
            name,
            make_transport(settings, clock),
            limiter=RateLimiter(rate=settings.requests_per_second, burst=config.pacing.burst),
            bulkhead=Bulkhead(sizing.permits, clock, name="in flight", full_error=BulkheadFull),
            adaptive=config.adaptive,
            # What the pool was sized for is no sign of overload.
            latency_floor=config.pool.expected_latency * config.pool.headroom,
            breaker=Breaker(
                config.breaker,
                name=name,
                on_change=lambda old, new: events.emit(BreakerChanged(endpoint=name, old=old, new=new)),
            ),
            clock=clock,
            events=events,
            max_pause=config.retry.max_retry_after,
            slow_down=config.pacing.slow_down,
            secret=settings.api_key,
        )
        self._context = CallContext(
            protocol=protocol,
            endpoint=endpoint,
            retry=RetryPolicy(config.retry, settings.max_retries),
            budget=RetryBudget(config.retry, in_flight=sizing.permits),
            timeouts=config.timeouts,
            clock=clock,
            closing=self._closing,
            events=events,
            hints=ErrorHints(
                base_url=name,
                protocol=protocol.name,
                key_source=settings.key_source,
                key_names=settings.key_names,
            ),
            rates=SampleRateCheck(hops, events, name) if (hops := protocol.capabilities.hops) else None,
        )
        self._coalescer = Coalescer(single_flight=config.queue.single_flight)
        self._flow = FlowController(settings, clock)
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
        self._completer = Completer(
            self._coalescer, self._flow, self._batcher, endpoint=name, events=events, clock=clock
        )
        self._dispatcher = Dispatcher(
            self._context,
            coalescer=self._coalescer,
            batcher=self._batcher,
            completer=self._completer,
            workers=sizing.threads,
            executor=executor,
            hedge=config.hedge,
            wait_for_service=config.retry.wait_for_service,
        )
        self.admission = Admission(
            settings,
            protocol,
            coalescer=self._coalescer,
            flow=self._flow,
            batcher=self._batcher,
            completer=self._completer,
            dispatcher=self._dispatcher,
            clock=clock,
        )

    def stream(self, text: str, options: CallOptions) -> SpeechStream:
        """Return the samples of *text* as they arrive, once the first of them are there."""
        protocol = self._protocol
        if not (protocol.capabilities.stream and isinstance(protocol, StreamingProtocol)):
            able = protocols_where(lambda can: can.stream)
            raise BadUtterance(f"stream: protocol {protocol.name} sends audio whole only; use synthesize; {able}")
        utterance = self.admission.make_utterance(text, options.settings)
        self.admission.check_open()
        # A listener who plays what arrives takes as long as the audio lasts.
        span = options.timeout or self._settings.timeout
        span = span or self._settings.config.timeouts.of_call(len(text)) + 2 * utterance.expected_seconds
        stream = SpeechStream(
            self._context,
            protocol,
            utterance,
            protocol.encode_stream(utterance, key=self._context.new_key()).with_headers(
                options.settings.checked_headers
            ),
            options.deadline(self._clock, span),
            self._dropped,
        )
        self._streams.add(stream)
        return stream.open()

    def duplex(self, texts: Iterable[str], options: CallOptions) -> SpeechStream:
        """Return the samples of a text that is still being written, once the first of them are there."""
        protocol = self._protocol
        if not (protocol.capabilities.text_in and isinstance(protocol, TextInProtocol)):
            able = protocols_where(lambda can: can.text_in)
            raise BadUtterance(f"stream_text: protocol {protocol.name} takes whole texts only; use stream; {able}")
        self.admission.check_settings(options.settings)
        self.admission.check_open()
        deadline = options.deadline(self._clock, options.timeout or self._settings.timeout or DEFAULT_TIMEOUT)
        feeder = TextFeeder(texts, self._clock)
        utterance = feeder.begin(options.settings)
        request = protocol.encode_duplex(options.settings, key=self._context.new_key())
        request = request.with_headers(options.settings.checked_headers)
        stream = DuplexStream(self._context, protocol, feeder, utterance, request, deadline, self._dropped)
        self._streams.add(stream)
        return stream.open()

    def voices(self, headers: Headers | None) -> list[str]:
        """Return the names of the service's voices; *headers* are sent along."""
        protocol = self._protocol
        if not (protocol.capabilities.lists_voices and isinstance(protocol, ListingProtocol)):
            able = protocols_where(lambda can: can.lists_voices)
            raise BadUtterance(f"voices: protocol {protocol.name} cannot list them; see what its service says; {able}")
        return self._call_unary(
            protocol.encode_voices(),
            lambda reply: protocol.decode_voices(reply, wall=self._clock.wall()),
            repeatable=True,
            headers=headers,
        )

    def upload(self, upload: VoiceUpload, headers: Headers | None) -> str:
        """Have the service keep the voice of *upload*, with *headers* sent along; return the name it has there."""
        protocol = self._protocol
        if not (protocol.capabilities.keeps_voices and isinstance(protocol, UploadingProtocol)):
            able = protocols_where(lambda can: can.keeps_voices)
            raise BadUtterance(f"upload_voice: protocol {protocol.name} keeps no recordings; {able}")
        return self._call_unary(
            protocol.encode_upload(upload),
            lambda reply: protocol.decode_upload(reply, upload, wall=self._clock.wall()),
            repeatable=False,
            headers=headers,
        )

    def _call_unary(
        self, request: WireRequest, decode: Callable[[WireReply], T], *, repeatable: bool, headers: Headers | None
    ) -> T:
        self.admission.check_open()
        deadline = Deadline.after(self._clock, self._settings.timeout or self._settings.config.timeouts.base)
        return call_unary(self._context, request, decode, deadline, repeatable=repeatable, headers=headers)

    def release_dropped_streams(self) -> None:
        """Release what streams held that were dropped without being closed: their finalizers must take no lock."""
        while self._dropped:
            try:
                dropped = self._dropped[0]
            except IndexError:  # another thread was faster
                return
            dropped.release()
            with contextlib.suppress(ValueError):
                self._dropped.remove(dropped)

    @property
    def bulk_capacity(self) -> tuple[float, float]:
        """Return the texts, and their seconds of audio, that fill twice what may be in flight now."""
        fillings = 2.0 * self._endpoint.bulkhead.limit
        return fillings * self._settings.max_batch, fillings * self._endpoint.estimate().max_audio

    def stats(self) -> ClientStats:
        """Return a snapshot."""
        self.release_dropped_streams()
        endpoint, counts, settings = self._endpoint, self._endpoint.stats, self._settings
        rate, latency = counts.rate(self._clock.now()), counts.latency
        hedger = self._dispatcher.hedger
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
            hedged=hedger.policy.hedged_texts if hedger else 0,
            hedge_requests=hedger.policy.hedge_requests if hedger else 0,
            queued=self._batcher.queued,
            in_flight=endpoint.bulkhead.in_use,
            limit=endpoint.bulkhead.limit,
            workers=self._batcher.workers,
            pending=self._flow.in_use,
            retry_budget=self._context.budget.available,
            pool=endpoint.transport.stats(),
            breakers={endpoint.name: endpoint.breaker.state},
            rate=rate,
            latency=latency,
            concurrency=rate * latency,
            advice=advice,
        )

    def close(self, *, drain: bool) -> None:
        """Refuse what is new, finish (or fail) what is pending, then close threads and connections."""
        self.admission.closed = True
        self._flow.close()
        # A client that closes does not wait for a service that is down.
        self._dispatcher.outage.close()
        try:
            if drain:
                latest = max((text.deadline for text in self._coalescer.pending()), default=0.0)
                # A text that ends at its deadline is resolved a moment later.
                self._batcher.wait_idle(latest + 1.0)
        finally:
            # After a drain there is nothing left to fail; without one, or if it was interrupted, all waiters wake.
            self._closing.set()
            closed = ClientClosed("the client was closed")
            self._batcher.pop_due(float("inf"))
            self._completer.complete([(text, closed) for text in self._coalescer.pending()], final=True)
            for stream in list(self._streams):
                stream.close()
            self.release_dropped_streams()
            self._endpoint.bulkhead.close()
            self._endpoint.transport.close()
            self._dispatcher.close(wait=not self.admission.on_own_thread())
            self._completer.timer.close()

    def reset_after_fork(self) -> None:
        """Fail what was pending when this process was forked; called in the child, where no other thread runs."""
        for text in self._coalescer.pending():
            for waiter in text.waiters:
                if waiter.future is not None:
                    waiter.future.reset_after_fork()
        for stream in list(self._streams):
            stream.reset_after_fork()
