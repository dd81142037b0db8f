"""The official gRPC runtime: one text in a message, its samples in messages of a sentence group each.

Messages from runtime/python/grpc/cosyvoice.proto of FunAudioLLM/CosyVoice. The reply names no rate: it is the model's,
22,050 Hz for the CosyVoice-300M family and 24,000 Hz for its successors, so ``sample_rate`` says which one is served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cosyclient.audio.stream import with_format
from cosyclient.errors import BadRequest, ServiceFault
from cosyclient.protocols.base import PcmFormat
from cosyclient.protocols.capabilities import MODEL_HOPS, Capabilities
from cosyclient.protocols.codecs.protobuf import as_bytes, decode_fields, encode_field, encode_message
from cosyclient.protocols.cosyvoice.prompt_audio import max_samples_at_16k, prompt_at_16k
from cosyclient.protocols.cosyvoice.prompt_text import (
    COSYVOICE3,
    END_OF_PROMPT,
    advice,
    instruct_prompt,
    with_system_prompt,
)
from cosyclient.protocols.replies.errors import error_from_reply, reclassify, redact_texts
from cosyclient.protocols.replies.headers import quota
from cosyclient.protocols.replies.pcm import speech_from_pcm
from cosyclient.protocols.replies.speech import check_plausible, check_stream_duration
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.config import WireConfig
    from cosyclient.errors import ServiceError
    from cosyclient.models import Utterance
    from cosyclient.protocols.base import Item, Quota
    from cosyclient.wire import WireReply

_PATH: Final = "/cosyvoice.CosyVoice/Inference"
# Tags and lengths of a request: two levels of at most 6 bytes a field.
_FRAMING_BYTES: Final = 32
_MARK_BYTES: Final = 64
# The members of Request's oneof.
_SFT, _ZERO_SHOT, _CROSS_LINGUAL, _INSTRUCT = 1, 2, 3, 4
_AUDIO: Final = 1


# What a model raises of what was asked of it; of other exceptions nobody can say whose they are.
_CALLERS: Final = ("do not support extract speech token", "only implemented for CosyVoice", "multiple of element size")


class RuntimeGrpcProtocol:
    """Speak the official gRPC runtime's protocol; the dialect ``cosyvoice3`` writes the marks that this model wants."""

    name: str = "grpc"
    capabilities = Capabilities(
        medium="grpc",
        stream=True,
        voices=frozenset({"named", "clone", "cross_lingual"}),
        instruct=True,
        instruct_voices=frozenset({"named"}),
        required=("voice",),
        model=False,
        formats=("wav", "pcm"),
        sample_rates=(22050, 24000),
        hops=MODEL_HOPS,
    )

    def __init__(self, wire: WireConfig, *, dialect: str = "") -> None:  # noqa: ARG002 - every protocol is made with it
        self._marked = dialect == COSYVOICE3

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""
        settings = utterance.settings
        size = _FRAMING_BYTES + _MARK_BYTES + len(utterance.text.encode())
        voice = settings.voice
        if isinstance(voice, str) or voice is None:
            return size + len((voice or "").encode()) + len((settings.instruct or "").encode())
        assert voice.prompt is not None  # noqa: S101 - settings hold a name where there is none
        return size + len((voice.transcript or "").encode()) + 2 * max_samples_at_16k(voice.prompt)

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for the one utterance; *key* goes along as metadata."""
        (utterance,) = utterances
        return WireRequest(method="POST", path=_PATH, headers=(("x-request-id", key),), body=self._request(utterance))

    def encode_stream(self, utterance: Utterance, *, key: str) -> WireRequest:
        """Return the request for *utterance*'s samples as they are made: the same, for this service knows no other."""
        return self.encode([utterance], key=key)

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the one text's speech once all of it is there."""
        (utterance,) = utterances
        samples = b"".join(self._samples(reply, utterance, wall))
        yield [(0, check_plausible(utterance, speech_from_pcm(utterance, samples)))]

    def decode_stream(self, reply: WireReply, utterance: Utterance, *, wall: float) -> Iterator[PcmFormat | bytes]:
        """Yield one `PcmFormat`, then samples as they arrive; returns when the service said that this was all."""
        pieces = check_stream_duration(utterance, self._samples(reply, utterance, wall))
        yield from with_format(pieces, PcmFormat(utterance.settings.sample_rate))

    def quota(self, reply: WireReply) -> Quota | None:
        """Return what the reply's metadata announces of the service's limits, as a gateway before it may."""
        return quota(reply.headers)

    def _request(self, utterance: Utterance) -> bytes:
        settings, said = utterance.settings, utterance.text
        voice = settings.voice
        if isinstance(voice, str) or voice is None:
            if settings.instruct is not None:
                told = instruct_prompt(settings.instruct, system=self._marked)
                return encode_message(
                    _INSTRUCT, encode_field(1, said), encode_field(2, voice or ""), encode_field(3, told)
                )
            # Its field numbers go the other way round than everywhere else.
            return encode_message(_SFT, encode_field(1, voice or ""), encode_field(2, said))
        assert voice.prompt is not None  # noqa: S101 - settings hold a name where there is none
        recording = prompt_at_16k(voice.prompt)
        if voice.transcript is None:
            return encode_message(
                _CROSS_LINGUAL,
                encode_field(1, with_system_prompt(said) if self._marked else said),
                encode_field(2, recording),
            )
        transcript = with_system_prompt(voice.transcript) if self._marked else voice.transcript
        return encode_message(
            _ZERO_SHOT, encode_field(1, said), encode_field(2, transcript), encode_field(3, recording)
        )

    def _samples(self, reply: WireReply, utterance: Utterance, wall: float) -> Iterator[bytes]:
        """Yield what each message of *reply* carries; raises the error that one stands for, or `DecodeError`."""
        if reply.status >= 300:
            raise error_from_reply(reply, [utterance], wall=wall)
        try:
            with redact_texts([utterance]):
                for chunk in reply.chunks():
                    for number, value in decode_fields(chunk):
                        if number == _AUDIO and (samples := as_bytes(value)):
                            yield samples
        except ServiceFault as error:
            # The model's own exception; what may be the machine's is retried (see grpc_faults).
            if error.code != "UNKNOWN" or error.retryable:
                raise
            raise self._told(error, utterance) from None

    def _told(self, error: ServiceFault, utterance: Utterance) -> ServiceError:
        """Return what the exception of a model stands for, with what to do about it."""
        said, settings = str(error), utterance.settings
        if settings.voice_kind == "named" and said.endswith(f" {settings.voice_name!r}"):
            error.args = (f"{said}: the model has no such voice",)
            return reclassify(error, BadRequest)
        if settings.voice_kind != "named" and not self._marked:
            error.args = (f"{said}; {advice(self.name)}",)
        callers = END_OF_PROMPT in said or any(words in said for words in _CALLERS)
        return reclassify(error, BadRequest) if callers else error
