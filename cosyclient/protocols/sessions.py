"""What the protocols over messages share: documents read with care, and from a conversation's audio to a speech."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from cosyclient.protocols.base import PcmFormat
from cosyclient.protocols.replies.errors import error_from_reply
from cosyclient.protocols.replies.headers import quota
from cosyclient.protocols.replies.speech import check_plausible, speech_from_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.config import WireConfig
    from cosyclient.models import Utterance, Word
    from cosyclient.protocols.base import Item, Quota
    from cosyclient.wire import WireReply

_OPEN: Final = 200
_REMEMBERED: Final = 500


class BaseSession:
    """Begin a `MessageSession`: what most of them have in common.

    ``said`` holds the latest texts, which no error may quote; ``words`` and ``sample_rate`` are what was learned.
    """

    reusable = False
    idle_limit = 0.0
    writer_idle_limit = 0.0
    """Seconds after which the service gives up on a writer; it says so itself, a little later at most."""

    def __init__(self) -> None:
        self.sent_texts: deque[str] = deque(maxlen=_REMEMBERED)
        self.words: tuple[Word, ...] = ()
        self.sample_rate: int | None = None
        self.text_ended = False

    @property
    def writer_timeout(self) -> float:
        """Return the seconds without a message that are the writer's doing."""
        return 0.0 if self.text_ended else 1.25 * self.writer_idle_limit

    def closed(self, code: int) -> bool:
        """Return False: this conversation ends with a message."""
        del code
        return False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'done' if self.reusable else 'finished' if self.text_ended else 'open'}>"


def json_message(document: dict[str, Any]) -> str:
    """Return *document* as the text of a message."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


class SessionProtocol:
    """Be what every protocol over messages is: one text per conversation, audio in pieces, no body to weigh."""

    name: str

    def __init__(self, wire: WireConfig) -> None:
        del wire  # nothing of it concerns messages

    def weigh(self, utterance: Utterance) -> int:
        """Return 0: a conversation has no body."""
        del utterance
        return 0

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the text's speech once the service has said that it is whole."""
        if reply.status != _OPEN:
            raise error_from_reply(reply, utterances, wall=wall)
        (utterance,) = utterances
        session = getattr(reply, "session", None)
        fields = {"sample_rate": getattr(session, "sample_rate", None)}
        data = self.file(utterance, b"".join(reply.chunks()))
        speech = check_plausible(utterance, speech_from_bytes(utterance, data, fields))
        yield [(0, replace(speech, words=getattr(session, "words", ())))]

    def file(self, utterance: Utterance, data: bytes) -> bytes:
        """Return what the caller asked for, made of the *data* that came."""
        del utterance
        return data

    def decode_stream(self, reply: WireReply, utterance: Utterance, *, wall: float) -> Iterator[PcmFormat | bytes]:
        """Yield what the samples are, once the first are there, and the samples."""
        if reply.status != _OPEN:
            raise error_from_reply(reply, [utterance], wall=wall)
        begun = False
        for piece in reply.chunks():
            if not begun:
                begun = True
                rate = getattr(getattr(reply, "session", None), "sample_rate", None)
                yield PcmFormat(rate or utterance.settings.sample_rate)
            yield piece

    def quota(self, reply: WireReply) -> Quota | None:
        """Return what an error reply's headers announce of the service's limits."""
        return quota(reply.headers)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
