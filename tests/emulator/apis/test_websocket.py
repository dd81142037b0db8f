"""The WebSocket APIs, used by a plain WebSocket client: their rules, timers and abrupt ends."""

from __future__ import annotations

import base64
import json
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from cosyclient.emulator.speech.echo import echo_text
from tests.contracts.apis_openai import uploaded
from tests.emulator.wire import call
from tests.protocols.wire_runtime import recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from websockets.sync.client import ClientConnection

    from cosyclient.emulator import Emulator

MODEL_STUDIO = "/api-ws/v1/inference"
VLLM = "/v1/audio/speech/stream"
LIGHT = "/inference_zero_shot_bistream"
PROMPT = "data:audio/wav;base64," + base64.b64encode(recording()).decode()
RUN = {"task_group": "audio", "task": "tts", "function": "SpeechSynthesizer", "model": "cosyvoice-v3-flash"}
PLAIN = {"voice": "longanyang", "format": "pcm", "sample_rate": 16000}


@pytest.fixture
def echo(start: Callable[..., Emulator]) -> Emulator:
    """Return an emulator whose audio tells its text."""
    return start(engine="echo")


@contextmanager
def socket(emulator: Emulator, path: str = MODEL_STUDIO, **headers: str) -> Iterator[ClientConnection]:
    """Open a WebSocket."""
    url = f"{emulator.url.replace('http', 'ws')}{path}"
    with connect(url, additional_headers=headers, compression=None, proxy=None) as opened:
        yield opened


class Tasks:
    """Speak to Model Studio's face frame by frame."""

    def __init__(self, opened: ClientConnection) -> None:
        self.socket = opened
        self.task = ""

    def send(self, action: str, payload: Any) -> None:
        """Send a frame of the current task."""
        header = {"action": action, "task_id": self.task, "streaming": "duplex"}
        self.socket.send(json.dumps({"header": header, "payload": payload}))

    def run(self, payload: dict[str, Any] | None = None, **parameters: Any) -> None:
        """Begin a task."""
        self.task = uuid.uuid4().hex
        self.send("run-task", {**RUN, "parameters": {**PLAIN, **parameters}, "input": {}, **(payload or {})})

    def send_text(self, *texts: str) -> None:
        """Continue it."""
        for text in texts:
            self.send("continue-task", {"input": {"text": text}})

    def finish(self) -> None:
        """Say that this was all."""
        self.send("finish-task", {"input": {}})

    def event(self) -> tuple[str, Any]:
        """Return the next event: its name, or the type of a result, and the whole frame."""
        document = json.loads(self.socket.recv(10))
        name = document["header"]["event"]
        if name == "result-generated":
            name = document["payload"]["output"]["type"]
        return name, document

    def rest(self) -> tuple[list[str], bytes, Any]:
        """Return the names of what follows up to the end of the task, the audio, and the last frame."""
        names: list[str] = []
        audio, document = b"", None
        while not names or names[-1] not in ("task-finished", "task-failed"):
            message = self.socket.recv(10)
            if isinstance(message, bytes):
                names.append("audio")
                audio += message
            else:
                document = json.loads(message)
                name = document["header"]["event"]
                names.append(document["payload"]["output"]["type"] if name == "result-generated" else name)
        return names, audio, document


def failure(tasks: Tasks) -> tuple[str, str]:
    """Return code and message of the failure that comes, after which the service closes."""
    names, _, document = tasks.rest()
    assert names[-1] == "task-failed"
    with pytest.raises(ConnectionClosed):
        tasks.socket.recv(10)
    header = document["header"]
    assert header["task_id"] == tasks.task
    return header["error_code"], header["error_message"]


def test_every_piece_of_audio_is_announced_and_sentences_come_as_they_are_whole(echo: Emulator) -> None:
    """Exactly one binary frame per sentence-synthesis; what has no end waits for finish-task."""
    with socket(echo) as opened:
        tasks = Tasks(opened)
        tasks.run()
        assert tasks.event()[0] == "task-started"
        tasks.send_text("One. Tw")
        assert [tasks.event()[0] for _ in range(2)] == ["sentence-begin", "sentence-synthesis"]
        assert echo_text(bytes(opened.recv(10))) == "One."  # type: ignore[arg-type]
        assert tasks.event()[0] == "sentence-end"
        tasks.send_text("o. Three")
        tasks.finish()
        names, audio, last = tasks.rest()
        sentence = ["sentence-begin", "sentence-synthesis", "audio", "sentence-end"]
        assert names == [*sentence, *sentence, "task-finished"]
        assert echo_text(audio) == " Two. Three"
        assert last["payload"]["usage"]["characters"] == len("One. Two. Three")
        assert last["header"]["attributes"]["request_uuid"]


