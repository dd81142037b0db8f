"""LightTTS over HTTP: a recording and its words in a form, samples out; CosyVoice2 or 3, at 24,000 Hz.

ModelTC/light-tts ``light_tts/server/api_http.py``. It clones, and does nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cosyclient.errors import BadUtterance, ServiceError, ServiceFault
from cosyclient.protocols.capabilities import Capabilities, own_members
from cosyclient.protocols.codecs.forms import encode_form, max_form_bytes
from cosyclient.protocols.cosyvoice.prompt_text import COSYVOICE3, with_system_prompt
from cosyclient.protocols.replies import pcm as raw
from cosyclient.protocols.replies.error_rules import LIGHT_TTS, rule_for_message
from cosyclient.protocols.replies.errors import error_from_body, read_error_body, reclassify
from cosyclient.protocols.replies.headers import quota
from cosyclient.voices import Voice
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.config import WireConfig
    from cosyclient.models import Utterance
    from cosyclient.protocols.base import Item, PcmFormat, Quota
    from cosyclient.voices import Prompt
    from cosyclient.wire import WireReply

_EXPECTATION_FAILED: Final = 417
_HINT: Final = "while streaming the server does so for a model that it does not serve, and for a text that is too long"


class LightTtsProtocol:
    """Speak to LightTTS; ``model`` names one of its styles, ``default`` where none is named.

    It tells CosyVoice2 from 3 no more than its replies do: the dialect ``cosyvoice3`` writes the mark that 3 wants.
    """

    name: str = "lighttts"
    capabilities = Capabilities(
        stream=True,
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

    def __init__(self, wire: WireConfig, *, dialect: str = "") -> None:  # noqa: ARG002 - every protocol is made with it
        self._marked = dialect == COSYVOICE3

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""
        return max_form_bytes(*self._form(utterance, stream=False))

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for the one of *utterances*; *key* identifies it across retries."""
        (utterance,) = utterances
        return self._request(utterance, key, stream=False)

    def encode_stream(self, utterance: Utterance, *, key: str) -> WireRequest:
        """Return the request for *utterance*'s samples as they are made."""
        if utterance.settings.speed != 1.0:
            raise BadUtterance(f"speed: protocol {self.name} streams at 1.0 only; use synthesize for another speed")
        return self._request(utterance, key, stream=True)

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the text's speech once all of it is there."""
        (utterance,) = utterances
        yield [
            (
                0,
                raw.speech_from_stream(
                    utterance, raw.read_pcm(reply, utterance, wall=wall, make_error=_error_from_reply, hint=_HINT)
                ),
            )
        ]

    def decode_stream(self, reply: WireReply, utterance: Utterance, *, wall: float) -> Iterator[PcmFormat | bytes]:
        """Yield one `PcmFormat`, then samples as they arrive."""
        yield from raw.read_pcm(reply, utterance, wall=wall, make_error=_error_from_reply, hint=_HINT)

    def quota(self, reply: WireReply) -> Quota | None:
        """Return what a proxy in front of it announces of its limits; the server itself has none."""
        return quota(reply.headers)

    def _request(self, utterance: Utterance, key: str, *, stream: bool) -> WireRequest:
        kind, body = encode_form(*self._form(utterance, stream=stream))
        return WireRequest(
            method="POST",
            path="/inference_zero_shot",
            headers=(("Content-Type", kind), ("X-Request-Id", key)),
            body=body,
        )

    def _form(self, utterance: Utterance, *, stream: bool) -> tuple[dict[str, str], tuple[str, Prompt] | None]:
        settings = utterance.settings
        voice = settings.voice
        said = (voice.transcript if isinstance(voice, Voice) else None) or ""
        fields = {
            "tts_text": utterance.text,
            "prompt_text": with_system_prompt(said) if self._marked else said,
            "stream": "true" if stream else "false",
            "tts_model_name": settings.model or "default",
            "speed": f"{settings.speed:g}",
            **(settings.sent_extra.form_fields() if settings.sent_extra else {}),
        }
        file = ("prompt_wav", voice.prompt) if isinstance(voice, Voice) and voice.prompt is not None else None
        return fields, file

    def __repr__(self) -> str:
        return "<LightTtsProtocol>"


def _error_from_reply(reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> ServiceError:
    """Return what *reply* stands for: 417 is how this server says that something of its own went wrong."""
    body = read_error_body(reply)
    error = error_from_body(reply, body, utterances, wall=wall, rules=LIGHT_TTS)
    if error.status != _EXPECTATION_FAILED:
        return error
    message = body.get("message") if isinstance(body, dict) else None
    if is_unknown_model(message, utterances[0].settings.model):
        return error
    return error if rule_for_message(message, LIGHT_TTS) else reclassify(error, ServiceFault)


def is_unknown_model(said: object, model: str | None) -> bool:
    """Return whether *said* is the bare KeyError that a *model* becomes which this server does not serve."""
    return model is not None and isinstance(said, str) and said.removeprefix("Server error: ") == repr(model)
