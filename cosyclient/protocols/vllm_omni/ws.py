"""vLLM-Omni over WebSocket, for Fun-CosyVoice3: it takes a configuration and texts and answers sentence by sentence.

From vllm-omni 0.30, vllm_omni/entrypoints/openai/serving_speech_stream.py. The session has no rate: the audio has the
model's, 24,000 Hz. Words come with samples only, behind those of each sentence and counted from its beginning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cosyclient.audio import wav_bytes
from cosyclient.errors import BadRequest, BadUtterance, DecodeError, ServiceError, ServiceFault
from cosyclient.models import Word
from cosyclient.protocols.capabilities import Capabilities, own_members
from cosyclient.protocols.codecs.json_body import decode_audio, decode_json_object
from cosyclient.protocols.openai.replies import word_from_json
from cosyclient.protocols.replies.error_rules import VLLM_OMNI, rule_for_message
from cosyclient.protocols.replies.errors import error_message
from cosyclient.protocols.sessions import BaseSession, SessionProtocol, json_message
from cosyclient.util.numbers import int_in_range, valid_sample_rate
from cosyclient.util.redaction import single_line
from cosyclient.voices import Voice
from cosyclient.wire import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosyclient.models import Utterance, VoiceSettings
    from cosyclient.wire import MessageSession, WireRequest

SAMPLE_RATE: Final = 24000
_PIECE_CHARACTERS: Final = 32 << 10
"""At most four bytes each, so that a message stays within the service's 128 KiB."""
_MAX_WORDS: Final = 100_000
"""More than any text has: a service that never ends must not fill the memory."""


