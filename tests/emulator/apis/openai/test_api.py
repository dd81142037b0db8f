"""The servers called OpenAI-compatible, as a client's socket sees them: each with its own rules, errors and defects."""

from __future__ import annotations

import base64
import json
import struct
from http.client import IncompleteRead
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient.emulator import echo_text
from cosyclient.protocols.codecs.sse import decode_events
from tests.contracts.apis_openai import at
from tests.emulator.wire import Answer, call
from tests.protocols.wire_runtime import TRANSCRIPT, recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.emulator import Emulator

    Start = Callable[..., Emulator]

SPEECH = "/v1/audio/speech"
PROMPT = "data:audio/wav;base64," + base64.b64encode(recording()).decode()
CLONE = {"ref_audio": PROMPT, "ref_text": TRANSCRIPT}
MODEL = "cosyvoice2"


def speech(emulator: Emulator, text: str = "hi", path: str = SPEECH, **fields: Any) -> Answer:
    """Ask for a text."""
    body = json.dumps({"input": text, **fields}).encode()
    return call(emulator.url, "POST", path, body, {"Content-Type": "application/json"})


def form(emulator: Emulator, path: str, fields: dict[str, str], file: str) -> Answer:
    """Send a form with the recording in it."""
    parts = [f'--x\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}'.encode() for k, v in fields.items()]
    head = f'--x\r\nContent-Disposition: form-data; name="{file}"; filename="a.wav"\r\n\r\n'
    body = b"\r\n".join([*parts, head.encode() + recording(), b"--x--\r\n"])
    return call(emulator.url, "POST", path, body, {"Content-Type": "multipart/form-data; boundary=x"})


@pytest.mark.parametrize(
    ("dialect", "path", "fields", "status", "document"),
    [
        ("openai", SPEECH, {"model": "tts-1", "voice": "alloy", "seed": 1}, 400,
         {"error": {"message": "Unknown parameter: 'seed'.", "type": "invalid_request_error", "param": "seed",
                    "code": None}}),
        ("openai", SPEECH, {"model": "tts-1", "voice": "marin", "stream_format": "sse"}, 400, None),
        ("openai", SPEECH, {"model": "gpt-9", "voice": "alloy"}, 404,
         {"error": {"message": "The model `gpt-9` does not exist.", "type": "invalid_request_error", "param": "model",
                    "code": "model_not_found"}}),
        ("vllm-omni", SPEECH, {"voice": "nobody"}, 400,
         {"error": {"message": "Unknown voice 'nobody'. CosyVoice3 has no built-in speakers. Upload a voice first via "
                               "POST /v1/audio/voices, or use ref_audio + ref_text.",
                    "type": "BadRequestError", "param": None, "code": 400}}),
        ("vllm-omni", SPEECH, {"voice": "default"}, 400,
         {"error": {"message": "CosyVoice3 requires 'ref_audio' (reference audio for voice cloning)",
                    "type": "BadRequestError", "param": None, "code": 400}}),
        ("vllm-omni", SPEECH, {"ref_audio": PROMPT}, 400,
         {"error": {"message": "CosyVoice3 requires 'ref_text' (transcript of the reference audio)",
                    "type": "BadRequestError", "param": None, "code": 400}}),
        ("vllm-omni", SPEECH, {"ref_audio": PROMPT, "ref_text": "t", "sample_rate": 24000}, 400,
         {"error": {"message": "sample_rate is not supported by the current TTS model",
                    "type": "BadRequestError", "param": None, "code": 400}}),
        ("vllm-omni", SPEECH, {"model": "x"}, 404,
         {"error": {"message": "The model `x` does not exist.", "type": "NotFoundError", "param": "model",
                    "code": 404}}),
        ("sglang-omni", SPEECH, {"voice": "nobody", "model": "any at all"}, 400,
         {"error": {"message": "exactly one speech reference is required", "type": "BadRequestError",
                    "param": "ref_audio", "code": 400}}),
        ("sglang-omni", SPEECH, {"seed": -1, **CLONE}, 400, None),
        ("sglang-omni", SPEECH, {"voice": "default", "model": MODEL, "instructions": "softly", **CLONE}, 400, None),
        ("xinference", SPEECH, {"model": "x"}, 404, {"detail": "Model not found in the model list, uid: x"}),
        ("xinference", SPEECH, {"model": MODEL, "voice": "nobody"}, 500, None),
        ("xinference", SPEECH, {"model": "CosyVoice-300M-SFT", "kwargs": '{"instruct_text":"softly"}'}, 500,
         {"detail": "[address=127.0.0.1:41817, pid=4711] CosyVoice SFT model does not support instruct_text"}),
        ("vox-box", SPEECH, {"model": "any at all", "voice": "nobody"}, 200,
         {"status_code": 500, "detail": "Failed to generate speech, Voice nobody not supported", "headers": None}),
        ("vox-box", SPEECH, {"model": MODEL, "voice": "Korean Female", "response_format": "midi"}, 200,
         {"status_code": 400, "detail": "Unsupported audio format: midi", "headers": None}),
        ("async-cosyvoice", SPEECH, {"voice": "中文女", "speed": 9.0}, 422, None),
        ("vox-box", SPEECH, {"model": MODEL}, 422, None),
        ("triton-bridge", "/audio/speech", {"model": MODEL, "voice": "nobody"}, 400,
         {"detail": "Voice 'nobody' not found."}),
        ("siliconflow", SPEECH, {"model": "FunAudioLLM/CosyVoice2-0.5B", "response_format": "mp3", "sample_rate": 24000,
                                 "voice": "FunAudioLLM/CosyVoice2-0.5B:alex"}, 400, None),
        ("siliconflow", SPEECH, {"model": "FunAudioLLM/CosyVoice2-0.5B"}, 400,
         {"code": 20012, "message": "voice or references is required", "data": None}),
    ],
)  # fmt: skip
def test_each_server_refuses_in_its_own_form(
    start: Start, dialect: str, path: str, fields: dict[str, Any], status: int, document: Any
) -> None:
    """Envelope, status and what it finds wrong."""
    answer = speech(at(start, dialect), path=path, **fields)
    assert (answer.status, answer.media_type) == (status, "application/json")
    assert document is None or answer.json() == document


