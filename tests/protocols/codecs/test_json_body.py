"""`codecs.json_body`: objects, members, audio, words and voices in JSON, each read or a `DecodeError`."""

from __future__ import annotations

import base64

import pytest

from cosyclient.errors import DecodeError
from cosyclient.models import Word
from cosyclient.protocols.codecs.json_body import (
    decode_audio,
    decode_json,
    decode_json_object,
    is_voice_name,
    object_at,
    read_json_object,
    read_prefix,
    read_voice_list,
    voice_names,
    word_timing,
)
from cosyclient.testing import ScriptedReply


@pytest.mark.parametrize("data", ["", "{", "nan", b"\xff", "[" * 100_000, "[],".join("  " * 60_000)])
def test_malformed_json_is_a_retryable_error(data: bytes | str) -> None:
    """It may have been cut off."""
    for decode in (decode_json, decode_json_object):
        with pytest.raises(DecodeError, match="that are not JSON") as caught:
            decode(data)
        assert caught.value.retryable


def test_only_an_object_is_an_object() -> None:
    """In a whole reply as well."""
    assert decode_json("[1]") == [1]
    assert decode_json_object(b'{"a": 1}') == {"a": 1}
    assert read_json_object(ScriptedReply(200, {}, [b'{"a"', b": 1}"])) == {"a": 1}
    for data in ("[1]", "null", "1"):
        with pytest.raises(DecodeError, match="no object"):
            decode_json_object(data)


def test_members_are_followed_to_an_object() -> None:
    """An empty one stands for anything else."""
    document = {"a": {"b": {"c": 1}}, "d": 1}
    assert object_at(document) is document
    assert object_at(document, "a", "b") == {"c": 1}
    for names in (("d",), ("x",), ("a", "b", "c"), ("d", "x")):
        assert object_at(document, *names) == {}


@pytest.mark.parametrize("encoded", ["!", "AAE", "AA EC", "é", 5, None, ["AAEC"], b"AAEC"])
def test_anything_but_base64_text_is_a_retryable_error(encoded: object) -> None:
    """It may have been cut off."""
    with pytest.raises(DecodeError, match="not base64") as caught:
        decode_audio(encoded)
    assert caught.value.retryable


def test_base64_text_is_audio() -> None:
    """As the standard library writes it."""
    assert decode_audio(base64.b64encode(b"\0\1\2").decode()) == b"\0\1\2"


def test_no_more_is_read_than_needed() -> None:
    """A prefix ends at its length, a list of voices at 4 MiB."""
    endless: list[bytes | Exception] = [b"abc", b"def", RuntimeError("read too far")]
    assert read_prefix(ScriptedReply(200, {}, endless), 5) == b"abcde"
    assert read_prefix(ScriptedReply(200, {}, [b"abc"]), 5) == b"abc"
    assert read_voice_list(ScriptedReply(200, {}, [b'["a",', b'"b"]'])) == ["a", "b"]
    long: list[bytes | Exception] = [bytes(4 << 20), b" ", RuntimeError("read too far")]
    with pytest.raises(DecodeError, match="a list of voices of more than"):
        read_voice_list(ScriptedReply(200, {}, long))


def test_the_names_of_voices_are_distinct_and_usable() -> None:
    """The first text among the members counts; control characters and endless names do not."""
    entries = ["a", {"id": 1, "name": "b"}, {"name": "a"}, {"id": "c", "name": "d"}, {}, None, 7, "", "e\n", "f" * 5000]
    assert voice_names(entries, ("id", "name")) == ["a", "b", "c"]
    assert is_voice_name("中文女")
    for value in ("", "a\0", "a" * 5000, None, 1):
        assert not is_voice_name(value)


def test_a_word_needs_text_and_both_times() -> None:
    """In milliseconds, under the names that a service gives them."""

    def read(entry: object) -> Word | None:
        return word_timing(entry, text="w", start="s", end="e")

    assert read({"w": "a", "s": 250, "e": 500.0, "x": 1}) == Word("a", 0.25, 0.5)
    for entry in (
        {"w": "a", "s": 1},
        {"w": 1, "s": 1, "e": 2},
        {"w": "a", "s": -1, "e": 2},
        {"w": "a", "s": "1", "e": 2},
    ):
        assert read(entry) is None
    assert read(None) is read([]) is read("a") is None
