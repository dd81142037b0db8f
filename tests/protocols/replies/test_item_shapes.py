"""`replies.item_shapes`: forms of home-made services are read if unambiguous, and are an error otherwise."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient.errors import BadRequest, CosyError, DecodeError, NotFound, ServiceError
from cosyclient.models import Speech
from cosyclient.testing import ScriptedReply
from tests.protocols import wire
from tests.protocols.reading import assert_tagged, decode

if TYPE_CHECKING:
    from collections.abc import Callable


def encoded_audio(index: int) -> str:
    """Return the tagged audio as base64."""
    return base64.b64encode(wire.tagged_wav(index)).decode()


def decode_body(
    body: object, count: int = 3, kind: str = "application/json"
) -> tuple[dict[int, Any], CosyError | None]:
    """Return the results and the error of a reply of *body*."""
    reply = ScriptedReply(200, {"Content-Type": kind} if kind else {}, [json.dumps(body).encode()])
    return decode(reply, wire.texts(count))


ITEMS: dict[str, Callable[[int], Any]] = {
    "audio": lambda n: {"audio": encoded_audio(n)},
    "data": lambda n: {"data": encoded_audio(n)},
    "base64": lambda n: {"audio_base64": encoded_audio(n)},
    "google": lambda n: {"audioContent": encoded_audio(n)},
    "openai": lambda n: {"b64_json": encoded_audio(n)},
    "nested": lambda n: {"audio": {"data": encoded_audio(n), "sample_rate": 24000}},
    "echo": lambda n: {"text": wire.texts(3)[n].text, "audio": encoded_audio(n)},
    "content": lambda n: {"content": "the text again", "audio": encoded_audio(n)},
    "ids": lambda n: {"id": n, "audio": encoded_audio(n)},
    "ids from one": lambda n: {"id": n + 1, "audio": encoded_audio(n)},
    "uuids": lambda n: {"id": f"3f2a-{9 - n}", "audio": encoded_audio(n)},
    "ok": lambda n: {"status": "ok", "audio": encoded_audio(n)},
    "true": lambda n: {"success": True, "error": None, "audio": encoded_audio(n)},
    "200": lambda n: {"status": 200, "audio": encoded_audio(n), "message": ""},
    "data URL": lambda n: {"audio": f"data:audio/wav;base64,{encoded_audio(n)}"},
    "MIME lines": lambda n: {"audio": base64.encodebytes(wire.tagged_wav(n)).decode()},
    "URL-safe alphabet": lambda n: {"audio": base64.urlsafe_b64encode(wire.tagged_wav(n)).decode()},
    "string": encoded_audio,
    "data URL string": lambda n: f"data:audio/wav;base64,{encoded_audio(n)}",
}
ENVELOPES: dict[str, Callable[[list[Any]], Any]] = {
    "bare": lambda items: items,
    "results": lambda items: {"results": items},
    "total": lambda items: {"total": 3, "results": items},
    "audios": lambda items: {"audios": items},
    "audio": lambda items: {"audio": items, "sample_rate": 24000},
    "data": lambda items: {"data": items},
    "code and data": lambda items: {"code": 0, "message": "success", "data": items},
    "200 and data": lambda items: {"code": 200, "msg": "ok", "data": items},
    "nested": lambda items: {"code": 0, "data": {"audios": items}},
    "durations": lambda items: {"durations": [1, 2, 3], "audios": items, "texts": ["a", "b", "c"]},
}


@pytest.mark.parametrize("envelope", sorted(ENVELOPES))
@pytest.mark.parametrize("item", sorted(ITEMS))
def test_every_unambiguous_form_is_read(item: str, envelope: str) -> None:
    """Every form of an item in every form of the list."""
    found, error = decode_body(ENVELOPES[envelope]([ITEMS[item](index) for index in range(3)]))
    assert error is None
    assert set(found) == {0, 1, 2}
    assert_tagged(found, wire.texts(3))


@pytest.mark.parametrize("kind", ["", "text/plain; charset=utf-8", "application/octet-stream", "text/json"])
def test_json_is_read_under_any_unspecific_media_type(kind: str) -> None:
    """By its first byte."""
    found, error = decode_body([encoded_audio(0), encoded_audio(1), encoded_audio(2)], kind=kind)
    assert error is None
    assert_tagged(found, wire.texts(3))


@pytest.mark.parametrize(
    "body", [{"audio": encoded_audio(0)}, {"code": 0, "data": {"audio": encoded_audio(0)}}, [encoded_audio(0)]]
)
def test_a_single_text_needs_no_list(body: object) -> None:
    """As sent by a server of one text at a time."""
    found, error = decode_body(body, count=1)
    assert error is None
    assert_tagged(found, wire.texts(1))
    assert isinstance(found[0], Speech)


@pytest.mark.parametrize(
    "items",
    [
        [{"audio": encoded_audio(1)}, {"audio": encoded_audio(0)}, {"index": 2, "audio": encoded_audio(2)}],
        [{"index": 0, "audio": encoded_audio(0)}, {"audio": encoded_audio(1)}, {"audio": encoded_audio(2)}],
        [
            {"id": 1, "audio": encoded_audio(1)},
            {"id": 0, "audio": encoded_audio(0)},
            {"id": 2, "audio": encoded_audio(2)},
        ],
        [
            {"id": 2, "audio": encoded_audio(1)},
            {"id": 3, "audio": encoded_audio(2)},
            {"id": 4, "audio": encoded_audio(2)},
        ],
        [
            {"position": 0, "audio": encoded_audio(0)},
            {"position": 2, "audio": encoded_audio(2)},
            {"position": 1, "audio": encoded_audio(1)},
        ],
        [{"text": wire.texts(3)[n].text, "audio": encoded_audio(n)} for n in (1, 0, 2)],
        [{"audio": encoded_audio(0)}, {"audio": encoded_audio(1)}],
        [
            {"audio": encoded_audio(0)},
            {"audio": encoded_audio(1)},
            {"audio": encoded_audio(2)},
            {"audio": encoded_audio(2)},
        ],
        [],
    ],
)
@pytest.mark.parametrize("envelope", ["results", "total", "audios"])
def test_a_reply_that_could_assign_audio_to_another_text_is_an_error(items: list[Any], envelope: str) -> None:
    """Another length, order or text: only items with an index of their own are used."""
    found, error = decode_body(ENVELOPES[envelope](items))
    assert isinstance(error, DecodeError)
    assert_tagged(found, wire.texts(3))
    assert set(found) <= {item["index"] for item in items if "index" in item}


@pytest.mark.parametrize(
    ("item", "kind", "says"),
    [
        ({"error": "no such voice"}, ServiceError, "no such voice"),
        ({"error": {"code": "unknown_voice"}, "audio": encoded_audio(1)}, NotFound, "unknown_voice"),
        ({"success": False, "message": "too long", "retryable": False}, ServiceError, "too long"),
        ({"ok": False, "audio": encoded_audio(1)}, ServiceError, "item failed"),
        ({"status": "failed", "audio": encoded_audio(1)}, ServiceError, "item failed"),
        ({"status": 500, "detail": "out of memory"}, ServiceError, "out of memory"),
        ({"error": {"code": "validation_failed"}}, BadRequest, "validation_failed"),
        ({}, ServiceError, "item failed"),
        (None, ServiceError, "item failed"),
        ({"audio": "https://bucket.test/1.wav"}, DecodeError, "an address in place of audio; it is not fetched"),
        ({"url": "https://bucket.test/1.wav"}, DecodeError, "an address in place of audio; it is not fetched"),
        ({"status": "ok"}, DecodeError, "without audio"),
        (
            {"audio": encoded_audio(1), "wav": encoded_audio(1)},
            DecodeError,
            "audio and wav could both be it; call it audio_data",
        ),
        ({"audio": "not base64 at all!"}, DecodeError, "not base64"),
    ],
)
@pytest.mark.parametrize("envelope", ["bare", "results", "audios"])
def test_a_failed_item_fails_only_its_own_text(item: Any, kind: type[CosyError], says: str, envelope: str) -> None:
    """However it marks the failure; the other texts have speeches."""
    found, error = decode_body(ENVELOPES[envelope]([{"audio": encoded_audio(0)}, item, {"audio": encoded_audio(2)}]))
    assert error is None
    assert isinstance(found[1], kind)
    assert says in str(found[1])
    assert_tagged({0: found[0], 2: found[2]}, wire.texts(3))


def test_an_error_object_with_lists_is_an_error() -> None:
    """Lists that are not results do not make it a success."""
    for body in (
        {"code": 500, "message": "boom", "data": []},
        {"error": "boom", "trace": ["a", "b", "c"]},
        {"error": {"message": "boom"}, "data": None},
    ):
        found, error = decode_body(body)
        assert (found, type(error).__name__ in ("ServiceFault", "ServiceError")) == ({}, True)


def test_two_lists_that_could_be_the_results_are_an_error() -> None:
    """Neither is preferred."""
    found, error = decode_body(
        {"audios": [encoded_audio(n) for n in range(3)], "data": [encoded_audio(2 - n) for n in range(3)]}
    )
    assert found == {}
    assert isinstance(error, DecodeError)
