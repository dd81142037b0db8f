"""The forms of a batch reply, and how one is chosen."""

from __future__ import annotations

import base64
import gzip
import time
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient.emulator import echo_text
from tests.emulator.apis.batch.test_request import assert_problem
from tests.emulator.wire import FRAMES, open_socket, parse_frames, post, raw_request

if TYPE_CHECKING:
    from cosyclient.emulator import Emulator

TEXTS = ["你好，世界", "hello", "第三句话。"]


def test_json_lists_every_item_in_order(start: Any) -> None:
    """The object carries what the definition names, and each audio belongs to its text."""
    reply = post(start(engine="echo").url, {"texts": TEXTS}).json()
    results = reply.pop("results")
    assert reply.pop("id")
    assert reply == {
        "model": "cosyvoice2-0.5b",
        "format": "wav",
        "sample_rate": 24000,
        "total": 3,
        "succeeded": 3,
        "failed": 0,
    }
    assert [item["index"] for item in results] == [0, 1, 2]
    assert [echo_text(base64.b64decode(item["audio_data"], validate=True)) for item in results] == TEXTS
    for item, text in zip(results, TEXTS, strict=True):
        assert set(item) == {"index", "status", "audio_data", "media_type", "duration_ms", "characters"}
        assert (item["status"], item["media_type"], item["characters"]) == ("success", "audio/wav", len(text))
        assert item["duration_ms"] in (100, 200)


def test_json_shows_which_items_failed(emulator: Emulator) -> None:
    """A failed item has an error object and the counts include it."""
    emulator.inject("failed_items", indices=[1], code="text_too_long", retryable=False)
    reply = post(emulator.url, {"texts": TEXTS}).json()
    assert (reply["total"], reply["succeeded"], reply["failed"]) == (3, 2, 1)
    assert [item["status"] for item in reply["results"]] == ["success", "error", "success"]
    error = reply["results"][1]["error"]
    assert set(error) == {"code", "detail", "retryable", "retry_after_ms"}
    assert (error["code"], error["retryable"], error["retry_after_ms"]) == ("text_too_long", False, None)


def test_frames_carry_the_same(start: Any) -> None:
    """Head, items and end, each audio with its text."""
    answer = post(start(engine="echo").url, {"texts": TEXTS}, accept=FRAMES)
    assert answer.headers["content-type"] == FRAMES
    assert int(answer.headers["content-length"]) == len(answer.body)
    frames = parse_frames(answer.body)
    assert frames.head.pop("id")
    assert frames.head == {
        "kind": "batch",
        "model": "cosyvoice2-0.5b",
        "format": "wav",
        "sample_rate": 24000,
        "total": 3,
    }
    assert {index: echo_text(audio) for index, audio in frames.audio.items()} == dict(enumerate(TEXTS))
    assert frames.items[1] == {
        "kind": "item",
        "index": 1,
        "status": "success",
        "media_type": "audio/wav",
        "duration_ms": 100,
    }
    assert frames.end == {"kind": "end", "succeeded": 3, "failed": 0}


def test_frames_show_which_items_failed(emulator: Emulator) -> None:
    """A failed item has no payload."""
    emulator.inject("failed_items", indices=[0, 2], retry_after_ms=250)
    frames = parse_frames(post(emulator.url, {"texts": TEXTS}, accept=FRAMES).body)
    assert frames.items[0]["error"]["retry_after_ms"] == 250
    assert set(frames.audio) == {1}
    assert frames.end == {"kind": "end", "succeeded": 1, "failed": 2}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/json", "application/json"),
        (FRAMES, "application/vnd.cosyvoice.batch-frames"),
        ("application/vnd.cosyvoice.batch-frames", "application/vnd.cosyvoice.batch-frames"),
        (f"{FRAMES}, application/json", "application/vnd.cosyvoice.batch-frames"),
        (f"{FRAMES}, application/json;q=0.5", "application/vnd.cosyvoice.batch-frames"),
        (f"{FRAMES};q=0.5, application/json", "application/json"),
        (f"{FRAMES};q=0, */*", "application/json"),
        ("application/vnd.cosyvoice.batch-frames;v=2, application/json;q=0.1", "application/json"),
    ],
)
def test_accept_chooses_the_reply(emulator: Emulator, accept: str, media_type: str) -> None:
    """Frames for clients that name them, JSON for the others."""
    headers = {"accept": accept} if accept else {}
    assert post(emulator.url, {"texts": ["a"]}, **headers).media_type == media_type


