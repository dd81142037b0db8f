"""CosyVoice behind Triton: the KServe v2 protocol over HTTP, and over gRPC, where its audio streams.

Facts from runtime/triton_trtllm of FunAudioLLM/CosyVoice and from triton-inference-server/server (protocol reference,
3.3). The servers cut the audio off after 750 speech tokens, 30 s, without a sign.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from cosyclient.audio.pcm import float32_to_s16
from cosyclient.errors import BadRequest, BadUtterance, DecodeError, NotFound, ServiceError, ServiceFault, Throttled
from cosyclient.models import has_speech
from cosyclient.protocols.capabilities import Capabilities
from cosyclient.protocols.codecs.forms import path_segment
from cosyclient.protocols.cosyvoice.prompt_audio import max_samples_at_16k, prompt_at_16k_f32
from cosyclient.protocols.replies.errors import (
    MAX_MESSAGE,
    error_from_body,
    error_from_reply,
    redact_texts,
)
from cosyclient.protocols.replies.headers import media_type
from cosyclient.protocols.single_text import SingleTextProtocol
from cosyclient.protocols.triton import tensors
from cosyclient.util.redaction import single_line
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cosyclient.audio.format import PcmFormat
    from cosyclient.config import WireConfig
    from cosyclient.models import Utterance
    from cosyclient.protocols.triton.tensors import Tensor
    from cosyclient.voices import Voice
    from cosyclient.wire import WireReply

RATE: Final = 24000
_DEFAULT_MODEL: Final = "cosyvoice2"
_MAX_SECONDS: Final = 30.0
"""Seconds of audio after which the servers cut it off: 750 speech tokens."""
_TOKEN_SECONDS: Final = 0.05
"""More than a speech token lasts (0.04 s): audio as short of the limit as that may have been cut off."""
_FRAMING_BYTES: Final = 1024
_DIGEST_BITS: Final = 24
_BINARY: Final = "application/octet-stream"
_JSON: Final = "application/json"
_CAPABILITIES: Final = Capabilities(
    voices=frozenset({"named", "clone"}),
    voice_names=False,
    advice="clone it with its transcript",
    formats=("wav", "pcm"),
    sample_rates=(RATE,),
    max_seconds=_MAX_SECONDS,
    own_members=tensors.RESERVED,
    scalar_extra=True,
)


class _Triton(SingleTextProtocol):
    """Implements what HTTP and gRPC have in common; the dialect is the model."""

    def __init__(self, wire: WireConfig, *, dialect: str = "") -> None:
        super().__init__(wire)
        self._model = dialect or _DEFAULT_MODEL
        if self._model != _DEFAULT_MODEL:
            # Only cosyvoice2 has a voice of its own.
            self.capabilities = dataclasses.replace(self.capabilities, voices=frozenset({"clone"}))

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""
        settings, voice = utterance.settings, utterance.settings.voice
        size = _FRAMING_BYTES + len(utterance.text.encode()) + len((settings.model or self._model).encode())
        # Over HTTP as it is; over gRPC each has some twenty bytes around it.
        size += sum(len(extra.key.encode()) + 32 * len(extra) for extra in [settings.checked_extra] if extra)
        if isinstance(voice, str) or voice is None:
            return size
        assert voice.prompt is not None  # noqa: S101 - settings hold a name where there is none
        return size + len((voice.transcript or "").encode()) + _DIGEST_BITS + 4 * max_samples_at_16k(voice.prompt)

    def _model_and_inputs(self, utterance: Utterance) -> tuple[str, list[Tensor]]:
        """Return the model for *utterance* and its input tensors."""
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
    """Implements an offline build (``Decoupled=False``) over HTTP."""

    name = "triton"
    capabilities = _CAPABILITIES

    def _request(self, utterance: Utterance, key: str, *, stream: bool) -> WireRequest:
        # This build does not stream, so *stream* is never true.
        model, inputs = self._model_and_inputs(utterance)
        body, head_bytes = tensors.http_body(inputs, key=key, parameters=utterance.settings.extra)
        path = f"/v2/models/{path_segment('model', model)}/infer"
        headers = (
            ("Content-Type", _BINARY),
            ("Inference-Header-Content-Length", str(head_bytes)),
            ("X-Request-Id", key),
        )
        return WireRequest(method="POST", path=path, headers=headers, body=body)

    def _read_pcm(self, reply: WireReply, utterance: Utterance, wall: float) -> Iterator[PcmFormat | bytes]:
        kind, announced = media_type(reply.headers), reply.headers.get("inference-header-content-length")
        if kind not in (_JSON, _BINARY) or (kind == _BINARY and announced is None):
            raise DecodeError(f"HTTP {reply.status}: {kind or 'no media type'} is no inference", retryable=True)
        body = b"".join(reply.chunks())
        try:
            samples = tensors.http_waveform(body, announced)
        except tensors.NotAnInference as found:
            if isinstance(found.document, dict) and "error" in found.document:
                raise _advised(error_from_body(reply, found.document, [utterance], wall=wall)) from None
            raise DecodeError("reply: JSON that is no inference", retryable=True) from None
        yield from _check_complete(utterance, [float32_to_s16(samples)])

    def _error_from_reply(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> ServiceError:
        return _advised(error_from_reply(reply, utterances, wall=wall))


class TritonGrpcProtocol(_Triton):
    """Implements any build over gRPC, through ``ModelStreamInfer``.

    Builds that stream (``Decoupled=True``) take no other call, and offline builds answer it as well, with a stream of
    one message. The client need not know which of them it calls.
    """

    name = "triton-grpc"
    capabilities = dataclasses.replace(_CAPABILITIES, medium="grpc", stream=True)

    def _request(self, utterance: Utterance, key: str, *, stream: bool) -> WireRequest:
        # Triton can be told to end a stream with a true gRPC status (triton_grpc_error), but its versions before 2026
        # then trip over models that send anything after an error, as cosyvoice3 does.
        # The call always streams.
        model, inputs = self._model_and_inputs(utterance)
        return WireRequest(
            method="POST",
            path="/inference.GRPCInferenceService/ModelStreamInfer",
            headers=(("x-request-id", key),),
            body=tensors.grpc_request(model, inputs, key=key, parameters=utterance.settings.extra),
        )

    def _read_pcm(self, reply: WireReply, utterance: Utterance, wall: float) -> Iterator[PcmFormat | bytes]:
        return _check_complete(utterance, _read_responses(reply, utterance))


def _read_responses(reply: WireReply, utterance: Utterance) -> Iterator[bytes]:
    """Yield the samples of each response up to the one marked as the last."""
    with redact_texts([utterance]):
        for chunk in reply.chunks():
            response = tensors.decode_grpc_response(chunk)
            if response.error:
                raise _error_from_message(response.error)
            if response.samples:
                yield float32_to_s16(response.samples)
            if response.final:
                return
    raise DecodeError("audio: the stream ended without its last answer", retryable=True)


def _check_complete(utterance: Utterance, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield *pieces* of samples; raises `DecodeError` at their end if there are none, or if the server cut them off."""
    size = 0
    for piece in pieces:
        size += len(piece)
        yield piece
    if not size and has_speech(utterance.text):
        # The reply is complete, and the same text would give none again.
        raise DecodeError("audio: none, the model made no speech of this text", endpoint_fault=False)
    if (seconds := size / (2 * RATE)) >= _MAX_SECONDS - _TOKEN_SECONDS:
        raise DecodeError(
            f"audio: {seconds:.2f} s, where the service cuts off after {_MAX_SECONDS:g} s; split the text",
            endpoint_fault=False,
        )


