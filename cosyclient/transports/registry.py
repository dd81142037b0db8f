"""Choose the transport for a protocol's medium, and check that address, packages and interpreter fit it.

Used by the pipeline when a client is made, and by the command line. Nothing here imports httpx before that: it takes
as long as all the rest of ``import cosyclient``.
"""

from __future__ import annotations

import socket
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cosyclient.errors import ConfigurationError
from cosyclient.wire import SCHEMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cosyclient.clock import Clock
    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.transports.base import Transport

_TRANSPORTS: Final[Mapping[str, str]] = {
    "http": "http.transport:HttpTransport",
    "grpc": "grpc.transport:GrpcTransport",
    "websocket": "websocket.transport:WebSocketTransport",
}
"""The class of each medium's transport, imported when it is needed."""
_PACKAGES: Final[Mapping[str, tuple[str, str]]] = {"grpc": ("grpc", "grpc")}
"""The package a medium needs beyond the core, and the extra that installs it."""
_UNPATCHED_SOCKET: Final = socket.socket
"""The class when this module was imported; gevent and eventlet replace it by their own."""


def check_runtime() -> None:
    """Raise `ConfigurationError` when the interpreter was patched for greenlets too late.

    eventlet does not replace the locks that `concurrent.futures` made when it was imported: the first greenlet that has
    to wait for one would block all of them for ever. gevent replaces those, too.
    """
    if socket.socket is not _UNPATCHED_SOCKET and socket.socket.__module__.startswith("eventlet."):
        raise ConfigurationError("eventlet: call eventlet.monkey_patch() before cosyclient is imported, not after it")


def check_url(url: str, medium: str) -> None:
    """Raise `ConfigurationError` for a *url* that does not fit its protocol's *medium*, or for a missing package."""
    package, extra = _PACKAGES.get(medium, ("", ""))
    if package and find_spec(package) is None:
        raise ConfigurationError(f"protocol: {medium} needs a package more: pip install '.[{extra}]' in the checkout")
    schemes = SCHEMES[medium]
    if (scheme := urlsplit(url).scheme) not in schemes:
        raise ConfigurationError(
            f"base_url: this protocol is spoken over {medium}, so it must begin with "
            f"{' or '.join(f'{each}://' for each in schemes)}, not {scheme}://"
        )
    import httpx

    try:
        read = httpx.URL(url)
        # Reading .host decodes the name, which may raise.
        labels = read.raw_host.rstrip(b".").split(b".") if read.host else [b""]
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigurationError(f"base_url: cannot be an address: {error}") from None
    if not all(0 < len(label) < 64 for label in labels):
        # The resolver would raise a UnicodeError.
        raise ConfigurationError("base_url: no host name has an empty label, or one of more than 63 characters")


def prepare(
    settings: ResolvedConfig, medium: str, *, given: Any = None
) -> Callable[[ResolvedConfig, Clock], Transport]:
    """Return a function that makes the transport for *medium*, called once per process; *given* is the user's own.

    Everything about the way to the service is checked here, before the first call: raises `ConfigurationError`.
    """
    check_runtime()
    check_url(settings.base_url, medium)
    if given is not None and all(hasattr(given, name) for name in ("send", "stats", "close")):
        own: Transport = given
        return lambda *_: own
    module, _, kind = _TRANSPORTS[medium].partition(":")
    make = getattr(import_module(f"cosyclient.transports.{module}"), kind)
    if given is not None:
        if medium != "http":
            raise ConfigurationError(f"transport: an httpx transport cannot carry {medium}")
        check_given(given)
        if settings.proxy is not None and settings.proxy.source == "proxy":
            raise ConfigurationError("proxy: a transport of your own finds its own way; give the proxy to that")
        return lambda settings, clock: make(settings, clock=clock, transport=given)
    from cosyclient.transports.network import resolve_network

    network = resolve_network(settings)
    return lambda settings, clock: make(settings, clock=clock, network=network)


def transport_for(medium: str, settings: ResolvedConfig, *, clock: Clock) -> Transport:
    """Return the transport for *medium*; raises `ConfigurationError`."""
    return prepare(settings, medium)(settings, clock)


def check_given(given: Any) -> None:
    """Raise `ConfigurationError` when *given* is no transport, and name what to pass instead."""
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
