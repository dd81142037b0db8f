"""The official gRPC runtime: one text in a message, its samples in messages of a sentence group each.

Messages from runtime/python/grpc/cosyvoice.proto of FunAudioLLM/CosyVoice. The reply names no rate: it is the model's,
22,050 Hz for the CosyVoice-300M family and 24,000 Hz for its successors, so ``sample_rate`` says which one is served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cosyclient.protocols.base import Capabilities, StreamHead
from cosyclient.protocols.headers import quota
from cosyclient.protocols.protobuf import content, field, fields, message
from cosyclient.protocols.raw import silent, speech_of_samples
from cosyclient.protocols.refusals import discreet, refusal
from cosyclient.protocols.speeches import plausible, timed
from cosyclient.protocols.waveforms import heard, heard_samples
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.config import WireConfig
    from cosyclient.models import Utterance
    from cosyclient.protocols.base import Item, Quota
    from cosyclient.wire import WireReply

_PATH: Final = "/cosyvoice.CosyVoice/Inference"
# Tags and lengths of a request: two levels of at most 6 bytes a field.
_FRAMING_BYTES: Final = 32
# The members of Request's oneof.
_SFT, _ZERO_SHOT, _CROSS_LINGUAL, _INSTRUCT = 1, 2, 3, 4
_AUDIO: Final = 1


class RuntimeGrpcProtocol:
    """Speak the official gRPC runtime's protocol."""

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
    )

    def __init__(self, wire: WireConfig) -> None:
        pass  # it has no choices

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""
        settings = utterance.settings
        size = _FRAMING_BYTES + len(utterance.text.encode())
        voice = settings.voice
        if isinstance(voice, str) or voice is None:
            return size + len((voice or "").encode()) + len((settings.instruct or "").encode())
        assert voice.prompt is not None  # noqa: S101 - settings hold a name where there is none
        return size + len((voice.transcript or "").encode()) + 2 * heard_samples(voice.prompt)

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for the one utterance; *key* goes along as metadata."""
        (utterance,) = utterances
        return WireRequest(method="POST", path=_PATH, headers=(("x-request-id", key),), body=_request(utterance))

    def encode_stream(self, utterance: Utterance, *, key: str) -> WireRequest:
        """Return the request for *utterance*'s samples as they are made: the same, for this service knows no other."""
        return self.encode([utterance], key=key)

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the one text's speech once all of it is there."""
        (utterance,) = utterances
        samples = b"".join(_samples(reply, utterance, wall))
        yield [(0, plausible(utterance, speech_of_samples(utterance, samples)))]

    def decode_stream(self, reply: WireReply, utterance: Utterance, *, wall: float) -> Iterator[StreamHead | bytes]:
        """Yield one `StreamHead`, then samples as they arrive; returns when the service said that this was all."""
        begun = False
        for piece in timed(utterance, _samples(reply, utterance, wall)):
            if not begun:
                begun = True
                yield StreamHead(utterance.settings.sample_rate)
            yield piece

    def quota(self, reply: WireReply) -> Quota | None:
        """Return what the reply's metadata announces of the service's limits, as a gateway before it may."""
        return quota(reply.headers)


def _request(utterance: Utterance) -> bytes:
    settings, said = utterance.settings, utterance.text
    voice = settings.voice
    if isinstance(voice, str) or voice is None:
        if settings.instruct is not None:
            return message(_INSTRUCT, field(1, said), field(2, voice or ""), field(3, settings.instruct))
        # Its field numbers go the other way round than everywhere else.
        return message(_SFT, field(1, voice or ""), field(2, said))
    assert voice.prompt is not None  # noqa: S101 - settings hold a name where there is none
    recording = heard(voice.prompt)
    if voice.transcript is None:
        return message(_CROSS_LINGUAL, field(1, said), field(2, recording))
    return message(_ZERO_SHOT, field(1, said), field(2, voice.transcript), field(3, recording))


def _samples(reply: WireReply, utterance: Utterance, wall: float) -> Iterator[bytes]:
    """Yield what each message of *reply* carries; raises the error of a reply that is a refusal, broken or silent."""
    if reply.status >= 300:
        raise refusal(reply, [utterance], wall=wall)
    some = False
    with discreet([utterance]):
        for chunk in reply.chunks():
            for number, value in fields(chunk):
                if number == _AUDIO and (samples := content(value)):
                    some = True
                    yield samples
    if not some:
        raise silent(utterance)
