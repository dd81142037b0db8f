"""A transport without a socket: what a client spends on it is spent by the client alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosyclient.testing import ScriptedReply
from cosyclient.transports.base import PoolStats

if TYPE_CHECKING:
    from cosyclient.wire import WireReply, WireRequest


class InstantTransport:
    """Answer every request at once with the same reply."""

    def __init__(self, media_type: str, body: bytes = b"") -> None:
        self._headers = {"content-type": media_type}
        self._body = body

    def send(self, request: WireRequest, **_: object) -> WireReply:  # noqa: ARG002
        """Return the reply."""
        return ScriptedReply(200, self._headers, (self._body,))

    def stats(self) -> PoolStats:
        """Return an empty snapshot."""
        return PoolStats()

    def close(self) -> None:
        """Do nothing."""
