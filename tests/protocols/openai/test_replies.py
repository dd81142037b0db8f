"""What each OpenAI-compatible server answers, and what is made of it: audio, streams, words, voices, refusals."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient.audio import wav_bytes
from cosyclient.config import WireConfig
from cosyclient.errors import (
    BadRequest,
    DecodeError,
    NotFound,
    ServiceError,
    ServiceFault,
    Throttled,
    Unauthorized,
)
from cosyclient.models import Speech, Utterance, VoiceSettings, Word
from cosyclient.protocols.openai.protocol import OpenAISpeechProtocol
from tests.protocols import wire_openai
from tests.protocols.wire_openai import SSE, audio, delta, done, refusal

if TYPE_CHECKING:
    from cosyclient.testing import ScriptedReply

TEXT = "你好"
PCM = struct.pack("<2400h", *range(2400))


def speech(reply: ScriptedReply, dialect: str = "", text: str = TEXT, **settings: Any) -> Speech:
    """Return the speech that *reply* is."""
    protocol = OpenAISpeechProtocol(WireConfig(), dialect=dialect)
    ((_, found),) = next(iter(protocol.decode(reply, [Utterance(text, VoiceSettings(**settings))], wall=0.0)))
    assert isinstance(found, Speech)
    return found


# --- whole ---


@pytest.mark.parametrize(
    ("kind", "headers", "dialect", "rate"),
    [
        ("audio/pcm", {}, "", 24000),
        ("audio/pcm;rate=22050", {}, "", 22050),
        ("audio/L16; rate=16000; channels=1", {}, "async-cosyvoice", 16000),
        ("audio/L16;rate=16000;channels=1", {}, "triton-bridge", 24000),
        ("audio/pcm", {"X_Sample_Rate": "22050", "X_Channels": "1"}, "sglang-omni", 22050),
        ("application/octet-stream", {}, "openai", 24000),
        ("audio/pcm", {"X_Sample_Rate": "fast"}, "", 24000),
    ],
)
def test_raw_samples_have_the_rate_of_their_label(kind: str, headers: dict[str, str], dialect: str, rate: int) -> None:
    """From the label, a header, the dialect, or what was asked for; L16 is little-endian with all who say it."""
    found = speech(audio(kind, PCM, **headers), dialect, format="pcm")
    assert (found.audio, found.sample_rate, found.channels) == (PCM, rate, 1)
    assert found.duration == pytest.approx(2400 / rate)


def test_the_rate_of_a_file_is_that_of_its_header() -> None:
    """Whatever was asked for, known sizes or not; but the bridge stamps it with a number of its own."""
    file = wire_openai.wav(PCM, 16000)
    assert speech(audio("audio/wav", file)).sample_rate == 16000
    assert speech(audio("audio/x-wav", wire_openai.unsized(file)), "vox-box").sample_rate == 16000
    assert speech(audio("audio/wav", file), "triton-bridge").audio == wav_bytes(PCM, 24000)


@pytest.mark.parametrize("kind", ["", "binary/octet-stream", "audio/mpeg", "text/html", "application/json", "nonsense"])
def test_a_file_is_recognised_under_any_label(kind: str) -> None:
    """Its first bytes decide, so a missing or wrong media type does no harm."""
    file = wire_openai.wav(PCM, 16000)
    found = speech(audio(kind, file))
    assert (found.audio, found.sample_rate) == (file, 16000)
    assert speech(audio(kind, file), format="pcm").audio == PCM


@pytest.mark.parametrize("kind", ["audio/wav", "audio/mpeg", ""])
def test_the_error_names_a_format_that_was_not_requested(kind: str) -> None:
    """At once, and not bought again."""
    with pytest.raises(DecodeError, match="asked for mp3, got wav") as caught:
        speech(audio(kind, wire_openai.wav(PCM * 20)), format="mp3")
    assert (caught.value.retryable, caught.value.endpoint_fault) == (False, False)


@pytest.mark.parametrize("format", ["wav", "pcm"])
@pytest.mark.parametrize(
    "body",
    [
        wire_openai.wav(PCM[:900]) + wire_openai.wav(PCM[900:]),
        wire_openai.unsized(wire_openai.wav(PCM[:900])) + wire_openai.unsized(wire_openai.wav(PCM[900:])),
    ],
)
def test_a_file_per_segment_is_joined(format: str, body: bytes) -> None:
    """And written as one that knows its length."""
    found = speech(audio("audio/wav", body), format=format)
    assert found.audio == (wire_openai.wav(PCM) if format == "wav" else PCM)


@pytest.mark.parametrize("format", ["wav", "pcm"])
def test_events_with_one_or_many_wav_headers_are_joined(format: str) -> None:
    """What follows a header with a size of its own is not lost."""
    for events in (
        delta(wire_openai.wav(PCM[:900]), "wav") + delta(PCM[900:], "wav"),
        delta(wire_openai.wav(PCM[:900]), "wav") + delta(wire_openai.wav(PCM[900:]), "wav"),
    ):
        found = speech(audio(SSE, events + done()), format=format)
        assert found.audio == (wire_openai.wav(PCM) if format == "wav" else PCM)


def test_a_wav_requested_in_place_of_samples_is_unpacked() -> None:
    """With the fingerprint of what the caller asked for, and the rate that really came."""
    utterance = Utterance(TEXT, VoiceSettings(format="pcm", sample_rate=16000))
    found = speech(audio("audio/wav", wire_openai.wav(PCM, 24000)), "siliconflow", format="pcm", sample_rate=16000)
    assert (found.format, found.audio, found.sample_rate) == ("pcm", PCM, 24000)
    assert found.fingerprint == utterance.fingerprint


def test_events_in_place_of_a_file_are_joined() -> None:
    """For a server that always sends them."""
    file = wire_openai.wav(PCM)
    reply = audio(SSE, delta(file[:1000], "wav"), b": ping\n\n", delta(file[1000:], "wav"), done())
    assert speech(reply).audio == file


def test_implausible_audio_is_an_error() -> None:
    """A server that leaves sentences out says nothing of it."""
    with pytest.raises(DecodeError, match="were expected") as caught:
        speech(audio("audio/wav", wire_openai.wav(PCM)), text="字" * 50)
    assert caught.value.retryable
    # It may be whole the next time; but what was expected is an estimate, and nobody is blamed by one.
    assert not caught.value.endpoint_fault


def test_text_that_is_not_spoken_needs_no_audio() -> None:
    """A heading underlined, a table's rules, blanks: the few words among them are a whole speech."""
    rule = "-" * 300
    assert speech(audio("audio/wav", wire_openai.wav(PCM)), text=f"好\n{rule}\n| {rule} |").duration < 0.2


