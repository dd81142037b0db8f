"""Write the timings of words as vLLM-Omni does, in JSON and in a header."""

from __future__ import annotations

import json
from typing import Any

from cosyclient.emulator.speech.timings import word_timings

_MOST_BYTES = 4096


def word_documents(text: str, duration_ms: int) -> list[dict[str, Any]]:
    """Return the words of *text* with the milliseconds in which they are spoken."""
    return [
        {"word": word.text, "start_ms": word.begin_ms, "end_ms": word.end_ms}
        for word in word_timings(text, 0, duration_ms)
    ]


def words_header(text: str, duration_ms: int) -> tuple[bytes, bytes]:
    """Return the header with the words of *text*, or the one that replaces it when it would be too long."""
    value = json.dumps(word_documents(text, duration_ms)).encode()
    if len(value) > _MOST_BYTES:
        return b"x-word-timestamps-omitted", f"oversize; bytes={len(value)}; limit={_MOST_BYTES}".encode()
    return b"x-word-timestamps", value
