"""The conversations of the protocols over WebSocket, message by message, without a socket."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

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
from cosyclient.models import Utterance, VoiceSettings, Word
from cosyclient.protocols.alibaba.model_studio_ws import (
    MAX_MESSAGE_CHARACTERS,
    MAX_TASK_CHARACTERS,
    Task,
    count_characters,
    task_error,
)
from cosyclient.protocols.base import PcmFormat, StreamingProtocol, TextInProtocol
from cosyclient.protocols.lighttts.ws import Bistream
from cosyclient.protocols.registry import check, protocol_for
from cosyclient.protocols.vllm_omni.ws import Session
from cosyclient.testing import ScriptedReply
from cosyclient.voices import Voice
from tests.protocols.wire_runtime import CLONE, TRANSCRIPT, recording
from tests.protocols.wire_websocket import actions, event, heard, read, result, word

NAMES = ("model-studio", "vllm-omni-ws", "lighttts-ws")
MODEL_STUDIO = VoiceSettings(model="cosyvoice-v3-flash", voice="longanyang")


def task(text: str | None = "hello", **options: Any) -> Task:
    """Return a task that has not begun."""
    return Task(MODEL_STUDIO.replace(options), text)


def started(text: str | None = "hello", **options: Any) -> Task:
    """Return a task that the service has begun."""
    made = task(text, **options)
    made.open()
    made.receive(event(made, "task-started"))
    return made


# --- Model Studio ---


def test_a_task_opens_with_its_parameters_only() -> None:
    """The input is there and empty; what was not asked for is the service's choice."""
    (message,) = task(format="mp3", sample_rate=22050, speed=1.5, seed=7, instruct="softly", words=True).open()
    document = json.loads(message)
    assert set(document["header"]) == {"action", "task_id", "streaming"}
    assert (document["header"]["action"], document["header"]["streaming"]) == ("run-task", "duplex")
    assert document["payload"] == {
        "task_group": "audio",
        "task": "tts",
        "function": "SpeechSynthesizer",
        "model": "cosyvoice-v3-flash",
        "input": {},
        "parameters": {
            "text_type": "PlainText",
            "voice": "longanyang",
            "format": "mp3",
            "sample_rate": 22050,
            "rate": 1.5,
            "seed": 7,
            "instruction": "softly",
            "word_timestamp_enabled": True,
        },
    }
    assert set(json.loads(task().open()[0])["payload"]["parameters"]) == {
        "text_type",
        "voice",
        "format",
        "sample_rate",
        "rate",
    }


def test_every_task_has_an_id_of_its_own_and_keeps_it() -> None:
    """Each attempt is another task; all its frames bear one id."""
    request = protocol_for("model-studio", WireConfig()).encode([Utterance("hello", MODEL_STUDIO)], key="k")
    assert request.new_session is not None
    ids = set()
    for made in (request.new_session(), request.new_session()):
        opening = read(made.open())
        sent = read(heard(made, [event(made, "task-started")])[0])
        assert len({document["header"]["task_id"] for document in [*opening, *sent]}) == 1
        ids.add(opening[0]["header"]["task_id"])
    assert len(ids) == 2


def test_text_and_its_end_are_sent_once_the_task_has_started() -> None:
    """Nothing but run-task may be sent before task-started."""
    made = task()
    assert actions(made.open()) == ["run-task"]
    send, _, done = heard(made, [event(made, "task-started")])
    assert actions(send) == ["continue-task", "finish-task"]
    assert read(send)[0]["payload"] == {"input": {"text": "hello"}}
    assert read(send)[1]["payload"] == {"input": {}}
    assert not done


def test_a_finished_task_has_its_audio_in_order_and_a_reusable_connection() -> None:
    """Binary frames are one stream, whatever is said between them."""
    made = started()
    assert not made.reusable
    _, audio, done = heard(
        made,
        [
            result(made, "sentence-begin", original_text="hello"),
            result(made, "sentence-synthesis"),
            b"one",
            result(made, "sentence-synthesis"),
            b"two",
            result(made, "sentence-end"),
            event(made, "something-new"),
            json.dumps({"header": {"event": "task-finished"}, "payload": {"usage": {"characters": 9}}}),
        ],
    )
    assert (audio, done, made.reusable, made.characters) == (b"onetwo", True, True, 9)


