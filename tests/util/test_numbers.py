"""Numbers of a service: one within its range is returned, anything else is ``None`` and never an exception."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyclient.util.numbers import (
    float_in_range,
    int_in_range,
    parse_int_in_range,
    seconds_from_ms,
    valid_channel_count,
    valid_sample_rate,
)

ABSURD: list[object] = [
    None,
    True,
    False,
    "1",
    b"1",
    [],
    {},
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    -(10**400),
    1e308,
    -1,
    1j,
]


@pytest.mark.parametrize("value", ABSURD)
def test_absurd_values_are_none(value: object) -> None:
    """A bool is an int to Python, and no float holds 400 digits."""
    assert int_in_range(value, 0, 1 << 40) is None
    assert float_in_range(value, 0, 1e9) is None
    assert seconds_from_ms(value) is None
    assert valid_sample_rate(value) is None
    assert valid_channel_count(value) is None


@pytest.mark.parametrize(
    ("rate", "known"), [(0, False), (999, False), (1000, True), (768_000, True), (768_001, False), (24000.0, False)]
)
def test_a_sample_rate_has_a_range(rate: object, known: bool) -> None:
    """Both ends belong to it."""
    assert (valid_sample_rate(rate) is not None) is known


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("1000", 1000), ("1001", None)])
def test_decimal_digits_in_range_are_parsed(text: str, number: int | None) -> None:
    """Leading zeros do not matter."""
    assert parse_int_in_range(text, 0, 1000) == number


@pytest.mark.parametrize("text", [None, "", " 1", "+1", "1_0", "1.0", "٣", "²", "0x1", "9" * 5000])
def test_text_other_than_plain_digits_is_none(text: str | None) -> None:
    """`int` accepts more than a header may contain, and refuses to read thousands of digits."""
    assert parse_int_in_range(text, 0, 1 << 62) is None


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.text()), st.integers(-10, 10), st.integers(-10, 10))
def test_results_are_within_the_range(value: object, low: int, high: int) -> None:
    """Integers and floats."""
    for found in (int_in_range(value, low, high), float_in_range(value, low, high)):
        assert found is None or low <= found <= high
