"""Check numbers that a service or a caller gives: the number if it is in range, ``None`` otherwise, never an exception.

JSON has integers of thousands of digits, NaN and infinity, and ``true`` is an `int` in Python. Used unchecked, each of
them raises an unrelated exception later, or is taken for a value.
"""

from __future__ import annotations

from typing import Final

SAMPLE_RATE_RANGE: Final = (1_000, 768_000)
"""Hz; wider than the rates of every known service."""
CHANNEL_COUNT_RANGE: Final = (1, 8)


def int_in_range(value: object, low: int, high: int) -> int | None:
    """Return *value* if it is an integer from *low* to *high*, both included; a bool is no integer."""
    return value if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high else None


def float_in_range(value: object, low: float, high: float) -> float | None:
    """Return *value* as a float if it is a number from *low* to *high*, both included; a bool is no number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    # The comparison is false for NaN, and takes integers that no float can hold.
    return float(value) if low <= value <= high else None


def parse_int_in_range(text: str | None, low: int, high: int) -> int | None:
    """Return the integer that *text* writes in plain decimal digits, if it is from *low* to *high*."""
    # More digits exceed every limit here, and Python refuses to parse thousands of them.
    if text is None or not 0 < len(text) < 20 or not (text.isascii() and text.isdigit()):
        return None
    return int_in_range(int(text), low, high)


def valid_sample_rate(value: object) -> int | None:
    """Return *value* if it is a sample rate in Hz within `SAMPLE_RATE_RANGE`."""
    return int_in_range(value, *SAMPLE_RATE_RANGE)


def valid_channel_count(value: object) -> int | None:
    """Return *value* if it is a number of channels within `CHANNEL_COUNT_RANGE`."""
    return int_in_range(value, *CHANNEL_COUNT_RANGE)


def seconds_from_ms(milliseconds: object) -> float | None:
    """Return *milliseconds*, from 0 to a million seconds, in seconds."""
    found = float_in_range(milliseconds, 0, 1e9)
    return None if found is None else found / 1000
