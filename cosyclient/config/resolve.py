"""The resolved configuration of a client: arguments, environment and defaults combined, cross-checked and frozen."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cosyclient.config.environment import PREFIX, read_environment
from cosyclient.config.proxy import Proxy
from cosyclient.config.records import ClientConfig, check_count, check_flag, check_number, check_verify
from cosyclient.config.sizing import Sizing, field_report, littles_law
from cosyclient.errors import BadUtterance, ConfigurationError, did_you_mean
from cosyclient.models import VoiceSettings
from cosyclient.util.redaction import MASK, RedactedText
from cosyclient.wire import SCHEMES

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

_SCHEMES: Final = tuple(chain.from_iterable(SCHEMES.values()))
_MAX_URL_LENGTH: Final = 4096
_MAX_KEY_LENGTH: Final = 8192
# Blanks, controls and what an address has to quote; httpx checks hosts of other scripts.
_FORBIDDEN: Final = re.compile(r"""[\x00-\x20\x7f-\xa0"'<>\\^`{|}\ud800-\udfff]""")
# The usual variable of a service's key, by its host or the end of it. Protocols declare their hosts one layer above;
# tests/protocols/test_addresses.py compares the two lists.
_KEY_VARIABLES: Final = (
    ("api.openai.com", "OPENAI_API_KEY"),
    ("dashscope.aliyuncs.com", "DASHSCOPE_API_KEY"),
    ("dashscope-intl.aliyuncs.com", "DASHSCOPE_API_KEY"),
    ("dashscope-us.aliyuncs.com", "DASHSCOPE_API_KEY"),
    (".maas.aliyuncs.com", "DASHSCOPE_API_KEY"),
    ("api.siliconflow.cn", "SILICONFLOW_API_KEY"),
    ("api.siliconflow.com", "SILICONFLOW_API_KEY"),
)
_PARTIAL_SCHEME: Final = re.compile(r"(?:https?|wss?|grpcs?)(?::/?[^0-9]|$)", re.IGNORECASE)
_SHOWN: Final = 100
_BEARER: Final = re.compile(r"bearer\s+", re.IGNORECASE)
_VOICE_NAMES: Final = tuple(field.name for field in fields(VoiceSettings))


class Secret:
    """Keep a secret out of reprs and logs; what sends it calls `reveal` or `bearer`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def bearer(self) -> str:
        """Return the value of an ``Authorization`` header; its repr does not show the secret."""
        return RedactedText(f"Bearer {self._value}")

    def __repr__(self) -> str:
        return f"<secret {MASK}>"


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig:
    """Hold the settings of a client, all resolved and checked; the pipeline, transports and protocols read it."""

    base_url: str
    api_key: Secret | None
    key_source: str
    """The argument or variable that gave the key, for errors; empty without one."""
    key_names: tuple[str, ...]
    """The variables that can give it."""
    protocol: str | None
    voice: VoiceSettings
    requests_per_second: float
    """Infinite where there is no quota."""
    max_connections: int
    max_batch: int
    timeout: float | None
    max_retries: int
    sizing: Sizing
    max_pending: int
    bulk_pending: int
    """Of ``max_pending``, the texts that bulk calls may have."""
    verify: bool | str | os.PathLike[str] | ssl.SSLContext
    verify_name: str
    """The argument, variable or field that gave ``verify``, for errors."""
    proxy: Proxy | None
    """The proxy that was passed; the environment may name another."""
    trust_env: bool
    config: ClientConfig
    """The settings without an argument of their own, as passed."""


class _Documented(float):
    """Mark the quota of the service's documentation, to tell it from an equal number that was passed."""


DOCUMENTED_RATE: Final = _Documented(100.0)
"""Requests per second where no quota is configured."""
_DEFAULTS: Final = {
    "requests_per_second": DOCUMENTED_RATE,
    "max_connections": 50,
    "max_batch": 64,
    "max_retries": 3,
    "trust_env": True,
}


