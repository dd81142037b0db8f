"""`codecs.json_results`: the results of `json`, for any split into chunks and any damage."""

from __future__ import annotations

import base64
import json
import tracemalloc
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosyclient.errors import DecodeError
from cosyclient.protocols.codecs.json_results import ResultReader
from tests.protocols import wire
from tests.protocols.reading import base64_by

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["base64_by"]

AUDIO = bytes(range(256)) * 6
CODED = base64.b64encode(AUDIO).decode()
LONG = "长" * 1500


def read(chunks: Iterable[bytes], most: int = 64) -> tuple[list[Any], dict[str, Any] | None, DecodeError | None]:
    """Return the results, the members of a complete reply, and the error that ended it otherwise."""
    reader = ResultReader(chunks, max_results=most)
    found: list[Any] = []
    try:
        for results in reader.results():
            assert results
            found += results
    except DecodeError as error:
        return found, None, error
    return found, reader.members, None


def shown(value: Any) -> Any:
    """Return *value* with all audio as text, so that it compares with what `json` reads."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: shown(member) for name, member in value.items()}
    return [shown(element) for element in value] if isinstance(value, list) else value


def expected(body: bytes) -> tuple[list[Any], dict[str, Any]] | None:
    """Return the results of *body* as `json` parses it, or ``None`` if it is no reply."""
    try:
        content = json.loads(body.decode("utf-8-sig"))
    except ValueError:
        return None
    if isinstance(content, dict):
        if not isinstance(content.get("results"), list):
            return [], content
        return content.pop("results"), content
    return (content, {}) if isinstance(content, list) else None


STRINGS = st.one_of(
    st.text(max_size=20), st.sampled_from([CODED, CODED[:-1], LONG, LONG + '"', "\\" * 1400, "a" * 2000])
)
NAMES = ["audio_data", "audio", "b64_json", "content", "index", "error", 'x"audio_data', "", LONG]
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), STRINGS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    ),
    max_leaves=6,
)
REPLIES = st.one_of(
    st.lists(VALUES, max_size=4),
    st.dictionaries(st.sampled_from(["audio_data", "audios", "data", "total", "error", "é"]), VALUES, max_size=3),
    st.lists(VALUES, max_size=4).map(lambda results: {"code": 0, "audios": results}),
    st.dictionaries(st.sampled_from(["id", "total", "error", "é"]), VALUES, max_size=3).flatmap(
        lambda members: st.lists(VALUES, max_size=4).map(lambda results: {**members, "results": results, "after": 1})
    ),
)
BODIES = st.builds(
    lambda reply, indent, ascii, mark: mark + json.dumps(reply, indent=indent, ensure_ascii=ascii).encode(),
    REPLIES,
    st.sampled_from([None, 1]),
    st.booleans(),
    st.sampled_from([b"", b"\xef\xbb\xbf", b" \r\n"]),
)


def same(one: object, other: object) -> bool:
    """Compare by representation: NaN is not equal to itself."""
    return repr(one) == repr(other)


@given(BODIES, st.integers(0, 3000))
@settings(deadline=None)
def test_any_split_gives_the_results_of_json(body: bytes, split: int) -> None:
    """Escapes, depth, layout, byte order mark and chunk boundaries make no difference."""
    found, members, error = read(wire.pieces(body, split))
    assert error is None
    whole = expected(body)
    assert whole is not None
    assert same(list(map(shown, found)), whole[0])
    assert same(shown(members), whole[1])


@given(BODIES, st.data())
@settings(deadline=None)
def test_damaged_bodies_are_accepted_exactly_where_json_accepts_them(body: bytes, data: st.DataObject) -> None:
    """With the same results."""
    at = data.draw(st.integers(0, len(body)))
    put = data.draw(st.sampled_from([b"", b'"', b"\\", b"[", b"]", b"{", b"}", b",", b":", b"0", b" ", b"\xff", b"\n"]))
    body = body[:at] + put + body[at + data.draw(st.integers(0, 1)) :]
    found, members, error = read(wire.pieces(body, data.draw(st.integers(0, 3000))))
    whole = expected(body)
    if whole is None:
        assert error is not None
        assert error.retryable
    else:
        assert error is None
        assert same((list(map(shown, found)), shown(members)), whole)


BODY = wire.json_body([wire.result(index) for index in range(3)])


@given(st.integers(0, len(BODY) - 1), st.integers(0, 600))
@settings(deadline=None)
def test_every_truncation_leaves_complete_results_and_a_retryable_error(cut: int, split: int) -> None:
    """Results before the cut stay valid."""
    found, _, error = read(wire.pieces(BODY[:cut], split))
    assert list(map(shown, found)) == [wire.result(index) for index in range(3)][: len(found)]
    assert error is not None
    assert error.retryable


@given(st.binary(max_size=300), st.sampled_from([b"", b"[", b'{"results":[', b'{"']))
@example(b"]", b"")
@example(b"[]]", b"")
@example(b",1]", b"[")
@example(b'"a"]}', b'{"results":[')
def test_noise_is_results_or_a_decode_error(noise: bytes, opening: bytes) -> None:
    """The same for every split."""
    one, two = read([opening + noise]), read(wire.pieces(opening + noise, 1))
    assert same(one[:2], two[:2])
    assert type(one[2]) is type(two[2])


def test_results_that_arrive_together_are_yielded_together() -> None:
    """One list a chunk, without waiting for the comma behind them."""
    chunks = [b'{"a":[1],"results":[1,[2]', b",", b"3, ", b'{"x":"', b'y"},"z"', b"]}"]
    assert list(ResultReader(chunks, max_results=64).results()) == [[1, [2]], [3], [{"x": "y"}, "z"]]


def test_complete_results_are_yielded_before_the_error_behind_them() -> None:
    """Also those in the same chunk."""
    assert read([b"[1, 2, }"])[0] == [1, 2]
    assert read([b"[1, 2 3]"])[0] == [1, 2]


def test_excess_results_are_not_collected() -> None:
    """They are yielded once there is one too many."""
    results = ResultReader([b"[" + b"{}," * 1_000_000 + b"{}]"], max_results=2).results()
    assert len(next(results)) == 3


@pytest.mark.parametrize(
    ("body", "audio"),
    [
        (f'[{{"audio_data":"{CODED}"}}]', True),
        (f'["{CODED}"]', True),
        (f'[{{"audio_data" :\n "{CODED}", "audio_data2": "{CODED}"}}]', True),
        (f'[{{"audio_data2":"{CODED}","audio_data":"{CODED}"}}]', False),
        (f'[{{"text":"{CODED}"}}]', False),
        (f'[{{"x\\"audio_data":"{CODED}","audio_data":""}}]', False),
        (f'[{{"audio_data":"{CODED}","audio_data":"x"}}]', False),
        (f'[{{"audio_data":"{CODED}","speed":-Infinity}}]', False),
        (f'[{{"audio_data":{{"audio_data":"{CODED}"}}}}]', False),
        (f'[{{"audio_data":"{CODED[:-1]}"}}]', False),
        (f'[{{"audio_data":"{CODED}\\n"}}]', False),
        (f'[{{"audio_data":"{CODED}"}}]'.replace("/", "\\/"), False),
        (f'[[["{CODED}"]]]', False),
    ],
)
def test_only_the_audio_member_is_decoded(body: str, audio: bool) -> None:
    """The one long string that `json` finds under the name; everything else is as `json` parses it."""
    (element,), _, error = read([body.encode()])
    assert error is None
    found = element.get("audio_data") if isinstance(element, dict) else element
    assert (found == AUDIO) is audio
    assert shown(element) == json.loads(body)[0]


@pytest.mark.parametrize("body", [b"[" * 202, b'[{"x":' + b"[" * 200, b'{"x":' + b"[" * 201, b"[" + b"1" * 1025])
def test_excessive_depth_and_numbers_are_refused_early(body: bytes) -> None:
    """Before they have been buffered."""

    def chunks() -> Iterable[bytes]:
        yield body
        raise AssertionError("read on")

    assert read(chunks())[2] is not None


def test_memory_holds_one_result_and_one_chunk() -> None:
    """A megabyte of base64 in pieces peaks at itself and its audio, however many follow."""
    coded = base64.b64encode(bytes(750_000)).decode()
    body = wire.json_body([wire.result(index, audio_data=coded) for index in range(8)])
    for split in (4096, 65536):
        pieces = wire.pieces(body, split)
        tracemalloc.start()
        try:
            for results in ResultReader(pieces, max_results=8).results():
                assert len(results) == 1
            assert tracemalloc.get_traced_memory()[1] < 3 * len(coded)
        finally:
            tracemalloc.stop()


def test_the_repr_shows_the_progress() -> None:
    """It is a status line."""
    reader = ResultReader([b'[1,"x"', b"]"], max_results=64)
    lines = [repr(reader), *(repr(reader) for _ in reader.results()), repr(reader)]
    assert lines == [
        "<ResultReader 0 results, 0 bytes>",
        "<ResultReader 2 results, 6 bytes>",
        "<ResultReader 2 results, 7 bytes>",
    ]


def test_a_number_is_complete_when_something_follows_it() -> None:
    """Its digits may go on in the next chunk."""
    assert list(chain.from_iterable(ResultReader([b"[1", b"2", b"]"], max_results=64).results())) == [12]