class VllmOmniSocketProtocol(SessionProtocol):
    """Implements vLLM-Omni over a WebSocket, which takes text while it is written."""

    name = "vllm-omni-ws"
    path = "/v1/audio/speech/stream"
    capabilities = Capabilities(
        medium="websocket",
        stream=True,
        stream_speed=False,
        stream_words=False,
        text_in=True,
        voices=frozenset({"named", "clone"}),
        seed=True,
        words=True,
        required=("voice",),
        speeds=(0.25, 4.0),
        sample_rates=(SAMPLE_RATE,),
        own_members=own_members(
            "type",
            "stream_audio",
            "split_granularity",
            model="model",
            voice="voice",
            ref_audio="voice",
            ref_text="voice",
            response_format="format",
            sample_rate="sample_rate",
            speed="speed",
            seed="seed",
            word_timestamps="words",
        ),
    )

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for the one of *utterances*, spoken as one file."""
        asked = utterances[0].settings
        if asked.words and (asked.format not in ("wav", "pcm") or asked.speed != 1.0):
            raise BadUtterance("words: protocol vllm-omni-ws times those of wav and pcm at the speed 1.0 only")
        return super().encode(utterances, key=key)

    def _new_session(self, settings: VoiceSettings, text: str | None, *, stream: bool) -> MessageSession:
        # The service times the words of a stream of samples only.
        return Session(settings, text, stream=stream or settings.words)

    def _assemble(self, utterance: Utterance, data: bytes) -> bytes:
        is_bare_wav = data and utterance.settings.words and utterance.settings.format == "wav"
        return wav_bytes(data, SAMPLE_RATE) if is_bare_wav else data


class Session(BaseSession):
    """Runs one session: it sends a configuration, texts and their end, and receives sentences."""

    idle_limit = 20.0  # the service closes after 30, and its server when a ping of every 20 is not answered in 20 more
    writer_idle_limit = 30.0

    def __init__(self, settings: VoiceSettings, text: str | None = None, *, stream: bool = False) -> None:
        super().__init__()
        self._settings = settings
        self._text = text
        self._stream = stream
        self._format = "pcm" if stream else settings.format
        self._started = False
        self._sentence_bytes = self._previous_bytes = 0
        self._rate: int | None = None

    def open(self) -> Sequence[str | bytes]:
        """Return the messages with the configuration, then those of the text if it is known."""
        asked = self._settings
        # What is left out keeps the value of the session before on this connection, so everything is sent.
        config: dict[str, Any] = {
            "type": "session.config",
            "response_format": self._format,
            "speed": asked.speed,
            "seed": asked.seed,
            "stream_audio": self._stream,
            # Sentences can be synthesized before the rest is written; a whole text becomes one file.
            "split_granularity": "sentence" if self._text is None else "none",
            "word_timestamps": asked.words,
        }
        if asked.model is not None:
            config["model"] = asked.model
        if isinstance(asked.voice, Voice) and asked.voice.prompt is not None:
            config |= {"voice": None, "ref_audio": asked.voice.prompt.data_url, "ref_text": asked.voice.transcript}
        else:
            config |= {"voice": asked.voice_name, "ref_audio": None, "ref_text": None}
        config |= asked.extra or {}
        messages: list[str | bytes] = [json_message(config)]
        if self._text is not None:
            messages += [*self.send_text(self._text), *self.end_text()]
        return messages

    def send_text(self, text: str) -> Sequence[str | bytes]:
        """Return the messages that carry *text*, several if it is too long for one."""
        self.sent_texts.append(text)
        pieces = [text[start : start + _PIECE_CHARACTERS] for start in range(0, len(text), _PIECE_CHARACTERS)]
        return [json_message({"type": "input.text", "text": piece}) for piece in pieces]

    def end_text(self) -> Sequence[str | bytes]:
        """Return the message that ends the text, once."""
        if self.text_ended:
            return ()
        self.text_ended = True
        return [json_message({"type": "input.done"})]

    def receive(self, message: str | bytes) -> Step:
        """Return what one message leads to, or the audio of a binary message."""
        if isinstance(message, bytes):
            return self._audio(message)
        document = decode_json_object(message)
        match document.get("type"):
            case "audio.start":
                self._start(document)
            case "audio.chunk":
                return self._chunk(document)
            case "audio.done":
                self._check_sentence(document)
            case "session.done":
                if not self.text_ended:
                    raise DecodeError("reply: the session is done before its text", retryable=True)
                # Extra members would hold for the next session, too, and no message resets them.
                self.reusable = not self._settings.extra
                return Step(done=True)
            case "error":
                raise self._error(document)
        return Step()

    def _start(self, document: dict[str, Any]) -> None:
        named, rate = document.get("format"), document.get("sample_rate")
        if isinstance(named, str) and named != self._format:
            raise DecodeError(f"audio: asked for {self._format}, the reply calls it {single_line(named, 16)}")
        if (rate := valid_sample_rate(rate)) is not None:
            if self._started and self._stream and rate != self._rate:
                raise DecodeError("audio: the rate changes in the middle")
            self.sample_rate = self._rate = rate
        self._previous_bytes += self._sentence_bytes
        self._started, self._sentence_bytes = True, 0

    def _audio(self, data: bytes) -> Step:
        if not self._started:
            raise DecodeError("reply: audio before its beginning", retryable=True)
        self._sentence_bytes += len(data)
        return Step(audio=data)

    def _chunk(self, document: dict[str, Any]) -> Step:
        """Return the audio of a message that also times its words."""
        self._add_words(document.get("timestamps"))
        data = decode_audio(document.get("audio_b64") or "")
        return self._audio(data) if data else Step()

    def _add_words(self, found: object) -> None:
        if not isinstance(found, list) or len(self.words) > _MAX_WORDS:
            return
        start = self._previous_bytes / (2 * (self._rate or SAMPLE_RATE))
        words = filter(None, map(word_from_json, found))
        self.words += tuple(Word(word.text, start + word.start, start + word.end) for word in words)

    def _check_sentence(self, document: dict[str, Any]) -> None:
        if document.get("error") is True:
            raise ServiceFault("the service failed in the middle of a sentence")
        total = int_in_range(document.get("total_bytes"), 0, 1 << 62)
        if total is not None and total != self._sentence_bytes:
            raise DecodeError(f"audio: {total} bytes announced, {self._sentence_bytes} there", retryable=True)

    def _error(self, document: dict[str, Any]) -> ServiceError:
        # The service sends no codes. Before the first sentence begins the configuration is wrong; after that the fault
        # may be anybody's, the caller's included.
        detail = document.get("message")
        message = error_message("the service says", None, detail, self.sent_texts)
        rule = rule_for_message(detail, VLLM_OMNI)
        if rule is not None:
            return rule.error_type(message)
        if "timeout" in message.casefold() or "timed out" in message.casefold():
            return ServiceError(message, retryable=True)
        if self._started or document.get("partial_audio") is True:
            return ServiceFault(message)
        if "split_granularity" in message:
            message = f"{message}; its version cannot leave a text whole (0.22 is one): use protocol='openai:vllm-omni'"
        return BadRequest(message)