class _Sources:
    """Find each setting and the name of its source: the argument, else its variable, else the default."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._values = read_environment(environ)
        self._environ = environ

    def find_key(self, names: Sequence[str]) -> tuple[str, str | None]:
        """Return the first of the variables *names* that is set, and its value."""
        return next(((name, self._environ[name]) for name in names if self._environ.get(name)), ("api_key", None))

    def find(self, name: str, argument: Any) -> tuple[str, Any]:
        """Return the name of the source of the setting *name*, and its value."""
        if argument is not None:
            return name, argument
        if name in self._values:
            return PREFIX + name.upper(), self._values[name]
        return name, _DEFAULTS.get(name)


def resolve(
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    protocol: str | None = None,
    voice: Mapping[str, Any] | None = None,
    requests_per_second: float | None = DOCUMENTED_RATE,
    max_connections: int | None = None,
    concurrency: int | None = None,
    max_batch: int | None = None,
    timeout: float | None = None,
    max_retries: int | None = None,
    verify: bool | str | os.PathLike[str] | ssl.SSLContext | None = None,
    proxy: str | None = None,
    trust_env: bool | None = None,
    config: ClientConfig | None = None,
    environ: Mapping[str, str] | None = None,
) -> ResolvedConfig:
    """Combine arguments, environment and defaults; an explicit argument wins.

    ``None`` reads the argument's ``COSYCLIENT_…`` variable (`environment.VARIABLES`). Only *requests_per_second* reads
    it where it is left out; ``None`` is no quota there.
    Raises `ConfigurationError` naming the argument, or the variable, and the rule.
    """
    sources = _Sources(os.environ if environ is None else environ)
    config = ClientConfig() if config is None else config
    if not isinstance(config, ClientConfig):
        raise ConfigurationError(f"config: must be a ClientConfig, got {type(config).__name__}")
    quota = math.inf if requests_per_second is None else requests_per_second
    name, rate = sources.find("requests_per_second", None if quota is DOCUMENTED_RATE else quota)
    if rate != math.inf:
        check_number(name, rate, low=0, above=True)
    connection_limit = _count(*sources.find("max_connections", max_connections))
    batch_limit = _count(*sources.find("max_batch", max_batch))
    retries = _count(*sources.find("max_retries", max_retries), low=0)
    name, call_timeout = sources.find("timeout", timeout)
    if call_timeout is not None:
        check_number(name, call_timeout, low=0, above=True)
    name, trust_env = sources.find("trust_env", trust_env)
    check_flag(name, trust_env)
    verify_name, verify = sources.find("verify", verify)
    if verify is None:
        verify_name, verify = "wire.verify", config.wire.verify
    check_verify(verify_name, verify)
    proxy_name, proxy = sources.find("proxy", proxy)
    name, permits = sources.find("concurrency", concurrency)
    if permits is not None:
        check_count(name, permits)
    if config.pool.per_route is not None:
        permits = field_report(
            cores=os.cpu_count() or 1, concurrency=permits or connection_limit, per_route=config.pool.per_route
        )
    sizing = littles_law(
        rate=rate,
        latency=config.pool.expected_latency,
        headroom=config.pool.headroom,
        connection_limit=min(connection_limit, config.pool.total or connection_limit),
        max_batch=batch_limit,
        permits=permits,
    )
    if config.queue.overflow == "caller_runs":
        # Calling threads send batches in addition to the workers, within what the service allows.
        sizing = replace(sizing, permits=connection_limit, connections=connection_limit)
    max_pending = config.queue.max_pending or sizing.queue
    url = _checked_url(*sources.find("base_url", base_url))
    key_names = (f"{PREFIX}API_KEY", *_key_variable(url))
    key_source, raw_key = sources.find("api_key", api_key)
    if raw_key is None:
        key_source, raw_key = sources.find_key(key_names[1:])
    key = _checked_key(key_source, raw_key)
    return ResolvedConfig(
        base_url=url,
        api_key=key,
        key_source=("api_key=" if key_source == "api_key" else key_source) if key else "",
        key_names=key_names,
        protocol=_checked_protocol(*sources.find("protocol", protocol)),
        voice=_voice(sources, voice or {}),
        requests_per_second=float(rate),
        max_connections=connection_limit,
        max_batch=batch_limit,
        timeout=call_timeout,
        max_retries=retries,
        sizing=sizing,
        max_pending=max_pending,
        bulk_pending=max(1, round(max_pending * config.queue.bulk_share)),
        verify=verify,
        verify_name=verify_name,
        proxy=None if proxy is None else Proxy.parse(proxy_name, proxy),
        trust_env=trust_env,
        config=config,
    )


def _count(name: str, value: Any, *, low: int = 1) -> int:
    check_count(name, value, low=low)
    found: int = value
    return found


def _voice(sources: _Sources, voice: Mapping[str, Any]) -> VoiceSettings:
    named = {name: sources.find(name, voice.get(name)) for name in _VOICE_NAMES}
    try:
        return VoiceSettings(**{name: value for name, (_, value) in named.items() if value is not None})
    except BadUtterance as error:
        name, colon, rule = str(error).partition(":")
        raise ConfigurationError(f"{named[name][0] if name in named else name}{colon}{rule}") from None


def _checked_protocol(name: str, protocol: Any) -> str | None:
    if protocol is not None and not isinstance(protocol, str):
        raise ConfigurationError(f"{name}: must be a name such as 'openai', got {type(protocol).__name__}")
    return (protocol or "").strip() or None


def _stripped(name: str, value: Any, *, most: int) -> str:
    """Return *value* without the blanks, line ends and quotes that a file or a shell may have left around it."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigurationError(f"{name}: must be a str, got {type(value).__name__}")
    if len(value) > most:
        raise ConfigurationError(f"{name}: {len(value)} characters, at most {most} are accepted")
    bare = value.strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'":
        bare = bare[1:-1].strip()
    return bare


