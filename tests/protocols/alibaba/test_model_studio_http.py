"""Model Studio over HTTP: what is asked for, what its events say, and which of its codes means what."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cosyclient.audio import parse_wav
from cosyclient.config import WireConfig
from cosyclient.errors import (
    BadRequest,
    BadUtterance,
    CosyError,
    DecodeError,
    Forbidden,
    NotFound,
    ServiceError,
    ServiceFault,
    Throttled,
    Unauthorized,
)
from cosyclient.models import Speech, Utterance, VoiceSettings, Word
from cosyclient.protocols.alibaba.common import WordTimings
from cosyclient.protocols.alibaba.model_studio_http import ModelStudioHttpProtocol
from cosyclient.protocols.base import PcmFormat
from cosyclient.protocols.capabilities import check_settings
from cosyclient.testing import ScriptedReply
from tests.protocols import wire
from tests.protocols.wire_runtime import CLONE, SSE, STOP, b64, model_studio, model_studio_events, sentence, sse_event

TEXT = "你好，世界，你好。"
SAMPLES = bytes(range(1, 200, 2)) * 480
HALF = len(SAMPLES) // 2


def asked(**settings: Any) -> Utterance:
    """Return a text with these settings."""
    return Utterance(TEXT, VoiceSettings(**{"voice": "longanyang", "model": "cosyvoice-v3-flash", **settings}))


def events(*outputs: dict[str, Any], split: int = 0, tail: bytes = b"\n\n", multi: bool = False) -> ScriptedReply:
    """Return a 200 with a stream of *outputs*."""
    return ScriptedReply(
        200, {"Content-Type": SSE}, wire.pieces(model_studio_events(*outputs, multi=multi) + tail, split)
    )


def speech_of(reply: ScriptedReply, **settings: Any) -> Speech:
    """Return the speech of a reply."""
    (((_, item),),) = ModelStudioHttpProtocol(WireConfig()).decode(reply, [asked(**settings)], wall=0.0)
    assert isinstance(item, Speech)
    return item


def failed(reply: ScriptedReply) -> CosyError:
    """Return the error that a reply is."""
    with pytest.raises(CosyError) as caught:
        speech_of(reply)
    return caught.value


def word(text: str, at: int, begin: Any, end: Any) -> dict[str, Any]:
    """Return one timed word as the service writes it."""
    return {"text": text, "begin_index": at, "end_index": at + 1, "begin_time": begin, "end_time": end}


def test_options_are_part_of_the_input() -> None:
    """All of them, not only the text; what is not asked for is left out, and WAV is made here."""
    request = ModelStudioHttpProtocol(WireConfig()).encode([asked()], key="k")
    assert (request.method, request.path) == ("POST", "/api/v1/services/audio/tts/SpeechSynthesizer")
    assert dict(request.headers)["X-DashScope-SSE"] == "enable"
    assert json.loads(request.body) == {
        "model": "cosyvoice-v3-flash",
        "input": {"text": TEXT, "voice": "longanyang", "format": "pcm", "sample_rate": 24000, "rate": 1.0},
    }
    full = asked(format="mp3", sample_rate=22050, speed=1.5, seed=0, instruct="softly", words=True)
    assert json.loads(ModelStudioHttpProtocol(WireConfig()).encode([full], key="k").body)["input"] == {
        "text": TEXT,
        "voice": "longanyang",
        "format": "mp3",
        "sample_rate": 22050,
        "rate": 1.5,
        "seed": 0,
        "instruction": "softly",
        "word_timestamp_enabled": True,
    }


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"voice": None}, "voice: protocol model-studio-http needs one"),
        ({"model": None}, "model: protocol model-studio-http needs one"),
        ({"voice": CLONE}, "voice: .* not clone; enrol the recording"),
    ],
)
def test_model_and_voice_are_required(settings: dict[str, Any], complaint: str) -> None:
    """They belong together, and there is no default."""
    with pytest.raises(BadUtterance, match=f"^{complaint}"):
        check_settings("model-studio-http", ModelStudioHttpProtocol.capabilities, asked(**settings).settings)


@pytest.mark.parametrize("split", [0, 1, 1000])
@pytest.mark.parametrize("multi", [False, True])
def test_pieces_are_one_audio(split: int, multi: bool) -> None:
    """However the stream and the samples are cut, and over however many lines an event goes."""
    samples = SAMPLES[:9600]
    spoken = [sentence("synthesis", audio=samples[at : at + 1601]) for at in range(0, len(samples), 1601)]
    reply = events(sentence("begin"), *spoken, sentence("end"), STOP, split=split, multi=multi)
    assert parse_wav(speech_of(reply).audio).samples == samples


def test_a_stream_is_a_format_and_pieces() -> None:
    """At the rate that was asked for."""
    halves = [sentence("synthesis", audio=part) for part in (SAMPLES[:HALF], SAMPLES[HALF:])]
    found = ModelStudioHttpProtocol(WireConfig()).decode_stream(
        events(*halves, STOP), asked(format="pcm", sample_rate=16000), wall=0.0
    )
    assert list(found) == [PcmFormat(16000), SAMPLES[:HALF], SAMPLES[HALF:]]


def test_the_last_event_may_repeat_all_audio() -> None:
    """Once is enough; the address in it is never followed."""
    whole = {**STOP, "audio": {**STOP["audio"], "data": b64(SAMPLES)}}  # type: ignore[dict-item]
    assert speech_of(events(whole), format="pcm").audio == SAMPLES
    assert speech_of(events(sentence("synthesis", audio=SAMPLES), whole), format="pcm").audio == SAMPLES


def test_each_word_comes_once_in_order() -> None:
    """Sentences tell theirs again and again, and the end may come before the beginning of the next."""
    first = [word("你", 0, 0, 180), word("好", 1, 180, 400)]
    reply = events(
        sentence("begin"),
        sentence("synthesis", audio=SAMPLES[:HALF], words=first[:1]),
        sentence("end", words=first),
        sentence("synthesis", audio=SAMPLES[HALF:], index=1, words=[word("界", 4, 700, 990)]),
        sentence("end", index=1, words=[word("世", 3, 500, 700), word("界", 4, 700, 1000), word("?", 5, None, 3)]),
        STOP,
    )
    expected = (Word("你", 0, 0.18), Word("好", 0.18, 0.4), Word("世", 0.5, 0.7), Word("界", 0.7, 1.0))
    assert speech_of(reply, words=True).words == expected
    assert speech_of(events(sentence("synthesis", audio=SAMPLES, words=first), STOP)).words == ()


@pytest.mark.parametrize("told", [None, [], {}, {"words": 3}, {"words": [3, {}, {"text": "a"}]}])
def test_unreadable_words_are_left_out(told: Any) -> None:
    """They are an extra, and no reason to lose a speech."""
    words = WordTimings()
    words.add(told)
    assert words.in_order() == ()
    assert repr(words) == "<WordTimings 0>"


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("Throttling.RateQuota", Throttled, True),
        ("Throttling.AllocationQuota", Throttled, True),
        ("Throttling", Throttled, True),
        ("InvalidParameter", BadRequest, False),
        ("InvalidParameter.DataInspection", BadRequest, False),
        ("DataInspectionFailed", BadRequest, False),
        ("InvalidApiKey", Unauthorized, False),
        ("Arrearage", Forbidden, False),
        ("AccessDenied.Unpurchased", Forbidden, False),
        ("ModelNotFound", NotFound, False),
        ("InternalError.Algo", ServiceFault, True),
        ("RequestTimeOut", ServiceFault, True),
        ("SomethingNew", ServiceFault, True),
    ],
)
def test_codes_are_classified(code: str, kind: type[ServiceError], retryable: bool) -> None:
    """As an event after a 200, as a JSON reply in place of a stream, and with a status that says less."""
    problem = {"code": code, "message": "no", "request_id": "r-1"}
    spoken = model_studio_events(sentence("synthesis", audio=SAMPLES)) + b"\n\n"
    error_event = sse_event(problem, name="error") + b"\n\n"
    replies = [
        ScriptedReply(200, {"Content-Type": SSE}, [error_event]),
        ScriptedReply(200, {"Content-Type": SSE}, [spoken + error_event]),
        ScriptedReply(200, {"Content-Type": SSE}, [spoken + sse_event(problem) + b"\n\n"]),
        wire.json_reply(problem),
    ]
    if code != "SomethingNew":
        replies += [wire.json_reply(problem, status=400), ScriptedReply(400, {"Content-Type": SSE}, [error_event])]
    for reply in replies:
        error = failed(reply)
        assert type(error) is kind
        assert isinstance(error, ServiceError)
        assert (error.code, error.request_id, error.retryable) == (code, "r-1", retryable)


def test_a_status_alone_keeps_its_meaning() -> None:
    """Whatever is wrong with the body."""
    for body in (b"", b"data:{", b"event:error\n\n", b"data:[1]\n\n"):
        error = failed(ScriptedReply(501, {"Content-Type": SSE}, [body]))
        assert (type(error), error.retryable) == (ServiceFault, False)


@pytest.mark.parametrize(
    ("reply", "retryable"),
    [
        (events(sentence("synthesis", audio=SAMPLES)), True),
        (events(STOP), True),
        (events(sentence("synthesis", audio=SAMPLES[:1001]), STOP), True),
        (events(sentence("synthesis", audio=SAMPLES[:100]), STOP), True),
        (events(sentence("synthesis"), tail=b'\n\ndata:{"output":{"audio":{"data":"?"}}}\n\n'), True),
        (events(sentence("synthesis"), tail=b"\n\ndata:{cut\n\n"), True),
        (wire.json_reply(model_studio({"audio": {"url": "http://169.254.169.254/", "id": "a"}})), False),
        (wire.json_reply(model_studio({})), True),
        (ScriptedReply(202, {"Content-Type": SSE}, []), True),
    ],
)
def test_incomplete_streams_are_errors(reply: ScriptedReply, retryable: bool) -> None:
    """No end, no audio, half a sample, too little, no base64, no JSON, an address in place of audio."""
    error = failed(reply)
    assert isinstance(error, DecodeError)
    assert error.retryable is retryable
    assert "169.254" not in str(error)
