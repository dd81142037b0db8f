"""Time the words of a text, as if all characters took the same time."""

from __future__ import annotations

import re
from typing import NamedTuple

# A Han, Kana or Hangul character is a word; of other scripts, a run of letters and digits.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)


class WordTiming(NamedTuple):
    """A word, its characters in the text, and the milliseconds in which it is spoken."""

    text: str
    start: int
    end: int
    begin_ms: int
    end_ms: int


def word_timings(text: str, begin_ms: int, duration_ms: int) -> list[WordTiming]:
    """Return the words of *text*, whose audio begins at *begin_ms* and lasts *duration_ms*."""
    words = list(_WORD.finditer(text))
    characters = sum(len(word[0]) for word in words) or 1
    timed, at = [], 0
    for word in words:
        end = at + len(word[0])
        begins, ends = (begin_ms + each * duration_ms // characters for each in (at, end))
        timed.append(WordTiming(word[0], word.start(), word.end(), begins, ends))
        at = end
    return timed
