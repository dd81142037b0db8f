"""Run the service on uvicorn, with a connection class that counts, refuses and gives faults access to the socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cosyclient.emulator.core.service import Service
from cosyclient.emulator.extra import EmulatorError
from cosyclient.emulator.server.app import build_app
from cosyclient.emulator.server.exchange import CONNECTION, reset
from cosyclient.emulator.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BACKLOG = 2048
_GRACE = 3


def serve_foreground(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until interrupted; *announce* is called with the addresses once connections are accepted."""
    listener = _listen(settings.host, settings.port)

    def report(grpc_url: str) -> None:
        announce(" and ".join(filter(None, (_url(listener), grpc_url))))

    server = _Server(settings, [listener], report)
    try:
        server.run()
    except KeyboardInterrupt:
        pass  # uvicorn raises it again once everything is closed
    finally:
        listener.close()


def serve_supervised(settings: Mapping[str, Any]) -> None:
    """Serve for the parent process: report the addresses on stdout, end when stdin ends.

    The parent uses a second port, so that its requests are neither counted nor limited.
    """
    listener, control = _listen(settings["host"], settings["port"]), _listen("127.0.0.1", 0)

    def report(grpc_url: str) -> None:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _exit_at_end_of_input)
        addresses = {"url": _url(listener), "control": control.getsockname()[1], "grpc": grpc_url}
        sys.stdout.write(json.dumps(addresses) + "\n")
        sys.stdout.flush()

    _Server(Settings(**settings), [listener, control], report, control).run()


def _exit_at_end_of_input() -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        # At once: there is no state to save, and a hanging request must not delay the parent.
        os._exit(0)


class _Server(Server):
    """Serve given sockets, and call *started* once connections are accepted."""

    def __init__(
        self,
        settings: Settings,
        listeners: list[socket.socket],
        started: Callable[[str], None],
        control: socket.socket | None = None,
    ) -> None:
        self._service = service = Service(settings)
        self._grpc: Any = None
        control_port = control.getsockname()[1] if control else 0
        config = Config(
            build_app(service),
            http=_connection_class(service, control_port),
            loop="asyncio",
            # The connection class has its own, imported when a client opens the first WebSocket.
            ws="none",
            ws_ping_interval=None,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_GRACE,
        )
        # The option is typed in whole seconds, the timer takes any number.
        config.timeout_keep_alive = settings.keep_alive  # type: ignore[assignment]
        super().__init__(config)
        self._listeners = listeners
        self._on_started = started

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run(sockets or self._listeners)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        address = ""
        if self._service.settings.grpc:
            # Imported when asked for: it takes long, and needs packages that the other APIs do not.
            from cosyclient.emulator.server import grpc_server

            self._grpc, address = await grpc_server.start(self._service)
        self._on_started(address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._grpc is not None:
            await self._grpc.stop(None)
        await super().shutdown(sockets)


def _connection_class(service: Service, control_port: int) -> type[HttpToolsProtocol]:
    """Return a protocol class tied to this service; uvicorn makes one instance per connection."""
    connections, resets = service.connections, service.settings.connection_refusal == "reset"

    has_websockets = find_spec("websockets") is not None

    class CountedConnection(HttpToolsProtocol):
        refused = False
        _counted = ""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if control_port and self.server and self.server[1] == control_port:
                return
            address = self.client[0] if self.client else ""
            if connections.admit(address):
                self._counted = address or "?"
            else:
                self.refused = True
                if resets:
                    reset(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._counted:
                connections.release(self._counted)
                self._counted = ""

        def _should_upgrade_to_ws(self) -> bool:
            return has_websockets

        def handle_websocket_upgrade(self) -> None:
            from cosyclient.emulator.server.websocket import CountedWebSocket

            self.ws_protocol_class = CountedWebSocket
            super().handle_websocket_upgrade()
            # From now on the other protocol is told when the connection ends.
            successor = self.transport.get_protocol()
            assert isinstance(successor, CountedWebSocket)  # noqa: S101 - it has just been put there
            successor.refused = self.refused
            if self._counted:
                successor.on_lost = partial(connections.release, self._counted)
                self._counted = ""

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope["extensions"] = {CONNECTION: self}  # type: ignore[dict-item]

    return CountedConnection


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # The protocol is named because asyncio sets TCP_NODELAY only where it is: without, Nagle's algorithm and the
        # peer's delayed acknowledgements add 40 ms to every reply. `socket.create_server` cannot name it.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener
    except OSError as error:
        raise EmulatorError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
