"""CosyVoice's FastAPI server: it takes a form and answers with samples, one segment after the other, and no label.

CosyVoice ``runtime/python/fastapi/server.py``. Its headers are sent before synthesis begins, so a status of 200 proves
nothing; an unknown voice or a mode that the model lacks ends the connection instead. The rate is the model's and is not
announced: the ``sample_rate`` asked for is assumed (24,000 Hz, or 22,050 Hz for the CosyVoice-300M family, which plays
9 % fast otherwise; the event `SampleRateDoubted` and ``cosyclient doctor`` report it where lengths show it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cosyclient.protocols.capabilities import MODEL_HOPS, Capabilities, own_members
from cosyclient.protocols.codecs.forms import encode_form, max_form_bytes
from cosyclient.protocols.cosyvoice.prompt_text import COSYVOICE3, advice, instruct_prompt, with_system_prompt
from cosyclient.protocols.replies.pcm import read_pcm
from cosyclient.protocols.single_text import SingleTextProtocol
from cosyclient.voices import Voice
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosyclient.audio.format import PcmFormat
    from cosyclient.config import WireConfig
    from cosyclient.models import Utterance
    from cosyclient.voices import Prompt
    from cosyclient.wire import WireReply

_HINT: Final = "the runtime does so for an unknown voice and for a mode that its model does not have"


class RuntimeProtocol(SingleTextProtocol):
    """Implements CosyVoice's FastAPI server; the dialect ``cosyvoice3`` writes the system prompt that this model needs.

    A named voice is a speaker of an SFT model, or with an instruction one of an Instruct model. A recording is cloned,
    used across languages, or used with an instruction (``instruct2``). CosyVoice2 and 3 take recordings only.
    """

    name = "runtime"
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
        # uvicorn closes connections after 5 s.
        idle_limit=4.0,
    )

    def __init__(self, wire: WireConfig, *, dialect: str = "") -> None:
        super().__init__(wire)
        self._for_cosyvoice3 = dialect == COSYVOICE3

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""
        _, fields, file = self._form(utterance)
        return max_form_bytes(fields, file)

    def _request(self, utterance: Utterance, key: str, *, stream: bool) -> WireRequest:
        # The server always streams.
        mode, fields, file = self._form(utterance)
        media_type, body = encode_form(fields, file)
        # By POST: the official client sends a body with GET, which many intermediaries drop.
        return WireRequest(
            method="POST",
            path=f"/inference_{mode}",
            headers=(("Content-Type", media_type), ("X-Request-Id", key)),
            body=body,
        )

    def _read_pcm(self, reply: WireReply, utterance: Utterance, wall: float) -> Iterator[PcmFormat | bytes]:
        return read_pcm(reply, utterance, hint=self._hint(utterance))

    def _hint(self, utterance: Utterance) -> str:
        """Return why a reply may break off before its audio."""
        is_cloned = utterance.settings.voice_kind != "named"
        return f"{_HINT}; {advice(self.name)}" if is_cloned and not self._for_cosyvoice3 else _HINT

    def _form(self, utterance: Utterance) -> tuple[str, dict[str, str], tuple[str, Prompt] | None]:
        """Return the mode, the fields and the file of the request for *utterance*."""
        voice, instruct = utterance.settings.voice, utterance.settings.instruct
        extra = utterance.settings.checked_extra
        fields = {"tts_text": utterance.text, **(extra.form_fields() if extra else {})}
        if instruct is not None:
            fields["instruct_text"] = instruct_prompt(instruct, system=self._for_cosyvoice3)
        if not isinstance(voice, Voice) or voice.prompt is None:
            fields["spk_id"] = utterance.settings.voice_name or ""
            return "sft" if instruct is None else "instruct", fields, None
        file = ("prompt_wav", voice.prompt)
        if instruct is not None:
            return "instruct2", fields, file
        if voice.transcript is None:
            fields["tts_text"] = with_system_prompt(utterance.text) if self._for_cosyvoice3 else utterance.text
            return "cross_lingual", fields, file
        fields["prompt_text"] = with_system_prompt(voice.transcript) if self._for_cosyvoice3 else voice.transcript
        return "zero_shot", fields, file
