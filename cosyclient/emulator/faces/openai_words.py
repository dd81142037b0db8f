"""Say when each word is spoken, in a header as vLLM-Omni does: as if all characters took as long."""

from __future__ import annotations

import json
import re

_MOST_BYTES = 4096
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)


def words_header(text: str, duration_ms: int) -> tuple[bytes, bytes]:
    """Return the header that names the words of *text*, or the one that says that they would be too many."""
    words = _WORD.findall(text)
    whole, at, listed = sum(map(len, words)) or 1, 0, []
    for word in words:
        end = at + len(word)
        listed.append({"word": word, "start_ms": at * duration_ms // whole, "end_ms": end * duration_ms // whole})
        at = end
    value = json.dumps(listed).encode()
    if len(value) > _MOST_BYTES:
        return b"x-word-timestamps-omitted", b"true"
    return b"x-word-timestamps", value