def test_later_text_is_sent_at_once_and_kept_before_the_start() -> None:
    """In the order in which it was said."""
    made = task(None)
    made.open()
    assert (made.send_text("a"), made.send_text("b")) == ((), ())
    send, *_ = heard(made, [event(made, "task-started")])
    assert [document["payload"]["input"] for document in read(send)] == [{"text": "a"}, {"text": "b"}]
    assert [document["payload"]["input"] for document in read(made.send_text("c"))] == [{"text": "c"}]
    assert made.writer_timeout > made.writer_idle_limit
    assert actions(made.end_text()) == ["finish-task"]
    assert (made.end_text(), made.writer_timeout) == ((), 0.0)


def test_the_end_of_the_text_is_kept_before_the_start() -> None:
    """After the text."""
    made = task(None)
    made.send_text("a")
    assert made.end_text() == ()
    assert actions(heard(made, [event(made, "task-started")])[0]) == ["continue-task", "finish-task"]


@pytest.mark.parametrize(
    ("text", "pieces"), [("a" * MAX_MESSAGE_CHARACTERS, 1), ("字" * 10_001, 2), ("a" * 20_001, 3), ("", 0)]
)
def test_long_text_is_sent_in_pieces_of_accepted_size(text: str, pieces: int) -> None:
    """A Han character counts as two."""
    made = started(None)
    sent = [document["payload"]["input"]["text"] for document in read(made.send_text(text))]
    assert "".join(sent) == text
    assert len(sent) == pieces
    assert all(count_characters(piece) <= MAX_MESSAGE_CHARACTERS for piece in sent)


def test_text_beyond_the_limit_of_a_task_is_refused() -> None:
    """Told before it is sent."""
    made = started(None)
    for _ in range(10):
        made.send_text("字" * 10_000)
    with pytest.raises(BadUtterance, match=f"{MAX_TASK_CHARACTERS}"):
        made.send_text("a")


def test_han_characters_count_twice() -> None:
    """As the service bills."""
    assert [count_characters(text) for text in ("", "abc", "你好", "你a，b", "かな", "한글", "𠀀")] == [
        0,
        3,
        4,
        5,
        2,
        2,
        2,
    ]


def test_each_word_is_collected_once_from_any_event() -> None:
    """From the events of the sentences, from the last one, or from both."""
    made = started(words=True)
    first = {"index": 0, "words": [word("你", 0, 0, 100)]}
    whole = {"index": 0, "words": [word("你", 0, 0, 110), word("好", 1, 110, 300)]}
    second = {"index": 1, "words": [word("world", 0, 300, 900)]}
    for sentence in (first, whole, second, second):
        made.receive(result(made, "sentence-synthesis", sentence=sentence))
    made.receive(event(made, "task-finished", {"output": {"sentence": second}}))
    assert made.words == (Word("你", 0.0, 0.11), Word("好", 0.11, 0.3), Word("world", 0.3, 0.9))


@pytest.mark.parametrize("words", [None, 3, [3], [{}], [{"text": "a"}], [word("a", 0, 0, 1) | {"begin_time": "x"}]])
def test_unreadable_words_are_left_out(words: Any) -> None:
    """They are an extra; the audio stands."""
    made = started(words=True)
    made.receive(result(made, "sentence-end", sentence={"index": 0, "words": words}))
    assert made.words == ()


