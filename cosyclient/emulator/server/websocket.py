"""Keep a connection that becomes a WebSocket counted; imported when the first one does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from cosyclient.emulator.server.exchange import CONNECTION

if TYPE_CHECKING:
    from collections.abc import Callable


class CountedWebSocket(WebSocketsSansIOProtocol):
    """Serve a WebSocket on a connection that was counted when it was opened."""

    refused = False
    on_lost: Callable[[], None] | None = None
    """Called when the connection ends, to take it off the count."""

    def handle_connect(self, event: Any) -> None:
        """Begin, and give the API access to the connection."""
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"][CONNECTION] = self

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and take the connection off the count."""
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()
            self.on_lost = None
