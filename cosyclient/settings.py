"""What a client runs on: arguments, environment and defaults combined, cross-checked and frozen."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cosyclient.config import ClientConfig, check_count, check_number
from cosyclient.errors import BadUtterance, ConfigurationError
from cosyclient.models import VoiceSettings
from cosyclient.sizing import Sizing, field_report, littles_law

if TYPE_CHECKING:
    from collections.abc import Mapping


class Secret:
    """Keep a secret out of reprs and logs; `reveal` gives it to the one place that sends it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "<secret ****>"


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig:
    """Hold what a client runs on, arguments, environment and defaults combined and cross-checked."""

    base_url: str
    api_key: Secret | None
    protocol: str | None
    voice: VoiceSettings
    requests_per_second: float
    max_connections: int
    max_batch: int
    timeout: float | None
    max_retries: int
    sizing: Sizing
    max_pending: int
    bulk_pending: int
    """Of these, what bulk calls may take."""
    rest: ClientConfig


def resolve(
    *,
    base_url: str | None,
    api_key: str | None,
    protocol: str | None,
    voice: Mapping[str, Any],
    requests_per_second: float,
    max_connections: int,
    concurrency: int | None,
    max_batch: int,
    timeout: float | None,
    max_retries: int,
    config: ClientConfig | None,
    environ: Mapping[str, str] | None = None,
) -> ResolvedConfig:
    """Combine arguments, environment and defaults; an explicit argument wins.

    ``None`` reads ``COSYCLIENT_BASE_URL``, ``_API_KEY``, ``_MODEL``, ``_VOICE``, ``_PROTOCOL``, ``_CONCURRENCY`` and
    ``_TIMEOUT``.
    Raises `ConfigurationError` naming the field and the rule.
    """
    env = os.environ if environ is None else environ
    rest = ClientConfig() if config is None else config
    if not isinstance(rest, ClientConfig):
        raise ConfigurationError(f"config: must be a ClientConfig, got {type(rest).__name__}")
    check_number("requests_per_second", requests_per_second, low=0, above=True)
    check_count("max_connections", max_connections)
    check_count("max_batch", max_batch)
    check_count("max_retries", max_retries, low=0)
    if timeout is None:
        timeout = _from_env(env, "COSYCLIENT_TIMEOUT", float)
    if timeout is not None:
        check_number("timeout", timeout, low=0, above=True)
    if concurrency is None:
        concurrency = _from_env(env, "COSYCLIENT_CONCURRENCY", int)
    if concurrency is not None:
        check_count("concurrency", concurrency)
    if rest.pool.per_route is not None:
        concurrency = field_report(
            cores=os.cpu_count() or 1, concurrency=concurrency or max_connections, per_route=rest.pool.per_route
        )
    sizing = littles_law(
        rate=requests_per_second,
        latency=rest.pool.expected_latency,
        headroom=rest.pool.headroom,
        connection_limit=min(max_connections, rest.pool.total or max_connections),
        max_batch=max_batch,
        permits=concurrency,
    )
    if rest.queue.overflow == "caller_runs":
        # Callers that carry a batch themselves do so beyond the workers, within what the service allows.
        sizing = replace(sizing, permits=max_connections, connections=max_connections)
    settings = dict(voice)
    for name in ("model", "voice"):
        if settings.get(name) is None:
            settings[name] = env.get(f"COSYCLIENT_{name.upper()}") or None
    try:
        defaults = VoiceSettings(**settings)
    except BadUtterance as error:
        raise ConfigurationError(str(error)) from None
    key = api_key if api_key is not None else env.get("COSYCLIENT_API_KEY")
    if key is not None and (not key.isascii() or not key.isprintable() or key != key.strip()):
        raise ConfigurationError("api_key: must be printable ASCII without blanks around it (value not shown)")
    max_pending = rest.queue.max_pending or sizing.queue
    return ResolvedConfig(
        base_url=_checked_url(base_url if base_url is not None else env.get("COSYCLIENT_BASE_URL")),
        api_key=Secret(key) if key else None,
        protocol=protocol if protocol is not None else env.get("COSYCLIENT_PROTOCOL") or None,
        voice=defaults,
        requests_per_second=float(requests_per_second),
        max_connections=max_connections,
        max_batch=max_batch,
        timeout=timeout,
        max_retries=max_retries,
        sizing=sizing,
        max_pending=max_pending,
        bulk_pending=max(1, round(max_pending * rest.queue.bulk_share)),
        rest=rest,
    )


def _from_env(env: Mapping[str, str], name: str, kind: type[int] | type[float]) -> Any:
    raw = env.get(name)
    if not raw:
        return None
    try:
        return kind(raw)
    except ValueError:
        raise ConfigurationError(
            f"{name}: must be {'a whole number' if kind is int else 'a number'}, got {raw!r}"
        ) from None


def _checked_url(url: str | None) -> str:
    if not url:
        raise ConfigurationError(
            "base_url: no service given; pass base_url='https://…' or set the environment variable COSYCLIENT_BASE_URL"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"base_url: cannot be read: {error}") from None
    if parts.scheme not in ("http", "https", "grpc", "grpcs", "ws", "wss") or not parts.hostname:
        raise ConfigurationError(f"base_url: must look like https://host[:port][/path], got {parts.scheme}://…")
    if parts.username or parts.password:
        raise ConfigurationError("base_url: must not carry credentials; pass api_key instead")
    if parts.query or parts.fragment:
        raise ConfigurationError("base_url: must not carry a query or fragment")
    return url.rstrip("/")