@pytest.mark.parametrize(
    "accept",
    ["text/html", "application/json;q=0", "application/vnd.cosyvoice.batch-frames;v=2", "application/json;q=0, */*"],
)
def test_nothing_acceptable_is_406(emulator: Emulator, accept: str) -> None:
    """A client that accepts neither is refused."""
    assert_problem(post(emulator.url, {"texts": ["a"]}, accept=accept), 406, "not_acceptable")


def test_a_service_without_frames_answers_json_or_406(start: Any) -> None:
    """The switch leaves JSON, unless the client excluded it."""
    url = start(frames=False).url
    assert post(url, {"texts": ["a"]}, accept=f"{FRAMES}, application/json;q=0.1").media_type == "application/json"
    assert_problem(post(url, {"texts": ["a"]}, accept=FRAMES), 406, "not_acceptable")


def test_the_bare_array_has_audio_or_null(start: Any) -> None:
    """The shape of the original article: base64 strings, null for what failed."""
    emulator = start(engine="echo", json_shape="array")
    emulator.inject("failed_items", indices=[1])
    first, second, third = post(emulator.url, {"texts": TEXTS}).json()
    assert second is None
    assert [echo_text(base64.b64decode(audio)) for audio in (first, third)] == [TEXTS[0], TEXTS[2]]


def test_the_bare_array_may_hold_objects(start: Any) -> None:
    """The item objects, without the object around them."""
    reply = post(start(json_shape="objects").url, {"texts": TEXTS}).json()
    assert [item["index"] for item in reply] == [0, 1, 2]


def test_gzip_is_sent_to_clients_that_accept_it(start: Any) -> None:
    """JSON replies and problems are compressed when switched on and accepted."""
    emulator = start(gzip=True)
    answer = post(emulator.url, {"texts": TEXTS}, accept_encoding="gzip, br")
    assert answer.headers["content-encoding"] == "gzip"
    assert b'"succeeded":3' in gzip.decompress(answer.body)
    refusal = post(emulator.url, {"texts": [""] * 9}, accept_encoding="gzip")
    assert refusal.status == 422
    assert b"validation_failed" in gzip.decompress(refusal.body)
    assert "content-encoding" not in post(emulator.url, {"texts": TEXTS}, accept_encoding="gzip;q=0").headers
    assert "content-encoding" not in post(emulator.url, {"texts": TEXTS}, accept=FRAMES, accept_encoding="gzip").headers


def test_items_arrive_before_the_reply_ends(start: Any) -> None:
    """With a delay between items, the first is there while the last is not yet sent."""
    emulator = start(engine="echo", item_delay=30.0)
    with open_socket(emulator.url) as connection:
        connection.sendall(raw_request({"texts": TEXTS}, accept=FRAMES))
        received = b""
        while b'"index":0' not in received or len(received) < 4900:
            received += connection.recv(65536)
        assert b"transfer-encoding: chunked" in received
        assert b'"index":1' not in received


def test_delayed_items_make_a_whole_reply(start: Any) -> None:
    """The delay changes when, not what."""
    emulator = start(engine="echo", item_delay=0.01)
    began = time.monotonic()
    answer = post(emulator.url, {"texts": TEXTS}, accept=FRAMES)
    assert time.monotonic() - began >= 0.02
    frames = parse_frames(answer.body)
    assert frames.order == [0, 1, 2]
    assert [echo_text(frames.audio[index]) for index in range(3)] == TEXTS
    assert frames.end["succeeded"] == 3


def test_what_cannot_fit_into_an_item_fails_alone(emulator: Emulator) -> None:
    """Half an hour of WAV is refused for its text; the other text is rendered."""
    batch = {"texts": ["字" * 4096, "好"], "speed": 0.5, "sample_rate": 48000}
    reply = post(emulator.url, batch).json()
    assert reply["results"][0]["error"]["code"] == "text_too_long"
    assert reply["results"][0]["error"]["retryable"] is False
    assert reply["results"][1]["status"] == "success"