@pytest.mark.parametrize(
    ("code", "said", "kind", "retryable"),
    [
        ("Throttling.RateQuota", "Requests rate limit exceeded, please try again later.", Throttled, True),
        ("Throttling", "", Throttled, True),
        ("Whatever", "Requests rate limit exceeded, please try again later.", Throttled, True),
        ("InvalidParameter", "[tts:]Engine return error code: 418", BadRequest, False),
        ("InvalidParameter.DataInspection", "", BadRequest, False),
        ("InvalidApiKey", "", Unauthorized, False),
        ("AccessDenied.Unpurchased", "", Forbidden, False),
        ("Model.AccessDenied", "", Forbidden, False),
        ("Arrearage", "", Forbidden, False),
        ("ModelNotFound", "", NotFound, False),
        ("InternalError", "", ServiceFault, True),
        ("InternalError.Algo", "", ServiceFault, True),
        ("NeverHeardOf", "", ServiceFault, True),
        (None, "", ServiceFault, True),
        ("CLIENT_ERROR", "request timeout after 23 seconds.", ServiceError, True),
        ("CLIENT_ERROR", "something else", BadRequest, False),
    ],
)
def test_failed_tasks_are_classified(code: str | None, said: str, kind: type[ServiceError], retryable: bool) -> None:
    """Section 8 of the protocol reference, rule 5; the task's id is the request's."""
    made = started()
    with pytest.raises(ServiceError) as caught:
        made.receive(event(made, "task-failed", error_code=code, error_message=said))
    error = caught.value
    assert type(error) is kind
    assert (error.retryable, error.throttled, error.sent) == (retryable, kind is Throttled, True)
    assert error.endpoint_fault is (kind is ServiceFault)
    assert (error.code, error.request_id) == (code, made.id)
    assert not made.reusable


def test_task_errors_have_advice_and_quote_no_text() -> None:
    """Errors are logged."""
    assert "not one of this model's generation" in str(
        task_error("InvalidParameter", "Engine return error code: 418", ())
    )
    made = started(None)
    made.send_text("the secret text")
    with pytest.raises(ServiceError, match="feed it, or finish") as caught:
        made.receive(event(made, "task-failed", error_code="CLIENT_ERROR", error_message="request timeout after 23 s"))
    assert "timeout" in str(caught.value)
    for said in ("cannot speak: the secret text", "x" * 5000, {"not": "a string"}, "line\nbreak"):
        with pytest.raises(ServiceError) as caught:
            made.receive(event(made, "task-failed", error_code="InternalError", error_message=said))
        shown = str(caught.value)
        assert "secret" not in shown
        assert len(shown) < 400
        assert "\n" not in shown
    with pytest.raises(ServiceError) as caught:
        made.receive(event(made, "task-failed", error_code="x\n" * 99, error_message=""))
    assert caught.value.code is None


@pytest.mark.parametrize(
    "message",
    ["", "<html>", "[1]", "3", "null", "{" * 100_000, "[" * 100_000],
)
def test_messages_that_are_no_events_are_errors(message: str) -> None:
    """Of the service, and worth another try."""
    with pytest.raises(DecodeError) as caught:
        started().receive(message)
    assert caught.value.retryable


@pytest.mark.parametrize("message", ["{}", '{"header":null}', '{"header":[]}', '{"header":{"event":7},"payload":5}'])
def test_unknown_events_change_nothing(message: str) -> None:
    """Newer services may say more."""
    assert started().receive(message) == ((), b"", False)


def test_events_out_of_order_are_errors() -> None:
    """Audio of another task, or an end before its time, would be taken for ours."""
    other, early, unfinished = started(), task(), started(None)
    for made, message in (
        (task(), b"audio"),
        (other, event(other, "result-generated").replace(other.id, "other")),
        (early, event(early, "task-finished")),
        (unfinished, event(unfinished, "task-finished")),
    ):
        with pytest.raises(DecodeError) as caught:
            made.receive(message)
        assert caught.value.retryable
        assert not made.reusable


def test_a_closed_connection_is_never_the_end_of_a_task() -> None:
    """A task ends with a message."""
    assert not any(started().closed(code) for code in (1000, 1001, 1006))
    assert not any(Session(VoiceSettings(voice="x"), "a").closed(code) for code in (1000, 1006))


# --- vLLM-Omni ---


def session(text: str | None = "hello", *, stream: bool = False, **options: Any) -> Session:
    """Return an utterance that has been opened."""
    made = Session(VoiceSettings(voice=CLONE).replace(options), text, stream=stream)
    made.open()
    return made


def vllm(kind: str, **members: Any) -> str:
    """Return a message of vLLM-Omni."""
    return json.dumps({"type": kind, **members})