def test_a_dialect_has_only_the_paths_of_its_server(start: Start) -> None:
    """A wrong address is noticed here and not in production."""
    assert speech(at(start, "triton-bridge"), model=MODEL, voice="default").status == 404
    assert speech(at(start, "openai"), path=f"{SPEECH}/batch").status == 404
    assert call(at(start, "xinference").url, "GET", "/v1/audio/voices").status == 404
    assert call(at(start, "vllm-omni").url, "GET", SPEECH).status == 405


@pytest.mark.parametrize(
    ("dialect", "fields", "media_type"),
    [
        ("any", {"response_format": "pcm"}, "audio/pcm"),
        ("openai", {"response_format": "pcm", "model": "tts-1", "voice": "nova"}, "application/octet-stream"),
        ("openai", {"model": "tts-1", "voice": "nova"}, "audio/mpeg"),
        ("xinference", {"model": "CosyVoice2-0.5B"}, "audio/mpeg"),
        ("sglang-omni", {**CLONE, "response_format": "opus"}, "audio/opus"),
        ("vox-box", {"model": MODEL, "voice": "Korean Female", "response_format": "opus"}, "audio/ogg;codec=opus"),
        ("vox-box", {"model": MODEL, "voice": "Korean Female"}, "audio/mpeg"),
        ("async-cosyvoice", {"voice": "中文女", "response_format": "pcm"}, "audio/L16;rate=24000;channels=1"),
    ],
)
def test_labels_and_defaults_differ(start: Start, dialect: str, fields: dict[str, Any], media_type: str) -> None:
    """What a file is called, and what comes unasked."""
    answer = speech(start(dialect=dialect), **fields)
    assert (answer.status, answer.headers["content-type"]) == (200, media_type)


def test_defects_are_options(start: Start) -> None:
    """Unknown sizes, and a rate from the settings."""
    unsized = speech(at(start, "openai"), model="tts-1", voice="nova", response_format="wav").body
    assert (unsized[4:8], unsized[40:44]) == (b"\xff" * 4, b"\xff" * 4)
    bridge = at(start, "triton-bridge", dialect_label=16000)
    pcm = speech(bridge, path="/audio/speech", model=MODEL, voice="default")
    assert pcm.headers["content-type"] == "audio/L16;rate=16000;channels=1"
    file = speech(bridge, path="/audio/speech", model=MODEL, voice="default", response_format="wav").body
    assert struct.unpack_from("<II", file, 24) == (16000, 32000)
    assert file[44:] == pcm.body


