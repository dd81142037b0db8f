"""Base64 (RFC 4648, section 4, no other characters) and JSON (RFC 8259), parsed strictly and with bounded memory.

Base64 is decoded by pybase64 where the extra ``fast`` is installed, thirty times as fast as by the standard library.
"""

from __future__ import annotations

import binascii
import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_TOGETHER: Final = 16
"""Parts that are decoded in one call: more would leave the processor's cache."""
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


def parse_base64_parts(parts: Sequence[memoryview]) -> Iterator[bytes]:
    """Yield the bytes of each of *parts*, as `parse_base64` does, which raises for a malformed one.

    pybase64 gives up the interpreter in every call, and a thread on another core takes it: on two cores, two changes of
    threads a text cost as much as all its decoding. Decoding many in one call makes a quarter as many.
    """
    fast = _fast_decoder()
    for first in range(0, len(parts), _TOGETHER):
        some = parts[first : first + _TOGETHER]
        yield from (fast and _decode_joined(some, fast)) or map(parse_base64, some)


def _decode_joined(parts: Sequence[memoryview], decode: Callable[[bytes], bytes]) -> list[bytes] | None:
    """Return the bytes of each of *parts*, decoded in one call; ``None`` if one is malformed."""
    pieces: list[bytes | memoryview] = []
    places: list[slice] = []
    end = 0
    for part in parts:
        if len(part) % 4:
            return None
        tail = part[-2:].tobytes()
        padding = len(tail) - len(tail.rstrip(b"="))
        # Amid joined parts, characters of zero bits stand for the padding.
        pieces += (part[: len(part) - padding], b"AA"[:padding])
        start, end = end, end + len(part) // 4 * 3
        places.append(slice(start, end - padding))
    try:
        data = decode(b"".join(pieces))
    except ValueError:
        return None
    return [data[place] for place in places]


@cache
def _fast_decoder() -> Callable[[str | bytes | memoryview], bytes] | None:
    try:
        import pybase64
    except ImportError:
        return None
    return lambda encoded: pybase64.b64decode(encoded, validate=True)
