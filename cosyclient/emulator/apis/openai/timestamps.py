"""Say when each word is spoken, in a header as vLLM-Omni does: as if all characters took as long."""

from __future__ import annotations

import json
import re
from typing import Any

_MOST_BYTES = 4096
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)


def times_of(text: str, duration_ms: int) -> list[dict[str, Any]]:
    """Return the words of *text* with the milliseconds from which to which they are spoken."""
    words = _WORD.findall(text)
    whole, at, listed = sum(map(len, words)) or 1, 0, []
    for word in words:
        end = at + len(word)
        listed.append({"word": word, "start_ms": at * duration_ms // whole, "end_ms": end * duration_ms // whole})
        at = end
    return listed


def words_header(text: str, duration_ms: int) -> tuple[bytes, bytes]:
    """Return the header that names the words of *text*, or the one that says that they would be too many."""
    value = json.dumps(times_of(text, duration_ms)).encode()
    if len(value) > _MOST_BYTES:
        return b"x-word-timestamps-omitted", f"oversize; bytes={len(value)}; limit={_MOST_BYTES}".encode()
    return b"x-word-timestamps", value
