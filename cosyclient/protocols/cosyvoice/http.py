"""The official FastAPI runtime: one form in, samples out, a segment at a time, of which it tells nothing.

CosyVoice ``runtime/python/fastapi/server.py``. Headers leave before synthesis begins, so a status of 200 proves
nothing; an unknown voice or a mode the model lacks ends the connection instead. The rate is the model's and is not
announced: the ``sample_rate`` asked for is taken for it (24,000 Hz, or 22,050 Hz for the CosyVoice-300M family, which
plays 9 % fast otherwise; the event `SampleRateDoubted` and ``cosyclient doctor`` tell where lengths give it away).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cosyclient.protocols.capabilities import MODEL_HOPS, Capabilities, own_members
from cosyclient.protocols.codecs.forms import encode_form, max_form_bytes
from cosyclient.protocols.cosyvoice.prompt_text import COSYVOICE3, advice, instruct_prompt, with_system_prompt
from cosyclient.protocols.replies import pcm as raw
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

_HINT: Final = "the runtime does so for an unknown voice and for a mode that its model does not have"


class RuntimeProtocol:
    """Speak to the official runtime; the dialect ``cosyvoice3`` writes the marks that this model demands.

    A named voice is a speaker of an SFT model, with an instruction one of an Instruct model; a recording is cloned,
    spoken across languages, or with an instruction spoken as told (``instruct2``). Every model of CosyVoice3 and 2
    takes recordings only.
    """

    name: str = "runtime"
    capabilities = Capabilities(
        stream=True,
        voices=frozenset({"named", "clone", "cross_lingual"}),
        instruct=True,
        model=False,
        formats=("wav", "pcm"),
        sample_rates=(22050, 24000),
        hops=MODEL_HOPS,
        required=("voice",),
        own_members=own_members(
            "tts_text", spk_id="voice", instruct_text="instruct", prompt_text="voice", prompt_wav="voice"
        ),
        # uvicorn hangs up after 5 s.
        idle_limit=4.0,
    )

    def __init__(self, wire: WireConfig, *, dialect: str = "") -> None:  # noqa: ARG002 - every protocol is made with it
        self._marked = dialect == COSYVOICE3

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""
        _, fields, file = self._form(utterance)
        return max_form_bytes(fields, file)

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for the one of *utterances*; *key* identifies it across retries."""
        (utterance,) = utterances
        mode, fields, file = self._form(utterance)
        kind, body = encode_form(fields, file)
        # By POST: the official client sends a body with GET, which many intermediaries drop.
        return WireRequest(
            method="POST",
            path=f"/inference_{mode}",
            headers=(("Content-Type", kind), ("X-Request-Id", key)),
            body=body,
        )

    def encode_stream(self, utterance: Utterance, *, key: str) -> WireRequest:
        """Return the request for *utterance*'s samples as they are made, which is the same as for the whole."""
        return self.encode([utterance], key=key)

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the text's speech once all of it is there."""
        (utterance,) = utterances
        yield [
            (
                0,
                raw.speech_from_stream(
                    utterance, raw.read_pcm(reply, utterance, wall=wall, hint=self._hint(utterance))
                ),
            )
        ]

    def decode_stream(self, reply: WireReply, utterance: Utterance, *, wall: float) -> Iterator[PcmFormat | bytes]:
        """Yield one `PcmFormat`, then each segment's samples as they arrive."""
        yield from raw.read_pcm(reply, utterance, wall=wall, hint=self._hint(utterance))

    def quota(self, reply: WireReply) -> Quota | None:
        """Return what a proxy in front of the runtime announces of its limits; the runtime itself has none."""
        return quota(reply.headers)

    def _hint(self, utterance: Utterance) -> str:
        """Return why a reply may break off before its audio."""
        cloned = utterance.settings.voice_kind != "named"
        return f"{_HINT}; {advice(self.name)}" if cloned and not self._marked else _HINT

    def _form(self, utterance: Utterance) -> tuple[str, dict[str, str], tuple[str, Prompt] | None]:
        """Return the mode, the fields and the file that *utterance* asks for."""
        voice, instruct = utterance.settings.voice, utterance.settings.instruct
        extra = utterance.settings.sent_extra
        fields = {"tts_text": utterance.text, **(extra.form_fields() if extra else {})}
        if instruct is not None:
            fields["instruct_text"] = instruct_prompt(instruct, system=self._marked)
        if not isinstance(voice, Voice) or voice.prompt is None:
            fields["spk_id"] = utterance.settings.voice_name or ""
            return "sft" if instruct is None else "instruct", fields, None
        file = ("prompt_wav", voice.prompt)
        if instruct is not None:
            return "instruct2", fields, file
        if voice.transcript is None:
            fields["tts_text"] = with_system_prompt(utterance.text) if self._marked else utterance.text
            return "cross_lingual", fields, file
        fields["prompt_text"] = with_system_prompt(voice.transcript) if self._marked else voice.transcript
        return "zero_shot", fields, file

    def __repr__(self) -> str:
        return f"<RuntimeProtocol{' cosyvoice3' if self._marked else ''}>"
