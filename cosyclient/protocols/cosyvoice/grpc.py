"""CosyVoice's gRPC server: it takes one text in a message and answers with a message of samples per segment.

Messages from runtime/python/grpc/cosyvoice.proto of FunAudioLLM/CosyVoice. The reply names no rate: it is the model's,
22,050 Hz for the CosyVoice-300M family and 24,000 Hz for its successors; the ``sample_rate`` asked for is assumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cosyclient.errors import BadRequest, ServiceFault
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
from cosyclient.protocols.replies.errors import reclassify, redact_texts
from cosyclient.protocols.single_text import SingleTextProtocol
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosyclient.audio.format import PcmFormat
    from cosyclient.config import WireConfig
    from cosyclient.errors import ServiceError
    from cosyclient.models import Utterance
    from cosyclient.wire import WireReply

_PATH: Final = "/cosyvoice.CosyVoice/Inference"
# Tags and lengths of a request: two levels of at most 6 bytes a field.
_FRAMING_BYTES: Final = 32
_SYSTEM_PROMPT_BYTES: Final = 64
# The members of Request's oneof.
_SFT, _ZERO_SHOT, _CROSS_LINGUAL, _INSTRUCT = 1, 2, 3, 4
_AUDIO: Final = 1
# Parts of a model's exceptions for which the request is at fault; any other may be the service's own.
_CALLER_FAULTS: Final = (
    "do not support extract speech token",
    "only implemented for CosyVoice",
    "multiple of element size",
)


class RuntimeGrpcProtocol(SingleTextProtocol):
    """Implements CosyVoice's gRPC server; the dialect ``cosyvoice3`` writes the system prompt that this model needs."""

    name = "grpc"
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

    def __init__(self, wire: WireConfig, *, dialect: str = "") -> None:
        super().__init__(wire)
        self._for_cosyvoice3 = dialect == COSYVOICE3

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""
        settings = utterance.settings
        size = _FRAMING_BYTES + _SYSTEM_PROMPT_BYTES + len(utterance.text.encode())
        voice = settings.voice
        if isinstance(voice, str) or voice is None:
            return size + len((voice or "").encode()) + len((settings.instruct or "").encode())
        assert voice.prompt is not None  # noqa: S101 - settings hold a name where there is none
        return size + len((voice.transcript or "").encode()) + 2 * max_samples_at_16k(voice.prompt)

    def _request(self, utterance: Utterance, key: str, *, stream: bool) -> WireRequest:
        # The server always streams.
        return WireRequest(
            method="POST", path=_PATH, headers=(("x-request-id", key),), body=self._encode_message(utterance)
        )

    def _encode_message(self, utterance: Utterance) -> bytes:
        settings, text = utterance.settings, utterance.text
        voice = settings.voice
        if isinstance(voice, str) or voice is None:
            if settings.instruct is not None:
                instruct = instruct_prompt(settings.instruct, system=self._for_cosyvoice3)
                return encode_message(
                    _INSTRUCT, encode_field(1, text), encode_field(2, voice or ""), encode_field(3, instruct)
                )
            # In this message alone the voice comes before the text.
            return encode_message(_SFT, encode_field(1, voice or ""), encode_field(2, text))
        assert voice.prompt is not None  # noqa: S101 - settings hold a name where there is none
        recording = prompt_at_16k(voice.prompt)
        if voice.transcript is None:
            return encode_message(
                _CROSS_LINGUAL,
                encode_field(1, with_system_prompt(text) if self._for_cosyvoice3 else text),
                encode_field(2, recording),
            )
        transcript = with_system_prompt(voice.transcript) if self._for_cosyvoice3 else voice.transcript
        return encode_message(
            _ZERO_SHOT, encode_field(1, text), encode_field(2, transcript), encode_field(3, recording)
        )

    def _read_pcm(self, reply: WireReply, utterance: Utterance, wall: float) -> Iterator[PcmFormat | bytes]:
        """Yield the samples of each message; raises the error that the call ends with, or `DecodeError`."""
        try:
            with redact_texts([utterance]):
                for chunk in reply.chunks():
                    for number, value in decode_fields(chunk):
                        if number == _AUDIO and (samples := as_bytes(value)):
                            yield samples
        except ServiceFault as error:
            # The model's own exception; one that may be the machine's is retried (see transports/grpc/errors).
            if error.code != "UNKNOWN" or error.retryable:
                raise
            raise self._explain(error, utterance) from None

    def _explain(self, error: ServiceFault, utterance: Utterance) -> ServiceError:
        """Return the error of a model's exception, with what to do about it."""
        message, settings = str(error), utterance.settings
        if settings.voice_kind == "named" and message.endswith(f" {settings.voice_name!r}"):
            error.args = (f"{message}: the model has no such voice",)
            return reclassify(error, BadRequest)
        if settings.voice_kind != "named" and not self._for_cosyvoice3:
            error.args = (f"{message}; {advice(self.name)}",)
        is_callers = END_OF_PROMPT in message or any(part in message for part in _CALLER_FAULTS)
        return reclassify(error, BadRequest) if is_callers else error
