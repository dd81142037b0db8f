"""The batch protocol's JSON replies: every form reaches its texts, no defect gives a text the wrong audio."""

from __future__ import annotations

import base64
import json
import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.audio import wav_bytes
from cosyclient.errors import (
    DecodeError,
    ServiceError,
    Throttled,
)
from cosyclient.models import Speech
from cosyclient.testing import ScriptedReply
from tests.protocols import wire
from tests.protocols.reading import PLAIN, assert_tagged, base64_by, decode

__all__ = ["base64_by"]


def bare(*elements: object) -> bytes:
    """Return the bare array."""
    return json.dumps(elements).encode()


def coded(index: int) -> str:
    """Return the tagged audio as base64."""
    return base64.b64encode(wire.tagged_wav(index)).decode()


@pytest.mark.parametrize(
    "body",
    [
        wire.json_body([wire.result(0), wire.result(1), wire.result(2)]),
        wire.json_body([wire.result(2), wire.result(0), wire.result(1)]),
        json.dumps({"results": [wire.result(0), wire.result(1), wire.result(2)]}).encode(),
        b"\xef\xbb\xbf" + wire.json_body([wire.result(0), wire.result(1), wire.result(2)]),
        bare(coded(0), coded(1), coded(2)),
        bare(wire.result(1), wire.result(0), wire.result(2)),
        bare(coded(0), {"status": "success", "audio_data": coded(1)}, wire.result(2)),
        bare(coded(0), wire.result(2), wire.result(1)),
    ],
    ids=["object", "shuffled", "no total", "byte order mark", "strings", "objects", "mixed", "mixed and shuffled"],
)
def test_every_json_form_reaches_its_texts(body: bytes) -> None:
    """The object, the bare array of strings, of objects, and mixtures."""
    utterances = wire.texts(3)
    found, error = decode(wire.json_reply(body), utterances)
    assert error is None
    assert set(found) == {0, 1, 2}
    assert_tagged(found, utterances)


def test_null_in_the_array_is_a_failed_item() -> None:
    """The others stand, and it may be tried again."""
    found, error = decode(wire.json_reply(bare(coded(0), None, coded(2))), wire.texts(3))
    assert error is None
    assert_tagged({0: found[0], 2: found[2]}, wire.texts(3))
    assert isinstance(found[1], ServiceError)
    assert found[1].retryable


ENTRY = st.one_of(
    st.integers(-1, 5).map(wire.result),
    st.integers(-1, 5).map(lambda index: {"index": index, "status": "error", "error": "no"}),
    st.sampled_from([None, 7, "", "!", [], {}, {"index": 1.0}, {"index": "0"}, {"index": True}, wire.result(1)]),
)


@given(st.lists(ENTRY, max_size=6), st.booleans())
@settings(deadline=None)
def test_no_json_gives_a_text_the_audio_of_another(entries: list[Any], array: bool) -> None:
    """Permuted, doubled, missing or broken: a speech is its text's own, or there is none, whole or in pieces."""
    utterances = wire.texts(4)
    body = bare(*entries) if array else json.dumps({"results": entries}).encode()
    found, error = decode(wire.json_reply(body), utterances)
    assert_tagged({index: speech for index, speech in found.items() if isinstance(speech, Speech)}, utterances)
    assert set(found) <= set(range(4))
    assert error is not None or set(found) == set(range(4))
    reply = ScriptedReply(200, {"Content-Type": "application/json"}, wire.pieces(body, 97))
    assert repr(decode(reply, utterances)) == repr((found, error))