def test_a_session_sends_its_whole_configuration() -> None:
    """Also what it does not: the conversation before may have wanted it."""
    config, text, done = read(Session(VoiceSettings(voice=CLONE, seed=7, model="m"), "hello").open())
    assert config.pop("ref_audio").startswith("data:audio/wav;base64,")
    assert config == {
        "type": "session.config",
        "model": "m",
        "voice": None,
        "ref_text": TRANSCRIPT,
        "response_format": "wav",
        "speed": 1.0,
        "seed": 7,
        "stream_audio": False,
        "split_granularity": "none",
        "word_timestamps": False,
    }
    assert (text, done) == ({"type": "input.text", "text": "hello"}, {"type": "input.done"})
    (config,) = read(Session(VoiceSettings(voice="uploaded", format="pcm"), None, stream=True).open())
    assert (config["voice"], config["ref_audio"], config["ref_text"]) == ("uploaded", None, None)
    assert (config["stream_audio"], config["split_granularity"]) == (True, "sentence")


def test_a_session_ends_after_whole_sentences_and_its_last_message() -> None:
    """Each announces how many bytes it had."""
    made = session(stream=True, format="pcm")
    _, audio, done = heard(
        made,
        [
            vllm("audio.start", format="pcm", sample_rate=24000, sentence_index=0),
            b"abcd",
            b"ef",
            vllm("audio.done", total_bytes=6, error=False),
            vllm("audio.start", format="pcm", sample_rate=24000, sentence_index=1),
            b"gh",
            vllm("audio.done", total_bytes=2, error=False),
            vllm("session.done", total_sentences=2),
        ],
    )
    assert (audio, done, made.reusable, made.sample_rate) == (b"abcdefgh", True, True, 24000)


@pytest.mark.parametrize(
    "messages",
    [
        [b"early"],
        [vllm("audio.start", format="mp3")],
        [vllm("audio.start"), b"ab", vllm("audio.done", total_bytes=3)],
        [vllm("audio.start"), vllm("audio.chunk", audio_b64="!")],
        [vllm("audio.start"), vllm("audio.chunk", audio_b64=7)],
        ["nonsense"],
        [vllm("audio.start", sample_rate=24000), vllm("audio.start", sample_rate=16000)],
    ],
)
def test_incomplete_sentences_are_errors(messages: list[str | bytes]) -> None:
    """Neither truncated nor mislabelled audio is handed on."""
    with pytest.raises(DecodeError):
        heard(session(stream=True, format="pcm"), messages)


def test_a_session_must_not_end_before_its_text() -> None:
    """Somebody else's end is not ours."""
    with pytest.raises(DecodeError):
        session(None, stream=True).receive(vllm("session.done"))


@pytest.mark.parametrize(
    ("messages", "kind", "retryable"),
    [
        ([vllm("error", message="speed must be from 0.25 to 4.0")], BadRequest, False),
        ([vllm("error", message="idle timeout")], ServiceError, True),
        ([vllm("audio.start"), vllm("error", message="boom", partial_audio=True)], ServiceFault, True),
        ([vllm("error", message="boom", partial_audio=True)], ServiceFault, True),
        ([vllm("audio.start"), vllm("audio.done", error=True)], ServiceFault, True),
        ([vllm("error")], BadRequest, False),
        ([vllm("error", message="The model `x` does not exist.")], NotFound, False),
        ([vllm("error", message="word_timestamps=true but the server was launched without")], BadRequest, False),
        ([vllm("error", message="Internal error: boom")], ServiceFault, True),
        *(
            ([vllm("audio.start"), vllm("error", message=f"Generation failed for utterance 3, sentence 12: {said}")],
             kind, kind is ServiceFault)
            for said, kind in (
                ("Unknown voice 'x'. CosyVoice3 has no built-in speakers.", BadRequest),
                ("CosyVoice3 requires 'ref_text' (transcript of the reference audio)", BadRequest),
                ("Reference audio too short (0.2s).", BadRequest),
                ("Input text cannot be empty", BadRequest),
                ("CUDA error: an illegal memory access was encountered", ServiceFault),
                # What is quoted further inside is no saying of the server's.
                ("the engine died at: Unknown voice '", ServiceFault),
            )
        ),
    ],
)  # fmt: skip
def test_errors_of_a_session_are_classified(messages: list[str], kind: type[ServiceError], retryable: bool) -> None:
    """There are no codes: before the first sound it is about the request, after it the words tell."""
    with pytest.raises(ServiceError) as caught:
        heard(session(), messages)
    assert (type(caught.value), caught.value.retryable) == (kind, retryable)


