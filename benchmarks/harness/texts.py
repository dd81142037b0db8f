"""Make the texts that every client gets: 20 Chinese characters each, and no two alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

CHARACTERS: Final = 20
DIFFERENT: Final = 16**5
"""How many texts there are before the first comes again."""

# fmt: off
_PHRASES: Final = (
    "春暖花开", "风和日丽", "海阔天空", "青山绿水", "万里无云", "月明星稀", "鸟语花香", "秋高气爽",
    "日出东方", "细水长流", "大雪纷飞", "四季如春", "百花齐放", "晴空万里", "山清水秀", "雨过天晴",
)
# fmt: on


def text(number: int) -> str:
    """Return text *number*: five phrases of four characters, chosen by its hexadecimal digits."""
    return "".join(_PHRASES[number >> shift & 15] for shift in (16, 12, 8, 4, 0))


def texts(count: int, first: int = 0) -> Iterator[str]:
    """Yield *count* texts from number *first* on."""
    return map(text, range(first, first + count))
