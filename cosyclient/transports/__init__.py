"""The transports: one request, one reply, within a deadline, over whatever medium a protocol needs."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cosyclient.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosyclient.clock import Clock
    from cosyclient.settings import ResolvedConfig
    from cosyclient.transports.base import Transport

_MEDIA: Final[Mapping[str, str]] = {
    "http": "http:HttpTransport",
    "grpc": "grpc_channel:GrpcTransport",
    "websocket": "websocket_pool:WebSocketTransport",
}
"""What carries each medium, imported when asked for."""
_SCHEMES: Final[Mapping[str, tuple[str, ...]]] = {
    "http": ("http", "https"),
    "grpc": ("grpc", "grpcs"),
    "websocket": ("ws", "wss"),
}

_PACKAGES: Final[Mapping[str, tuple[str, str]]] = {"grpc": ("grpc", "grpc")}
"""What a medium needs beyond the core, and the extra that brings it."""


def check_url(url: str, medium: str) -> None:
    """Raise the `ConfigurationError` of a *url* that does not fit its protocol's *medium*, or of a missing package."""
    package, extra = _PACKAGES.get(medium, ("", ""))
    if package and find_spec(package) is None:
        raise ConfigurationError(f"protocol: {medium} needs a package more: pip install 'cosyclient[{extra}]'")
    schemes = _SCHEMES[medium]
    if (scheme := urlsplit(url).scheme) not in schemes:
        raise ConfigurationError(
            f"base_url: this protocol is spoken over {medium}, so it must begin with {' or '.join(schemes)}://, "
            f"not {scheme}://"
        )


def transport_for(medium: str, settings: ResolvedConfig, *, clock: Clock, given: Any = None) -> Transport:
    """Return what carries *medium*; *given* is an httpx transport to carry HTTP."""
    if given is not None and medium != "http":
        raise ConfigurationError(f"transport: an httpx transport cannot carry {medium}")
    module, _, kind = _MEDIA[medium].partition(":")
    make = getattr(import_module(f"cosyclient.transports.{module}"), kind)
    made: Transport = make(settings, clock=clock) if given is None else make(settings, clock=clock, transport=given)
    return made
