"""One attempt, the same for batches, streams and unary calls: sent under a permit, its end reported once to all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosyclient.errors import Attempt, DeadlineExceeded, ServiceFault
from cosyclient.events import AttemptFinished, AttemptStarted

if TYPE_CHECKING:
    from cosyclient.clock import Cancellation, Deadline
    from cosyclient.endpoints.endpoint import Permit
    from cosyclient.errors import CosyError
    from cosyclient.pipeline.calls.context import CallContext
    from cosyclient.util.extra_fields import Headers
    from cosyclient.wire import WireReply, WireRequest


class Execution:
    """Send one request and report how the attempt ended.

    Use: `open`, read the reply, close it, `finish`. An error that comes meanwhile goes through `explain` first. The
    permit is the caller's: it must be cancelled whatever happens, which does nothing after `finish`. Two steps and no
    context manager, because a stream's attempt outlives the function that opens it.
    """

    __slots__ = ("_context", "_headers", "_name", "_request", "number", "permit", "started", "texts")

    def __init__(
        self,
        context: CallContext,
        permit: Permit,
        request: WireRequest,
        *,
        name: str,
        number: int,
        texts: int = 1,
        headers: Headers | None = None,
    ) -> None:
        """Prepare the attempt called *number* of the call that events call *name*; *headers* are the caller's own."""
        self._context = context
        self._request = request
        self._name = name
        self._headers = headers
        self.permit = permit
        self.number = number
        self.texts = texts
        self.started = 0.0

    def open(
        self,
        *,
        deadline: Deadline,
        audio_seconds: float = 0.0,
        time_limit: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> WireReply:
        """Send the request, for *audio_seconds* as far as is known, and return the reply, which may be a refusal.

        *time_limit* is how many seconds the most urgent text had in all; None is what is left until *deadline*. Raises
        what the transport raises.
        """
        context, permit = self._context, self.permit
        endpoint = permit.endpoint
        self.started = now = context.clock.now()
        permit.start(
            now,
            retry=self.number > 1,
            audio=audio_seconds,
            time_limit=deadline.remaining if time_limit is None else time_limit,
        )
        if context.events.wanted:
            context.events.emit(
                AttemptStarted(endpoint=endpoint.name, batch=self._name, number=self.number, texts=self.texts)
            )
        # A read timeout is a guess: each attempt is given twice the time of the one before.
        read_timeout = context.timeouts.of_reads(audio_seconds) * 2.0 ** (self.number - 1)
        reply = endpoint.transport.send(
            self._request,
            deadline=deadline,
            read_timeout=max(read_timeout, permit.read_timeout),
            cancellation=cancellation,
        )
        try:
            # Before decoding, which raises for a refusal: there the quota matters most.
            if (quota := context.protocol.quota(reply)) is not None:
                endpoint.apply_quota(quota)
        except BaseException:
            # An interrupt, or a defect: the caller never gets the reply and cannot close it.
            reply.close()
            raise
        return reply

    def redact(self, error: CosyError) -> None:
        """Take the key and the caller's header values out of *error*, as services quote what they refuse."""
        self.permit.endpoint.redact(error, () if self._headers is None else self._headers.fields())
        # Callers get copies, which have none. It holds the call's frames, so texts and the speeches of later attempts
        # would be kept by a reference cycle until the garbage collector runs.
        error.__traceback__ = None

    def explain(self, error: CosyError) -> None:
        """Redact *error* and add what its reader can do about it; once for each error."""
        self.redact(error)
        self._context.hints.add(error, self._request)

    def attempt_so_far(self, error: CosyError | None, *, listener_seconds: float = 0.0) -> Attempt:
        """Return the attempt's record as of now, with *error* as what became of it."""
        latency = self._context.clock.now() - self.started - listener_seconds
        return Attempt(self.number, self.permit.endpoint.name, self.started, latency, error)

    def finish(
        self,
        error: CosyError | None,
        *,
        returned: float = 0.0,
        listener_seconds: float = 0.0,
        speakable: bool = True,
        failed: int | None = None,
        recorded: CosyError | None = None,
    ) -> Attempt:
        """Redact *error*, report the attempt's end to breaker, limits, statistics and events; return its record. Once.

        *returned* is how many of the seconds of audio came, *listener_seconds* how many the caller took for itself,
        *speakable* whether any text had something to be spoken, *failed* how many texts failed: all, if there is an
        *error*, unless given. *recorded* is the error in the record where the attempt itself had none.
        """
        context, permit, now = self._context, self.permit, self._context.clock.now()
        if error is not None:
            # Here for all: what ends a stream in its middle passes through nothing else.
            self.redact(error)
        latency = now - self.started - listener_seconds
        if isinstance(error, DeadlineExceeded):
            # The service is to blame for a deadline only if it had a fair time and answered nothing to anybody
            # meanwhile: one that is slow, or was given too much to do, works.
            fair = latency >= max(context.timeouts.first_byte, permit.expected)
            error.endpoint_fault = fair and not returned and permit.endpoint.silent_since(self.started)
        elif isinstance(error, ServiceFault) and not speakable:
            # Servers stumble over a text without speech, and are well with every other.
            error.endpoint_fault = False
        permit.finish(error, now, returned=returned, listener_seconds=listener_seconds)
        endpoint = permit.endpoint.name
        if context.events.wanted:
            context.events.emit(
                AttemptFinished(
                    endpoint=endpoint,
                    batch=self._name,
                    number=self.number,
                    texts=self.texts,
                    failed=(self.texts if error is not None else 0) if failed is None else failed,
                    latency=latency,
                    error=error,
                )
            )
        return Attempt(self.number, endpoint, self.started, latency, error or recorded)

    def __repr__(self) -> str:
        return f"<Execution {self._name[:8]} number {self.number}, {self.texts} texts>"
