"""Tasks of Model Studio over WebSocket, message by message, without a socket."""

from __future__ import annotations

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
from cosyclient.protocols.registry import protocol_for
from cosyclient.protocols.vllm_omni.ws import Session
from cosyclient.testing import ScriptedReply
from tests.protocols.wire_runtime import recording
from tests.protocols.wire_websocket import actions, event, read, received, result, word

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
        sent = read(received(made, [event(made, "task-started")])[0])
        assert len({document["header"]["task_id"] for document in [*opening, *sent]}) == 1
        ids.add(opening[0]["header"]["task_id"])
    assert len(ids) == 2


def test_text_and_its_end_are_sent_once_the_task_has_started() -> None:
    """Nothing but run-task may be sent before task-started."""
    made = task()
    assert actions(made.open()) == ["run-task"]
    send, _, done = received(made, [event(made, "task-started")])
    assert actions(send) == ["continue-task", "finish-task"]
    assert read(send)[0]["payload"] == {"input": {"text": "hello"}}
    assert read(send)[1]["payload"] == {"input": {}}
    assert not done


def test_a_finished_task_has_its_audio_in_order_and_a_reusable_connection() -> None:
    """Binary frames are one stream, whatever is said between them."""
    made = started()
    assert not made.reusable
    _, audio, done = received(
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
    send, *_ = received(made, [event(made, "task-started")])
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
    assert actions(received(made, [event(made, "task-started")])[0]) == ["continue-task", "finish-task"]


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
        ("UnknownCode", "", ServiceFault, True),
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