def test_words_are_timed_in_seconds() -> None:
    """What cannot be read, or was left out, is none; what was not asked for is not looked at."""
    listed = [{"word": "\u4f60", "start_ms": 0, "end_ms": 48.5}, {"word": "\u597d", "start_ms": 50, "end_ms": 100}]
    file = wire_openai.wav(PCM)
    found = speech(audio("audio/wav", file, X_Word_Timestamps=json.dumps(listed)), "vllm-omni", words=True)
    assert found.words == (Word("你", 0.0, 0.0485), Word("好", 0.05, 0.1))
    assert speech(audio("audio/wav", file, X_Word_Timestamps=json.dumps(listed)), "vllm-omni").words == ()
    broken: list[Any] = ["x", 3, {}, [3], [{"word": "a"}], [{"word": "a", "start_ms": "1", "end_ms": 2}]]
    broken.append([{"word": "a", "start_ms": float("nan"), "end_ms": 2}])
    for value in [*map(json.dumps, broken), "[" * 9000, ""]:
        assert speech(audio("audio/wav", file, X_Word_Timestamps=value), "vllm-omni", words=True).words == ()
    assert speech(audio("audio/wav", file, X_Word_Timestamps_Omitted="1"), "vllm-omni", words=True).words == ()


# --- batches ---


def test_failed_items_of_a_batch_are_classified() -> None:
    """A sentence of vLLM-Omni's, an object of SGLang-Omni's; audio that cannot be right is one as well."""
    texts = [Utterance(text, VoiceSettings(voice="v")) for text in ("好", "好", "好", "字" * 50)]
    good = {"status": "success", "audio_data": wire_openai.b64(wire_openai.wav(PCM)), "media_type": "audio/wav"}
    results = [
        {"index": 2, "status": "error", "error": {"message": "no", "type": "BadRequestError", "code": 400}},
        {"index": 1, "status": "error", "error": "Speech generation failed"},
        {"index": 3, **good},
        {"index": 0, **good},
    ]
    body = json.dumps({"id": "x", "results": results, "total": 4, "succeeded": 2, "failed": 2}).encode()
    protocol = OpenAISpeechProtocol(WireConfig(), dialect="vllm-omni")
    reply = audio("application/json", body)
    found = dict(item for items in protocol.decode(reply, texts, wall=0.0) for item in items)
    assert isinstance(found[0], Speech)
    for position, kind, retryable in ((1, ServiceFault, True), (2, BadRequest, False), (3, DecodeError, True)):
        error = found[position]
        assert type(error) is kind
        assert error.retryable is retryable


