"""One text's samples while they arrive: opened within all policies, retried until the first of them is there."""

from __future__ import annotations

import contextlib
import threading
import uuid
from typing import TYPE_CHECKING, NamedTuple, Self

from cosyclient.audio import wav_bytes
from cosyclient.audio.pcm import MIN_SILENCE_FRAMES
from cosyclient.clock import Cancellation
from cosyclient.endpoints.endpoint import Permit
from cosyclient.errors import Attempt, BadRequest, ClientClosed, CosyError, DecodeError, Rejected, ServiceFault
from cosyclient.events import AttemptFinished
from cosyclient.models import Speech, has_speech
from cosyclient.pipeline.calls.retrying import persist
from cosyclient.protocols.base import PcmFormat
from cosyclient.protocols.replies.speech import silent_audio_or_error

if TYPE_CHECKING:
    import os
    from collections import deque
    from collections.abc import Iterator
    from pathlib import Path

    from cosyclient.clock import Deadline
    from cosyclient.models import Utterance
    from cosyclient.pipeline.calls.batch_call import CallContext
    from cosyclient.protocols.base import StreamingProtocol
    from cosyclient.wire import WireReply, WireRequest


class DroppedStream(NamedTuple):
    """Hold what a stream held that was dropped without being closed."""

    permit: Permit
    reply: WireReply | None
    cancellation: Cancellation

    def release(self) -> None:
        """Break off what was under way and give back what it held."""
        with self.permit, self.permit:
            self.cancellation.cancel()
            if self.reply is not None:
                with contextlib.suppress(CosyError):
                    self.reply.close()


