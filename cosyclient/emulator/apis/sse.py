"""Write server-sent events as these services do."""

from __future__ import annotations

import json
from typing import Any

EVENTS = "text/event-stream;charset=utf-8"


def event(document: Any, *, head: str = "", lines: bool = False) -> bytes:
    """Return one event after the lines of *head*; with *lines* its data is spread over several."""
    text = json.dumps(document, ensure_ascii=False, indent=1 if lines else None, separators=(",", ":"))
    data = "".join(f"data:{line}\n" for line in text.split("\n"))
    return f"{head}{data}\n".encode()
