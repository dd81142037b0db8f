"""LightTTS over HTTP: a recording and its words in a form, samples out; CosyVoice2 only, at 24,000 Hz.

ModelTC/light-tts ``light_tts/server/api_http.py``. It clones, and does nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cosyclient.errors import BadUtterance, ServiceError, ServiceFault
from cosyclient.protocols import raw
from cosyclient.protocols.base import Capabilities, StreamHead, members
from cosyclient.protocols.forms import form, form_weight
from cosyclient.protocols.headers import quota
from cosyclient.protocols.refusals import refusal, retold
from cosyclient.voices import Voice
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.config import WireConfig
    from cosyclient.models import Utterance
    from cosyclient.protocols.base import Item, Quota
    from cosyclient.voices import Prompt
    from cosyclient.wire import WireReply

_EXPECTATION_FAILED: Final = 417


class LightTtsProtocol:
    """Speak to LightTTS; ``model`` names one of its styles, ``default`` where none is named."""

    name: str = "lighttts"
    capabilities = Capabilities(
        stream=True,
        voices=frozenset({"clone"}),
        advice="make one with Voice.clone(recording, transcript)",
        speeds=(0.5, 2.0),
        formats=("wav", "pcm"),
        sample_rates=(24000,),
        idle_limit=4.0,
        own=members(
            "tts_text", "stream", prompt_text="voice", prompt_wav="voice", tts_model_name="model", speed="speed"
        ),
    )

    def __init__(self, wire: WireConfig) -> None:
        pass

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""
        return form_weight(*_form(utterance, stream=False))

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for the one of *utterances*; *key* identifies it across retries."""
        (utterance,) = utterances
        return _request(utterance, key, stream=False)

    def encode_stream(self, utterance: Utterance, *, key: str) -> WireRequest:
        """Return the request for *utterance*'s samples as they are made."""
        if utterance.settings.speed != 1.0:
            raise BadUtterance(f"speed: protocol {self.name} streams at 1.0 only; use synthesize for another speed")
        return _request(utterance, key, stream=True)

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the text's speech once all of it is there."""
        (utterance,) = utterances
        data = b"".join(raw.samples(reply, utterance, wall=wall, refuse=_refusal))
        yield [(0, raw.speech_of_samples(utterance, data))]

    def decode_stream(self, reply: WireReply, utterance: Utterance, *, wall: float) -> Iterator[StreamHead | bytes]:
        """Yield one `StreamHead`, then samples as they arrive."""
        for number, chunk in enumerate(raw.samples(reply, utterance, wall=wall, refuse=_refusal)):
            if not number:
                yield StreamHead(utterance.settings.sample_rate)
            yield chunk

    def quota(self, reply: WireReply) -> Quota | None:
        """Return what a proxy in front of it announces of its limits; the server itself has none."""
        return quota(reply.headers)

    def __repr__(self) -> str:
        return "<LightTtsProtocol>"


def _request(utterance: Utterance, key: str, *, stream: bool) -> WireRequest:
    kind, body = form(*_form(utterance, stream=stream))
    return WireRequest(
        method="POST",
        path="/inference_zero_shot",
        headers=(("Content-Type", kind), ("X-Request-Id", key)),
        body=body,
    )


def _form(utterance: Utterance, *, stream: bool) -> tuple[dict[str, str], tuple[str, Prompt] | None]:
    settings = utterance.settings
    voice = settings.voice
    fields = {
        "tts_text": utterance.text,
        "prompt_text": (voice.transcript if isinstance(voice, Voice) else None) or "",
        "stream": "true" if stream else "false",
        "tts_model_name": settings.model or "default",
        "speed": f"{settings.speed:g}",
        **(settings.sent_extra.texts() if settings.sent_extra else {}),
    }
    file = ("prompt_wav", voice.prompt) if isinstance(voice, Voice) and voice.prompt is not None else None
    return fields, file


def _refusal(reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> ServiceError:
    """Return what *reply* stands for: 417 is how this server says that something of its own went wrong."""
    error = refusal(reply, utterances, wall=wall)
    if error.status != _EXPECTATION_FAILED:
        return error
    return retold(error, ServiceFault)
