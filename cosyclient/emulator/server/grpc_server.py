"""Serve the gRPC APIs, on a port of their own and on the event loop of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

from cosyclient.emulator.apis import build_grpc_apis
from cosyclient.emulator.extra import EmulatorError

if TYPE_CHECKING:
    from cosyclient.emulator.core.service import Service

_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Find what answers a method; messages go in and out as bytes."""

    def __init__(self, service: Service) -> None:
        self._handlers = {method: each for api in build_grpc_apis(service) for method, each in api.handlers().items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(handler_call_details.method)


async def start(service: Service) -> tuple[Any, str]:
    """Start serving, and return the server and its address."""
    settings = service.settings
    server = aio.server(options=_UNLIMITED)
    server.add_generic_rpc_handlers((_Handlers(service),))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.grpc_port}")
    except RuntimeError as error:
        raise EmulatorError(f"cannot listen on {host}:{settings.grpc_port}: {error}") from error
    await server.start()
    return server, f"grpc://{host}:{port}"
