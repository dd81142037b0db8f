"""Duplex streams: text is sent while it is written, audio read while it is made, on two threads."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final, Self

from cosyclient.errors import BadUtterance, CosyError, Rejected
from cosyclient.models import MAX_CODE_POINTS, Utterance, check_text
from cosyclient.pipeline.calls.stream import SpeechStream
from cosyclient.util.threads import start_thread
from cosyclient.wire import DuplexReply

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable

    from cosyclient.clock import Clock, Deadline
    from cosyclient.models import VoiceSettings
    from cosyclient.pipeline.calls.context import CallContext
    from cosyclient.pipeline.calls.stream import DroppedStream
    from cosyclient.protocols.base import TextInProtocol
    from cosyclient.wire import WireReply, WireRequest

DEFAULT_TIMEOUT: Final = 3600.0
"""Seconds until the deadline of a duplex stream that was given none: how long its writer takes is not known."""
_MIN_EXPECTED_SECONDS: Final = 10.0
"""Seconds of audio that a text still being written is expected to become at least; they size the read timeout."""


class TextFeeder:
    """Read pieces of text from the writer's iterator and send them in the attempt under way.

    What was sent is kept for the next attempt until `keep_nothing`, when the first audio is there and no attempt
    follows. A piece is read only when the one before has been sent, so a service that does not take its text stops the
    writer, too.
    """

    def __init__(self, texts: Iterable[str], clock: Clock) -> None:
        self._texts = iter(texts)
        self._clock = clock
        self.error: BaseException | None = None
        """What the writer failed with; set by the thread that reads it."""
        # Guards the fields below. `send_text` only queues, so it may be called under the lock; that keeps the order.
        self._lock = threading.Lock()
        self._running = False
        self._reply: DuplexReply | None = None
        self._kept: list[str] | None = []
        self._ended = False
        self._closed = False
        self._waits_since: float | None = None
        self._waited = 0.0

    def begin(self, settings: VoiceSettings) -> Utterance:
        """Wait for the first words and return them; raises what the writer raises meanwhile.

        Nothing is sent before there is something to be spoken: the first words may take long, and services wait for a
        short time only.
        """
        begun = ""
        for text in self._texts:
            begun += _checked(text)
            if begun.strip():
                self._kept = [begun]
                return Utterance(begun.strip()[:MAX_CODE_POINTS], settings)
        raise BadUtterance("texts: there was nothing to say in them")

    def attach(self, reply: DuplexReply) -> None:
        """Send everything again in a new attempt, and go on there."""
        with self._lock:
            for text in self._kept or ():
                reply.send_text(text)
            if self._ended:
                reply.end_text()
            self._reply = reply
            self._waited, now = 0.0, self._clock.now()
            self._waits_since = now if self._waits_since is not None else None
            if not self._running:
                start_thread(self._run, "cosyclient-writer")
                self._running = True

    def detach(self) -> None:
        """Send nothing more in the attempt under way: it is over."""
        with self._lock:
            self._reply = None

    def keep_nothing(self) -> None:
        """Drop what was kept, and keep nothing any more: no other attempt follows."""
        with self._lock:
            self._kept = None

    def close(self) -> None:
        """Stop; a piece that the writer is producing is waited for and dropped."""
        with self._lock:
            self._closed, self._reply = True, None

    def reset_after_fork(self) -> None:
        """Reset in a forked child, where the thread does not exist."""
        self._lock = threading.Lock()
        self._closed, self._reply, self._waits_since = True, None, None

    @property
    def sent_text(self) -> str:
        """Return what was sent so far, as long as it is kept."""
        with self._lock:
            return "".join(self._kept or ())

    @property
    def waited(self) -> float:
        """Return the seconds of this attempt that the writer was waited for."""
        with self._lock:
            since = self._waits_since
            return self._waited + (0.0 if since is None else self._clock.now() - since)

    def _run(self) -> None:
        try:
            while (text := self._next_piece()) is not None and self._send(text):
                pass
        except BaseException as error:  # noqa: BLE001 - raised where the audio is read
            self.error = error
        try:
            self._finish()
        finally:
            # A generator that is cut short releases what it holds, such as the connection to a language model.
            close = getattr(self._texts, "close", None)
            if self._closed and close is not None:
                close()

    def _next_piece(self) -> str | None:
        with self._lock:
            self._waits_since = self._clock.now()
        try:
            text = next(self._texts, None)
            return None if text is None else _checked(text)
        finally:
            with self._lock:
                since, self._waits_since = self._waits_since, None
                self._waited += self._clock.now() - (since or 0.0)

    def _send(self, text: str) -> bool:
        """Send *text*; return whether more is wanted."""
        with self._lock:
            reply = self._reply
            if self._closed or (reply is None and self._kept is None):
                return False
            if self._kept is not None:
                self._kept.append(text)
            if reply is not None and text:
                try:
                    reply.send_text(text)
                except BadUtterance:
                    raise
                except CosyError:
                    return True  # raised where the audio is read, which may try again
        if reply is not None:
            _flush(reply)
        return True

    def _finish(self) -> None:
        with self._lock:
            self._ended, reply = True, self._reply
            try:
                if reply is not None:
                    reply.end_text()
            except CosyError:
                return
        if reply is not None:
            _flush(reply)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "ended" if self._ended else "writing"
        return f"<TextFeeder {state}>"


def _checked(text: object) -> str:
    """Return *text* if it may be part of what is spoken; alone it need not be anything: " " and "," are tokens, too."""
    if not isinstance(text, str):
        raise BadUtterance(f"texts: must yield str, got {type(text).__name__}")
    for start in range(0, len(text), MAX_CODE_POINTS):
        piece = text[start : start + MAX_CODE_POINTS]
        if not piece.isspace():
            check_text(piece)
    return text


def _flush(reply: DuplexReply) -> None:
    # Raised where the audio is read.
    with contextlib.suppress(CosyError):
        reply.flush()


class DuplexStream(SpeechStream):
    """Iterate the samples of a text that is still being written, as they arrive.

    If the writer fails, what it wrote is spoken to the end; then the iteration raises `Rejected` with the writer's
    error as its cause and all the audio as ``partial``.
    """

    def __init__(
        self,
        context: CallContext,
        protocol: TextInProtocol,
        feeder: TextFeeder,
        utterance: Utterance,
        request: WireRequest,
        deadline: Deadline,
        dropped: deque[DroppedStream] | None = None,
    ) -> None:
        super().__init__(context, protocol, utterance, request, deadline, dropped)
        self._feeder = feeder

    def open(self) -> Self:
        """Wait for the first samples; each attempt sends everything again."""
        try:
            return super().open()
        except BaseException as error:
            self._feeder.close()
            if self._feeder.error is not None and isinstance(error, CosyError):
                raise self._failed().for_caller(error.attempts) from self._feeder.error
            raise

    def close(self) -> None:
        """End the stream: nothing more is read from the writer, and what is being spoken is aborted."""
        self._feeder.close()
        super().close()

    def reset_after_fork(self) -> None:
        """End the stream in a forked child without a sign to the service."""
        self._feeder.reset_after_fork()
        super().reset_after_fork()

    @property
    def _expected_seconds(self) -> float:
        return max(_MIN_EXPECTED_SECONDS, self._utterance.expected_seconds)

    @property
    def _fingerprint(self) -> str:
        return ""  # the text is not known yet

    @property
    def _text(self) -> str:
        return self._feeder.sent_text or self._utterance.text

    @property
    def _writer_seconds(self) -> float:
        return self._feeder.waited

    def _on_reply(self, reply: WireReply) -> None:
        # A refusal takes no text; decoding the reply raises it.
        if isinstance(reply, DuplexReply):
            self._feeder.attach(reply)

    def _on_first_samples(self) -> None:
        self._feeder.keep_nothing()

    def _on_attempt_end(self) -> None:
        self._feeder.detach()

    def _check_complete(self) -> None:
        if self._feeder.error is not None:
            raise self._failed() from self._feeder.error

    def _failed(self) -> Rejected:
        error = self._feeder.error
        if isinstance(error, BadUtterance):
            return BadUtterance(str(error), sent=True)
        return Rejected(f"the writer of the text failed: {type(error).__name__}", sent=True)
