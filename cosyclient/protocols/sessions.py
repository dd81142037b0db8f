"""The base classes of protocols over messages: one for the protocol, one for the session of an attempt."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from cosyclient.audio.format import PcmFormat
from cosyclient.protocols.capabilities import check_stream
from cosyclient.protocols.replies.errors import check_status
from cosyclient.protocols.replies.speech import check_plausible, speech_from_bytes
from cosyclient.protocols.single_text import SingleTextProtocol
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosyclient.models import Speech, Utterance, VoiceSettings, Word
    from cosyclient.wire import MessageSession, WireReply

_MAX_REMEMBERED: Final = 500
"""Texts of a session that its errors are searched for."""


class BaseSession:
    """Implements what the sessions of all protocols have in common; see `MessageSession`.

    ``sent_texts`` are the latest texts, which no error may quote; ``words`` and ``sample_rate`` are filled in from the
    service's messages.
    """

    reusable = False
    idle_limit = 0.0
    writer_idle_limit = 0.0
    """Seconds without text after which the service ends the session; it reports that itself, a little later at most."""

    def __init__(self) -> None:
        self.sent_texts: deque[str] = deque(maxlen=_MAX_REMEMBERED)
        self.words: tuple[Word, ...] = ()
        self.sample_rate: int | None = None
        self.text_ended = False

    @property
    def writer_timeout(self) -> float:
        """Return the seconds without a message that the caller's writer may cause."""
        return 0.0 if self.text_ended else 1.25 * self.writer_idle_limit

    def closed(self, code: int) -> bool:
        """Return False: this session ends with a message, and a closed connection breaks it off."""
        return False

    def __repr__(self) -> str:
        state = "done" if self.reusable else "text ended" if self.text_ended else "open"
        return f"<{type(self).__name__} {state}>"


def json_message(document: dict[str, Any]) -> str:
    """Return *document* as the text of a message."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class _SessionFactory:
    """Makes the session of each attempt; equal for equal requests, whichever instance of the protocol made them."""

    settings: VoiceSettings
    text: str | None
    stream: bool
    make: Callable[..., MessageSession] = field(compare=False)

    def __call__(self) -> MessageSession:
        return self.make(self.settings, self.text, stream=self.stream)


class SessionProtocol(SingleTextProtocol):
    """Implements `TextInProtocol` for a service over messages: one text per session, no body, audio in pieces.

    A subclass sets ``path`` and makes the session of an attempt in `_new_session`.
    """

    path: str

    def weigh(self, utterance: Utterance) -> int:
        """Return 0: a session has no body."""
        return 0

    def encode_duplex(self, settings: VoiceSettings, *, key: str) -> WireRequest:
        """Return the request that opens a session whose text follows."""
        check_stream(self.name, self.capabilities, settings)
        return self._session_request(settings, None, stream=True)

    def decode_stream(self, reply: WireReply, utterance: Utterance, *, wall: float) -> Iterator[PcmFormat | bytes]:
        """Yield one `PcmFormat`, then samples as they arrive.

        Their duration is not checked: more text than *utterance* may have followed, and the service states the end.
        """
        check_status(reply, [utterance], wall=wall, make_error=self._error_from_reply)
        yield from self._read_pcm(reply, utterance, wall)

    def _new_session(self, settings: VoiceSettings, text: str | None, *, stream: bool) -> MessageSession:
        """Return the session of one attempt; *text* is ``None`` if it follows while it is written."""
        raise NotImplementedError

    def _headers(self, settings: VoiceSettings) -> tuple[tuple[str, str], ...]:
        """Return the header fields of the opening handshake."""
        return ()

    def _session_request(self, settings: VoiceSettings, text: str | None, *, stream: bool) -> WireRequest:
        new_session = _SessionFactory(settings, text, stream, self._new_session)
        return WireRequest(
            method="GET", path=self.path, headers=self._headers(settings), body=b"", new_session=new_session
        )

    def _request(self, utterance: Utterance, key: str, *, stream: bool) -> WireRequest:
        # Nothing in a session is repeated under a key.
        return self._session_request(utterance.settings, utterance.text, stream=stream)

    def _read_pcm(self, reply: WireReply, utterance: Utterance, wall: float) -> Iterator[PcmFormat | bytes]:
        started = False
        for piece in reply.chunks():
            if not started:
                started = True
                # The session knows the rate when its first samples arrive.
                rate = getattr(getattr(reply, "session", None), "sample_rate", None)
                yield PcmFormat(rate or utterance.settings.sample_rate)
            yield piece

    def _read_speech(self, reply: WireReply, utterance: Utterance, wall: float) -> Speech:
        """Return the speech when the service has stated its end, with the words that the session was sent."""
        data = self._assemble(utterance, b"".join(reply.chunks()))
        session = getattr(reply, "session", None)
        fields = {"sample_rate": getattr(session, "sample_rate", None)}
        speech = check_plausible(utterance, speech_from_bytes(utterance, data, fields))
        return replace(speech, words=getattr(session, "words", ()))

    def _assemble(self, utterance: Utterance, data: bytes) -> bytes:
        """Return the audio in the format of *utterance*, made of the *data* that came."""
        return data
