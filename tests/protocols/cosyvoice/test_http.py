"""The official runtime's protocol: which form is sent for which voice, and what a reply without labels proves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest

from cosyclient.audio import parse_wav, wav_bytes
from cosyclient.config import ClientConfig, PoolConfig, WireConfig
from cosyclient.errors import (
    AttemptTimeout,
    BadRequest,
    BadUtterance,
    ConfigurationError,
    CosyError,
    DecodeError,
    ServiceFault,
    TransportError,
)
from cosyclient.models import Speech, Utterance, VoiceSettings
from cosyclient.pipeline.shared import SharedPipeline
from cosyclient.protocols.base import PcmFormat
from cosyclient.protocols.capabilities import check_settings
from cosyclient.protocols.codecs.forms import encode_form
from cosyclient.protocols.cosyvoice.http import RuntimeProtocol
from cosyclient.protocols.lighttts.http import LightTtsProtocol
from cosyclient.testing import ScriptedReply, ScriptedTransport, scripted_client
from cosyclient.voices import Prompt
from tests.protocols.wire_runtime import CLONE, CROSS, TRANSCRIPT, raw_reply, recording

if TYPE_CHECKING:
    from cosyclient.protocols.base import Item
    from cosyclient.wire import WireRequest

MARK = "<|endofprompt|>"
SYSTEM = "You are a helpful assistant."
TEXT = "你好，世界。"
SAMPLES = bytes(range(1, 200, 2)) * 480


def asked(text: str = TEXT, **settings: Any) -> Utterance:
    """Return a text with these settings."""
    return Utterance(text, VoiceSettings(**{"voice": "中文女", **settings}))


def fields_of(request: WireRequest) -> dict[str, Any]:
    """Return the fields of the form that *request* carries, files as bytes."""
    kind = dict(request.headers)["Content-Type"]
    if kind == "application/x-www-form-urlencoded":
        return dict(parse_qsl(request.body.decode("ascii"), strict_parsing=True))
    boundary = kind.removeprefix("multipart/form-data; boundary=").encode()
    first, *parts, last = (b"\r\n" + request.body).split(b"\r\n--" + boundary)
    assert (first, last) == (b"", b"--\r\n")
    found: dict[str, Any] = {}
    for part in parts:
        head, _, content = part.partition(b"\r\n\r\n")
        name = head.split(b'name="')[1].split(b'"')[0].decode()
        found[name] = content if b"filename=" in head else content.decode()
    return found


def decoded(reply: ScriptedReply, utterance: Utterance, protocol: Any = None) -> Item:
    """Return the one item of a reply."""
    (((position, item),),) = (protocol or RuntimeProtocol(WireConfig())).decode(reply, [utterance], wall=0.0)
    return position, item


def failed(reply: ScriptedReply, text: str = TEXT, protocol: Any = None) -> CosyError:
    """Return the error that a reply is."""
    with pytest.raises(CosyError) as caught:
        decoded(reply, asked(text), protocol)
    return caught.value


@pytest.mark.parametrize(
    ("dialect", "settings", "mode", "fields"),
    [
        ("", {}, "sft", {"tts_text": TEXT, "spk_id": "中文女"}),
        (
            "",
            {"instruct": "softly & slowly"},
            "instruct",
            {"tts_text": TEXT, "spk_id": "中文女", "instruct_text": f"softly & slowly{MARK}"},
        ),
        ("", {"voice": CLONE}, "zero_shot", {"tts_text": TEXT, "prompt_text": TRANSCRIPT}),
        ("", {"voice": CROSS}, "cross_lingual", {"tts_text": TEXT}),
        (
            "",
            {"voice": CLONE, "instruct": f"用四川话说{MARK}"},
            "instruct2",
            {"tts_text": TEXT, "instruct_text": f"用四川话说{MARK}"},
        ),
        (
            "cosyvoice3",
            {"voice": CROSS, "instruct": "用四川话说"},
            "instruct2",
            {"tts_text": TEXT, "instruct_text": f"{SYSTEM} 用四川话说{MARK}"},
        ),
        (
            "cosyvoice3",
            {"voice": CLONE},
            "zero_shot",
            {"tts_text": TEXT, "prompt_text": f"{SYSTEM}{MARK}{TRANSCRIPT}"},
        ),
        ("cosyvoice3", {"voice": CROSS}, "cross_lingual", {"tts_text": f"{SYSTEM}{MARK}{TEXT}"}),
    ],
)
def test_voice_and_instruction_choose_the_form(
    dialect: str, settings: dict[str, Any], mode: str, fields: dict[str, str]
) -> None:
    """By POST, since bodies of GET are dropped on the way; the recording is sent as a file."""
    protocol = RuntimeProtocol(WireConfig(), dialect=dialect)
    utterance = asked(**settings)
    request = protocol.encode([utterance], key="k")
    sent = fields_of(request)
    if "voice" in settings:
        assert sent.pop("prompt_wav") == settings["voice"].prompt.wav
    assert (request.method, request.path, sent) == ("POST", f"/inference_{mode}", fields)
    assert protocol.encode_stream(utterance, key="k") == request
    assert len(request.body) <= protocol.weigh(utterance) < len(request.body) + 1000


def test_a_text_cannot_contain_the_boundary_of_its_form() -> None:
    """The boundary is made of all that is inside, so none of it was written knowing it."""
    prompt = Prompt(recording())
    kind, body = encode_form({"tts_text": "a"}, ("prompt_wav", prompt))
    boundary = kind.partition("boundary=")[2]
    other, forged = encode_form({"tts_text": f"a\r\n--{boundary}--\r\n"}, ("prompt_wav", prompt))
    assert other != kind
    assert forged.count(other.partition("boundary=")[2].encode()) == 3
    assert encode_form({"tts_text": "a"}, ("prompt_wav", prompt)) == (kind, body)
    assert encode_form({"tts_text": "a"}, ("prompt_wav", Prompt(recording(2.0))))[0] != kind


def test_the_rate_is_the_one_requested() -> None:
    """The reply does not tell; for a model of the 300M family 22,050 Hz has to be asked for."""
    for rate in (22050, 24000):
        _, speech = decoded(raw_reply(SAMPLES), asked(sample_rate=rate))
        wav = parse_wav(speech.audio)  # type: ignore[union-attr]
        assert (wav.samples, wav.sample_rate) == (SAMPLES, rate)
        _, bare = decoded(raw_reply(SAMPLES[:101], SAMPLES[101:]), asked(sample_rate=rate, format="pcm"))
        assert (bare.audio, bare.sample_rate) == (SAMPLES, rate)  # type: ignore[union-attr]
    head, *pieces = RuntimeProtocol(WireConfig()).decode_stream(
        raw_reply(SAMPLES[:7], SAMPLES[7:9001], SAMPLES[9001:]), asked(sample_rate=22050), wall=0.0
    )
    assert head == PcmFormat(22050)
    assert b"".join(pieces) == SAMPLES  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"voice": None}, "voice: protocol runtime needs one; pass voice=…"),
        ({"sample_rate": 16000}, "sample_rate: protocol runtime serves 22050 and 24000 Hz"),
        ({"speed": 1.1}, "speed: protocol runtime serves 1.0 only"),
        ({"format": "mp3"}, "format: protocol runtime serves wav and pcm"),
        ({"words": True}, "words: protocol runtime does not take it"),
    ],
)
def test_unsupported_settings_are_refused_before_anything_is_sent(settings: dict[str, Any], complaint: str) -> None:
    """The server would ignore some of it and answer all the same."""
    with pytest.raises(BadUtterance, match=f"^{complaint}"):
        check_settings("runtime", RuntimeProtocol.capabilities, asked(**settings).settings)


def test_an_unknown_dialect_is_refused_when_the_client_is_made() -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError, match="runtime knows no 'v9'; its dialects are cosyvoice3"):
        scripted_client([], protocol="runtime:v9")


@pytest.mark.parametrize("protocol", [RuntimeProtocol(WireConfig()), LightTtsProtocol(WireConfig())], ids=repr)
def test_an_empty_reply_is_an_error_with_its_cause(protocol: Any) -> None:
    """CosyVoice drops punctuation and answers with nothing: no retry helps, and nobody is to blame."""
    error = failed(raw_reply(), "……！？", protocol)
    assert isinstance(error, DecodeError)
    assert (error.retryable, error.endpoint_fault) == (False, False)
    assert str(error).startswith("audio: none, for the text has nothing to be spoken")
    error = failed(raw_reply(), TEXT, protocol)
    assert (error.retryable, error.endpoint_fault) == (True, True)


@pytest.mark.parametrize(
    "body",
    [
        b'{"detail":"something is wrong with this server, please come back later"}',
        b"<html><body>Welcome to nginx! If you see this page, it works.</body></html>",
        SAMPLES[:481],
        SAMPLES[:100],
    ],
)
def test_implausible_samples_are_errors(body: bytes) -> None:
    """Text, half a sample, and a hundredth of a second for eight syllables."""
    error = failed(raw_reply(body), "一二三四五六七八")
    assert isinstance(error, DecodeError)
    assert error.retryable
    with pytest.raises(DecodeError):
        list(RuntimeProtocol(WireConfig()).decode_stream(raw_reply(body), asked("一二三四五六七八"), wall=0.0))


def test_the_error_of_a_reply_without_a_byte_names_the_likely_cause() -> None:
    """An unknown voice looks like a broken server; time-outs and breaks amid the samples do not."""
    hinted = failed(raw_reply(TransportError("incomplete chunked read")))
    assert type(hinted) is TransportError
    assert "unknown voice" in str(hinted)
    assert "incomplete chunked read" in str(hinted)
    assert "unknown voice" not in str(failed(raw_reply(AttemptTimeout("slow"))))
    assert "unknown voice" not in str(failed(raw_reply(SAMPLES, TransportError("reset"))))


@pytest.mark.parametrize(
    ("status", "kind", "body", "error", "said"),
    [
        (
            422,
            "application/json",
            b'{"detail":[{"type":"missing","loc":["body","spk_id"],"msg":"Field required","input":null}]}',
            BadRequest,
            "(at /body/spk_id: missing)",
        ),
        (400, "application/json", b'{"detail":"Part exceeded maximum size of 1024KB."}', BadRequest, "1024KB"),
        (500, "text/plain; charset=utf-8", b"Internal Server Error", ServiceFault, "Internal Server Error"),
    ],
)
def test_error_replies_of_fastapi_are_read(
    status: int, kind: str, body: bytes, error: type[CosyError], said: str
) -> None:
    """What is missing, what is too large, and a recording that could not be read."""
    found = failed(ScriptedReply(status, {"Content-Type": kind}, [body]))
    assert type(found) is error
    assert said in str(found)


def test_lighttts_sends_a_form_and_reads_417() -> None:
    """Its own faults come as 417, which is anything but the client's."""
    protocol = LightTtsProtocol(WireConfig())
    utterance = asked(voice=CLONE, model="style", speed=1.5)
    sent = fields_of(protocol.encode([utterance], key="k"))
    recorded = sent.pop("prompt_wav")
    assert recorded == recording()
    assert sent == {
        "tts_text": TEXT,
        "prompt_text": TRANSCRIPT,
        "stream": "false",
        "tts_model_name": "style",
        "speed": "1.5",
    }
    assert fields_of(protocol.encode_stream(asked(voice=CLONE), key="k"))["stream"] == "true"
    with pytest.raises(BadUtterance, match="^speed: protocol lighttts streams at 1.0 only"):
        protocol.encode_stream(utterance, key="k")
    with pytest.raises(BadUtterance, match=r"not cross_lingual; make one with Voice.clone"):
        check_settings("lighttts", protocol.capabilities, asked(voice=CROSS).settings)
    error = failed(
        ScriptedReply(417, {"Content-Type": "application/json", "X-Request-Id": "r"}, [b'{"message":"no memory"}']),
        protocol=protocol,
    )
    assert isinstance(error, ServiceFault)
    assert (error.status, error.request_id, error.retryable, error.endpoint_fault) == (417, "r", True, True)
    assert "no memory" in str(error)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("'style'", BadRequest),
        ("'other'", ServiceFault),
        ("The input is too long and the resulting audio will be incomplete", BadRequest),
    ],
)
def test_417_of_lighttts_may_be_the_callers_fault(said: str, kind: type[CosyError]) -> None:
    """A model that it does not serve is the bare KeyError of its name."""
    body = json.dumps({"message": said}).encode()
    with pytest.raises(CosyError) as caught:
        decoded(
            ScriptedReply(417, {"Content-Type": "application/json"}, [body]),
            asked(voice=CLONE, model="style"),
            LightTtsProtocol(WireConfig()),
        )
    assert (type(caught.value), caught.value.endpoint_fault) == (kind, kind is ServiceFault)