def test_a_new_task_drops_the_old_one(echo: Emulator) -> None:
    """Without a message, and the connection stays open."""
    with socket(echo) as opened:
        tasks = Tasks(opened)
        for text in ("first.", "second."):
            tasks.run()
            tasks.send_text(text)
            tasks.finish()
            assert echo_text(tasks.rest()[1]) == text
        tasks.run()
        assert tasks.event()[0] == "task-started"
        tasks.send_text("never finished")
        tasks.run()
        tasks.send_text("third.")
        tasks.finish()
        names, audio, last = tasks.rest()
        assert (names[0], echo_text(audio), last["header"]["task_id"]) == ("task-started", "third.", tasks.task)
        assert echo.counters().connections_seen == 1
        assert echo.counters().in_flight == 0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"input": {"text": "early"}}, "InvalidParameter"),
        ({"input": None}, "InvalidParameter"),
        ({"task": "asr"}, "InvalidParameter"),
        ({"model": "qwen"}, "ModelNotFound"),
        ({"parameters": None}, "InvalidParameter"),
        ({"parameters": {}}, "InvalidParameter"),
        ({"parameters": {**PLAIN, "sample_rate": 12345}}, "InvalidParameter"),
        ({"parameters": {**PLAIN, "format": "flac"}}, "InvalidParameter"),
        ({"parameters": {**PLAIN, "rate": 3}}, "InvalidParameter"),
        ({"parameters": {**PLAIN, "volume": 101}}, "InvalidParameter"),
        ({"parameters": {**PLAIN, "seed": -1}}, "InvalidParameter"),
    ],
)
def test_a_task_that_breaks_a_rule_fails_at_once(echo: Emulator, change: dict[str, Any], code: str) -> None:
    """With the codes that the service documents."""
    with socket(echo) as opened:
        tasks = Tasks(opened)
        tasks.run(change)
        assert failure(tasks)[0] == code


def test_a_voice_of_another_generation_is_error_418(echo: Emulator) -> None:
    """As the questions and answers of the demo repository say."""
    with socket(echo) as opened:
        tasks = Tasks(opened)
        tasks.run(voice="longxiaochun_v2")
        assert failure(tasks) == ("InvalidParameter", "[tts:]Engine return error code: 418")


@pytest.mark.parametrize(
    ("model", "voice", "speaks"),
    [
        ("cosyvoice-v3-flash", "nobody", False),
        ("cosyvoice-v3-flash", "longwan_v2", False),
        ("cosyvoice-v2", "longwan_v2", True),
        ("cosyvoice-v3-flash", "longsomebodynew", True),
        ("cosyvoice-v3-flash", "cosyvoice-v3-flash-mine-0123", True),
        ("cosyvoice-v3-plus", "cosyvoice-v3-flash-mine-0123", False),
        ("qwen-audio-3.0-tts-flash", "anybody", True),
    ],
)
def test_a_voice_belongs_to_its_model(echo: Emulator, model: str, voice: str, speaks: bool) -> None:
    """Of a generation, or cloned for it."""
    with socket(echo) as opened:
        tasks = Tasks(opened)
        tasks.run({"model": model}, voice=voice, text_type="PlainText")
        if not speaks:
            assert failure(tasks)[1] == "[tts:]Engine return error code: 418"
            return
        tasks.send_text("Hello.")
        tasks.finish()
        tasks.rest()
        assert echo.received()[-1]["voice"] == voice


def test_markup_comes_in_one_piece(echo: Emulator) -> None:
    """With enable_ssml only one continue-task is allowed; tags are not counted."""
    with socket(echo) as opened:
        tasks = Tasks(opened)
        tasks.run(enable_ssml=True)
        tasks.send_text("<speak>hi</speak>", "more")
        assert failure(tasks)[0] == "InvalidParameter"


def test_too_much_text_fails(echo: Emulator) -> None:
    """20,000 at once, where a Han character counts as two."""
    with socket(echo) as opened:
        tasks = Tasks(opened)
        tasks.run()
        tasks.send_text("字" * 10_001)
        assert failure(tasks)[0] == "InvalidParameter"