# --- voices ---


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ({"voices": ["vivian", "Mine"], "uploaded_voices": [{"name": "Mine", "consent": "c"}]}, ["vivian", "Mine"]),
        ({"voices": ["Chinese Female"]}, ["Chinese Female"]),
        ({"result": [{"model": "m", "customName": "a", "text": "t", "uri": "speech:a:b:c"}]}, ["speech:a:b:c"]),
        ({"results": [{"uri": "speech:a:b:c"}]}, ["speech:a:b:c"]),
        (["a", {"name": "b"}, {"voice_id": "c"}, 7, {}], ["a", "b", "c"]),
        ({"voices": []}, []),
    ],
)
def test_lists_of_voices_are_read_in_every_form(document: Any, names: list[str]) -> None:
    """Each name once."""
    protocol = OpenAISpeechProtocol(WireConfig(), dialect="vllm-omni")
    assert protocol.decode_voices(audio("application/json", json.dumps(document).encode()), wall=0.0) == names


def test_replies_without_a_list_of_voices_are_errors() -> None:
    """A refusal is what it stands for."""
    protocol = OpenAISpeechProtocol(WireConfig(), dialect="vllm-omni")
    for body in (b"", b"<html>", b'{"a": 1}', b"[" * 9000):
        with pytest.raises(DecodeError):
            protocol.decode_voices(audio("application/json", body), wall=0.0)
    with pytest.raises(DecodeError, match="more than"):
        protocol.decode_voices(audio("application/json", *[b" " * (1 << 20)] * 5), wall=0.0)
    with pytest.raises(NotFound):
        protocol.decode_voices(refusal(404, {"detail": "Not Found"}), wall=0.0)


# --- refusals ---


@pytest.mark.parametrize(
    ("status", "document", "headers", "kind", "code", "retryable"),
    [
        (
            400,
            {"error": {"message": "bad", "type": "BadRequestError", "param": None, "code": 400}},
            {},
            BadRequest,
            "BadRequestError",
            False,
        ),
        (
            404,
            {"error": {"message": "no", "type": "invalid_request_error", "code": "model_not_found"}},
            {},
            NotFound,
            "model_not_found",
            False,
        ),
        (401, {"error": "Unauthorized"}, {}, Unauthorized, None, False),
        (401, "Invalid token", {}, Unauthorized, None, False),
        (
            429,
            {"error": {"message": "slow", "type": "requests", "code": "rate_limit_exceeded"}},
            {"Retry_After": "3"},
            Throttled,
            "rate_limit_exceeded",
            True,
        ),
        (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, {}, Throttled, "insufficient_quota", False),
        (429, {"detail": "Rate limit reached for the model."}, {}, Throttled, None, True),
        (429, {"code": 50603, "message": "TPM limit reached", "data": None}, {}, Throttled, None, True),
        (
            503,
            {"error": {"message": "full", "type": "server_error", "code": None}},
            {},
            ServiceFault,
            "server_error",
            True,
        ),
        (503, {"code": 50505, "message": "overloaded", "data": None}, {}, ServiceFault, None, True),
        (500, {"detail": "x"}, {"X_Should_Retry": "false"}, ServiceFault, None, False),
        (409, {}, {"X_Should_Retry": "false"}, ServiceError, None, False),
        (400, {}, {"X_Should_Retry": "true"}, BadRequest, None, True),
        (
            422,
            {"detail": [{"type": "missing", "loc": ["body", "voice"], "msg": "Field required", "input": None}]},
            {},
            BadRequest,
            None,
            False,
        ),
        (200, {"status_code": 400, "detail": "bad voice", "headers": None}, {}, BadRequest, None, False),
        (200, {"status_code": 503, "detail": "loading", "headers": None}, {}, ServiceFault, None, True),
    ],
)
def test_error_replies_of_each_server_are_classified(
    status: int, document: Any, headers: dict[str, str], kind: type[ServiceError], code: str | None, retryable: bool
) -> None:
    """The envelope differs, the meaning does not; Vox-Box says it with 200."""
    with pytest.raises(ServiceError) as caught:
        speech(refusal(status, document, **headers), "vox-box")
    error = caught.value
    assert (type(error), error.code, error.retryable) == (kind, code, retryable)
    assert error.status == status