def test_the_form_of_lighttts_has_the_system_prompt_for_cosyvoice3() -> None:
    """It serves both and tells neither from the other."""
    protocol = LightTtsProtocol(WireConfig(), dialect="cosyvoice3")
    request = protocol.encode([asked(voice=CLONE)], key="k")
    assert fields_of(request)["prompt_text"] == f"{SYSTEM}{MARK}{TRANSCRIPT}"
    assert len(request.body) <= protocol.weigh(asked(voice=CLONE))


def test_a_reply_that_ends_before_its_audio_is_no_endpoint_fault() -> None:
    """The head has left by then, and what is wrong may be the request; samples that break off are the runtime's."""
    for pieces, blamed in (([], False), ([SAMPLES[:4800]], True)):
        error = failed(raw_reply(*pieces, TransportError("ended early")))
        assert (type(error), error.retryable, error.endpoint_fault) == (TransportError, True, blamed)
        assert ("unknown voice" in str(error)) is not blamed


def test_the_pool_closes_idle_connections_before_the_server() -> None:
    """Uvicorn closes idle connections after 5 s; a pool that was told to wait longer does not, here."""
    for protocol, kept in (("runtime", 4.0), ("batch", 30.0)):
        client, _ = scripted_client([], protocol=protocol, config=ClientConfig(pool=PoolConfig(idle_limit=30.0)))
        assert isinstance(client._shared, SharedPipeline)
        assert client._shared.settings.config.pool.idle_limit == kept
    client, transport = scripted_client([], protocol="runtime", config=ClientConfig(pool=PoolConfig(idle_limit=1.0)))
    assert isinstance(transport, ScriptedTransport)
    assert client._shared.settings.config.pool.idle_limit == 1.0


