"""`replies.item_shapes`: forms of home-made services are read if unambiguous, and are an error otherwise."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosyclient.errors import BadRequest, CosyError, DecodeError, NotFound, ServiceError
from cosyclient.models import Speech
from cosyclient.protocols.codecs import json_results
from cosyclient.protocols.codecs.json_whole import ALL_AUDIO_NAMES
from cosyclient.testing import ScriptedReply
from tests.protocols import wire
from tests.protocols.reading import assert_tagged, base64_by, decode

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["base64_by"]


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
            {"sound": "UklGRg==", "code": 1},
            DecodeError,
            "none in a result, which has sound, code; call it audio_data",
        ),
        ({"audio_data": None}, DecodeError, "none in a result, which has audio_data; call it audio_data"),
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


def outcomes(chunks: list[bytes], count: int) -> tuple[dict[int, tuple[object, ...]], tuple[object, ...]]:
    """Return what every text became, and the error of the reply, in a form that compares."""

    def shown(outcome: Any) -> tuple[object, ...]:
        if isinstance(outcome, Speech):
            return (outcome.audio, outcome.format, outcome.sample_rate, outcome.channels, outcome.duration)
        return (type(outcome), str(outcome), getattr(outcome, "retryable", None))

    found, error = decode(ScriptedReply(200, {"Content-Type": "application/json"}, chunks), wire.texts(count))
    return {index: shown(outcome) for index, outcome in found.items()}, shown(error)


def written(members: list[tuple[str, str]]) -> str:
    """Return the JSON object of *members*, whose values are JSON already; names may be equal."""
    return "{" + ",".join(f'"{name}":{value}' for name, value in members) + "}"


WAVS = [wire.tagged_wav(index) for index in range(4)]
ENCODINGS: list[Callable[[bytes], str]] = [
    *[lambda wav: base64.b64encode(wav).decode()] * 4,
    lambda wav: base64.urlsafe_b64encode(wav).decode(),
    lambda wav: base64.encodebytes(wav).decode(),
    lambda wav: f"data:audio/wav;base64,{base64.b64encode(wav).decode()}",
    lambda wav: base64.b64encode(wav).decode()[:-1],
    lambda wav: base64.b64encode(wav).decode() + "!",
]
STRINGS = st.one_of(
    st.builds(lambda wav, encode: json.dumps(encode(wav)), st.sampled_from(WAVS), st.sampled_from(ENCODINGS)),
    st.sampled_from(["null", "7", '""', '"ok"', "true", json.dumps("A" * 1400), json.dumps("长" * 1400)]),
)
ITEM_NAMES = [
    *ALL_AUDIO_NAMES[:3],
    "wav",
    "data",
    "content",
    "a\\u0075dio",
    "text",
    "url",
    "error",
    "index",
    "id",
    "status",
]
OBJECTS = st.lists(st.tuples(st.sampled_from(ITEM_NAMES), STRINGS), max_size=3).map(written)
LISTS = st.lists(st.one_of(STRINGS, OBJECTS), max_size=4).map(lambda items: f"[{','.join(items)}]")
LIST_NAMES = ["results", "r\\u0065sults", "audios", "data", "audio", "items", "text", "error", "code", "total"]
BODIES = st.one_of(
    LISTS,
    OBJECTS,
    st.builds(lambda name, items: f'{{"{name}":{items}}}', st.sampled_from(LIST_NAMES), LISTS),
    st.lists(st.tuples(st.sampled_from(LIST_NAMES), st.one_of(LISTS, STRINGS, OBJECTS)), min_size=1, max_size=4).map(
        written
    ),
)


@given(BODIES, st.integers(1, 4), st.integers(1, 3000))
@example(written([("audio", json.dumps(encoded_audio(2))), ("wav", json.dumps(encoded_audio(3)))]), 1, 100)
@example(f'{{"audios":1,"data":["{encoded_audio(2)}"],"audios":["{encoded_audio(3)}"]}}', 1, 100)
@example(f'[{{"content":"{encoded_audio(2)}","audio":"{encoded_audio(3)}"}}]', 1, 100)
@settings(deadline=None, max_examples=300)
def test_a_reply_in_one_piece_and_in_many_give_the_same_items(body: str, count: int, split: int) -> None:
    """Under any name, in any list, with equal names, echoes and damaged base64."""
    raw = body.encode()
    at_once = outcomes([raw], count)
    assert outcomes(wire.pieces(raw, split), count) == at_once
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_results, "parse_whole", lambda _: None)
        assert outcomes([raw], count) == at_once


@pytest.mark.parametrize("split", [0, 500])
@pytest.mark.parametrize("names", [("audio", "wav"), ("data", "content")])
def test_two_members_that_could_be_the_audio_are_an_error_however_long(names: tuple[str, str], split: int) -> None:
    """Whether they are read as bytes or as text."""
    body = json.dumps({"results": [{name: encoded_audio(3) for name in names}]}).encode()
    found, _ = outcomes(wire.pieces(body, split), 1)
    assert found == {0: (DecodeError, f"audio: {' and '.join(names)} could both be it; call it audio_data", False)}
