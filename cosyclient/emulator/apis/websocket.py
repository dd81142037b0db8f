"""What the WebSocket APIs share: the session of one client, pieces of audio, and faults of a connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.server.exchange import CONNECTION, reset

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.websockets import WebSocket

    from cosyclient.emulator.apis.base import SpeechRequest
    from cosyclient.emulator.core.service import Service
    from cosyclient.emulator.faults.plan import Fault

_COMPRESSED_PIECE_BYTES = 8000


class ClientGone(Exception):
    """The connection is closed, by the client or by a fault."""


class ClientSession:
    """One client's WebSocket from the handshake to its end; used on one event loop.

    The API calls `open` first and `release` last."""

    def __init__(self, service: Service, websocket: WebSocket) -> None:
        self.service = service
        self._socket = websocket
        self._wire = websocket.scope["extensions"][CONNECTION]
        client = websocket.scope.get("client")
        self.address: str = client[0] if client else ""
        self._next: asyncio.Task[Any] | None = None
        self._changed = asyncio.Event()
        self._dropped = False

    def __repr__(self) -> str:
        return f"<ClientSession from {self.address}>"

    async def open(self, refuse: Callable[[Problem], dict[str, Any]]) -> bool:
        """Accept the WebSocket and return True, or refuse it with the document that *refuse* makes of the Problem."""
        service = self.service
        try:
            await service.delay_round_trip()
            if (fault := service.draw_fault(handshake=True)) is not None:
                raise Problem("refused", "a fault that was asked for", status=fault["status"])
            if self._wire.refused:
                raise Problem("too_many_connections", f"at most {service.settings.connections} connections per address")
            service.check_ready()
            service.authorize(self._socket.headers.get("authorization", ""))
        except Problem as problem:
            service.counters.replies[problem.status] += 1
            headers = {name.decode(): value.decode() for name, value in problem.headers()}
            await self._socket.send_denial_response(JSONResponse(refuse(problem), problem.status, headers))
            return False
        await self._socket.accept()
        return True

    def wake(self) -> None:
        """Make `receive` return None now, so that its caller looks at what has changed."""
        self._changed.set()

    async def receive(self, seconds: float) -> str | bytes | None:
        """Return the next message, or None after so many *seconds*; raises `ClientGone`."""
        if self._dropped:
            raise ClientGone
        if self._next is None:
            self._next = asyncio.create_task(self._receive())
        woken = asyncio.create_task(self._changed.wait())
        await asyncio.wait({self._next, woken}, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        woken.cancel()
        self._changed.clear()
        if self._dropped:
            raise ClientGone
        if not self._next.done():
            return None
        done, self._next = self._next, None
        message = done.result()
        if message["type"] == "websocket.disconnect":
            raise ClientGone
        received: str | bytes = message["text"] if message.get("text") is not None else message["bytes"]
        self.service.counters.bytes_in += len(received)
        return received

    async def _receive(self) -> Any:
        return await self._socket.receive()

    async def send(self, message: dict[str, Any] | str | bytes) -> None:
        """Send a message: a document, plain text, or bytes; raises `ClientGone`."""
        try:
            if isinstance(message, bytes):
                self.service.counters.bytes_out += len(message)
                await self._socket.send_bytes(message)
            else:
                await self._socket.send_text(message if isinstance(message, str) else json.dumps(message))
        except (RuntimeError, OSError) as error:
            raise ClientGone from error

    async def close(self, code: int = 1000) -> None:
        """Close the WebSocket with its handshake."""
        # The client may have closed it already.
        with contextlib.suppress(RuntimeError, OSError):
            await self._socket.close(code)

    def abort(self, *, with_reset: bool = False) -> None:
        """Close the connection without the WebSocket's handshake, or with a TCP reset; raises `ClientGone`."""
        self._dropped = True
        self.wake()
        if with_reset:
            reset(self._wire.transport)
        else:
            self._wire.transport.close()
        raise ClientGone

    def release(self) -> None:
        """Cancel the pending read."""
        if self._next is not None:
            self._next.cancel()


class WebSocketApi:
    """Base of the APIs over WebSocket, which serve a connection at `path` in `serve`; used on one event loop."""

    path: str

    def __init__(self, service: Service) -> None:
        self.service = service

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.service!r}>"

    def routes(self) -> list[BaseRoute]:
        """Return the route of the WebSocket, and a refusal of plain HTTP there."""
        return [WebSocketRoute(self.path, self.serve), Route(self.path, _refuse_http)]

    def reset(self) -> None:
        """Do nothing: these APIs keep nothing."""

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection to its end."""
        raise NotImplementedError


async def _refuse_http(_request: Request) -> Response:
    detail = "this path speaks WebSocket; if you did, the emulator needs pip install '.[model-studio]' in the checkout"
    return JSONResponse({"detail": detail}, 426, {"upgrade": "websocket"})


async def paced(service: Service, pieces: Sequence[bytes], *, first: bool) -> AsyncIterator[bytes]:
    """Yield *pieces* at the pace of a model; *first* says that they begin the reply."""
    settings = service.settings
    for number, piece in enumerate(pieces):
        await asyncio.sleep(settings.first_chunk if first and not number else settings.chunk_gap)
        yield piece


def split_audio(service: Service, request: SpeechRequest, data: bytes) -> list[bytes]:
    """Split the audio *data* into the pieces it is sent in."""
    step = _COMPRESSED_PIECE_BYTES
    if request.format in ("pcm", "wav"):
        step = max(2, int(service.settings.chunk_seconds * request.sample_rate) * 2)
    return [data[start : start + step] for start in range(0, len(data), step)]


async def apply_to_connection(session: ClientSession, fault: Fault | None, share: float) -> None:
    """Apply *fault* to the connection once this *share* of the audio was sent; raises `ClientGone` if it is closed."""
    match fault.name if fault else "":
        case "reset" if share > 0 or (fault and fault["at"] is None):
            session.abort(with_reset=True)
        case "cut" if fault and share >= fault["share"]:
            session.abort()
        case "hang_body" if share > 0:
            await asyncio.sleep(3600)
