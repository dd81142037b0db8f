"""Numbers of a service: what is within bounds is believed, everything else is no information and never an exception."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyclient.util import numbers as bounds

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
def test_nothing_absurd_is_a_number(value: object) -> None:
    """A truth is an int to Python, and no float holds 400 digits."""
    assert bounds.whole(value, 0, 1 << 40) is None
    assert bounds.real(value, 0, 1e9) is None
    assert bounds.seconds(value) is None
    assert bounds.sample_rate(value) is None
    assert bounds.channels(value) is None


@pytest.mark.parametrize(
    ("rate", "known"), [(0, False), (999, False), (1000, True), (768_000, True), (768_001, False), (24000.0, False)]
)
def test_a_sample_rate_has_bounds(rate: object, known: bool) -> None:
    """Both belong to it."""
    assert (bounds.sample_rate(rate) is not None) is known


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("1000", 1000), ("1001", None)])
def test_written_numbers_have_bounds(text: str, number: int | None) -> None:
    """They are plain digits."""
    assert bounds.written(text, 0, 1000) == number


@pytest.mark.parametrize("text", [None, "", " 1", "+1", "1_0", "1.0", "٣", "²", "0x1", "9" * 5000])
def test_what_is_not_plain_digits_is_no_number(text: str | None) -> None:
    """Python reads more than a header means, and refuses to read thousands of digits."""
    assert bounds.written(text, 0, 1 << 62) is None


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.text()), st.integers(-10, 10), st.integers(-10, 10))
def test_what_is_believed_is_within(value: object, low: int, high: int) -> None:
    """Of either kind."""
    for found in (bounds.whole(value, low, high), bounds.real(value, low, high)):
        assert found is None or low <= found <= high
