"""CosyVoice behind Triton: requests as its own client's code reads them, replies with everything odd about them."""

from __future__ import annotations

import json
import struct
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from tritonclient.grpc import service_pb2

from cosyclient.audio.pcm import s16_to_float32
from cosyclient.config import WireConfig
from cosyclient.errors import (
    BadRequest,
    BadUtterance,
    ConfigurationError,
    CosyError,
    DecodeError,
    NotFound,
    ServiceFault,
    Throttled,
    TransportError,
)
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.protocols.base import PcmFormat, StreamingProtocol
from cosyclient.protocols.capabilities import check_length, check_settings
from cosyclient.protocols.registry import protocol_for
from cosyclient.testing import ScriptedReply
from cosyclient.voices import Voice
from tests.protocols import wire
from tests.protocols.wire_grpc import answer, inference, output, tagged_floats
from tests.protocols.wire_runtime import CLONE, CROSS, TRANSCRIPT, recording

BINARY = "application/octet-stream"


def asked(text: str = "好。", **settings: Any) -> Utterance:
    """Return an utterance."""
    return Utterance(text, VoiceSettings(**settings))


def decoded(name: str, reply: ScriptedReply, utterance: Utterance | None = None) -> Any:
    """Return the speech that a reply becomes."""
    (((_, speech),),) = protocol_for(name, WireConfig()).decode(reply, [utterance or asked()], wall=0.0)
    return speech