def test_a_task_without_text_fails(start: Callable[..., Emulator]) -> None:
    """After the idle time, which is 23 s at the service."""
    emulator = start(engine="echo", task_idle=0.2)
    with socket(emulator) as opened:
        tasks = Tasks(opened)
        tasks.run()
        tasks.send_text("Hello. ")
        assert failure(tasks) == ("CLIENT_ERROR", "request timeout after 0.2 seconds.")
    assert emulator.counters().in_flight == 0


def test_an_idle_connection_is_closed(start: Callable[..., Emulator]) -> None:
    """After the idle time, which is 60 s at the service; before its first task, too."""
    emulator = start(engine="echo", socket_idle=0.2)
    with socket(emulator, VLLM) as opened:
        configured(opened)
        assert "Idle timeout" in json.loads(opened.recv(10))["message"]
    for first in (False, True):
        with socket(emulator) as opened:
            tasks = Tasks(opened)
            if first:
                tasks.run()
                tasks.send_text("Hello.")
                tasks.finish()
                tasks.rest()
            with pytest.raises(ConnectionClosed):
                opened.recv(10)


def test_a_quota_is_counted_in_tasks(start: Callable[..., Emulator]) -> None:
    """Three at once, the next is throttled."""
    emulator = start(engine="echo", rate=0.001, burst=3)
    with socket(emulator) as opened:
        tasks = Tasks(opened)
        for _ in range(3):
            tasks.run()
            tasks.send_text("a.")
            tasks.finish()
            assert tasks.rest()[0][-1] == "task-finished"
        tasks.run()
        assert failure(tasks)[0] == "Throttling.RateQuota"


def test_an_unreadable_message_closes_the_connection(echo: Emulator) -> None:
    """With the code for invalid data."""
    for message in ("nonsense", "{}", "[]", b"\x00"):
        with socket(echo) as opened:
            opened.send(message)
            with pytest.raises(ConnectionClosed) as caught:
                opened.recv(10)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1007


def test_word_timings_come_with_each_sentence_and_at_the_end(echo: Emulator) -> None:
    """Their times go on from sentence to sentence."""
    with socket(echo) as opened:
        tasks = Tasks(opened)
        tasks.run(word_timestamp_enabled=True)
        tasks.send_text("你好 world. Again.")
        tasks.finish()
        words = tasks.rest()[2]["payload"]["output"]["sentence"]["words"]
        assert [word["text"] for word in words] == ["你", "好", "world", "Again"]
        times = [word[name] for word in words for name in ("begin_time", "end_time")]
        assert times == sorted(times)


@pytest.mark.parametrize("path", [MODEL_STUDIO, VLLM, LIGHT])
def test_the_key_is_checked_in_the_handshake(start: Callable[..., Emulator], path: str) -> None:
    """And only there; a fault can refuse it, too, and none of the requests' faults is used up."""
    emulator = start(engine="echo", api_key="s3cret")
    with pytest.raises(InvalidStatus) as caught, socket(emulator, path):
        pass
    assert caught.value.response.status_code == 401
    emulator.inject("reject_handshake", status=403)
    with pytest.raises(InvalidStatus) as caught, socket(emulator, path, Authorization="bearer s3cret"):
        pass
    assert caught.value.response.status_code == 403
    with socket(emulator, path, Authorization="bearer s3cret"):
        assert emulator.counters().connections_open == 1
    assert emulator.counters().replies == {401: 1, 403: 1}


def test_a_connection_beyond_the_limit_is_refused(start: Callable[..., Emulator]) -> None:
    """A WebSocket counts as a connection."""
    emulator = start(engine="echo", connections=1)
    with socket(emulator):
        with pytest.raises(InvalidStatus) as caught, socket(emulator):
            pass
        assert caught.value.response.status_code == 429


@pytest.mark.parametrize("path", [MODEL_STUDIO, VLLM, LIGHT])
def test_plain_http_is_refused_with_426(echo: Emulator, path: str) -> None:
    """The reply names the extra that the emulator may lack."""
    answer = call(echo.url, "GET", path)
    assert answer.status == 426
    assert "WebSocket" in answer.json()["detail"]


# --- vLLM-Omni ---


def utterance(opened: ClientConnection, text: str) -> list[Any]:
    """Return what comes for *text*: documents, and audio."""
    opened.send(json.dumps({"type": "input.text", "text": text}))
    opened.send(json.dumps({"type": "input.done"}))
    received: list[Any] = []
    while not received or received[-1].get("type") != "session.done":
        message = opened.recv(10)
        received.append({"type": "audio", "audio": message} if isinstance(message, bytes) else json.loads(message))
    return received