@pytest.mark.parametrize("kind", ["", "audio/wav", "text/plain"])
def test_wav_headers_in_a_stream_are_removed(kind: str) -> None:
    """As a fork of the server sends them: the header's rate counts, and a file per segment is one speech."""
    body = wav_bytes(SAMPLES[:4800], 22050) + wav_bytes(SAMPLES[4800:], 22050)
    for format in ("wav", "pcm"):
        reply = ScriptedReply(200, {"Content-Type": kind}, [body[:30], body[30:7000], body[7000:]])
        ((_, speech),) = next(iter(RuntimeProtocol(WireConfig()).decode(reply, [asked(format=format)], wall=0.0)))
        assert isinstance(speech, Speech)
        assert (speech.pcm(), speech.sample_rate) == (SAMPLES, 22050)
    reply = ScriptedReply(200, {"Content-Type": kind}, [body])
    head, *pieces = RuntimeProtocol(WireConfig()).decode_stream(reply, asked(format="pcm"), wall=0.0)
    assert head == PcmFormat(22050)
    assert b"".join(piece for piece in pieces if isinstance(piece, bytes)) == SAMPLES


@pytest.mark.parametrize("start", [b"OggS", b"ID3\4", b"fLaC"])
def test_other_formats_than_wav_are_errors(start: bytes) -> None:
    """However well its bytes would pass for them."""
    assert "asked for pcm, got" in str(failed(raw_reply(start + SAMPLES), TEXT))