def sent(name: str, utterance: Utterance) -> tuple[str, dict[str, bytes]]:
    """Return the path a request over HTTP goes to, and its tensors by name."""
    protocol = protocol_for(name, WireConfig())
    request = protocol.encode([utterance], key="key-1")
    assert len(request.body) <= protocol.weigh(utterance)
    size = int(dict(request.headers)["Inference-Header-Content-Length"])
    head, place = json.loads(request.body[:size]), size
    assert (head["id"], head["outputs"]) == ("key-1", [{"name": "waveform", "parameters": {"binary_data": True}}])
    found = {}
    for tensor in head["inputs"]:
        length = tensor["parameters"]["binary_data_size"]
        found[tensor["name"]] = request.body[place : place + length]
        place += length
        if tensor["datatype"] == "FP32":
            assert tensor["shape"] == [1, length // 4]
    assert place == len(request.body)
    return request.path, found


def test_a_request_without_a_voice_uses_the_models_own() -> None:
    """Only cosyvoice2 has one."""
    assert sent("triton", asked()) == ("/v2/models/cosyvoice2/infer", {"target_text": b"\6\0\0\0" + "好。".encode()})
    assert sent("triton", asked(model="cosyvoice2"))[0] == "/v2/models/cosyvoice2/infer"
    with pytest.raises(BadUtterance, match="^voice: model cosyvoice3 has none"):
        sent("triton", asked(model="cosyvoice3"))
    can = protocol_for("triton:cosyvoice3", WireConfig()).capabilities
    for settings in (asked().settings, asked(voice=CROSS).settings, asked(voice="somebody").settings):
        with pytest.raises(BadUtterance, match="^voice: "):
            check_settings("triton", can, settings)


def test_a_clone_is_a_recording_with_its_length_and_transcript() -> None:
    """As floats at 16 kHz."""
    _, tensors = sent("triton", asked(voice=CLONE))
    said = TRANSCRIPT.encode()
    assert tensors == {
        "reference_wav": s16_to_float32(recording()[44:]),
        "reference_wav_len": struct.pack("<i", 16000),
        "reference_text": struct.pack("<I", len(said)) + said,
        "target_text": b"\6\0\0\0" + "好。".encode(),
    }


def test_voices_with_equal_transcripts_are_kept_apart() -> None:
    """Models that know a recording by its transcript are told one of its own: the same always, with blanks only."""
    other = Voice.clone(recording(seconds=1.5), TRANSCRIPT)
    for name in ("triton:cosyvoice3", "triton:cosyvoice3"):
        first, again, second = (
            sent(name, asked(voice=voice))[1]["reference_text"][4:].decode()
            for voice in (CLONE, Voice.clone(recording(), TRANSCRIPT), other)
        )
        assert first == again != second
        assert first.startswith(TRANSCRIPT)
        assert first.rstrip(" \t") == second.rstrip(" \t") == TRANSCRIPT
    request = service_pb2.ModelInferRequest.FromString(
        protocol_for("triton-grpc:cosyvoice2_dit", WireConfig()).encode([asked(voice=CLONE)], key="k").body
    )
    assert request.raw_input_contents[2][4:].decode() == first


@pytest.mark.parametrize("model", ["a/../../b", "m?x=1#y", "模 型", "%2e%2e"])
def test_a_model_is_one_segment_of_the_path(model: str) -> None:
    """Whatever is in its name asks for that model, and for nothing else."""
    path, _ = sent("triton", asked(model=model, voice=CLONE))
    assert httpx.URL(f"http://triton{path}").raw_path == path.encode()
    assert unquote(path.removeprefix("/v2/models/").removesuffix("/infer")) == model
    assert path.count("/") == 4
    assert not set(path) & set("?# ")


@pytest.mark.parametrize("model", [".", ".."])
def test_a_model_name_of_dots_is_refused(model: str) -> None:
    """Quoting does not help these two."""
    with pytest.raises(BadUtterance, match="model"):
        sent("triton", asked(model=model, voice=CLONE))


def test_long_texts_are_refused_before_the_service_cuts_them_off() -> None:
    """After 30 s it says nothing more, and nothing of it."""
    can = protocol_for("triton", WireConfig()).capabilities
    check_length("triton", can, asked("好" * 150))
    with pytest.raises(BadUtterance, match="cuts off after 30 s"):
        check_length("triton", can, asked("好" * 151))


@pytest.mark.parametrize("name", ["triton", "triton-grpc"])
def test_audio_that_was_cut_off_is_an_error(name: str) -> None:
    """Exactly 30 s is what 750 tokens make."""
    for seconds, whole in ((29.9, True), (30.0, False)):
        values = struct.pack("<2f", 0.1, -0.1) * int(12000 * seconds)
        if name == "triton":
            lead = inference(output(len(values) // 4, parameters={"binary_data_size": len(values)}))
            headers = {"Content-Type": BINARY, "Inference-Header-Content-Length": str(len(lead))}
            reply = ScriptedReply(200, headers, [lead + values])
        else:
            reply = ScriptedReply(200, {}, [answer(values, final=True)])
        if whole:
            assert decoded(name, reply, asked("好" * 100)).duration == pytest.approx(seconds)
            continue
        with pytest.raises(DecodeError, match="cuts off after 30 s; split the text") as caught:
            decoded(name, reply, asked("好" * 100))
        assert (caught.value.retryable, caught.value.endpoint_fault) == (False, False)


@pytest.mark.parametrize(
    ("headers", "body", "complaint"),
    [
        ({"Inference-Header-Content-Length": "9999"}, inference(), "length of its JSON"),
        ({"Inference-Header-Content-Length": "-1"}, inference(), "length of its JSON"),
        ({}, b"{}", "is no inference"),
        ({"Content-Type": "application/json"}, b"[]", "no inference"),
        ({"Content-Type": "application/json"}, b'{"outputs":[1]}', "no object"),
        ({"Content-Type": "application/json"}, inference(output(1)), "without data"),
        ({"Content-Type": "application/json"}, inference(output(1, data=["x"])), "not made of numbers"),
        ({"Content-Type": "application/json"}, inference(output(1, data=[1e99])), "not made of numbers|no number"),
        ({"Content-Type": "application/json"}, inference(output(2, data=[0.5])), "4 bytes for 2 samples"),
        ({"Content-Type": "application/json"}, inference({"name": "other"}), "no waveform"),
        ({"Content-Type": "application/json"}, inference(output(1, data=[1]) | {"datatype": "FP16"}), "not FP32"),
    ],
)
def test_odd_replies_are_errors(headers: dict[str, str], body: bytes, complaint: str) -> None:
    """None of them is taken for audio."""
    with pytest.raises(DecodeError, match=complaint):
        decoded("triton", ScriptedReply(200, {"Content-Type": BINARY, **headers}, [body]))


def test_json_samples_may_be_nested() -> None:
    """As the specification allows."""
    values = [0.25, -0.25] * 120
    reply = ScriptedReply(200, {"Content-Type": "application/json"}, [inference(output(240, data=[values]))])
    assert decoded("triton", reply, asked(format="pcm")).audio == struct.pack("<2h", 8192, -8192) * 120


def test_the_error_of_a_streaming_build_names_triton_grpc() -> None:
    """By 501, or in a success that is none."""
    said = {"error": "HTTP end point doesn't support models with decoupled transaction policy"}
    body = json.dumps(said).encode()
    for status in (501, 200):
        with pytest.raises(ServiceFault, match="use protocol='triton-grpc'") as caught:
            decoded("triton", ScriptedReply(status, {"Content-Type": "application/json"}, [body]))
        assert not caught.value.retryable
    with pytest.raises(ConfigurationError, match="its dialects are cosyvoice2, cosyvoice3"):
        protocol_for("triton:cosyvoice2_dit", WireConfig())


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("[request id: k] Exceeds maximum queue size", Throttled),
        ("Request for unknown model: 'x' is not found", NotFound),
        ("unexpected shape for input 'reference_wav'", BadRequest),
        ("CUDA error: out of memory", ServiceFault),
    ],
)
def test_error_messages_in_a_stream_are_classified(words: str, kind: type[CosyError]) -> None:
    """They come without a code, with the mark of the end behind them or without."""
    for pieces in ([answer(error=words)], [answer(tagged_floats(0), final=False), answer(error=words, final=True)]):
        with pytest.raises(kind) as caught:
            decoded("triton-grpc", ScriptedReply(200, {}, pieces))
        assert type(caught.value) is kind
        assert words in str(caught.value)


def test_no_error_quotes_the_text() -> None:
    """Whatever a service quotes."""
    utterance = asked("一句别人不该看到的话。")
    with pytest.raises(ServiceFault) as caught:
        decoded("triton-grpc", ScriptedReply(200, {}, [answer(error=f"failed at {utterance.text}")]), utterance)
    assert str(caught.value) == "Triton: detail withheld, it quotes a text"


def test_no_error_of_a_broken_stream_quotes_the_text() -> None:
    """Nor does what a proxy says of it."""
    text = "The quick brown fox jumps over the lazy dog."
    reply = ScriptedReply(200, {}, [TransportError(f"127.0.0.1:1: gRPC UNAVAILABLE: gave up on {text.upper()}")])
    with pytest.raises(TransportError, match="withheld") as caught:
        decoded("triton-grpc", reply, asked(text))
    assert "fox" not in str(caught.value).lower()


def test_a_stream_without_its_final_marker_is_an_error() -> None:
    """An OK without it is a stream cut short; samples with the mark are whole, and nothing after it is read."""
    protocol = protocol_for("triton-grpc", WireConfig())
    assert isinstance(protocol, StreamingProtocol)
    piece = answer(tagged_floats(0), final=False)
    for pieces in ([], [piece]):
        with pytest.raises(DecodeError, match="without its last answer") as caught:
            decoded("triton-grpc", ScriptedReply(200, {}, pieces))
        assert caught.value.retryable
    marked: list[bytes | Exception] = [answer(tagged_floats(0), final=True), RuntimeError("read on")]
    assert decoded("triton-grpc", ScriptedReply(200, {}, marked)).audio == wire.tagged_wav(0)
    found = list(protocol.decode_stream(ScriptedReply(200, {}, [piece, answer(final=True)]), asked(), wall=0.0))
    assert found == [PcmFormat(24000), wire.tagged_pcm(0)]
