"""Whether what is sent travels gzipped: only where that was asked for, or the service has said that it may."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosyclient.config import WireConfig
    from cosyclient.wire import WireRequest

# Audio in a form or in tensors has next to nothing to give.
_WORTH: Final = "application/json"
_TAKES_GZIP: Final = re.compile(
    r"(?:^|,)\s*(?:x-)?gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[^,]*)?(?:,|$)", re.IGNORECASE
)
_UNSUPPORTED: Final = 415
# What servers answer that take the packed bytes for the content itself: unreadable, invalid, a fault of the handler's.
_PUZZLED: Final = frozenset({400, _UNSUPPORTED, 422, 500, 501})


class Packing:
    """Pack what goes to one service, and learn from its replies; safe to share between threads.

    A reply may say ``Accept-Encoding: gzip`` of the next request (RFC 9110, 12.5.3), and 415 that a content coding is
    unknown. A service that has never taken a packed request may refuse one in other words, too.
    """

    def __init__(self, wire: WireConfig) -> None:
        self._above_bytes = wire.gzip_above_bytes
        self._may_learn = wire.gzip_requests is None
        # Both only ever change once, and whoever reads the old value asks once more at worst.
        self._on = wire.gzip_requests is True
        self._taken = False

    def packed(self, request: WireRequest) -> WireRequest:
        """Return *request* as it is to be sent: the same one, or its body gzipped; the same bytes each time."""
        if not self._on or self._above_bytes is None or len(request.body) <= self._above_bytes:
            return request
        kind = next((value for name, value in request.headers if name.lower() == "content-type"), "")
        if not kind.startswith(_WORTH):
            return request
        body = gzip.compress(request.body, 1, mtime=0)
        if len(body) >= len(request.body):
            return request
        return replace(request, headers=(*request.headers, ("Content-Encoding", "gzip")), body=body)

    def refused(self, status: int, headers: Mapping[str, str], *, packed: bool) -> bool:
        """Learn from a reply's head; return whether it refuses a *packed* request for being so, and wants it plain."""
        if packed:
            if status == _UNSUPPORTED or (status in _PUZZLED and not self._taken):
                self._on = self._may_learn = False
                return True
            self._taken = self._taken or status < 300
        elif self._may_learn and not self._on and _TAKES_GZIP.search(headers.get("accept-encoding") or ""):
            self._on = True
        return False

    def __repr__(self) -> str:
        return f"<Packing {'gzip' if self._on else 'plain'}>"
