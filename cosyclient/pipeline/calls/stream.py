"""One text's samples while they arrive: opened within all policies, retried until the first of them is there."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, NamedTuple, Self

from cosyclient.audio import wav_bytes
from cosyclient.audio.pcm import MIN_SILENCE_FRAMES
from cosyclient.clock import Cancellation
from cosyclient.errors import Attempt, BadRequest, ClientClosed, CosyError, DecodeError, Rejected
from cosyclient.models import Speech, has_speech
from cosyclient.pipeline.calls.execution import Execution
from cosyclient.pipeline.calls.retrying import RetryLoop
from cosyclient.protocols.base import PcmFormat
from cosyclient.protocols.replies.speech import same_sample_fault, silent_audio_or_error

if TYPE_CHECKING:
    import os
    from collections import deque
    from collections.abc import Iterator
    from pathlib import Path

    from cosyclient.clock import Deadline
    from cosyclient.endpoints.endpoint import Permit
    from cosyclient.models import Utterance
    from cosyclient.pipeline.calls.context import CallContext
    from cosyclient.protocols.base import StreamingProtocol
    from cosyclient.wire import WireReply, WireRequest


class DroppedStream(NamedTuple):
    """Hold what a stream held that was dropped without being closed."""

    permit: Permit
    reply: WireReply | None
    cancellation: Cancellation

    def release(self) -> None:
        """Abort the attempt and give back what it held."""
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
        dropped: deque[DroppedStream] | None = None,
    ) -> None:
        self._context = context
        self._protocol = protocol
        self._utterance = utterance
        self._request = request
        self._deadline = deadline
        self._cancellation = Cancellation()
        self._name = self._context.new_key()
        self._attempts: list[Attempt] = []
        self._lock = threading.Lock()
        # Taken out under _lock: of the threads that end an attempt, one finishes it.
        self._execution: Execution | None = None
        self._closed = False
        # Of the thread that iterates.
        self._received: list[bytes] = []
        self._partial_frame = b""
        self._reply: WireReply | None = None
        self._pieces: Iterator[PcmFormat | bytes] = iter(())
        self._service_seconds = 0.0
        self._over = False
        self._broken: CosyError | None = None
        # Where the finalizer leaves what this stream held; set last, so that a constructor that was interrupted left
        # none.
        self._dropped = dropped

    def open(self) -> Self:
        """Wait for the first samples, trying again as policy allows; raises what becomes of the last attempt."""
        RetryLoop(self._context, self._name).run(self._attempt, self._attempts, deadline=self._deadline)
        return self

    def _attempt(self) -> CosyError | None:
        """Send once and read until the first samples; return why there are none."""
        context = self._context
        permit = context.endpoint.permit()
        headers = self._utterance.settings.checked_headers
        number = len(self._attempts) + 1
        self._execution = execution = Execution(
            context, permit, self._request, name=self._name, number=number, headers=headers
        )
        try:
            context.endpoint.acquire(permit, self._deadline, context.closing)
        except BaseException:
            # Twice: the second finishes a release that an interrupt has stopped.
            with permit, permit:
                raise
        try:
            self._service_seconds, self._partial_frame = 0.0, b""
            self._reply = reply = execution.open(
                deadline=self._deadline, audio_seconds=self._expected_seconds, cancellation=self._cancellation
            )
            self._on_reply(reply)
            self._pieces = iter(self._protocol.decode_stream(reply, self._utterance, wall=context.clock.wall()))
            head = next(self._pieces, None) or PcmFormat(self._utterance.settings.sample_rate)
            if not isinstance(head, PcmFormat):
                raise DecodeError("audio: a stream without a beginning", retryable=True)
            self.sample_rate, self.channels = head.sample_rate, head.channels
            self._service_seconds = context.clock.now() - execution.started
            self._read_more()
            self._on_first_samples()
        except CosyError as error:
            # No listener took any of the time so far.
            self._service_seconds = context.clock.now() - execution.started
            execution.explain(error)
            self._end(error)
            if has_speech(self._text) or not isinstance(error, BadRequest):
                return error
            if self._utterance.settings.on_silent != "silence":
                return error
            self._use_silence()
        except BaseException:
            self._close_twice()
            raise
        return None

    def _use_silence(self) -> None:
        """Be a short silence, for a text without speech that this service refuses where others return nothing."""
        asked = self._utterance.settings
        self.sample_rate, self.channels = asked.sample_rate, 1
        self._received.append(silent_audio_or_error(self._text, asked, "", sample_rate=asked.sample_rate))
        self._over = True
        self._on_first_samples()

    def __iter__(self) -> Iterator[bytes]:
        """Yield what has come, then what comes; a second iteration begins anew, from memory."""
        position = 0
        while True:
            while position < len(self._received):
                yield self._received[position]
                position += 1
            if self._over:
                return
            if self._broken is not None:
                # A stream that broke off stays broken.
                raise self._with_partial(self._broken) from self._broken.__cause__
            try:
                self._read_more()
            except CosyError as error:
                # What we have aborted ourselves looks like a wire that broke.
                ours = (self._closed or self._context.closing.is_set()) and not isinstance(error, Rejected)
                self._broken = broken = self._closed_error() if ours else error
                self._end(broken)
                raise self._with_partial(broken) from (error if ours else error.__cause__)
            except BaseException:
                self._close_twice()
                raise

    def _read_more(self) -> bool:
        """Read the next samples, at least one frame; return whether there were more."""
        if self._closed:
            raise self._closed_error()
        clock, block = self._context.clock, 2 * self.channels
        began = clock.now()
        try:
            for piece in self._pieces:
                if isinstance(piece, PcmFormat):
                    raise DecodeError("audio: the stream changes its rate in the middle")
                data = self._partial_frame + piece if self._partial_frame else piece
                whole = len(data) - len(data) % block
                self._partial_frame = data[whole:]
                if whole:
                    self._received.append(data[:whole] if self._partial_frame else data)
                    return True
        finally:
            self._service_seconds += clock.now() - began
        if self._closed:
            raise self._closed_error()
        if self._partial_frame:
            raise DecodeError(f"audio: the stream ends inside a frame of {block} bytes", retryable=True)
        empty = not self._received
        if empty:
            asked, rate = self._utterance.settings, self.sample_rate
            self._received.append(
                silent_audio_or_error(self._text, asked, "an empty stream", sample_rate=rate) * self.channels
            )
        elif self._is_silence() and has_speech(self._text):
            seconds = sum(map(len, self._received)) / (block * self.sample_rate)
            raise DecodeError(f"audio: {same_sample_fault(seconds)}", retryable=True)
        elif self._context.rates is not None and has_speech(self._text):
            self._context.rates.record(sum(map(len, self._received)) // block, self.sample_rate)
        self._end(None)
        self._check_complete()
        self._over = True
        return empty

    def _is_silence(self) -> bool:
        """Return whether all that came is one frame over and over; what moves shows it at the first look."""
        block, first = 2 * self.channels, self._received[0][: 2 * self.channels]
        if sum(map(len, self._received)) < MIN_SILENCE_FRAMES * block:
            return False
        return all(piece == first * (len(piece) // block) for piece in self._received)

    def _closed_error(self) -> Rejected:
        """Return the error of a closed stream: its client was closed, or the stream itself was."""
        if self._context.closing.is_set():
            return ClientClosed("the client was closed amid the stream", sent=True)
        return Rejected("the stream was closed", sent=True)

    # What `DuplexStream`, whose text is still being written, does differently.

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
    def _writer_seconds(self) -> float:
        """Return the seconds of the attempt that were spent waiting for the text."""
        return 0.0

    def _on_reply(self, reply: WireReply) -> None:
        """Be called with the reply of each attempt."""

    def _on_first_samples(self) -> None:
        """Be called when no other attempt follows."""

    def _check_complete(self) -> None:
        """Raise if the text was not complete, although the service has spoken all it got."""

    def _on_attempt_end(self) -> None:
        """Be called when an attempt is over."""

    def speech(self) -> Speech:
        """Return the whole as a WAV speech, waiting for what has not come yet."""
        for _ in self:
            pass
        return self._assembled()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the whole to *path* as a WAV file, waiting for what has not come yet, and return the path."""
        return self.speech().save(path)

    def close(self) -> None:
        """End the stream and abort what has not arrived, at the service too where it can; again does nothing."""
        self._closed = True
        if self._execution is not None:
            self._cancellation.cancel()
        self._end(Rejected("the stream was closed", sent=True))

    def reset_after_fork(self) -> None:
        """End the stream in a forked child without a sign to the service: the connection is the parent's."""
        # The lock may be held by a thread that does not exist here.
        self._lock = threading.Lock()
        self._execution, self._reply, self._closed = None, None, True
        self._pieces = iter(())

    def _close_twice(self) -> None:
        """Close on an interrupt; another one meanwhile closes once more."""
        try:
            self.close()
        except BaseException:
            self.close()
            raise

    def _end(self, error: CosyError | None) -> None:
        """Finish the attempt under way, if one is, and close its reply."""
        execution = self._execution
        if execution is None:
            self._close_reply()
            return
        mine = False
        try:
            with self._lock:
                if self._execution is execution:
                    mine, self._execution = True, None
            if mine and execution.permit.sent:
                self._finish(execution, error)
        finally:
            if mine:
                # Twice: the second finishes a release that an interrupt has stopped.
                with execution.permit, execution.permit:
                    self._close_reply()

    def _close_reply(self) -> None:
        reply = self._reply
        if reply is not None:
            with contextlib.suppress(CosyError):  # it is over either way
                reply.close()
            self._reply = None

    def _finish(self, execution: Execution, error: CosyError | None) -> None:
        self._on_attempt_end()
        # The time the listener took is no latency of the service.
        taken = self._context.clock.now() - execution.started
        listener_seconds = min(taken, max(0.0, taken - self._service_seconds) + self._writer_seconds)
        self._close_reply()
        returned = sum(map(len, self._received)) / (2 * self.channels * self.sample_rate) if self._received else 0.0
        self._attempts.append(
            execution.finish(
                error, returned=returned, listener_seconds=listener_seconds, speakable=has_speech(self._text)
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
        # A stream that was dropped without `close` must not keep its permit. The collector may run at any allocation,
        # also while one of our locks is held: nothing is locked here, the client's next call releases what was held.
        try:
            self._hand_over()
        except BaseException:  # an interrupt meanwhile: once more
            self._hand_over()
            raise

    def _hand_over(self) -> None:
        dropped: deque[DroppedStream] | None = getattr(self, "_dropped", None)
        execution: Execution | None = getattr(self, "_execution", None)
        if dropped is not None and execution is not None:
            dropped.append(DroppedStream(execution.permit, self._reply, self._cancellation))

    def __repr__(self) -> str:
        state = "over" if self._over else "closed" if self._closed else "open"
        count = sum(map(len, self._received))
        return f"<{type(self).__name__} {self._fingerprint[:12]} {state}, {count} bytes>"