def configured(opened: ClientConnection, **config: Any) -> None:
    """Send a configuration, of a clone unless it says otherwise."""
    opened.send(json.dumps({"type": "session.config", "ref_audio": PROMPT, "ref_text": "said", **config}))


def kinds(received: list[Any]) -> str:
    """Return the kinds of messages, shortened."""
    return " ".join(each["type"].removeprefix("audio.").removeprefix("session.") for each in received)


def test_vllm_closes_after_an_error_only_before_its_configuration(echo: Emulator) -> None:
    """A later error is a message, and the connection stays open."""
    with socket(echo, VLLM) as opened:
        configured(opened, speed=9)
        assert "speed" in json.loads(opened.recv(10))["message"]
        with pytest.raises(ConnectionClosed):
            opened.recv(10)
    with socket(echo, VLLM) as opened:
        configured(opened, response_format="pcm", split_granularity="sentence")
        for message in ("nonsense", '{"type":"x"}', '{"type":"input.text"}'):
            opened.send(message)
            assert json.loads(opened.recv(10))["type"] == "error"
        received = utterance(opened, "One. Two")
        assert kinds(received).replace("audio ", "") == "start done start done done"
        assert echo_text(b"".join(each["audio"] for each in received if "audio" in each)) == "One.Two"
        opened.send(json.dumps({"type": "session.close"}))
        with pytest.raises(ConnectionClosed):
            opened.recv(10)


@pytest.mark.parametrize(
    "config",
    [
        {"response_format": "aac"},
        {"split_granularity": "word"},
        {"stream_audio": True},
        {"stream_audio": True, "response_format": "pcm", "speed": 1.5},
        {"model": 7},
    ],
)
def test_a_configuration_that_breaks_a_rule_is_refused(echo: Emulator, config: dict[str, Any]) -> None:
    """As the server's own checks do."""
    with socket(echo, VLLM) as opened:
        configured(opened, **config)
        assert json.loads(opened.recv(10))["message"].startswith("Invalid session config: ")


def test_a_model_it_does_not_serve_is_refused_with_the_configuration(start: Callable[..., Emulator]) -> None:
    """With the message that vLLM has for it everywhere."""
    with socket(start(engine="echo", dialect="vllm-omni"), VLLM) as opened:
        configured(opened, model="x")
        assert "The model `x` does not exist." in json.loads(opened.recv(10))["message"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"voice": "nobody", "ref_audio": None}, "Unknown voice 'nobody'."),
        ({"voice": "default", "ref_audio": None}, "Unknown voice 'default'."),
        ({"ref_audio": None}, "CosyVoice3 requires 'ref_audio'"),
        ({"ref_text": None}, "CosyVoice3 requires 'ref_text'"),
        ({"ref_audio": "AAAA"}, "ref_audio must be a URL"),
        ({"ref_audio": "https://example.com/a.wav"}, "Error opening"),
        ({"ref_audio": "data:audio/wav;base64,!"}, "Error opening"),
    ],
)
def test_vllm_fails_each_sentence_that_it_cannot_render(echo: Emulator, config: Any, message: str) -> None:
    """After its audio.start, and the connection stays open."""
    with socket(echo, VLLM) as opened:
        configured(opened, **config)
        received = utterance(opened, "Hi")
        assert kinds(received) == "start error done done"
        assert received[1]["message"].startswith(f"Generation failed for utterance 0, sentence 0: {message}")
        assert (received[2]["error"], received[2]["total_bytes"]) == (True, 0)
        configured(opened)
        assert kinds(utterance(opened, "Hi")) == "start audio done done"


def test_vllm_sends_a_rate_only_while_it_streams(echo: Emulator) -> None:
    """And ignores a requested one."""
    with socket(echo, VLLM) as opened:
        configured(opened, sample_rate=8000)
        first, audio, *_ = utterance(opened, "Hi")
        assert set(first) == {"type", "utterance_index", "sentence_index", "sentence_text", "format"}
        assert int.from_bytes(audio["audio"][24:28], "little") == 24000
        configured(opened, stream_audio=True, response_format="pcm", sample_rate=8000)
        first, *_ = utterance(opened, "Hi")
        assert first["sample_rate"] == 24000
        assert "channels" not in first