def test_timed_words_come_with_their_audio() -> None:
    """In base64, the times with the last piece; null is a failed alignment, an empty list silence."""
    made = session(words=True, stream=True)
    times = [{"word": "你", "start_ms": 0, "end_ms": 100}, {"word": 3}, "x"]
    second = base64.b64encode(b"\0\0" * 12000).decode()
    _, audio, done = heard(
        made,
        [
            vllm("audio.start", format="pcm", sample_rate=24000),
            vllm("audio.chunk", audio_b64=second),
            vllm("audio.chunk", audio_b64="", timestamps=times),
            vllm("audio.chunk", audio_b64="", timestamps=None),
            vllm("audio.done", total_bytes=24000),
            # Each sentence counts from its own beginning.
            vllm("audio.start", format="pcm", sample_rate=24000),
            vllm("audio.chunk", audio_b64="YWJj"),
            vllm("audio.chunk", audio_b64="", timestamps=times),
            vllm("audio.done", total_bytes=3),
            vllm("session.done"),
        ],
    )
    assert (len(audio), done, made.words) == (24003, True, (Word("你", 0.0, 0.1), Word("你", 0.5, 0.6)))


def test_timed_words_are_requested_with_a_stream_of_samples() -> None:
    """The service times nothing else; a file is made of them here."""
    protocol = protocol_for("vllm-omni-ws", WireConfig())
    for format in ("wav", "pcm"):
        request = protocol.encode([Utterance("a", VoiceSettings(voice=CLONE, words=True, format=format))], key="k")
        assert request.new_session is not None
        config, *_ = read(request.new_session().open())
        assert [config[name] for name in ("stream_audio", "response_format", "word_timestamps")] == [True, "pcm", True]
    for options in ({"format": "mp3"}, {"speed": 1.5}):
        settings = VoiceSettings(voice=CLONE, words=True).replace(options)
        with pytest.raises(BadUtterance, match="words: "):
            protocol.encode([Utterance("a", settings)], key="k")


def test_long_text_stays_within_a_message_of_vllm() -> None:
    """128 KiB of UTF-8."""
    made = session(None, stream=True)
    messages = made.send_text("😀" * 40_000)
    assert [len(message) <= 200_000 for message in messages] == [True, True]
    assert all(len(document["text"].encode()) <= 128 << 10 for document in read(messages))


def test_vllm_streams_at_speed_1_only() -> None:
    """Told before anything is sent."""
    protocol = protocol_for("vllm-omni-ws", WireConfig())
    assert isinstance(protocol, TextInProtocol)
    for options in ({"speed": 1.5}, {"words": True}):
        settings = VoiceSettings(voice=CLONE, format="pcm").replace(options)
        with pytest.raises(BadUtterance):
            protocol.encode_stream(Utterance("a", settings), key="k")
        with pytest.raises(BadUtterance):
            protocol.encode_duplex(settings, key="k")


# --- LightTTS ---


def test_a_bistream_begins_with_the_voice_and_ends_with_the_connection() -> None:
    """Closed in good order, after everything was said; anything else is a break."""
    made = Bistream(VoiceSettings(voice=CLONE, model="m"), "hello")
    head, wav, text, finish = read(made.open())
    assert head == {"prompt_text": TRANSCRIPT, "tts_model_name": "m"}
    assert wav == recording()
    assert (text, finish) == ({"tts_text": "hello"}, {"finish": True})
    assert heard(made, [b"ab", b"cd", "{}"]) == ([], b"abcd", False)
    assert made.closed(1000)
    assert not any(made.closed(code) for code in (1001, 1006, 1011))
    assert not made.reusable
    assert not Bistream(VoiceSettings(voice=CLONE)).closed(1000)


def test_an_error_of_a_bistream_is_a_service_error() -> None:
    """It has no codes."""
    with pytest.raises(ServiceFault, match="no such model"):
        Bistream(VoiceSettings(voice=CLONE), "hello").receive('{"error":"no such model"}')


