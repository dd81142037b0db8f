"""Text in while it is written, audio out while it is made: one thread says what another listens to."""

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

LONGEST: Final = 3600.0
"""Seconds a conversation is given where nothing else was asked for: how long its writer takes is not ours to know."""
_EXPECTED_SECONDS: Final = 10.0


class TextFeeder:
    """Pull pieces of text and say them in whatever attempt is under way; what was said is kept for the next one.

    Once the first audio is there no other attempt will follow and nothing is kept. A piece is pulled only when the one
    before has left, so a service that does not take its text stops the writer, too.
    """

    def __init__(self, texts: Iterable[str], clock: Clock) -> None:
        self._texts = iter(texts)
        self._clock = clock
        self._running = False
        # Guards the fields below. Saying only puts in line, so it may be done under it; that keeps the order.
        self._lock = threading.Lock()
        self._reply: DuplexReply | None = None
        self._kept: list[str] | None = []
        self._ended = False
        self._closed = False
        self._waits_since: float | None = None
        self._waited = 0.0
        self.error: BaseException | None = None
        """What went wrong with the writer."""

    def begin(self, settings: VoiceSettings) -> Utterance:
        """Wait for the first words and return them; what the writer raises meanwhile is raised.

        Nothing is sent before there is something to say: the first words may take long, and no service waits long.
        """
        said = ""
        for text in self._texts:
            said += _checked(text)
            if said.strip():
                self._kept = [said]
                return Utterance(said.strip()[:MAX_CODE_POINTS], settings)
        raise BadUtterance("texts: there was nothing to say in them")

    def attach(self, reply: DuplexReply) -> None:
        """Say all over again in a new attempt, and go on there."""
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
        """Say nothing more to the attempt under way: it is over."""
        with self._lock:
            self._reply = None

    def settle(self) -> None:
        """Keep nothing any more: there will be no other attempt."""
        with self._lock:
            self._kept = None

    def close(self) -> None:
        """Stop; a writer that is being waited for is heard out first, and what it says is dropped."""
        with self._lock:
            self._closed, self._reply = True, None

    def orphan(self) -> None:
        """Forget everything in a forked child, where the thread does not exist."""
        self._lock = threading.Lock()
        self._closed, self._reply, self._waits_since = True, None, None

    @property
    def said(self) -> str:
        """Return what was said so far, as long as it is kept."""
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
            while (text := self._pull()) is not None and self._say(text):
                pass
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is for the one who listens
            self.error = error
        try:
            self._finish()
        finally:
            # A generator cut short lets go of what it holds, such as the connection to a language model.
            close = getattr(self._texts, "close", None)
            if self._closed and close is not None:
                close()

    def _pull(self) -> str | None:
        with self._lock:
            self._waits_since = self._clock.now()
        try:
            text = next(self._texts, None)
            return None if text is None else _checked(text)
        finally:
            with self._lock:
                since, self._waits_since = self._waits_since, None
                self._waited += self._clock.now() - (since or 0.0)

    def _say(self, text: str) -> bool:
        """Return whether anybody will want more."""
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
                    return True  # whoever listens hears of it, and may try again
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
    """Return *text* if it may be part of what is said; alone it need not be anything: " " and "," are tokens, too."""
    if not isinstance(text, str):
        raise BadUtterance(f"texts: must yield str, got {type(text).__name__}")
    for start in range(0, len(text), MAX_CODE_POINTS):
        piece = text[start : start + MAX_CODE_POINTS]
        if not piece.isspace():
            check_text(piece)
    return text


def _flush(reply: DuplexReply) -> None:
    # Whoever listens hears of it.
    with contextlib.suppress(CosyError):
        reply.flush()


class DuplexStream(SpeechStream):
    """Iterate the samples of a text that is still being written, as they arrive.

    A writer that fails has what it said spoken to the end; then the iteration raises `Rejected` with the writer's error
    as its cause and all the audio as ``partial``.
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
        """Wait for the first samples, saying everything again in each attempt."""
        try:
            return super().open()
        except BaseException as error:
            self._feeder.close()
            if self._feeder.error is not None and isinstance(error, CosyError):
                raise self._failed().for_caller(error.attempts) from self._feeder.error
            raise

    def close(self) -> None:
        """Let go: the writer is not asked for more, and what is being spoken is broken off."""
        self._feeder.close()
        super().close()

    def reset_after_fork(self) -> None:
        """Let go in a forked child without a sign to anybody."""
        self._feeder.orphan()
        super().reset_after_fork()

    @property
    def _expected_seconds(self) -> float:
        return max(_EXPECTED_SECONDS, self._utterance.expected_seconds)

    @property
    def _fingerprint(self) -> str:
        return ""  # it is not known what will have been said

    @property
    def _text(self) -> str:
        return self._feeder.said or self._utterance.text

    @property
    def _writer_seconds(self) -> float:
        return self._feeder.waited

    def _on_reply(self, reply: WireReply) -> None:
        # A refusal takes no text; what reads the reply will say so.
        if isinstance(reply, DuplexReply):
            self._feeder.attach(reply)

    def _on_first_samples(self) -> None:
        self._feeder.settle()

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