def test_vllm_sends_word_timings_after_the_samples(start: Callable[..., Emulator]) -> None:
    """In documents, and only where there is an aligner and a stream."""
    with socket(start(engine="echo", aligner=True), VLLM) as opened:
        configured(opened, stream_audio=True, response_format="pcm", word_timestamps=True)
        begin, *chunks, last, end, _ = utterance(opened, "hello 你好")
        assert begin["word_timestamps"] is True
        audio = b"".join(base64.b64decode(each["audio_b64"]) for each in chunks)
        assert echo_text(audio) == "hello 你好"
        assert [each["chunk_id"] for each in [*chunks, last]] == list(range(len(chunks) + 1))
        assert end["total_bytes"] == len(audio)
        assert all(each["timestamps"] is None for each in chunks)
        assert [word["word"] for word in last["timestamps"]] == ["hello", "你", "好"]
        configured(opened, word_timestamps=True)
        assert kinds(utterance(opened, "hello")) == "error done"
    with socket(start(engine="echo", aligner=False), VLLM) as opened:
        configured(opened, stream_audio=True, response_format="pcm", word_timestamps=True)
        received = utterance(opened, "hello")
        assert kinds(received) == "error done"
        assert "--forced-aligner" in received[0]["message"]


@pytest.mark.parametrize(
    ("split", "text", "pieces"),
    [
        ("none", "One. Two！Three", ["One. Two！Three"]),
        ("sentence", "3.14 is pi. Wait... no！Yes, sir. end", ["3.14 is pi.", "Wait...", "no！", "Yes, sir.", "end"]),
        ("clause", "Yes, sir，1,000 times; end", ["Yes,", "sir，", "1,000 times;", "end"]),
    ],
)
def test_vllm_splits_as_configured(echo: Emulator, split: str, text: str, pieces: list[str]) -> None:
    """Not at all, at sentences or at clauses; short ones are not joined."""
    with socket(echo, VLLM) as opened:
        configured(opened, split_granularity=split)
        received = utterance(opened, text)
        assert [each["sentence_text"] for each in received if each["type"] == "audio.start"] == pieces


def test_an_uploaded_voice_works_over_http_and_websocket(start: Callable[..., Emulator]) -> None:
    """They share the uploads."""
    emulator = start(engine="echo", dialect="vllm-omni")
    uploaded(emulator)
    with socket(emulator, VLLM) as opened:
        configured(opened, voice="mine", ref_audio=None)
        assert kinds(utterance(opened, "Hi")) == "start audio done done"


def test_the_older_vllm_always_splits(start: Callable[..., Emulator]) -> None:
    """And ignores a seed and word timings."""
    emulator = start(engine="echo", dialect_old=True)
    with socket(emulator, VLLM) as opened:
        configured(opened, split_granularity="none")
        assert "split_granularity" in json.loads(opened.recv(10))["message"]
    with socket(emulator, VLLM) as opened:
        configured(opened, stream_audio=True, response_format="pcm", word_timestamps=True, seed=7)
        assert kinds(utterance(opened, "Hi")).replace("audio ", "") == "start done done"
        assert emulator.received()[-1]["seed"] is None


# --- LightTTS ---


def test_lighttts_takes_the_voice_first_and_closes_at_the_end(echo: Emulator) -> None:
    """A message it cannot read is an error."""
    with socket(echo, LIGHT) as opened:
        opened.send('{"prompt_text":"said"}')
        opened.send(recording())
        opened.send('{"tts_text":"Hello"}')
        opened.send('{"finish":true}')
        assert echo_text(bytes(opened.recv(10))) == "Hello"  # type: ignore[arg-type]
        with pytest.raises(ConnectionClosed) as caught:
            opened.recv(10)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1000
    with socket(echo, LIGHT) as opened:
        opened.send(b"no head")
        opened.send(b"RIFF")
        assert "error" in json.loads(opened.recv(10))
    with socket(echo, LIGHT) as opened:
        opened.send('{"prompt_text":"said"}')
        opened.send(b"RIFF")
        with pytest.raises(ConnectionClosed) as caught:
            opened.recv(10)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1003
    with socket(echo, LIGHT) as opened:
        opened.send('{"prompt_text":"said","tts_model_name":"nobody"}')
        opened.send(recording())
        opened.send('{"tts_text":"Hello."}')
        opened.send('{"finish":true}')
        assert json.loads(opened.recv(10)) == {"error": "Server error: 'nobody'"}