# --- all of them ---


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_is_a_format_and_samples(name: str) -> None:
    """Cut as they came."""
    protocol = protocol_for(name, WireConfig())
    assert isinstance(protocol, StreamingProtocol)
    settings = VoiceSettings(voice=CLONE if name == "lighttts-ws" else "v", model="m", format="pcm")
    utterance = Utterance("a", settings)
    assert protocol.encode_stream(utterance, key="k").new_session is not None
    pieces = list(protocol.decode_stream(ScriptedReply(200, {}, [b"abc", b"d"]), utterance, wall=0.0))
    assert pieces == [PcmFormat(24000), b"abc", b"d"]
    with pytest.raises(Unauthorized):
        list(protocol.decode_stream(ScriptedReply(401), utterance, wall=0.0))


@pytest.mark.parametrize("name", NAMES)
def test_a_duplex_session_sends_later_text(name: str) -> None:
    """Opened without text."""
    protocol = protocol_for(name, WireConfig())
    assert isinstance(protocol, TextInProtocol)
    settings = VoiceSettings(voice=CLONE if name == "lighttts-ws" else "v", model="m", format="pcm")
    request = protocol.encode_duplex(settings, key="k")
    assert request.new_session is not None
    made = request.new_session()
    assert not any("later" in str(message) for message in made.open())
    assert made.writer_timeout > 0
    said = [*made.send_text("later"), *made.end_text()]
    if name == "model-studio":
        said = [*made.receive(event(made, "task-started")).send]
    assert "later" in str(said[0])
    assert (made.writer_timeout, made.end_text()) == (0.0, ())
    assert "text ended" in repr(made)


@pytest.mark.parametrize("name", NAMES)
def test_settings_without_a_default_are_required(name: str) -> None:
    """By its name, before anything is sent."""
    protocol = protocol_for(name, WireConfig())
    with pytest.raises(BadUtterance, match="^voice: "):
        check(protocol, VoiceSettings(model="m"))
    if name == "model-studio":
        with pytest.raises(BadUtterance, match="^model: "):
            check(protocol, VoiceSettings(voice="v"))


def test_a_wav_header_of_unknown_length_is_completed() -> None:
    """Its sizes were not known when it was sent; now they are."""
    header = recording()[:44]
    streaming = header[:4] + b"\xff" * 4 + header[8:40] + b"\xff" * 4
    samples = b"\1\2\3\4" * 500
    protocol = protocol_for("model-studio", WireConfig())
    (items,) = protocol.decode(ScriptedReply(200, {}, [streaming, samples]), [Utterance("好", MODEL_STUDIO)], wall=0.0)
    speech = items[0][1]
    assert not isinstance(speech, CosyError)
    assert speech.audio[4:8] == (36 + 2000).to_bytes(4, "little")
    assert (speech.audio[44:], speech.sample_rate) == (samples, 16000)


def test_errors_of_lighttts_are_classified_by_message_and_close_code() -> None:
    """A text too long, a model it does not serve and a recording it cannot read are the caller's."""
    settings = VoiceSettings(voice=CLONE, model="m")
    for said, kind in (
        ("Server error: The input is too long and the resulting audio will be incomplete", BadRequest),
        ("Server error: 'm'", BadRequest),
        ("Server error: 'n'", ServiceFault),
        ("Server error: CUDA error", ServiceFault),
    ):
        with pytest.raises(ServiceError) as caught:
            Bistream(settings, "hello").receive(json.dumps({"error": said}))
        assert type(caught.value) is kind, said
    with pytest.raises(BadRequest, match="recording"):
        Bistream(settings, "hello").closed(1003)
    assert Bistream(settings, "hello").closed(1011) is False


def test_lighttts_sends_the_system_prompt_for_cosyvoice3() -> None:
    """Once: a transcript that has it is left alone."""
    protocol = protocol_for("lighttts-ws:cosyvoice3", WireConfig())
    marked = f"You are a helpful assistant.<|endofprompt|>{TRANSCRIPT}"
    for transcript in (TRANSCRIPT, marked):
        voice = Voice.clone(recording(), transcript)
        request = protocol.encode([Utterance("a", VoiceSettings(voice=voice))], key="k")
        assert request.new_session is not None
        head, _, *_ = request.new_session().open()
        assert json.loads(head)["prompt_text"] == marked
