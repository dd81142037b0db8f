"""CosyVoice behind Triton: the KServe v2 protocol over HTTP, and over gRPC, where its audio streams.

Facts from runtime/triton_trtllm of FunAudioLLM/CosyVoice and from triton-inference-server/server (protocol reference,
3.3). The servers cut the audio off after 750 speech tokens, 30 s, and say nothing of it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from cosyclient.audio.pcm import float32_to_s16
from cosyclient.errors import BadRequest, BadUtterance, DecodeError, NotFound, ServiceError, ServiceFault, Throttled
from cosyclient.models import has_speech
from cosyclient.protocols.base import PcmFormat
from cosyclient.protocols.capabilities import Capabilities
from cosyclient.protocols.codecs.forms import path_segment
from cosyclient.protocols.cosyvoice.prompt_audio import max_samples_at_16k, prompt_at_16k_f32
from cosyclient.protocols.replies.errors import (
    MAX_MESSAGE,
    check_status,
    error_from_body,
    error_from_reply,
    redact_texts,
)
from cosyclient.protocols.replies.headers import media_type, quota
from cosyclient.protocols.replies.pcm import speech_from_pcm
from cosyclient.protocols.replies.speech import check_plausible, check_stream_duration
from cosyclient.protocols.triton import tensors
from cosyclient.util.redaction import single_line
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.config import WireConfig
    from cosyclient.models import Speech, Utterance
    from cosyclient.protocols.base import Item, Quota
    from cosyclient.protocols.triton.tensors import Tensor
    from cosyclient.voices import Voice
    from cosyclient.wire import WireReply

RATE: Final = 24000
_DEFAULT_MODEL: Final = "cosyvoice2"
_CAP: Final = 30.0
# One speech token more or less.
_NEAR: Final = 0.05
_FRAMING_BYTES: Final = 1024
_MARK_BITS: Final = 24
_BINARY: Final = "application/octet-stream"
_JSON: Final = "application/json"
_CAPABILITIES: Final = Capabilities(
    voices=frozenset({"named", "clone"}),
    voice_names=False,
    advice="clone it with its transcript",
    formats=("wav", "pcm"),
    sample_rates=(RATE,),
    max_seconds=_CAP,
    own_members=tensors.RESERVED,
    scalar_extra=True,
)


class _Triton:
    """Hold what both ways to Triton share."""

    name: str
    capabilities: Capabilities

    def __init__(self, wire: WireConfig, *, dialect: str = "") -> None:  # noqa: ARG002 - all protocols are made alike
        self._model = dialect or _DEFAULT_MODEL
        if self._model != _DEFAULT_MODEL:
            # Only cosyvoice2 is built with a speaker of its own.
            self.capabilities = dataclasses.replace(self.capabilities, voices=frozenset({"clone"}))

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""
        settings, voice = utterance.settings, utterance.settings.voice
        size = _FRAMING_BYTES + len(utterance.text.encode()) + len((settings.model or self._model).encode())
        # Over HTTP as it is; over gRPC each has some twenty bytes around it.
        size += sum(len(extra.key.encode()) + 32 * len(extra) for extra in [settings.sent_extra] if extra)
        if isinstance(voice, str) or voice is None:
            return size
        assert voice.prompt is not None  # noqa: S101 - settings hold a name where there is none
        return size + len((voice.transcript or "").encode()) + _MARK_BITS + 4 * max_samples_at_16k(voice.prompt)

    def quota(self, reply: WireReply) -> Quota | None:
        """Return what the reply's headers announce of the service's limits, as a gateway before it may."""
        return quota(reply.headers)

    def _asked(self, utterances: Sequence[Utterance]) -> tuple[str, list[Tensor]]:
        """Return the model for the one utterance, and the tensors to send it."""
        (utterance,) = utterances
        settings, voice = utterance.settings, utterance.settings.voice
        model = settings.model or self._model
        target = tensors.text_tensor("target_text", utterance.text)
        if isinstance(voice, str) or voice is None:
            if model != _DEFAULT_MODEL:
                raise BadUtterance(f"voice: model {model} has none of its own; clone one")
            return model, [target]
        assert voice.prompt is not None  # noqa: S101 - settings hold a name where there is none
        samples = prompt_at_16k_f32(voice.prompt)
        return model, [
            tensors.float_tensor("reference_wav", samples),
            tensors.int_tensor("reference_wav_len", len(samples) // 4),
            tensors.text_tensor("reference_text", _transcript(model, voice)),
            target,
        ]


class TritonProtocol(_Triton):
    """Speak to an offline build (``Decoupled=False``) over HTTP."""

    name = "triton"
    capabilities = _CAPABILITIES

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for the one utterance; *key* is its id."""
        model, given = self._asked(utterances)
        body, size = tensors.http_body(given, key=key, parameters=utterances[0].settings.extra)
        path = f"/v2/models/{path_segment('model', model)}/infer"
        headers = (
            ("Content-Type", _BINARY),
            ("Inference-Header-Content-Length", str(size)),
            ("X-Request-Id", key),
        )
        return WireRequest(method="POST", path=path, headers=headers, body=body)

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the one text's speech; raises the `ServiceError` of an error reply, or `DecodeError`."""
        (utterance,) = utterances
        check_status(reply, utterances, wall=wall, make_error=_error_from_reply)
        kind, announced = media_type(reply.headers), reply.headers.get("inference-header-content-length")
        if kind not in (_JSON, _BINARY) or (kind == _BINARY and announced is None):
            raise DecodeError(f"HTTP {reply.status}: {kind or 'no media type'} is no inference", retryable=True)
        body = b"".join(reply.chunks())
        try:
            samples = tensors.http_waveform(body, announced)
        except tensors.NotAnInference as found:
            if isinstance(found.document, dict) and "error" in found.document:
                raise _advised(error_from_body(reply, found.document, utterances, wall=wall)) from None
            raise DecodeError("reply: JSON that is no inference", retryable=True) from None
        yield [(0, _speech(utterance, float32_to_s16(samples)))]


