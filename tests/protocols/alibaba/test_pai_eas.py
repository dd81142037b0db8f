"""PAI-EAS: what its JSON asks for, and errors that come with a 200."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cosyclient.config import WireConfig
from cosyclient.errors import BadUtterance, CosyError, DecodeError, ServiceError, ServiceFault
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.protocols.alibaba.pai_eas import PaiEasProtocol
from cosyclient.protocols.base import PcmFormat
from cosyclient.protocols.capabilities import check_settings
from cosyclient.testing import ScriptedReply
from tests.protocols import wire
from tests.protocols.wire_runtime import CLONE, pai_body

TEXT = "你好，世界。"
SAMPLES = bytes(range(1, 200, 2)) * 480


def asked(**settings: Any) -> Utterance:
    """Return a text with these settings."""
    return Utterance(TEXT, VoiceSettings(**{"voice": "0a1b", **settings}))


def json_reply(document: Any) -> ScriptedReply:
    """Return a 200 with a document."""
    return wire.json_reply(document)


def stream_of(*documents: Any, tail: bytes = b"") -> ScriptedReply:
    """Return events of these documents."""
    body = b"".join(b"data:" + json.dumps(document).encode() + b"\n\n" for document in documents) + tail
    return ScriptedReply(200, {"Content-Type": "text/event-stream"}, wire.pieces(body, 333))


def streamed(reply: ScriptedReply) -> list[PcmFormat | bytes]:
    """Return what a stream is decoded to."""
    return list(PaiEasProtocol(WireConfig()).decode_stream(reply, asked(), wall=0.0))


@pytest.mark.parametrize(
    ("dialect", "settings", "wanted"),
    [
        ("", {}, {"mode": "fast_replication", "output_format": "wav", "sample_rate": 24000, "speed": 1.0}),
        ("cross_lingual", {"format": "mp3"}, {"mode": "cross_lingual_replication", "output_format": "mp3"}),
        ("", {"instruct": "用四川话"}, {"mode": "natural_language_replication", "instruct": "用四川话"}),
        ("", {"speed": 1.5, "sample_rate": 16000}, {"speed": 1.5, "sample_rate": 16000}),
    ],
)
def test_a_voice_is_the_id_of_a_recording(dialect: str, settings: dict[str, Any], wanted: dict[str, Any]) -> None:
    """And the dialect, or an instruction, says what is done with it."""
    protocol = PaiEasProtocol(WireConfig(), dialect=dialect)
    whole = json.loads(protocol.encode([asked(**settings)], key="k").body)
    assert whole["input"].items() >= {"text": TEXT, "reference_audio_id": "0a1b", **wanted}.items()
    assert (whole["model"], whole["stream"]) == ("CosyVoice2-0.5B", False)
    assert json.loads(protocol.encode_stream(asked(**settings), key="k").body)["stream"] is True


def test_the_refusal_of_a_recording_says_to_upload_it() -> None:
    """It has to be uploaded first."""
    with pytest.raises(BadUtterance, match="takes named voices, not clone; upload .* upload_voice"):
        check_settings("pai-eas", PaiEasProtocol.capabilities, asked(voice=CLONE).settings)


@pytest.mark.parametrize(
    ("document", "kind", "retryable"),
    [
        ({"request_id": "r-1", "error": {"code": "InternalError", "message": "no"}}, ServiceFault, True),
        ({"request_id": "r-1", "error": "out of memory"}, ServiceFault, True),
        ({"request_id": "r-1", "code": "validation_failed", "message": "no"}, ServiceError, False),
        (pai_body(b""), DecodeError, True),
        (pai_body(wire.tagged_wav(0), finish=None), DecodeError, True),
        ({"output": {"finish_reason": "stop", "audio": {"data": "?"}}}, DecodeError, True),
        ({"output": {"finish_reason": "stop", "audio": {"data": 7}}}, DecodeError, True),
        ([], DecodeError, True),
    ],
)
def test_an_error_with_status_200_is_an_error(document: Any, kind: type[CosyError], retryable: bool) -> None:
    """Whether it says so, says nothing, or says that it is not finished."""
    with pytest.raises(kind) as caught:
        list(PaiEasProtocol(WireConfig()).decode(json_reply(document), [asked()], wall=0.0))
    assert caught.value.retryable is retryable
    if isinstance(caught.value, ServiceError):
        assert caught.value.request_id == "r-1"


def test_a_stream_is_pieces_up_to_the_last_event() -> None:
    """The last object may carry audio, too; other lines are passed over."""
    pieces = [SAMPLES[:1001], SAMPLES[1001:5000], SAMPLES[5000:]]
    documents = [pai_body(piece, finish="stop" if piece is pieces[-1] else None) for piece in pieces]
    assert streamed(stream_of(*documents, tail=b": bye\n\ndata: [DONE]\n\n")) == [PcmFormat(24000), *pieces]
    assert streamed(stream_of(*documents[:2], pai_body(b""))) == [PcmFormat(24000), *pieces[:2]]


def test_a_stream_that_does_not_end_or_fails_is_an_error() -> None:
    """What came before stands: the caller has it."""
    for documents, kind in (
        ([pai_body(SAMPLES, finish=None)], DecodeError),
        ([pai_body(SAMPLES, finish=None), {"error": {"code": "InternalError", "message": "no"}}], ServiceFault),
    ):
        got: list[Any] = []
        with pytest.raises(kind) as caught:
            got.extend(PaiEasProtocol(WireConfig()).decode_stream(stream_of(*documents), asked(), wall=0.0))
        assert caught.value.retryable
    with pytest.raises(ServiceFault):
        streamed(json_reply({"error": {"code": "InternalError", "message": "no"}}))
    with pytest.raises(DecodeError, match="application/json is not a stream"):
        streamed(json_reply(pai_body(SAMPLES)))


@pytest.mark.parametrize("listed", [[{"id": "a"}, {"id": "b"}], {"data": [{"id": "a"}, {}, 3, {"id": "b"}]}])
def test_recordings_are_voices(listed: Any) -> None:
    """A bare list or one inside an object."""
    protocol = PaiEasProtocol(WireConfig())
    assert protocol.encode_voices().path == "/api/v1/audio/reference_audio"
    assert protocol.decode_voices(json_reply(listed), wall=0.0) == ["a", "b"]
    with pytest.raises(DecodeError):
        protocol.decode_voices(json_reply({}), wall=0.0)
    with pytest.raises(ServiceFault):
        protocol.decode_voices(ScriptedReply(500), wall=0.0)
