"""LightTTS's "bistream": it takes a voice, then text while it is written, and sends samples until it closes.

From light-tts, light_tts/server/api_http.py (``/inference_zero_shot_bistream``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cosyclient.errors import BadRequest, ServiceFault
from cosyclient.protocols.capabilities import Capabilities, own_members
from cosyclient.protocols.codecs.json_body import decode_json_object
from cosyclient.protocols.cosyvoice.prompt_text import COSYVOICE3, with_system_prompt
from cosyclient.protocols.lighttts.http import is_unknown_model
from cosyclient.protocols.replies.error_rules import LIGHT_TTS, rule_for_message
from cosyclient.protocols.replies.errors import error_message
from cosyclient.protocols.replies.pcm import read_pcm, speech_from_stream
from cosyclient.protocols.replies.speech import check_stream_duration
from cosyclient.protocols.sessions import BaseSession, SessionProtocol, json_message
from cosyclient.voices import Voice
from cosyclient.wire import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosyclient.config import WireConfig
    from cosyclient.models import Speech, Utterance, VoiceSettings
    from cosyclient.wire import MessageSession, WireReply

SAMPLE_RATE: Final = 24000
_NORMAL: Final = 1000
_UNSUPPORTED: Final = 1003


class LightTtsSocketProtocol(SessionProtocol):
    """Implements LightTTS over a WebSocket, which takes text while it is written; one session per connection."""

    name = "lighttts-ws"
    path = "/inference_zero_shot_bistream"
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
        self._for_cosyvoice3 = dialect == COSYVOICE3

    def _new_session(self, settings: VoiceSettings, text: str | None, *, stream: bool) -> MessageSession:
        # The service always streams.
        return Bistream(settings, text, for_cosyvoice3=self._for_cosyvoice3)

    def _read_speech(self, reply: WireReply, utterance: Utterance, wall: float) -> Speech:
        """Return the speech if its samples are plausible: only the closed connection says that they are complete."""
        return speech_from_stream(utterance, check_stream_duration(utterance, read_pcm(reply, utterance)))


class Bistream(BaseSession):
    """Runs one session, which ends when the service closes the connection with the code 1000."""

    writer_idle_limit = 30.0

    def __init__(self, settings: VoiceSettings, text: str | None = None, *, for_cosyvoice3: bool = False) -> None:
        super().__init__()
        self._for_cosyvoice3 = for_cosyvoice3
        self.sample_rate = SAMPLE_RATE
        self._settings = settings
        self._text = text

    def open(self) -> Sequence[str | bytes]:
        """Return the messages with the voice, then those of the text if it is known."""
        voice = self._settings.voice
        assert isinstance(voice, Voice)  # noqa: S101 - nothing else passes the capabilities
        assert voice.prompt is not None  # noqa: S101
        transcript = voice.transcript or ""
        head = {
            "prompt_text": with_system_prompt(transcript) if self._for_cosyvoice3 else transcript,
            "tts_model_name": self._settings.model or "default",
            **(self._settings.extra or {}),
        }
        messages: list[str | bytes] = [json_message(head), voice.prompt.wav]
        if self._text is not None:
            messages += [*self.send_text(self._text), *self.end_text()]
        return messages

    def send_text(self, text: str) -> Sequence[str | bytes]:
        """Return the message that carries *text*."""
        self.sent_texts.append(text)
        return [json_message({"tts_text": text})] if text else ()

    def end_text(self) -> Sequence[str | bytes]:
        """Return the message that ends the text, once."""
        if self.text_ended:
            return ()
        self.text_ended = True
        return [json_message({"finish": True})]

    def receive(self, message: str | bytes) -> Step:
        """Return the audio of *message*; raises the error it states."""
        if isinstance(message, bytes):
            return Step(audio=message)
        document = decode_json_object(message)
        if "error" in document:
            # An error has no code, only a message, whether the fault is the service's or the caller's.
            message = document["error"]
            rule = rule_for_message(message, LIGHT_TTS)
            error_type = rule.error_type if rule is not None else ServiceFault
            if is_unknown_model(message, self._settings.model):
                error_type = BadRequest
            raise error_type(error_message("the service says", None, message, self.sent_texts))
        return Step()

    def closed(self, code: int) -> bool:
        """Return whether the service closed after all audio; raises `BadRequest` if it cannot read the recording."""
        if code == _UNSUPPORTED:
            raise BadRequest("the service closed with 1003: it cannot read the recording")
        return self.text_ended and code == _NORMAL