class TritonGrpcProtocol(_Triton):
    """Speak to any build over gRPC, through ``ModelStreamInfer``.

    Builds that stream (``Decoupled=True``) take no other call, and the others answer it as well: a stream of one. The
    client need not know which it talks to.
    """

    name = "triton-grpc"
    capabilities = dataclasses.replace(_CAPABILITIES, medium="grpc", stream=True)

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for the one utterance; *key* is its id."""
        # Triton can be told to end a stream with a true gRPC status (triton_grpc_error), but its versions before 2026
        # then trip over models that send anything after an error, as cosyvoice3 does.
        model, given = self._asked(utterances)
        return WireRequest(
            method="POST",
            path="/inference.GRPCInferenceService/ModelStreamInfer",
            headers=(("x-request-id", key),),
            body=tensors.grpc_request(model, given, key=key, parameters=utterances[0].settings.extra),
        )

    def encode_stream(self, utterance: Utterance, *, key: str) -> WireRequest:
        """Return the request for *utterance*'s samples as they are made: the same."""
        return self.encode([utterance], key=key)

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the one text's speech once all of it is there."""
        (utterance,) = utterances
        yield [(0, _speech(utterance, b"".join(_pieces(reply, utterance, wall))))]

    def decode_stream(self, reply: WireReply, utterance: Utterance, *, wall: float) -> Iterator[PcmFormat | bytes]:
        """Yield one `PcmFormat`, then samples as they arrive; returns when the service marked the end."""
        size = 0
        for piece in check_stream_duration(utterance, _pieces(reply, utterance, wall)):
            if not size:
                yield PcmFormat(RATE)
            size += len(piece)
            yield piece
        if not size:
            _check_spoken(utterance)
            return
        _check_uncut(size / (2 * RATE))


def _pieces(reply: WireReply, utterance: Utterance, wall: float) -> Iterator[bytes]:
    """Yield the samples of each answer; returns after the one marked as the last."""
    if reply.status >= 300:
        raise error_from_reply(reply, [utterance], wall=wall)
    with redact_texts([utterance]):
        for chunk in reply.chunks():
            answer = tensors.grpc_answer(chunk)
            if answer.error:
                raise _told(answer.error)
            if answer.samples:
                yield float32_to_s16(answer.samples)
            if answer.final:
                return
    raise DecodeError("audio: the stream ended without its last answer", retryable=True)


def _speech(utterance: Utterance, samples: bytes) -> Speech:
    if not samples:
        _check_spoken(utterance)
    _check_uncut(len(samples) / (2 * RATE))
    return check_plausible(utterance, speech_from_pcm(utterance, samples, PcmFormat(RATE)))


def _check_spoken(utterance: Utterance) -> None:
    if has_speech(utterance.text):
        # The whole answer, and none of it is audio: the same text gives the same again.
        raise DecodeError("audio: none, the model made no speech of this text", endpoint_fault=False)


def _check_uncut(seconds: float) -> None:
    if seconds >= _CAP - _NEAR:
        raise DecodeError(
            f"audio: {seconds:.2f} s, where the service cuts off after {_CAP:g} s; split the text", endpoint_fault=False
        )


def _transcript(model: str, voice: Voice) -> str:
    """Return the transcript of *voice*, made its own where a model knows recordings by nothing but their transcripts.

    cosyvoice3 and cosyvoice2_dit keep what they make of a recording under its transcript for ever, so of two voices
    that say the same the second would sound like the first. Blanks at its end, 24 spaces or tabs that spell the
    recording's digest, keep them apart: the same ones in every process, and nothing that is spoken.
    """
    said = voice.transcript or ""
    if model == _DEFAULT_MODEL or voice.prompt is None:
        return said
    bits = int(voice.prompt.digest[: _MARK_BITS // 4], 16)
    return said + f"{bits:0{_MARK_BITS}b}".translate({48: " ", 49: "\t"})


# What Triton says where HTTP would have a status; the words are its core's. The first row that matches decides.
_SAID: Final = (
    ("maximum queue size", Throttled, "RESOURCE_EXHAUSTED"),
    ("unknown model", NotFound, "NOT_FOUND"),
    ("is not found", NotFound, "NOT_FOUND"),
    ("unexpected shape", BadRequest, "INVALID_ARGUMENT"),
    ("unexpected inference input", BadRequest, "INVALID_ARGUMENT"),
    ("expected", BadRequest, "INVALID_ARGUMENT"),
)


def _told(error: str) -> ServiceError:
    """Return what the words of a failed answer stand for: it carries no code."""
    kind, code = next(((kind, code) for words, kind, code in _SAID if words in error), (ServiceFault, "INTERNAL"))
    return kind(f"Triton: {single_line(error, MAX_MESSAGE)}", code=code)


def _error_from_reply(reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> ServiceError:
    return _advised(error_from_reply(reply, utterances, wall=wall))


def _advised(error: ServiceError) -> ServiceError:
    if error.status == 501 or "decoupled" in str(error):
        error.args = (f"{error}; this build streams: use protocol='triton-grpc'",)
        error.retryable = False
    return error
