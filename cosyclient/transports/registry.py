"""The transports by medium, and whether an address and an interpreter fit them."""

from __future__ import annotations

import socket
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cosyclient.errors import ConfigurationError
from cosyclient.transports.network import network_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cosyclient.clock import Clock
    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.transports.base import Transport

_MEDIA: Final[Mapping[str, str]] = {
    "http": "http.transport:HttpTransport",
    "grpc": "grpc.transport:GrpcTransport",
    "websocket": "websocket.transport:WebSocketTransport",
}
"""What carries each medium, imported when asked for."""
_SCHEMES: Final[Mapping[str, tuple[str, ...]]] = {
    "http": ("http", "https"),
    "grpc": ("grpc", "grpcs"),
    "websocket": ("ws", "wss"),
}
_PACKAGES: Final[Mapping[str, tuple[str, str]]] = {"grpc": ("grpc", "grpc")}
"""What a medium needs beyond the core, and the extra that brings it."""
_SOCKET: Final = socket.socket
"""What it was when this was imported; gevent and eventlet put their own in its place."""


def check_runtime() -> None:
    """Raise the `ConfigurationError` of an interpreter that was patched for greenlets too late.

    eventlet leaves the locks of `concurrent.futures` as they were when that was imported: the first greenlet that has
    to wait for one would hold up all of them for ever. gevent sees to those, too.
    """
    if socket.socket is not _SOCKET and socket.socket.__module__.startswith("eventlet."):
        raise ConfigurationError("eventlet: call eventlet.monkey_patch() before cosyclient is imported, not after it")


def check_url(url: str, medium: str) -> None:
    """Raise the `ConfigurationError` of a *url* that does not fit its protocol's *medium*, or of a missing package."""
    package, extra = _PACKAGES.get(medium, ("", ""))
    if package and find_spec(package) is None:
        raise ConfigurationError(f"protocol: {medium} needs a package more: pip install '.[{extra}]' in the checkout")
    schemes = _SCHEMES[medium]
    if (scheme := urlsplit(url).scheme) not in schemes:
        raise ConfigurationError(
            f"base_url: this protocol is spoken over {medium}, so it must begin with "
            f"{' or '.join(f'{each}://' for each in schemes)}, not {scheme}://"
        )
    import httpx

    try:
        read = httpx.URL(url)
        # Asking for the host undoes its coding, which may be none.
        labels = read.raw_host.rstrip(b".").split(b".") if read.host else [b""]
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigurationError(f"base_url: cannot be an address: {error}") from None
    if not all(0 < len(label) < 64 for label in labels):
        # The resolver would stumble over it, as a UnicodeError.
        raise ConfigurationError("base_url: no host has an empty step in its name, or one of more than 63 characters")


def prepare(
    settings: ResolvedConfig, medium: str, *, given: Any = None
) -> Callable[[ResolvedConfig, Clock], Transport]:
    """Return what makes the transport for *medium*, once per process; *given* is one of the user's own.

    Whatever can be wrong with the way to the service is told now: raises `ConfigurationError`.
    """
    check_runtime()
    check_url(settings.base_url, medium)
    if given is not None and all(hasattr(given, name) for name in ("send", "stats", "close")):
        own: Transport = given
        return lambda *_: own
    module, _, kind = _MEDIA[medium].partition(":")
    make = getattr(import_module(f"cosyclient.transports.{module}"), kind)
    if given is not None:
        if medium != "http":
            raise ConfigurationError(f"transport: an httpx transport cannot carry {medium}")
        check_given(given)
        if settings.proxy is not None and settings.proxy.source == "proxy":
            raise ConfigurationError("proxy: a transport of your own finds its own way; give the proxy to that")
        return lambda settings, clock: make(settings, clock=clock, transport=given)
    network = network_of(settings)
    return lambda settings, clock: make(settings, clock=clock, network=network)


def transport_for(medium: str, settings: ResolvedConfig, *, clock: Clock) -> Transport:
    """Return what carries *medium*."""
    return prepare(settings, medium)(settings, clock)


def check_given(given: Any) -> None:
    """Raise the `ConfigurationError` of a *given* transport that is none, and say what to pass instead."""
    import httpx

    if isinstance(given, httpx.BaseTransport) or (
        not isinstance(given, type) and callable(getattr(given, "handle_request", None))
    ):
        return
    kind = f"{type(given).__module__}.{type(given).__qualname__}" if not isinstance(given, type) else "a class"
    hint = "an httpx.BaseTransport, such as httpx.MockTransport(handler), or a cosyclient transport"
    if isinstance(given, (httpx.Client, httpx.AsyncClient)):
        hint = "a transport, not a client: what its settings are for has arguments here (proxy=, verify=, …)"
    elif isinstance(given, httpx.AsyncBaseTransport):
        hint = "a synchronous transport, for its calls block: an httpx.BaseTransport"
    elif callable(getattr(given, "handler", None)):
        hint = "httpx.MockTransport(router.handler)"
    raise ConfigurationError(f"transport: must be {hint}; got {kind}")
