"""The official gRPC runtime's protocol: requests read by protobuf's own code, replies made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from cosyclient.config import WireConfig
from cosyclient.emulator.protos import message
from cosyclient.errors import (
    BadRequest,
    BadUtterance,
    CosyError,
    DecodeError,
    ServiceError,
    ServiceFault,
    TransportError,
)
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.protocols.base import PcmFormat, StreamingProtocol
from cosyclient.protocols.capabilities import check_settings
from cosyclient.protocols.registry import protocol_for
from cosyclient.testing import ScriptedReply
from tests.protocols import wire
from tests.protocols.wire_grpc import audio
from tests.protocols.wire_runtime import CLONE, CROSS, TRANSCRIPT, recording

MARK = "<|endofprompt|>"
SYSTEM = "You are a helpful assistant."
_Request: Any = message("cosyvoice.Request")


def asked(text: str = "好。", **settings: Any) -> Utterance:
    """Return an utterance."""
    return Utterance(text, VoiceSettings(**{"voice": "中文女", **settings}))


def protocol(dialect: str = "") -> StreamingProtocol:
    """Return the protocol."""
    found = protocol_for(f"grpc{dialect}", WireConfig())
    assert isinstance(found, StreamingProtocol)
    return found


def decoded(utterance: Utterance, *pieces: bytes | Exception) -> Any:
    """Return the speech that messages become."""
    (((position, speech),),) = protocol().decode(ScriptedReply(200, {}, pieces), [utterance], wall=0.0)
    assert position == 0
    return speech


@pytest.mark.parametrize(
    ("dialect", "settings", "mode", "fields"),
    [
        ("", {}, "sft_request", {"spk_id": "中文女", "tts_text": "好。"}),
        ("", {"instruct": "轻声"}, "instruct_request",
         {"spk_id": "中文女", "tts_text": "好。", "instruct_text": f"轻声{MARK}"}),
        ("", {"instruct": f"轻声{MARK}"}, "instruct_request", {"instruct_text": f"轻声{MARK}"}),
        ("", {"voice": CLONE}, "zero_shot_request", {"tts_text": "好。", "prompt_text": TRANSCRIPT}),
        ("", {"voice": CROSS}, "cross_lingual_request", {"tts_text": "好。"}),
        (":cosyvoice3", {"voice": CLONE}, "zero_shot_request",
         {"tts_text": "好。", "prompt_text": f"{SYSTEM}{MARK}{TRANSCRIPT}"}),
        (":cosyvoice3", {"voice": CROSS}, "cross_lingual_request", {"tts_text": f"{SYSTEM}{MARK}好。"}),
        (":cosyvoice3", {"instruct": "轻声"}, "instruct_request", {"instruct_text": f"{SYSTEM} 轻声{MARK}"}),
    ],
)  # fmt: skip
def test_each_kind_of_voice_is_a_mode(
    dialect: str, settings: dict[str, Any], mode: str, fields: dict[str, str]
) -> None:
    """With its own fields, in its own order, and the marks that its model wants."""
    speaking = protocol(dialect)
    request = speaking.encode([asked(**settings)], key="key-1")
    assert (request.path, request.headers) == ("/cosyvoice.CosyVoice/Inference", (("x-request-id", "key-1"),))
    read = _Request.FromString(request.body)
    assert read.WhichOneof("RequestPayload") == mode
    said = getattr(read, mode)
    assert {name: getattr(said, name) for name in fields} == fields
    if "voice" in settings:
        assert said.prompt_audio == recording()[44:]
    assert len(request.body) <= speaking.weigh(asked(**settings))
    assert speaking.encode_stream(asked(**settings), key="key-1") == request


@pytest.mark.parametrize(
    "settings", [{"voice": CLONE, "instruct": "x"}, {"voice": None}, {"voice": None, "instruct": "x"}]
)
def test_settings_without_a_mode_are_refused(settings: dict[str, Any]) -> None:
    """Before anything is sent."""
    with pytest.raises(BadUtterance):
        check_settings("grpc", protocol().capabilities, asked(**settings).settings)


def test_the_rate_is_the_one_configured() -> None:
    """The reply names none: 22,050 Hz for the first generation."""
    samples = wire.tagged_pcm(0)
    for rate in (22050, 24000):
        speech = decoded(asked(sample_rate=rate, format="pcm"), audio(samples))
        assert (speech.audio, speech.sample_rate) == (samples, rate)
        assert speech.duration == pytest.approx(len(samples) / 2 / rate)


def test_messages_are_cut_anywhere() -> None:
    """Inside a sample, too, and an empty one between."""
    samples = wire.tagged_pcm(0)
    speech = decoded(asked(), audio(samples[:101]), b"", audio(b""), audio(samples[101:]))
    assert speech.audio == wire.tagged_wav(0)
    pieces = list(protocol().decode_stream(ScriptedReply(200, {}, [b"", audio(samples)]), asked(), wall=0.0))
    assert pieces == [PcmFormat(24000), samples]


@pytest.mark.parametrize(
    ("text", "pieces", "retryable"),
    [
        ("好。", [], True),
        ("。。。", [], False),
        ("好。", [audio(b"\1")], True),
        ("好" * 20, [audio(bytes(480))], True),
        ("好。", [b"\x0a\x05ab"], True),
        ("好。", [b"\x08\x01"], True),
    ],
    ids=["nothing", "nothing to say", "half a sample", "too short", "cut", "a number"],
)
def test_replies_without_speech_are_errors(text: str, pieces: list[bytes], retryable: bool) -> None:
    """An OK says only that the service thinks so."""
    with pytest.raises(DecodeError) as caught:
        decoded(asked(text), *pieces)
    assert caught.value.retryable is retryable
    if text != "好。" or not pieces or len(pieces[0]) < 4:
        return
    with pytest.raises(DecodeError):
        list(protocol().decode_stream(ScriptedReply(200, {}, pieces), asked(text), wall=0.0))


def test_samples_before_a_break_are_yielded() -> None:
    """And no error tells the text."""
    fault = ServiceFault("gRPC UNKNOWN: Exception iterating responses: 一句别人不该看到的话", code="UNKNOWN")
    found: list[Any] = []
    with pytest.raises(CosyError) as caught:
        found.extend(
            protocol().decode_stream(
                ScriptedReply(200, {}, [audio(wire.tagged_pcm(0)), fault]), asked("一句别人不该看到的话"), wall=0.0
            )
        )
    assert caught.value is fault
    assert str(fault) == "gRPC UNKNOWN: detail withheld, it quotes a text"
    with pytest.raises(TransportError):
        decoded(asked(), audio(wire.tagged_pcm(0)), TransportError("Socket closed"))


@pytest.mark.parametrize(
    ("dialect", "settings", "details", "kind", "advised"),
    [
        ("", {"voice": "nobody"}, "'nobody'", BadRequest, False),
        ("", {"voice": "nobody"}, "'spk2info'", ServiceFault, False),
        ("", {"instruct": "x"}, "inference_instruct is only implemented for CosyVoice!", BadRequest, False),
        ("", {"voice": CLONE}, "do not support extract speech token for audio longer than 30s", BadRequest, True),
        ("", {"voice": CLONE}, f"{MARK} not detected in CosyVoice3 text or prompt_text", BadRequest, True),
        ("", {"voice": CROSS}, "The size of tensor a must match", ServiceFault, True),
        (":cosyvoice3", {"voice": CROSS}, "The size of tensor a must match", ServiceFault, False),
    ],
)
def test_exceptions_of_a_model_are_classified(
    dialect: str, settings: dict[str, Any], details: str, kind: type[ServiceError], advised: bool
) -> None:
    """What is the caller's is; a clone on a model that may be CosyVoice3 is told of the dialect."""
    fault = ServiceFault(
        f"gRPC UNKNOWN: Exception iterating responses: {details}",
        status=500,
        code="UNKNOWN",
        retryable=False,
        endpoint_fault=False,
    )
    utterance = asked(**settings)
    with pytest.raises(ServiceError) as caught:
        list(protocol(dialect).decode(ScriptedReply(200, {}, [fault]), [utterance], wall=0.0))
    error = caught.value
    assert (type(error), error.retryable, error.endpoint_fault) == (kind, False, False)
    assert ("use protocol='grpc:cosyvoice3'" in str(error)) is advised


def test_faults_of_the_machine_are_service_faults() -> None:
    """It is tried again, and held against it."""
    fault = ServiceFault("gRPC UNKNOWN: Exception iterating responses: CUDA error", status=500, code="UNKNOWN")
    with pytest.raises(ServiceFault) as caught:
        list(protocol().decode(ScriptedReply(200, {}, [fault]), [asked(voice=CLONE)], wall=0.0))
    assert (caught.value.retryable, caught.value.endpoint_fault) == (True, True)
    assert "cosyvoice3" not in str(caught.value)