@pytest.mark.parametrize(
    ("body", "kept", "match", "retryable"),
    [
        (b"", 0, "empty", True),
        (b"{", 0, "no JSON reply, or cut off", True),
        (wire.json_body([wire.result(0), wire.result(1)])[:-300], 1, "no JSON reply, or cut off", True),
        (wire.json_body([wire.result(0), wire.result(1)]) + b"]", 2, "no JSON reply, or cut off", True),
        (b"[" * 200_000, 0, "no JSON reply, or cut off", True),
        (b"\xff\xfe", 0, "no JSON reply, or cut off", True),
        (b'{"message":"\xff\xfe"}', 0, "not UTF-8", True),
        (b"null", 0, "no JSON reply", True),
        (b"{}", 0, "without a list of results", False),
        (b'{"results":{}}', 0, "without a list of results", False),
        (b'{"results":[],"total":3}', 0, "3 results announced for 2 texts", False),
        (wire.json_body([wire.result(0)]), 0, "1 results announced for 2 texts", False),
        (b"[]", 0, "no result for 2 of 2 texts", False),
        (bare(coded(0)), 0, "no result for 1 of 2 texts, first 1", False),
        (bare(coded(0), coded(1), coded(2)), 0, "only 0 to 1 were sent", False),
        (bare(None, wire.result(0)), 0, "two results for text 0", False),
        (wire.json_body([wire.result(0), {"status": "success"}]), 1, "names no index", False),
        (wire.json_body([wire.result(0), wire.result(0)]), 1, "two results for text 0", False),
        (wire.json_body([wire.result(1)], total=2), 1, "no result for 1 of 2 texts, first 0", False),
        (json.dumps({"results": [wire.result(0)], "total": 2}).encode(), 0, "no result for 1 of 2", False),
        (
            json.dumps({"results": [wire.result(0), wire.result(1)], "total": 3}).encode(),
            0,
            "3 results announced",
            False,
        ),
    ],
)
def test_inconsistent_json_is_an_error(body: bytes, kept: int, match: str, retryable: bool) -> None:
    """What named its text in a reply of the right size stands; where a place or a number decides, nothing does."""
    for split in (0, 7):
        reply = ScriptedReply(200, {"Content-Type": "application/json"}, wire.pieces(body, split))
        found, error = decode(reply, wire.texts(2))
        assert_tagged(found, wire.texts(2))
        assert len(found) == kept
        assert isinstance(error, DecodeError)
        assert match in str(error)
        assert error.retryable is retryable


def test_a_result_is_yielded_before_the_next_arrives() -> None:
    """Nothing waits for the end of the reply."""
    body = wire.json_body([wire.result(0), wire.result(1)])
    first = body.index(b'}, {"index": 1') + 1
    pieces: list[bytes | Exception] = [body[:first], RuntimeError("read too far")]
    items = PLAIN.decode(ScriptedReply(200, {"Content-Type": "application/json"}, pieces), wire.texts(2), wall=0.0)
    assert [index for index, _ in next(items)] == [0]


def test_members_after_the_results_describe_them() -> None:
    """Without a total before them, results wait for the members after them."""
    audio = base64.b64encode(bytes(range(240)) * 8).decode()
    entry = {"index": 0, "status": "success", "audio_data": audio}
    found, error = decode(wire.json_reply({"results": [entry], "total": 1, "sample_rate": 48000}), wire.texts(1, "pcm"))
    assert error is None
    assert (found[0].sample_rate, found[0].duration) == (48000, pytest.approx(0.02))


def test_an_error_with_a_success_status_is_read_from_its_body() -> None:
    """Some services answer 200 with an error document, whatever it says of results."""
    for more in ({}, {"results": None}):
        found, error = decode(wire.json_reply({"error": {"code": "rate_limited"}, **more}), wire.texts(1))
        assert found == {}
        assert isinstance(error, Throttled)


def test_ten_megabytes_of_noise_are_no_json() -> None:
    """Noise under a JSON label is an error of a line."""
    reply = ScriptedReply(
        200, {"Content-Type": "application/json"}, wire.pieces(random.Random(3).randbytes(10 << 20), 65536)
    )
    found, error = decode(reply, wire.texts(2))
    assert found == {}
    assert error is not None
    assert error.retryable
    assert len(str(error)) < 100


def test_memory_while_decoding_is_bounded() -> None:
    """Frames and JSON hold an item at a time, and what arrives with it."""
    count, audio = 16, wav_bytes(bytes(range(1, 251)) * 760, 24000)
    length = {"duration_ms": 3958}
    parts = [
        wire.frame(wire.opening(count)),
        *(wire.frame(wire.item(i, **length), audio) for i in range(count)),
        wire.frame(wire.end(count)),
    ]
    framed = wire.pieces(b"".join(parts), 65536)
    text = base64.b64encode(audio).decode()
    jsoned = wire.json_body([wire.result(i, audio_data=text, **length) for i in range(count)])
    for reply, most in (
        (ScriptedReply(200, {"Content-Type": wire.FRAMES_TYPE}, framed), 3 * len(audio)),
        (ScriptedReply(200, {"Content-Type": "application/json"}, wire.pieces(jsoned, 65536)), 3 * len(text)),
    ):
        tracemalloc.start()
        try:
            seen = sum(
                isinstance(outcome, Speech)
                for items in PLAIN.decode(reply, wire.texts(count), wall=0.0)
                for _, outcome in items
            )
            assert seen == count
            assert tracemalloc.get_traced_memory()[1] < most
        finally:
            tracemalloc.stop()
