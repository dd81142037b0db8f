"""The target and the arguments of a gRPC channel: what `GrpcTransport` sets differently from grpcio's defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cosyclient.errors import ConfigurationError

if TYPE_CHECKING:
    from cosyclient.config import WireConfig
    from cosyclient.config.proxy import Proxy

_DEFAULT_PORTS: Final = {"grpc": 50000, "grpcs": 443}
_MAX_BYTES: Final = (1 << 31) - 1
STREAMS: Final = 100
"""Calls that one connection carries at once: the usual limit of servers and proxies, as RFC 9113 recommends."""


def target_of(base_url: str) -> tuple[str, bool]:
    """Return the target of ``grpc://host:port``, and whether it uses TLS; raises `ConfigurationError`."""
    parts = urlsplit(base_url)
    if parts.path.strip("/"):
        raise ConfigurationError(f"base_url: {parts.scheme}:// takes a host and a port, no path; got {parts.path}")
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{parts.port or _DEFAULT_PORTS[parts.scheme]}", parts.scheme == "grpcs"


def options(wire: WireConfig, *, connect: float, user_agent: str, proxy: Proxy | None = None) -> list[tuple[str, Any]]:
    """Return the channel's arguments, by the names of grpc/impl/channel_arg_names.h."""
    return [
        ("grpc.primary_user_agent", user_agent),
        # The default of 4 MiB is 43 s of float samples.
        ("grpc.max_receive_message_length", min(wire.max_reply_bytes, _MAX_BYTES)),
        ("grpc.max_send_message_length", -1),
        # Otherwise channels to one address share a connection, even with channels that a forked child inherits.
        ("grpc.use_local_subchannel_pool", 1),
        # Retries are a policy of the library, and a service's retry configuration would multiply them. Without one,
        # grpcio does not retry. Turning its retries off as well has let busy connections outlast the deadline.
        ("grpc.service_config_disable_resolution", 1),
        # Resolved in `cosyclient.transports.network`; grpcio's own search of the environment is turned off.
        ("grpc.enable_http_proxy", int(proxy is not None)),
        *([("grpc.http_proxy", proxy.url)] if proxy is not None else []),
        # A service that is back is found within seconds; the default is two minutes.
        ("grpc.min_reconnect_backoff_ms", max(100, round(connect * 1000))),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5000),
        # Servers close connections that ping more often than every five minutes, or without a call.
        ("grpc.keepalive_time_ms", 310_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
    ]