def _transcript(model: str, voice: Voice) -> str:
    """Return the transcript of *voice*, made unique for models that identify recordings by their transcripts.

    cosyvoice3 and cosyvoice2_dit cache their analysis of a recording under its transcript without end, so of two voices
    with one transcript the second would sound like the first. Blanks are appended, 24 spaces or tabs that encode the
    recording's digest: the same ones in every process, and not spoken.
    """
    transcript = voice.transcript or ""
    if model == _DEFAULT_MODEL or voice.prompt is None:
        return transcript
    bits = int(voice.prompt.digest[: _DIGEST_BITS // 4], 16)
    return transcript + f"{bits:0{_DIGEST_BITS}b}".translate({48: " ", 49: "\t"})


# Parts of Triton's messages, which stand in place of a status; the wording is its core's. The first match decides.
_MESSAGES: Final = (
    ("maximum queue size", Throttled, "RESOURCE_EXHAUSTED"),
    ("unknown model", NotFound, "NOT_FOUND"),
    ("is not found", NotFound, "NOT_FOUND"),
    ("unexpected shape", BadRequest, "INVALID_ARGUMENT"),
    ("unexpected inference input", BadRequest, "INVALID_ARGUMENT"),
    ("expected", BadRequest, "INVALID_ARGUMENT"),
)


def _error_from_message(message: str) -> ServiceError:
    """Return the error that the *message* of a failed response stands for, which has no code."""
    error_type, code = next(
        ((error_type, code) for part, error_type, code in _MESSAGES if part in message), (ServiceFault, "INTERNAL")
    )
    return error_type(f"Triton: {single_line(message, MAX_MESSAGE)}", code=code)


def _advised(error: ServiceError) -> ServiceError:
    """Return *error* with advice if it says that the build streams."""
    if error.status == 501 or "decoupled" in str(error):
        error.args = (f"{error}; this build streams: use protocol='triton-grpc'",)
        error.retryable = False
    return error