def _key_variable(url: str) -> tuple[str, ...]:
    """Return the variable in which the key of the host of *url* is usually kept, if it is known.

    Only for that host, and only with TLS: no other server is ever sent that key, whatever its protocol.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme not in ("https", "wss"):
        return ()
    return tuple(
        name
        for ending, name in _KEY_VARIABLES
        if host == ending.lstrip(".") or (ending[0] == "." and host.endswith(ending))
    )


def _checked_key(name: str, key: Any) -> Secret | None:
    found = _BEARER.sub("", _stripped(name, key, most=_MAX_KEY_LENGTH))
    if not found.isascii() or not found.isprintable() or " " in found:
        raise ConfigurationError(f"{name}: must be printable ASCII without blanks in it (value not shown)")
    return Secret(found) if found else None


def _checked_url(name: str, given: Any) -> str:
    url = _stripped(name, given, most=_MAX_URL_LENGTH)
    if not url:
        raise ConfigurationError(
            "base_url: no service given; pass base_url='https://…' or set the environment variable COSYCLIENT_BASE_URL"
        )
    if (match := _FORBIDDEN.search(url)) is not None:
        raise ConfigurationError(f"{name}: holds {match[0]!r}, which no address does; quote it, or remove it")
    scheme, mark, _ = url.partition("://")
    if not mark:
        bare = url.lstrip("/")
        # Credentials are not shown, and a partial scheme gets no second one.
        shown = (
            ""
            if "@" in url or _PARTIAL_SCHEME.match(url)
            else f", such as http://{bare[:_SHOWN]} or https://{bare[:_SHOWN]}"
        )
        raise ConfigurationError(f"{name}: must begin with a scheme and ://{shown}")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{name}: cannot be read: {error}") from None
    if "@" in parts.netloc:
        raise ConfigurationError(
            f"{name}: must not carry credentials; pass api_key, or an Authorization header, instead"
        )
    if parts.scheme not in _SCHEMES or not parts.hostname:
        near = "" if parts.scheme in _SCHEMES else did_you_mean(parts.scheme, _SCHEMES)
        raise ConfigurationError(f"{name}: must look like https://host[:port][/path], got {scheme[:20]}://…{near}")
    if "?" in url or "#" in url:
        raise ConfigurationError(f"{name}: must not carry a query or fragment")
    # The scheme in lower case, as the registries compare it.
    return parts.geturl().rstrip("/")
