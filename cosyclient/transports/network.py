"""Resolve the way to a service, once, when its client is made: the trusted certificates and the proxy.

Used by `cosyclient.transports.registry`, by each transport made without a `Network`, and by ``cosyclient doctor``.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from cosyclient.config.proxy import Proxy
from cosyclient.errors import ConfigurationError
from cosyclient.transports.tls import root_certificates, tls_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from cosyclient.config.resolve import ResolvedConfig

_TLS_SCHEMES: Final = ("https", "wss")
_PROXY_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "http": ("http",),
    "https": ("https",),
    # A proxy used for TLS supports CONNECT, which a WebSocket needs (RFC 6455, 4.1).
    "ws": ("ws", "https", "http"),
    "wss": ("wss", "https"),
    "grpc": ("grpc", "https", "http"),
    "grpcs": ("grpc", "https"),
}
"""The variables that may name a proxy for each scheme, without ``_PROXY``; the first that is set decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Hold the way to one service; ``tls`` is None for a scheme without TLS, and for gRPC, which has its own."""

    tls: ssl.SSLContext | None = None
    root_certificates: bytes | None = None
    """The certificates to trust over gRPC, as PEM; ``None`` means those that grpcio ships."""
    proxy: Proxy | None = None


def resolve_network(settings: ResolvedConfig) -> Network:
    """Return the way to the service that *settings* and the environment describe; raises `ConfigurationError`."""
    scheme = urlsplit(settings.base_url).scheme
    proxy = settings.proxy or (proxy_from_environment(settings.base_url) if settings.trust_env else None)
    if proxy is not None and proxy.scheme != "http" and scheme in ("grpc", "grpcs"):
        raise ConfigurationError(f"{proxy.source}: gRPC goes through HTTP proxies only; name one, http://host:port")
    verify, name, trust_env = settings.verify, settings.verify_name, settings.trust_env
    return Network(
        tls=tls_context(verify, name=name, trust_env=trust_env) if scheme in _TLS_SCHEMES else None,
        root_certificates=root_certificates(verify, name=name, trust_env=trust_env) if scheme == "grpcs" else None,
        proxy=proxy,
    )


def proxy_from_environment(url: str) -> Proxy | None:
    """Return the proxy that the environment names for *url*, by the rules of httpx; raises `ConfigurationError`.

    As in Go, and unlike in httpx, loopback addresses are reached without a proxy, which could not reach them. NO_PROXY
    may name networks (``10.0.0.0/8``), as in requests.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = getproxies()
    if not proxies or _is_loopback(host) or proxy_bypass(parts.netloc) or _in_networks(host, proxies.get("no", "")):
        return None
    scheme = next(filter(proxies.get, (*_PROXY_VARIABLES[parts.scheme], "all")), None)
    return None if scheme is None else Proxy.parse(f"{scheme.upper()}_PROXY", proxies[scheme])


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback)


def _in_networks(host: str, exceptions: str) -> bool:
    address = _address(host)
    if address is None:
        return False
    for each in exceptions.split(","):
        with contextlib.suppress(ValueError):
            if address in ip_network(each.strip(), strict=False):
                return True
    return False


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
