"""LightTTS over HTTP: it takes a form with a recording and its transcript and answers with samples at 24,000 Hz.

ModelTC/light-tts ``light_tts/server/api_http.py``. It serves CosyVoice2 or 3, and cloned voices only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cosyclient.errors import ServiceError, ServiceFault
from cosyclient.protocols.capabilities import Capabilities, own_members
from cosyclient.protocols.codecs.forms import encode_form, max_form_bytes
from cosyclient.protocols.cosyvoice.prompt_text import COSYVOICE3, with_system_prompt
from cosyclient.protocols.replies.error_rules import LIGHT_TTS, rule_for_message
from cosyclient.protocols.replies.errors import error_from_body, read_error_body, reclassify
from cosyclient.protocols.replies.pcm import read_pcm
from cosyclient.protocols.single_text import SingleTextProtocol
from cosyclient.voices import Voice
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.audio.format import PcmFormat
    from cosyclient.config import WireConfig
    from cosyclient.models import Utterance
    from cosyclient.voices import Prompt
    from cosyclient.wire import WireReply

_EXPECTATION_FAILED: Final = 417
_HINT: Final = "while streaming the server does so for a model that it does not serve, and for a text that is too long"


class LightTtsProtocol(SingleTextProtocol):
    """Implements LightTTS; ``model`` is the name of a model it serves, ``default`` if none is given.

    Neither its replies nor its routes show which CosyVoice it serves: the dialect ``cosyvoice3`` writes the system
    prompt that CosyVoice3 needs.
    """

    name = "lighttts"
    capabilities = Capabilities(
        stream=True,
        stream_speed=False,
        voices=frozenset({"clone"}),
        advice="make one with Voice.clone(recording, transcript)",
        speeds=(0.5, 2.0),
        formats=("wav", "pcm"),
        sample_rates=(24000,),
        idle_limit=4.0,
        own_members=own_members(
            "tts_text", "stream", prompt_text="voice", prompt_wav="voice", tts_model_name="model", speed="speed"
        ),
    )

    def __init__(self, wire: WireConfig, *, dialect: str = "") -> None:
        super().__init__(wire)
        self._for_cosyvoice3 = dialect == COSYVOICE3

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""
        return max_form_bytes(*self._form(utterance, stream=False))

    def _request(self, utterance: Utterance, key: str, *, stream: bool) -> WireRequest:
        media_type, body = encode_form(*self._form(utterance, stream=stream))
        return WireRequest(
            method="POST",
            path="/inference_zero_shot",
            headers=(("Content-Type", media_type), ("X-Request-Id", key)),
            body=body,
        )

    def _read_pcm(self, reply: WireReply, utterance: Utterance, wall: float) -> Iterator[PcmFormat | bytes]:
        return read_pcm(reply, utterance, hint=_HINT)

    def _error_from_reply(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> ServiceError:
        """Return the error of *reply*: this server answers 417 for faults of its own, too."""
        body = read_error_body(reply)
        error = error_from_body(reply, body, utterances, wall=wall, rules=LIGHT_TTS)
        if error.status != _EXPECTATION_FAILED:
            return error
        message = body.get("message") if isinstance(body, dict) else None
        if is_unknown_model(message, utterances[0].settings.model):
            return error
        return error if rule_for_message(message, LIGHT_TTS) else reclassify(error, ServiceFault)

    def _form(self, utterance: Utterance, *, stream: bool) -> tuple[dict[str, str], tuple[str, Prompt] | None]:
        settings = utterance.settings
        voice = settings.voice
        transcript = (voice.transcript if isinstance(voice, Voice) else None) or ""
        fields = {
            "tts_text": utterance.text,
            "prompt_text": with_system_prompt(transcript) if self._for_cosyvoice3 else transcript,
            "stream": "true" if stream else "false",
            "tts_model_name": settings.model or "default",
            "speed": f"{settings.speed:g}",
            **(settings.checked_extra.form_fields() if settings.checked_extra else {}),
        }
        file = ("prompt_wav", voice.prompt) if isinstance(voice, Voice) and voice.prompt is not None else None
        return fields, file


def is_unknown_model(message: object, model: str | None) -> bool:
    """Return whether *message* is the bare KeyError that LightTTS answers for a *model* it does not serve."""
    return model is not None and isinstance(message, str) and message.removeprefix("Server error: ") == repr(model)