class SpeechStream:
    """Iterate one text's samples as they arrive: signed 16-bit little-endian, in chunks of whole frames.

    Use it as a context manager or `close` it: until it has ended, a connection and a permit to be in flight are its
    own. What goes wrong amid the samples is raised by the iteration, with what had come by then as ``partial``. Only
    the time spent waiting for the service counts as the service's; the deadline counts all.
    """

    sample_rate: int
    """Hz; known as soon as there is a stream."""
    channels: int

    def __init__(
        self,
        context: CallContext,
        protocol: StreamingProtocol,
        utterance: Utterance,
        request: WireRequest,
        deadline: Deadline,
        forgotten: deque[DroppedStream] | None = None,
    ) -> None:
        self._context = context
        self._protocol = protocol
        self._utterance = utterance
        self._request = request
        self._deadline = deadline
        self._cancellation = Cancellation()
        self._name = uuid.uuid4().hex
        self._attempts: list[Attempt] = []
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._permit: Permit | None = None
        self._closed = False
        # Of the thread that iterates.
        self._received: list[bytes] = []
        self._rest = b""
        self._reply: WireReply | None = None
        self._pieces: Iterator[PcmFormat | bytes] = iter(())
        self._started = self._listened = 0.0
        self._over = False
        self._broken: CosyError | None = None
        # Where the finalizer leaves what this one held; last, so that one whose making was interrupted has none.
        self._dropped = forgotten

    def open(self) -> Self:
        """Wait for the first samples, trying again as policy allows; raises what becomes of the last attempt."""
        persist(self._context, self._try, self._attempts, deadline=self._deadline, name=self._name)
        return self

    def _try(self) -> CosyError | None:
        """Send once and read until the first samples; return why there are none."""
        context, clock = self._context, self._context.clock
        self._permit = permit = Permit(context.endpoint)
        expected = self._expected_seconds
        try:
            context.endpoint.acquire(permit, self._deadline, context.closing)
        except BaseException:
            with permit, permit:
                raise
        try:
            self._started, self._listened, self._rest = clock.now(), 0.0, b""
            permit.start(self._started, retry=bool(self._attempts), audio=expected, time_limit=self._deadline.remaining)
            self._reply = reply = permit.endpoint.transport.send(
                self._request,
                deadline=self._deadline,
                read_timeout=max(context.timeouts.of_reads(expected) * 2.0 ** len(self._attempts), permit.read_timeout),
                cancellation=self._cancellation,
            )
            if (quota := context.protocol.quota(reply)) is not None:
                permit.endpoint.apply_quota(quota)
            self._opened(reply)
            self._pieces = iter(self._protocol.decode_stream(reply, self._utterance, wall=clock.wall()))
            head = next(self._pieces, None) or PcmFormat(self._utterance.settings.sample_rate)
            if not isinstance(head, PcmFormat):
                raise DecodeError("audio: a stream without a beginning", retryable=True)
            self.sample_rate, self.channels = head.sample_rate, head.channels
            self._listened = clock.now() - self._started
            self._pull()
            self._begun()
        except CosyError as error:
            context.advice.add(error, self._request)
            spoken = has_speech(self._text)
            if isinstance(error, ServiceFault) and not spoken:
                # Servers stumble over a text without speech, and are well with every other.
                error.endpoint_fault = False
            self._end(error)
            if spoken or not isinstance(error, BadRequest) or self._utterance.settings.on_silent != "silence":
                return error
            self._stand_in()
        except BaseException:
            try:
                self.close()
            except BaseException:
                self.close()
                raise
            raise
        return None

    def _stand_in(self) -> None:
        """Be a short silence, for a text without speech that a service refuses where others make nothing of it."""
        asked = self._utterance.settings
        self.sample_rate, self.channels = asked.sample_rate, 1
        self._received.append(silent_audio_or_error(self._text, asked, "", sample_rate=asked.sample_rate))
        self._over = True
        self._begun()

    def __iter__(self) -> Iterator[bytes]:
        """Yield what has come, then what comes; a second iteration begins anew and costs nothing."""
        position = 0
        while True:
            while position < len(self._received):
                yield self._received[position]
                position += 1
            if self._over:
                return
            if self._broken is not None:
                # What broke off does not become whole by being asked again.
                raise self._with_partial(self._broken) from self._broken.__cause__
            try:
                self._pull()
            except CosyError as error:
                # What we have broken off ourselves looks like a wire that broke.
                ours = (self._closed or self._context.closing.is_set()) and not isinstance(error, Rejected)
                self._broken = broken = self._end_of_it() if ours else error
                self._end(broken)
                raise self._with_partial(broken) from (error if ours else error.__cause__)
            except BaseException:
                try:
                    self.close()
                except BaseException:
                    self.close()
                    raise
                raise

    def _pull(self) -> bool:
        """Take the next samples, at least one frame; return whether there were more."""
        if self._closed:
            raise self._end_of_it()
        clock, block = self._context.clock, 2 * self.channels
        began = clock.now()
        try:
            for piece in self._pieces:
                if isinstance(piece, PcmFormat):
                    raise DecodeError("audio: the stream changes its rate in the middle")
                data = self._rest + piece if self._rest else piece
                whole = len(data) - len(data) % block
                self._rest = data[whole:]
                if whole:
                    self._received.append(data[:whole] if self._rest else data)
                    return True
        finally:
            self._listened += clock.now() - began
        if self._closed:
            raise self._end_of_it()
        if self._rest:
            raise DecodeError(f"audio: the stream ends inside a frame of {block} bytes", retryable=True)
        empty = not self._received
        if empty:
            asked, rate = self._utterance.settings, self.sample_rate
            self._received.append(
                silent_audio_or_error(self._text, asked, "an empty stream", sample_rate=rate) * self.channels
            )
        elif self._is_silence() and has_speech(self._text):
            seconds = sum(map(len, self._received)) / (block * self.sample_rate)
            raise DecodeError(f"audio: {seconds:.2f} s of silence", retryable=True)
        elif self._context.rates is not None and has_speech(self._text):
            self._context.rates.record(sum(map(len, self._received)) // block, self.sample_rate)
        self._end(None)
        self._check_whole()
        self._over = True
        return empty

    def _is_silence(self) -> bool:
        """Return whether all that came is one frame over and over; what moves shows it at the first look."""
        block, first = 2 * self.channels, self._received[0][: 2 * self.channels]
        if sum(map(len, self._received)) < MIN_SILENCE_FRAMES * block:
            return False
        return all(piece == first * (len(piece) // block) for piece in self._received)

    def _end_of_it(self) -> Rejected:
        """Return what a closed stream's listener hears: that his client was closed, or that he did it himself."""
        if self._context.closing.is_set():
            return ClientClosed("the client was closed amid the stream", sent=True)
        return Rejected("the stream was closed", sent=True)

    # What a stream whose text is still being written does differently.

    @property
    def _expected_seconds(self) -> float:
        return self._utterance.expected_seconds

    @property
    def _fingerprint(self) -> str:
        return self._utterance.fingerprint

    @property
    def _text(self) -> str:
        """Return what was to be spoken, as far as it is known."""
        return self._utterance.text

    @property
    def _awaited(self) -> float:
        """Return the seconds of the attempt that somebody else than the service was waited for."""
        return 0.0

    def _opened(self, reply: WireReply) -> None:
        """Note that an attempt has a reply."""

    def _begun(self) -> None:
        """Note that there will be no other attempt."""

    def _check_whole(self) -> None:
        """Raise if there should have been more, although the service has said all it was asked to."""

    def _let_go(self) -> None:
        """Note that the attempt is over."""

    def speech(self) -> Speech:
        """Return the whole as a WAV speech, waiting for what has not come yet."""
        for _ in self:
            pass
        return self._assembled()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the whole to *path* as a WAV file, waiting for what has not come yet, and return the path."""
        return self.speech().save(path)

    def close(self) -> None:
        """Let go: what has not ended is broken off, at the service too where its protocol can; again does nothing."""
        self._closed = True
        if self._permit is not None:
            self._cancellation.cancel()
        self._end(Rejected("the stream was closed", sent=True))

    def reset_after_fork(self) -> None:
        """Let go in a forked child without a sign to anybody: the connection is the parent's."""
        # The lock may be held by a thread that does not exist here.
        self._lock = threading.Lock()
        self._permit, self._reply, self._closed = None, None, True
        self._pieces = iter(())

    def _end(self, error: CosyError | None) -> None:
        """Settle the attempt under way, if one is, and let the connection go."""
        permit = self._permit
        if permit is None:
            self._close_reply()
            return
        mine = False
        try:
            with self._lock:
                if self._permit is permit:
                    mine, self._permit = True, None
            if mine and permit.sent:
                self._settle(permit, error)
        finally:
            if mine:
                with permit, permit:
                    self._close_reply()

    def _close_reply(self) -> None:
        reply = self._reply
        if reply is not None:
            with contextlib.suppress(CosyError):  # it is over either way
                reply.close()
            self._reply = None

    def _settle(self, permit: Permit, error: CosyError | None) -> None:
        self._let_go()
        context = self._context
        headers = self._utterance.settings.sent_headers
        context.endpoint.redact(error, headers.fields() if headers is not None else ())
        now = context.clock.now()
        # What the listener took his time for is no latency of the service.
        idle = min(now - self._started, max(0.0, now - self._started - self._listened) + self._awaited)
        self._close_reply()
        seconds = sum(map(len, self._received)) / (2 * self.channels * self.sample_rate) if self._received else 0.0
        permit.finish(error, now, returned=seconds, idle=idle)
        attempt = Attempt(
            len(self._attempts) + 1, context.endpoint.name, self._started, now - self._started - idle, error
        )
        self._attempts.append(attempt)
        if context.events.wanted:
            context.events.emit(
                AttemptFinished(
                    endpoint=attempt.endpoint,
                    batch=self._name,
                    number=attempt.number,
                    texts=1,
                    failed=int(error is not None),
                    latency=attempt.latency,
                    error=error,
                )
            )

    def _with_partial(self, error: CosyError) -> CosyError:
        twin = error.for_caller(self._attempts)
        if self._received:
            twin.partial = self._assembled()
        return twin

    def _assembled(self) -> Speech:
        samples = b"".join(self._received)
        return Speech(
            audio=wav_bytes(samples, self.sample_rate, self.channels),
            format="wav",
            sample_rate=self.sample_rate,
            channels=self.channels,
            duration=len(samples) / (2 * self.channels * self.sample_rate),
            fingerprint=self._fingerprint,
            attempts=max(1, len(self._attempts)),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A forgotten stream must not keep a permit for ever. The collector may come at any allocation, also where one
        # of our locks is held: nothing is locked here and nobody told, the client's next call does that.
        forgotten: deque[DroppedStream] | None = getattr(self, "_dropped", None)
        if forgotten is not None and self._permit is not None:
            forgotten.append(DroppedStream(self._permit, self._reply, self._cancellation))

    def __repr__(self) -> str:
        state = "over" if self._over else "closed" if self._closed else "open"
        count = sum(map(len, self._received))
        return f"<{type(self).__name__} {self._fingerprint[:12]} {state}, {count} bytes>"
