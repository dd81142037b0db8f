"""Base64 (RFC 4648, section 4, no other characters) and JSON (RFC 8259), parsed strictly and with bounded memory.

Base64 is decoded by pybase64 where the extra ``fast`` is installed, thirty times as fast as by the standard library.
"""

from __future__ import annotations

import binascii
import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_VALUES: Final = 100_000
"""Values of one JSON document: ten times those of a text's word timestamps, 100 bytes of memory each, read in 20 ms."""


def exceeds_value_limit(data: str | bytes | bytearray, max_values: int = MAX_VALUES) -> bool:
    """Return whether the JSON in *data* may hold more than *max_values* values; strings are counted too generously."""
    if len(data) <= max_values:
        return False
    if isinstance(data, str):
        return data.count("[") + data.count("{") + data.count(",") > max_values
    return data.count(b"[") + data.count(b"{") + data.count(b",") > max_values


def parse_json(data: str | bytes | bytearray, *, max_values: int = MAX_VALUES) -> Any:
    """Return the JSON value in *data*; `ValueError` if it is malformed, too deep, or of more than *max_values* values.

    They are counted first: three bytes, ``[],``, take a hundred in memory, and the parser cannot be interrupted.
    """
    if exceeds_value_limit(data, max_values):
        raise ValueError(f"JSON of more than {max_values} values")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def parse_base64(encoded: str | bytes | memoryview) -> bytes:
    """Return the bytes that *encoded* holds; `ValueError` for anything but the alphabet and its padding."""
    if (fast := _fast_decoder()) is not None:
        try:
            return fast(encoded)
        except ValueError:
            # It rejects a little more (bits left over). The standard library decides, installed or not.
            pass
    return binascii.a2b_base64(encoded, strict_mode=True)


@cache
def _fast_decoder() -> Callable[[str | bytes | memoryview], bytes] | None:
    try:
        import pybase64
    except ImportError:
        return None
    return lambda encoded: pybase64.b64decode(encoded, validate=True)
