"""LightTTS's "bistream": the recording and text of a voice, text while it is written, samples until it closes.

From light-tts, light_tts/server/api_http.py (``/inference_zero_shot_bistream``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cosyclient.errors import BadRequest, ServiceFault
from cosyclient.protocols.capabilities import Capabilities, own_members
from cosyclient.protocols.codecs.json_body import decode_json_object
from cosyclient.protocols.cosyvoice.prompt_text import COSYVOICE3, with_system_prompt
from cosyclient.protocols.lighttts.http import is_unknown_model
from cosyclient.protocols.replies.error_rules import LIGHT_TTS, rule_for_message
from cosyclient.protocols.replies.errors import error_message
from cosyclient.protocols.replies.pcm import read_pcm, speech_from_stream
from cosyclient.protocols.sessions import BaseSession, SessionProtocol, json_message
from cosyclient.voices import Voice
from cosyclient.wire import Step, WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.config import WireConfig
    from cosyclient.models import Utterance, VoiceSettings
    from cosyclient.protocols.base import Item
    from cosyclient.wire import WireReply

PATH: Final = "/inference_zero_shot_bistream"
SAMPLE_RATE: Final = 24000
_NORMAL: Final = 1000
_UNSUPPORTED: Final = 1003


class LightTtsSocketProtocol(SessionProtocol):
    """Speak to LightTTS over a WebSocket, which takes text while it is written; one conversation per connection."""

    name = "lighttts-ws"
    capabilities = Capabilities(
        medium="websocket",
        stream=True,
        text_in=True,
        voices=frozenset({"clone"}),
        formats=("wav", "pcm"),
        sample_rates=(SAMPLE_RATE,),
        own_members=own_members("tts_text", "finish", prompt_text="voice", tts_model_name="model"),
    )

    def __init__(self, wire: WireConfig, *, dialect: str = "") -> None:
        super().__init__(wire)
        self._marked = dialect == COSYVOICE3

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the conversation that has one text spoken."""
        del key
        (utterance,) = utterances
        return _request(_Order(utterance.settings, utterance.text, self._marked))

    def encode_stream(self, utterance: Utterance, *, key: str) -> WireRequest:
        """Return the same: the service always streams."""
        return self.encode((utterance,), key=key)

    def encode_duplex(self, settings: VoiceSettings, *, key: str) -> WireRequest:
        """Return a conversation whose text is still to be said."""
        del key
        return _request(_Order(settings, None, self._marked))

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the text's speech once the service has closed in good order, and the samples can be the text's."""
        (utterance,) = utterances
        yield [(0, speech_from_stream(utterance, read_pcm(reply, utterance, wall=wall)))]


def _request(order: _Order) -> WireRequest:
    return WireRequest(method="GET", path=PATH, headers=(), body=b"", new_session=order)


@dataclass(frozen=True, slots=True)
class _Order:
    """Make the conversation of one attempt."""

    settings: VoiceSettings
    text: str | None
    marked: bool

    def __call__(self) -> Bistream:
        return Bistream(self.settings, self.text, marked=self.marked)


class Bistream(BaseSession):
    """Hold one conversation, which ends when the service closes the connection in good order."""

    writer_idle_limit = 30.0

    def __init__(self, settings: VoiceSettings, text: str | None = None, *, marked: bool = False) -> None:
        super().__init__()
        self._marked = marked
        self.sample_rate = SAMPLE_RATE
        self._settings = settings
        self._text = text

    def open(self) -> Sequence[str | bytes]:
        """Return the voice, and the text if it is known."""
        voice = self._settings.voice
        assert isinstance(voice, Voice)  # noqa: S101 - nothing else passes the capabilities
        assert voice.prompt is not None  # noqa: S101
        said = voice.transcript or ""
        head = {
            "prompt_text": with_system_prompt(said) if self._marked else said,
            "tts_model_name": self._settings.model or "default",
            **(self._settings.extra or {}),
        }
        messages: list[str | bytes] = [json_message(head), voice.prompt.wav]
        if self._text is not None:
            messages += [*self.send_text(self._text), *self.end_text()]
        return messages

    def send_text(self, text: str) -> Sequence[str | bytes]:
        """Return *text* as a message."""
        self.sent_texts.append(text)
        return [json_message({"tts_text": text})] if text else ()

    def end_text(self) -> Sequence[str | bytes]:
        """Return the message after which the rest is spoken, once."""
        if self.text_ended:
            return ()
        self.text_ended = True
        return [json_message({"finish": True})]

    def receive(self, message: str | bytes) -> Step:
        """Take a piece of audio, or an error."""
        if isinstance(message, bytes):
            return Step(audio=message)
        document = decode_json_object(message)
        if "error" in document:
            # It has no codes, only words: of its own faults, and of what it was given.
            said = document["error"]
            verdict = rule_for_message(said, LIGHT_TTS)
            kind = verdict.error_type if verdict is not None else ServiceFault
            if is_unknown_model(said, self._settings.model):
                kind = BadRequest
            raise kind(error_message("the service says", None, said, self.sent_texts))
        return Step()

    def closed(self, code: int) -> bool:
        """Return whether the service closed as one that has said everything; raises where it will not have the text."""
        if code == _UNSUPPORTED:
            raise BadRequest("the service closed with 1003: it cannot read the recording")
        return self.text_ended and code == _NORMAL
