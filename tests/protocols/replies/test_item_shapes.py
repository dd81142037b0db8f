"""Replies as people write them: read where they can mean one thing only, refused where they could mislead."""

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


def coded(index: int) -> str:
    """Return the tagged audio as base64."""
    return base64.b64encode(wire.tagged_wav(index)).decode()


def heard(body: object, count: int = 3, kind: str = "application/json") -> tuple[dict[int, Any], CosyError | None]:
    """Return what a reply of *body* becomes."""
    reply = ScriptedReply(200, {"Content-Type": kind} if kind else {}, [json.dumps(body).encode()])
    return decode(reply, wire.texts(count))


ITEMS: dict[str, Callable[[int], Any]] = {
    "audio": lambda n: {"audio": coded(n)},
    "data": lambda n: {"data": coded(n)},
    "base64": lambda n: {"audio_base64": coded(n)},
    "google": lambda n: {"audioContent": coded(n)},
    "openai": lambda n: {"b64_json": coded(n)},
    "nested": lambda n: {"audio": {"data": coded(n), "sample_rate": 24000}},
    "echo": lambda n: {"text": wire.texts(3)[n].text, "audio": coded(n)},
    "content": lambda n: {"content": "the text again", "audio": coded(n)},
    "ids": lambda n: {"id": n, "audio": coded(n)},
    "ids from one": lambda n: {"id": n + 1, "audio": coded(n)},
    "uuids": lambda n: {"id": f"3f2a-{9 - n}", "audio": coded(n)},
    "ok": lambda n: {"status": "ok", "audio": coded(n)},
    "true": lambda n: {"success": True, "error": None, "audio": coded(n)},
    "200": lambda n: {"status": 200, "audio": coded(n), "message": ""},
    "data URL": lambda n: {"audio": f"data:audio/wav;base64,{coded(n)}"},
    "MIME lines": lambda n: {"audio": base64.encodebytes(wire.tagged_wav(n)).decode()},
    "file names' alphabet": lambda n: {"audio": base64.urlsafe_b64encode(wire.tagged_wav(n)).decode()},
    "string": coded,
    "data URL string": lambda n: f"data:audio/wav;base64,{coded(n)}",
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
def test_what_can_mean_one_thing_only_is_read(item: str, envelope: str) -> None:
    """Every way to write an item in every way to write the list."""
    found, error = heard(ENVELOPES[envelope]([ITEMS[item](index) for index in range(3)]))
    assert error is None
    assert set(found) == {0, 1, 2}
    assert_tagged(found, wire.texts(3))


@pytest.mark.parametrize("kind", ["", "text/plain; charset=utf-8", "application/octet-stream", "text/json"])
def test_json_is_json_under_any_vague_name(kind: str) -> None:
    """A body that begins as JSON, of which nobody says what it is."""
    found, error = heard([coded(0), coded(1), coded(2)], kind=kind)
    assert error is None
    assert_tagged(found, wire.texts(3))


@pytest.mark.parametrize("body", [{"audio": coded(0)}, {"code": 0, "data": {"audio": coded(0)}}, [coded(0)]])
def test_one_text_may_have_no_list(body: object) -> None:
    """A server of one text at a time."""
    found, error = heard(body, count=1)
    assert error is None
    assert_tagged(found, wire.texts(1))
    assert isinstance(found[0], Speech)


@pytest.mark.parametrize(
    "items",
    [
        [{"audio": coded(1)}, {"audio": coded(0)}, {"index": 2, "audio": coded(2)}],
        [{"index": 0, "audio": coded(0)}, {"audio": coded(1)}, {"audio": coded(2)}],
        [{"id": 1, "audio": coded(1)}, {"id": 0, "audio": coded(0)}, {"id": 2, "audio": coded(2)}],
        [{"id": 2, "audio": coded(1)}, {"id": 3, "audio": coded(2)}, {"id": 4, "audio": coded(2)}],
        [{"position": 0, "audio": coded(0)}, {"position": 2, "audio": coded(2)}, {"position": 1, "audio": coded(1)}],
        [{"text": wire.texts(3)[n].text, "audio": coded(n)} for n in (1, 0, 2)],
        [{"audio": coded(0)}, {"audio": coded(1)}],
        [{"audio": coded(0)}, {"audio": coded(1)}, {"audio": coded(2)}, {"audio": coded(2)}],
        [],
    ],
)
@pytest.mark.parametrize("envelope", ["results", "total", "audios"])
def test_what_could_give_a_text_anothers_audio_is_refused(items: list[Any], envelope: str) -> None:
    """Another number, another order, another text: nothing of it is believed that has no index of its own."""
    found, error = heard(ENVELOPES[envelope](items))
    assert isinstance(error, DecodeError)
    assert_tagged(found, wire.texts(3))
    assert set(found) <= {item["index"] for item in items if "index" in item}


@pytest.mark.parametrize(
    ("item", "kind", "says"),
    [
        ({"error": "no such voice"}, ServiceError, "no such voice"),
        ({"error": {"code": "unknown_voice"}, "audio": coded(1)}, NotFound, "unknown_voice"),
        ({"success": False, "message": "too long", "retryable": False}, ServiceError, "too long"),
        ({"ok": False, "audio": coded(1)}, ServiceError, "item failed"),
        ({"status": "failed", "audio": coded(1)}, ServiceError, "item failed"),
        ({"status": 500, "detail": "out of memory"}, ServiceError, "out of memory"),
        ({"error": {"code": "validation_failed"}}, BadRequest, "validation_failed"),
        ({}, ServiceError, "item failed"),
        (None, ServiceError, "item failed"),
        ({"audio": "https://bucket.test/1.wav"}, DecodeError, "an address in place of audio; it is not fetched"),
        ({"url": "https://bucket.test/1.wav"}, DecodeError, "an address in place of audio; it is not fetched"),
        ({"status": "ok"}, DecodeError, "without audio"),
        ({"audio": coded(1), "wav": coded(1)}, DecodeError, "audio and wav could both be it; call it audio_data"),
        ({"audio": "not base64 at all!"}, DecodeError, "not base64"),
    ],
)
@pytest.mark.parametrize("envelope", ["bare", "results", "audios"])
def test_a_failed_item_fails_alone(item: Any, kind: type[CosyError], says: str, envelope: str) -> None:
    """Whatever way it says so; the others are speeches."""
    found, error = heard(ENVELOPES[envelope]([{"audio": coded(0)}, item, {"audio": coded(2)}]))
    assert error is None
    assert isinstance(found[1], kind)
    assert says in str(found[1])
    assert_tagged({0: found[0], 2: found[2]}, wire.texts(3))


def test_a_refusal_stays_one() -> None:
    """Lists that are none of results do not make a success of it."""
    for body in (
        {"code": 500, "message": "boom", "data": []},
        {"error": "boom", "trace": ["a", "b", "c"]},
        {"error": {"message": "boom"}, "data": None},
    ):
        found, error = heard(body)
        assert (found, type(error).__name__ in ("ServiceFault", "ServiceError")) == ({}, True)


def test_two_lists_that_could_both_be_it_are_refused() -> None:
    """Which is which is not ours to guess."""
    found, error = heard({"audios": [coded(n) for n in range(3)], "data": [coded(2 - n) for n in range(3)]})
    assert found == {}
    assert isinstance(error, DecodeError)
