"""Numbers that others say, within bounds; what is not within them, or no number, is no information.

JSON knows integers of thousands of digits, NaN and infinity, and ``true`` is an `int` to Python: used as they come, any
of them raises something foreign somewhere, or is believed.
"""

from __future__ import annotations

from typing import Final

SAMPLE_RATES: Final = (1_000, 768_000)
"""Hz; what any service was seen to serve lies well within."""
CHANNELS: Final = (1, 8)


def whole(value: object, low: int, high: int) -> int | None:
    """Return *value* if it is a whole number from *low* to *high*, ``None`` otherwise; a truth is no number."""
    return value if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high else None


def real(value: object, low: float, high: float) -> float | None:
    """Return *value* as a float if it is a number from *low* to *high*, ``None`` otherwise."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    # The comparison is false for NaN, and takes integers that no float can hold.
    return float(value) if low <= value <= high else None


def written(text: str | None, low: int, high: int) -> int | None:
    """Return the whole number from *low* to *high* that *text* is the plain decimal digits of, ``None`` otherwise."""
    # More digits than these are beyond any bound of ours, and Python refuses to read thousands of them.
    if text is None or not 0 < len(text) < 20 or not (text.isascii() and text.isdigit()):
        return None
    return whole(int(text), low, high)


def sample_rate(value: object) -> int | None:
    """Return *value* if it is a sample rate in Hz."""
    return whole(value, *SAMPLE_RATES)


def channels(value: object) -> int | None:
    """Return *value* if it is a number of channels."""
    return whole(value, *CHANNELS)


def seconds(milliseconds: object) -> float | None:
    """Return the seconds that *milliseconds* from 0 to a million seconds are, ``None`` otherwise."""
    found = real(milliseconds, 0, 1e9)
    return None if found is None else found / 1000
