"""Gzip what is sent, where ``wire.gzip_requests`` asks for it or the service's replies allow it."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosyclient.config import WireConfig
    from cosyclient.wire import WireRequest

# Audio, in a form or in tensors, hardly gets smaller.
_COMPRESSIBLE: Final = "application/json"
_ACCEPTS_GZIP: Final = re.compile(
    r"(?:^|,)\s*(?:x-)?gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[^,]*)?(?:,|$)", re.IGNORECASE
)
_UNSUPPORTED: Final = 415
# The statuses of servers that take the compressed bytes for the content: unreadable, invalid, or a failing handler.
_NOT_UNDERSTOOD: Final = frozenset({400, _UNSUPPORTED, 422, 500, 501})


class RequestCompression:
    """Gzip the requests to one service, and learn from its replies whether it accepts that; safe to share.

    ``Accept-Encoding: gzip`` in a reply allows it for the next request (RFC 9110, 12.5.3), and 415 refuses a content
    coding. From a service that has never accepted a compressed request, other statuses count as a refusal, too.
    """

    def __init__(self, wire: WireConfig) -> None:
        self._above_bytes = wire.gzip_above_bytes
        self._may_learn = wire.gzip_requests is None
        # No lock: both change once, and a thread that reads the old value sends one request too many at worst.
        self._enabled = wire.gzip_requests is True
        self._accepted = False

    def encode(self, request: WireRequest) -> WireRequest:
        """Return *request* as it is to be sent: unchanged, or with its body gzipped; the same bytes each time."""
        if not self._enabled or self._above_bytes is None or len(request.body) <= self._above_bytes:
            return request
        media_type = next((value for name, value in request.headers if name.lower() == "content-type"), "")
        if not media_type.startswith(_COMPRESSIBLE):
            return request
        body = gzip.compress(request.body, 1, mtime=0)
        if len(body) >= len(request.body):
            return request
        return replace(request, headers=(*request.headers, ("Content-Encoding", "gzip")), body=body)

    def refused(self, status: int, headers: Mapping[str, str], *, compressed: bool) -> bool:
        """Learn from a reply's head; return whether it refuses gzip, so that the request must be sent again without."""
        if compressed:
            if status == _UNSUPPORTED or (status in _NOT_UNDERSTOOD and not self._accepted):
                self._enabled = self._may_learn = False
                return True
            self._accepted = self._accepted or status < 300
        elif self._may_learn and not self._enabled and _ACCEPTS_GZIP.search(headers.get("accept-encoding") or ""):
            self._enabled = True
        return False

    def __repr__(self) -> str:
        return f"<RequestCompression {'gzip' if self._enabled else 'plain'}>"
