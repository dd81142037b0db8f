"""Hold what is rendered, and what becomes of each text: audio or a failure."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold valid texts and the voice settings they share."""

    texts: list[str]
    model: str
    voice: str
    format: str
    sample_rate: int
    speed: float
    instruct: str | None
    seed: int | None


@dataclass(slots=True, eq=False)
class Audio:
    """Hold the encoded audio of one text, and the forms in which replies carry it, made once."""

    data: bytes
    media_type: str
    sample_rate: int
    duration_ms: int
    frame_heads: dict[int, bytes] = field(default_factory=dict)
    """Heads of its frame in the batch protocol, by the index it is sent under."""
    _base64: bytes = b""

    def base64(self) -> bytes:
        """Return the audio in base64."""
        if not self._base64:
            self._base64 = base64.b64encode(self.data)
        return self._base64


@dataclass(frozen=True, slots=True)
class Failure:
    """Say why one text has no audio."""

    code: str
    detail: str
    retryable: bool
    retry_after_ms: int | None = None

    def document(self) -> dict[str, Any]:
        """Return the ``error`` member of the item."""
        return {
            "code": self.code,
            "detail": self.detail,
            "retryable": self.retryable,
            "retry_after_ms": self.retry_after_ms,
        }
