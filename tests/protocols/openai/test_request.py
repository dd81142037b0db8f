"""What each OpenAI dialect sends: its own fields, its own clones, and nothing its server would ignore in silence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient.config import WireConfig
from cosyclient.errors import BadUtterance, ConfigurationError
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.protocols.capabilities import check_settings
from cosyclient.protocols.openai.dialects import DIALECTS
from cosyclient.protocols.openai.protocol import OpenAISpeechProtocol
from cosyclient.protocols.registry import protocol_for
from tests.protocols.wire_runtime import CLONE, CROSS, TRANSCRIPT, recording

if TYPE_CHECKING:
    from cosyclient.wire import WireRequest

URL = CLONE.prompt.data_url if CLONE.prompt is not None else ""


def speaking(dialect: str) -> OpenAISpeechProtocol:
    """Return the protocol in this dialect."""
    return OpenAISpeechProtocol(WireConfig(), dialect=dialect)


def asked(dialect: str, text: str = "hi", *, stream: bool = False, **settings: Any) -> dict[str, Any]:
    """Return the JSON that asks for *text*."""
    protocol, utterance = speaking(dialect), Utterance(text, VoiceSettings(**settings))
    check_settings(protocol.name, protocol.capabilities, utterance.settings)
    request = protocol.encode_stream(utterance, key="k") if stream else protocol.encode([utterance], key="k")
    assert header(request, "Content-Type") == "application/json"
    assert len(request.body) <= protocol.weigh(utterance)
    document: dict[str, Any] = json.loads(request.body)
    return document


def header(request: WireRequest, name: str) -> str | None:
    """Return a header of *request*."""
    return dict(request.headers).get(name)


BASE = {"input": "hi", "model": "m", "voice": "v", "response_format": "wav"}
VOICELESS = {name: value for name, value in BASE.items() if name != "voice"}


@pytest.mark.parametrize(
    ("dialect", "settings", "wanted"),
    [
        ("", {"speed": 1.5, "instruct": "softly"}, {**BASE, "speed": 1.5, "instructions": "softly"}),
        ("openai", {"format": "opus"}, {**BASE, "response_format": "opus"}),
        ("vllm-omni", {"seed": 7, "words": True}, {**BASE, "seed": 7, "word_timestamps": True}),
        (
            "vllm-omni",
            {"voice": CLONE, "model": None},
            {
                "input": "hi",
                "response_format": "wav",
                "ref_audio": URL,
                "ref_text": TRANSCRIPT,
            },
        ),
        (
            "sglang-omni",
            {"voice": CLONE, "instruct": "softly", "seed": 7},
            {**VOICELESS, "instructions": "softly", "seed": 7, "ref_audio": URL},
        ),
        ("sglang-omni", {"voice": CROSS, "model": None}, {"input": "hi", "response_format": "wav", "ref_audio": URL}),
        ("xinference", {"voice": None, "speed": 1.5}, {**BASE, "voice": "", "speed": 1.5}),
        ("vox-box", {"format": "mp3"}, {**BASE, "response_format": "mp3"}),
        ("triton-bridge", {}, BASE),
        ("async-cosyvoice", {"instruct": "softly"}, {**BASE, "input": "softly<|endofprompt|>hi"}),
        (
            "siliconflow",
            {"voice": "anna", "model": None, "instruct": "softly"},
            {
                **BASE,
                "input": "softly<|endofprompt|>hi",
                "model": "FunAudioLLM/CosyVoice2-0.5B",
                "voice": "FunAudioLLM/CosyVoice2-0.5B:anna",
                "sample_rate": 24000,
                "stream": False,
            },
        ),
        (
            "siliconflow",
            {"voice": CLONE, "model": None},
            {
                **BASE,
                "model": "FunAudioLLM/CosyVoice2-0.5B",
                "voice": "",
                "sample_rate": 24000,
                "stream": False,
                "references": [{"audio": URL, "text": TRANSCRIPT}],
            },
        ),
        (
            "siliconflow",
            {"voice": "speech:a:b:c"},
            {**BASE, "voice": "speech:a:b:c", "sample_rate": 24000, "stream": False},
        ),
    ],
)
def test_each_dialect_sends_its_own_fields(dialect: str, settings: dict[str, Any], wanted: dict[str, Any]) -> None:
    """No field more, none less."""
    assert asked(dialect, **{"model": "m", "voice": "v", **settings}) == wanted


@pytest.mark.parametrize(
    ("dialect", "more"),
    [
        ("", {"stream_format": "audio"}),
        ("openai", {"stream_format": "audio"}),
        ("vllm-omni", {"stream": True, "stream_format": "audio"}),
        ("xinference", {"stream": True}),
        ("triton-bridge", {}),
        ("async-cosyvoice", {"stream": True}),
        ("siliconflow", {"stream": True, "sample_rate": 24000, "voice": "m:v"}),
    ],
)
def test_each_dialect_requests_a_stream_by_its_own_fields(dialect: str, more: dict[str, Any]) -> None:
    """Both words where revisions differ in what they mean."""
    document = asked(dialect, stream=True, model="m", voice="v", format="pcm")
    assert document == {**BASE, "response_format": "pcm", **more}


def test_sglang_streams_a_clone() -> None:
    """Both words there, too; it has no voices by name."""
    document = asked("sglang-omni", stream=True, model="m", voice=CROSS, format="pcm")
    assert document == {
        **VOICELESS, "response_format": "pcm", "ref_audio": URL, "stream": True, "stream_format": "audio",
    }  # fmt: skip


def test_xinference_takes_a_recording_as_a_form() -> None:
    """All fields are parts then, the extras one string of JSON; an instruction replaces the transcript."""
    protocol = speaking("xinference")
    for voice, instruct, extras in (
        (CLONE, None, {"prompt_text": TRANSCRIPT, "seed": 3}),
        (CLONE, "softly", {"instruct_text": "softly", "seed": 3}),
        (CROSS, None, {"seed": 3}),
    ):
        settings = VoiceSettings(voice=voice, model="m", instruct=instruct, seed=3)
        request = protocol.encode([Utterance("嗨\r\n--x", settings)], key="k")
        kind = header(request, "Content-Type") or ""
        delimiter = b"\r\n--" + kind.partition("boundary=")[2].encode()
        first, *parts, last = (b"\r\n" + request.body).split(delimiter)
        assert (first, last) == (b"", b"--\r\n")
        bodies = {part.partition(b'name="')[2].partition(b'"')[0]: part.partition(b"\r\n\r\n")[2] for part in parts}
        assert json.loads(bodies.pop(b"kwargs")) == extras
        assert bodies == {
            b"input": "嗨\r\n--x".encode(),
            b"model": b"m",
            b"voice": b"",
            b"response_format": b"wav",
            b"prompt_speech": recording(),
        }
        assert len(request.body) <= protocol.weigh(Utterance("嗨\r\n--x", settings))


@pytest.mark.parametrize(
    ("dialect", "settings", "complaint"),
    [
        ("", {"model": None}, "model: protocol openai needs one"),
        ("", {"voice": CLONE}, "voice: protocol openai takes named voices, not clone; .*openai:vllm-omni"),
        ("", {"sample_rate": 16000}, "sample_rate: "),
        ("openai", {"sample_rate": 22050}, "sample_rate: "),
        ("vllm-omni", {"instruct": "softly"}, "instruct: "),
        ("vllm-omni", {"voice": CROSS}, "voice: .*transcript"),
        ("vllm-omni", {"voice": None}, "voice: .* needs one"),
        ("vllm-omni", {"sample_rate": 16000}, "sample_rate: .* 24000 Hz"),
        ("sglang-omni", {"voice": CLONE, "words": True}, "words: "),
        ("sglang-omni", {"voice": "mine"}, "voice: .* clone and cross_lingual voices, not named"),
        ("vox-box", {"speed": 1.5}, "speed: "),
        ("triton-bridge", {"format": "mp3"}, "format: .* wav and pcm"),
        ("async-cosyvoice", {"format": "opus"}, "format: "),
        ("siliconflow", {"format": "mp3"}, "sample_rate: .* serves mp3 at 44100 Hz, not 24000"),
        ("siliconflow", {"format": "opus", "sample_rate": 44100}, "sample_rate: .* serves opus at 48000 Hz"),
    ],
)
def test_settings_that_a_server_would_ignore_are_refused(
    dialect: str, settings: dict[str, Any], complaint: str
) -> None:
    """Before anything is sent, by the name of the setting."""
    with pytest.raises(BadUtterance, match=f"^{complaint}"):
        asked(dialect, **{"model": "m", "voice": "v", **settings})


def test_settings_for_whole_speeches_only_are_refused_for_streams() -> None:
    """Another speed where the model streams at its own, and words."""
    for settings in ({"speed": 1.5}, {"words": True}):
        with pytest.raises(BadUtterance, match=next(iter(settings))):
            asked("vllm-omni", stream=True, voice="v", format="pcm", **settings)
    with pytest.raises(BadUtterance, match=r"speed: .*1\.0 only"):
        asked("xinference", stream=True, model="m", voice="v", format="pcm", speed=1.5)
    assert asked("sglang-omni", stream=True, voice=CLONE, format="pcm", speed=1.5)["speed"] == 1.5


@pytest.mark.parametrize("dialect", ["vllm-omni", "sglang-omni"])
def test_several_texts_are_sent_as_items(dialect: str) -> None:
    """What they share is said once, a recording among it."""
    protocol = speaking(dialect)
    settings = VoiceSettings(model="m", voice=CLONE, speed=1.5, format="mp3")
    utterances = [Utterance(text, settings) for text in ("a", '"b"\n', "字")]
    request = protocol.encode(utterances, key="k")
    document = json.loads(request.body)
    assert request.path == "/v1/audio/speech/batch"
    assert document.pop("items") == [{"input": "a"}, {"input": '"b"\n'}, {"input": "字"}]
    assert (document["ref_audio"], document["ref_text"], document["speed"]) == (URL, TRANSCRIPT, 1.5)
    assert "input" not in document
    assert len(request.body) <= sum(map(protocol.weigh, utterances))


def test_texts_that_the_batch_route_cannot_carry_are_sent_alone() -> None:
    """It fills a request by its weight, and is refused where it is put into a batch all the same."""
    protocol = speaking("vllm-omni")
    for settings in (VoiceSettings(voice="v", seed=0), VoiceSettings(voice="v", words=True)):
        assert protocol.weigh(Utterance("a", settings)) >= WireConfig().max_request_bytes
        with pytest.raises(BadUtterance, match="one such text per request"):
            protocol.encode([Utterance("a", settings)] * 2, key="k")
    assert (
        json.loads(
            speaking("sglang-omni")
            .encode([Utterance("a", VoiceSettings(voice="v", model="m", seed=5))] * 2, key="k")
            .body
        )["seed"]
        == 5
    )
    with pytest.raises(BadUtterance):
        speaking("siliconflow").encode([Utterance("a", VoiceSettings(voice="v"))] * 2, key="k")


def test_samples_at_another_rate_are_requested_as_wav() -> None:
    """Bare samples would not show that a service did not resample; a WAV file says its rate."""
    assert asked("siliconflow", voice="v", format="pcm", sample_rate=16000)["response_format"] == "wav"
    assert asked("siliconflow", voice="v", format="pcm")["response_format"] == "pcm"
    assert asked("siliconflow", voice="v", format="pcm", sample_rate=16000, stream=True)["response_format"] == "wav"
    assert asked("vllm-omni", voice="v", format="pcm")["response_format"] == "pcm"
    assert asked("", model="m", voice="v", format="pcm", sample_rate=22050)["response_format"] == "pcm"


def test_every_dialect_has_its_name_and_capabilities() -> None:
    """An unknown one lists those there are."""
    for dialect in DIALECTS:
        name = f"openai:{dialect}" if dialect else "openai"
        protocol = protocol_for(name, WireConfig())
        assert protocol.name == name
        assert protocol.capabilities == replace(
            DIALECTS[dialect].capabilities, own_members=DIALECTS[dialect].own_members()
        )
        assert repr(protocol) == f"<OpenAISpeechProtocol {name}>"
    with pytest.raises(ConfigurationError, match="vllm-omni"):
        protocol_for("openai:klingon", WireConfig())


def test_the_list_of_voices_is_requested_where_there_is_one() -> None:
    """Each server has it elsewhere."""
    paths = {dialect: speaking(dialect).encode_voices().path for dialect in DIALECTS if DIALECTS[dialect].voices_path}
    assert paths == {
        "vllm-omni": "/v1/audio/voices",
        "vox-box": "/v1/voices",
        "siliconflow": "/v1/audio/voice/list",
    }
    assert all(bool(each.voices_path) is each.capabilities.lists_voices for each in DIALECTS.values())
    assert all(bool(each.batch_path) is (each.capabilities.batch > 1) for each in DIALECTS.values())
