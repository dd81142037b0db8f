"""`codecs.strict`: base64 decodes the same with the fast package and without; JSON is bounded."""

from __future__ import annotations

import base64
import binascii
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyclient.protocols.codecs import strict
from cosyclient.protocols.codecs.strict import parse_base64, parse_base64_parts, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the import fail, as where the extra is not installed."""
    monkeypatch.setitem(sys.modules, "pybase64", None)
    strict._fast_decoder.cache_clear()
    yield
    strict._fast_decoder.cache_clear()


ODD = st.sampled_from([b"=", b"==", b"\n", b" ", b"-", b"_", b"\x00", b"\xff", "é".encode(), b"!", b"A"])


@st.composite
def nearly_base64(draw: st.DrawFn) -> bytes:
    """Return base64 with up to three changes."""
    coded = base64.b64encode(draw(st.binary(max_size=40)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(coded)))
        coded = coded[:at] + draw(ODD) + coded[at + draw(st.integers(0, 1)) :]
    return coded


@given(nearly_base64())
def test_the_fast_package_gives_the_same_results(coded: bytes) -> None:
    """Strict means the same for both: the alphabet, its padding, nothing behind it."""
    assert strict._fast_decoder() is not None
    try:
        expected = binascii.a2b_base64(coded, strict_mode=True)
    except ValueError:
        for form in (coded, memoryview(coded)):
            with pytest.raises(binascii.Error):
                parse_base64(form)
    else:
        assert parse_base64(coded) == parse_base64(memoryview(coded)) == parse_base64(coded.decode()) == expected


@given(
    parts=st.lists(st.binary(max_size=40).map(base64.b64encode), max_size=40),
    faults=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 60), ODD), max_size=2),
)
def test_parts_decoded_together_are_what_each_is_alone(
    parts: list[bytes], faults: list[tuple[int, int, bytes]]
) -> None:
    """Padding, bits left over and faults included, at any place and at the border of two calls."""
    for number, place, odd in faults:
        if number < len(parts):
            parts[number] = parts[number][:place] + odd + parts[number][place + 1 :]
    found: list[bytes] = []
    try:
        found.extend(parse_base64_parts([memoryview(part) for part in parts]))
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            parse_base64(parts[len(found)])
    else:
        assert len(found) == len(parts)
    assert found == [parse_base64(part) for part in parts[: len(found)]]


def test_many_parts_are_decoded_in_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gives up the interpreter."""
    calls: list[int] = []

    def decode(joined: bytes) -> bytes:
        calls.append(len(joined))
        return base64.b64decode(joined)

    monkeypatch.setattr(strict, "_fast_decoder", lambda: decode)
    audio = [bytes([number]) * (1000 + number) for number in range(64)]
    assert list(parse_base64_parts([memoryview(base64.b64encode(each)) for each in audio])) == audio
    assert len(calls) == 4


def test_text_beyond_ascii_is_no_base64() -> None:
    """A JSON string may hold any character."""
    with pytest.raises(ValueError, match="ASCII"):
        parse_base64("é")


@pytest.mark.usefixtures("without_package")
def test_without_the_package_the_standard_library_is_used() -> None:
    """The package is optional."""
    assert strict._fast_decoder() is None
    assert parse_base64("AAEC") == b"\0\1\2"
    with pytest.raises(ValueError, match="padding"):
        parse_base64("AAE")


def test_with_the_package_the_standard_library_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes thirty times as long."""
    monkeypatch.setattr(strict, "binascii", None)
    assert parse_base64(b"AAEC") == b"\0\1\2"


@pytest.mark.parametrize("data", ["[]" + ",[]" * 9, "{" * 11, "[" * 100_000, "", "nan", b"\xff", bytearray(b"[1")])
def test_malformed_deep_and_crowded_json_is_a_value_error(data: str | bytes | bytearray) -> None:
    """More values than allowed are refused before they are parsed."""
    with pytest.raises(ValueError, match=r"JSON|Expecting|codec|Extra data"):
        parse_json(data, max_values=10)
    assert parse_json("[" + "1," * 9 + "1]", max_values=10) == [1] * 10