def test_xinference_streams_at_its_own_speed_and_packs_its_extras(start: Start) -> None:
    """A JSON string in JSON, or in a form with the recording; before its version 4 it ignored the speed always."""
    emulator = at(start, "xinference")
    speech(
        emulator, model=MODEL, voice="", response_format="wav", speed=2.0, kwargs='{"instruct_text":"softly","seed":9}'
    )
    fields = {"input": "hi", "model": MODEL, "voice": "", "response_format": "wav", "speed": "2.0"}
    answer = form(emulator, SPEECH, {**fields, "kwargs": json.dumps({"prompt_text": "t"})}, "prompt_speech")
    assert echo_text(answer.body) == "hi"
    plain, cloned = emulator.received()
    assert (plain["mode"], plain["instruct"], plain["seed"], plain["speed"]) == ("instruct", "softly", 9, 2.0)
    for server, streamed in ((emulator, True), (at(start, "xinference", dialect_old=True), False)):
        speech(server, model=MODEL, response_format="wav", speed=2.0, stream=streamed)
        assert server.received()[-1]["speed"] == 1.0
    assert (cloned["mode"], cloned["prompt_text"], cloned["prompt_bytes"]) == ("zero_shot", "t", len(recording()))
    assert speech(emulator, model=MODEL, voice="", kwargs="{").status == 500
    assert speech(emulator, "。。。", model=MODEL).status == 500
    unread = speech(emulator)
    assert (unread.status, unread.media_type) == (500, "text/plain")
    assert b"validation error for SpeechRequest" in unread.body


def test_async_cosyvoice_ends_after_its_head_for_an_unknown_voice(start: Start) -> None:
    """The head was sent before the voice was looked up."""
    with pytest.raises(IncompleteRead):
        speech(at(start, "async-cosyvoice"), voice="nobody")


@pytest.mark.parametrize(
    ("old", "fields", "media_type"),
    [
        (False, {"stream": True}, "text/event-stream"),
        (False, {"stream_format": "sse"}, "text/event-stream"),
        (False, {"stream": True, "stream_format": "audio"}, "audio/wav"),
        (False, {"stream_format": "audio", "response_format": "pcm"}, "audio/pcm"),
        (True, {"stream": True, "response_format": "pcm"}, "audio/pcm"),
        (True, {"stream_format": "sse"}, "audio/wav"),
    ],
)
def test_what_stream_means_depends_on_the_revision(
    start: Start, old: bool, fields: dict[str, Any], media_type: str
) -> None:
    """vLLM-Omni's, before and after."""
    emulator = at(start, "vllm-omni", dialect_old=old)
    answer = speech(emulator, **CLONE, **fields)
    assert (answer.status, answer.media_type) == (200, media_type)
    if media_type != "text/event-stream":
        assert echo_text(answer.body) == "hi"
        return
    found = list(decode_events([answer.body]))
    assert {event.name for event in found[:-1]} == {"speech.audio.delta"}
    assert all(json.loads(event.data)["type"] == event.name for event in found)
    assert echo_text(b"".join(base64.b64decode(json.loads(event.data)["audio"]) for event in found[:-1])) == "hi"
    assert set(json.loads(found[-1].data)["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}


def test_streams_have_conditions(start: Start) -> None:
    """vLLM-Omni's own speed and formats; SGLang-Omni streams samples only."""
    for fields in ({"response_format": "mp3"}, {"speed": 1.5}, {"word_timestamps": True}):
        assert speech(at(start, "vllm-omni"), stream=True, **CLONE, **fields).status == 400
    sglang = at(start, "sglang-omni")
    assert speech(sglang, model=MODEL, voice="default", stream=True, **CLONE).status == 400
    answer = speech(sglang, model=MODEL, voice="default", stream=True, response_format="pcm", speed=1.5, **CLONE)
    assert answer.media_type == "audio/pcm"
    assert {name: answer.headers[name] for name in ("x-sample-rate", "x-channels", "x-bit-depth")} == {
        "x-sample-rate": "24000", "x-channels": "1", "x-bit-depth": "16",
    }  # fmt: skip


def test_sglangs_events_have_no_names(start: Start) -> None:
    """OpenAI's kinds in bare lines, and an error of their own."""
    emulator = at(start, "sglang-omni")
    asked = {"stream_format": "sse", "response_format": "pcm", **CLONE}
    assert speech(emulator, stream_format="sse", **CLONE).status == 400
    answer = speech(emulator, **asked)
    assert (answer.media_type, answer.headers["x-sample-rate"]) == ("text/event-stream", "24000")
    found = list(decode_events([answer.body]))
    assert {event.name for event in found} == {"message"}
    *deltas, done = [json.loads(event.data) for event in found]
    assert echo_text(b"".join(base64.b64decode(each["audio"]) for each in deltas)) == "hi"
    assert (done["type"], done["finish_reason"]) == ("speech.audio.done", "stop")
    emulator.inject("error_event", after=1)
    last = json.loads(list(decode_events([speech(emulator, **asked).body]))[-1].data)
    assert (last["type"], last["error"]["type"]) == ("error", "server_error")


def test_sglangs_older_events_end_with_done(start: Start) -> None:
    """Chunks of their own kind."""
    emulator = at(start, "sglang-omni", dialect_old=True)
    answer = speech(emulator, model=MODEL, voice="default", stream=True, response_format="pcm", **CLONE)
    *chunks, last, done = list(decode_events([answer.body]))
    assert done.data == "[DONE]"
    assert json.loads(last.data)["finish_reason"] == "stop"
    found = [json.loads(each.data) for each in chunks]
    assert [each["index"] for each in found] == list(range(len(found)))
    assert len(found) > 1
    assert echo_text(b"".join(base64.b64decode(each["audio"]["data"]) for each in found)) == "hi"


@pytest.mark.parametrize(
    ("switches", "fields", "last"),
    [
        ({"dialect": "vllm-omni"}, {"stream": True}, "speech.audio.error"),
        ({"dialect": "sglang-omni", "dialect_old": True}, {"stream": True, "response_format": "pcm"}, "message"),
    ],
)
def test_a_fault_within_a_stream_is_an_event(
    start: Start, switches: dict[str, Any], fields: dict[str, Any], last: str
) -> None:
    """After 200, and instead of the end."""
    emulator = at(start, **switches)
    emulator.inject("error_event", after=1)
    answer = speech(emulator, model=MODEL, voice="default", **CLONE, **fields)
    found = list(decode_events([answer.body]))
    assert (answer.status, found[-1].name) == (200, last)
    assert "error" in json.loads(found[-1].data)
    # vLLM-Omni's first piece is the header of its WAV.
    assert len(found) == 2 + (last == "speech.audio.error")


def test_word_timings_are_in_a_header_unless_it_is_too_long(start: Start) -> None:
    """Or there is no aligner."""
    emulator = at(start, "vllm-omni")
    answer = speech(emulator, "hello 你好", word_timestamps=True, **CLONE)
    words = json.loads(answer.headers["x-word-timestamps"])
    assert [word["word"] for word in words] == ["hello", "你", "好"]
    assert words[0]["start_ms"] == 0
    assert [word["end_ms"] for word in words[:-1]] == [word["start_ms"] for word in words[1:]]
    many = speech(emulator, "字" * 200, word_timestamps=True, **CLONE)
    assert "x-word-timestamps" not in many.headers
    assert "x-word-timestamps-omitted" in many.headers
    assert speech(at(start, "vllm-omni", aligner=False), word_timestamps=True, **CLONE).status == 400


def test_limits_have_each_servers_form(start: Start) -> None:
    """Xinference names no time for its 429, Vox-Box has none to begin with."""
    for dialect, fields, named in (
        ("openai", {"model": "tts-1", "voice": "nova"}, "1"),
        ("xinference", {"model": MODEL, "voice": ""}, None),
        ("vox-box", {"model": MODEL, "voice": "Korean Female"}, "1"),
    ):
        emulator = at(start, dialect)
        emulator.inject("throttle")
        answer = speech(emulator, **fields)
        assert (answer.status, answer.headers.get("retry-after")) == (429, named), dialect
    keyed = at(start, "vllm-omni", api_key="k")
    assert speech(keyed, **CLONE).json() == {"error": "Unauthorized"}


def test_recordings_are_checked(start: Start) -> None:
    """Nothing is fetched, and 1 to 30 s are asked for."""
    emulator = at(start, "vllm-omni")
    short = "data:audio/wav;base64," + base64.b64encode(recording(0.5)).decode()
    bare = PROMPT.partition(",")[2]
    for source in ("https://example.com/a.wav", "file:///etc/passwd", "data:audio/wav;base64,####", short, 7, bare):
        answer = speech(emulator, ref_audio=source, ref_text="t")
        assert (answer.status, answer.json()["error"]["type"]) == (400, "BadRequestError"), source
    two = [{"audio_path": PROMPT, "text": "t"}] * 2
    assert [speech(emulator, references=two[:count]).status for count in (1, 2)] == [200, 400]


def test_tokens_are_counted_in_headers(start: Start) -> None:
    """As vLLM-Omni does for whole files."""
    headers = speech(at(start, "vllm-omni"), "hello", **CLONE).headers
    assert headers["x-vllm-omni-input-tokens"] == headers["x-vllm-omni-input-text-tokens"] == "5"
    assert int(headers["x-vllm-omni-total-tokens"]) == 5 + int(headers["x-vllm-omni-output-tokens"])


def test_before_0_30_vllm_answers_its_own_failures_with_400(start: Start) -> None:
    """And ignores the rate and the words that it is asked for."""
    emulator = at(start, "vllm-omni", dialect_old=True)
    emulator.inject("error", status=500)
    answer = speech(emulator, **CLONE)
    assert answer.status == 400
    assert answer.json()["error"]["message"] == "Speech generation failed: a fault was asked for"
    ignored = speech(emulator, sample_rate=16000, word_timestamps=True, **CLONE)
    assert (ignored.status, int.from_bytes(ignored.body[24:28], "little")) == (200, 24000)
    assert not any("word" in name for name in ignored.headers)
