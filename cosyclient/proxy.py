"""A proxy on the way to the service: what names it, where it is, and the credentials that nobody is to see."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from cosyclient.errors import ConfigurationError

_PORT: Final = 80
_MOST: Final = 4096


@dataclass(frozen=True, slots=True)
class Proxy:
    """Hold an HTTP proxy's address; it is written and shown without its password."""

    source: str
    """The argument or variable that names it."""
    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, source: str, given: Any) -> Proxy:
        """Return the proxy at the URL *given*; a bare ``host:port`` is one over HTTP.

        Raises `ConfigurationError` that begins with *source* and shows no credentials.
        """
        if not isinstance(given, str):
            raise ConfigurationError(f"{source}: must be a URL such as http://host:port, got {type(given).__name__}")
        url = given.strip()
        url = url if "://" in url else f"http://{url}"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        scheme = parts.scheme
        if scheme.startswith("socks"):
            raise ConfigurationError(
                f"{source}: SOCKS proxies ({scheme}://) are not supported; name an HTTP proxy, http://host:port"
                f"{_way_out(source)}"
            )
        if scheme == "https":
            raise ConfigurationError(
                f"{source}: the proxy itself is spoken to in plain HTTP, whatever goes through it; write "
                f"http://host:port{_way_out(source)}"
            )
        plain = url.isprintable() and url.isascii() and " " not in url and len(url) <= _MOST
        if (
            scheme != "http"
            or not parts.hostname
            or parts.path.strip("/")
            or parts.query
            or parts.fragment
            or not plain
        ):
            raise ConfigurationError(
                f"{source}: must look like http://host:port or http://user:password@host:port, special characters of "
                f"user and password percent-encoded (value not shown){_way_out(source)}"
            )
        user = None if parts.username is None else unquote(parts.username)
        return cls(source, parts.hostname, port or _PORT, user, unquote(parts.password or ""))

    @property
    def authorization(self) -> bytes | None:
        """Return the value of ``Proxy-Authorization``, if there are credentials."""
        if self.user is None:
            return None
        return b"Basic " + base64.b64encode(f"{self.user}:{self.password}".encode())

    @property
    def url(self) -> str:
        """Return its address, credentials and all."""
        return f"http://{self._login(self.password or '')}{self._at}"

    def _login(self, password: str) -> str:
        return "" if self.user is None else f"{quote(self.user, safe='')}:{quote(password, safe='*')}@"

    @property
    def _at(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"http://{self._login('****')}{self._at} ({self.source})"

    def __repr__(self) -> str:
        return f"<Proxy {self}>"


def _way_out(source: str) -> str:
    """Return what else to do about a variable of the environment, which its user may not have meant for us."""
    return (
        ""
        if source.lower() in ("proxy", "cosyclient_proxy")
        else "; or except the service with NO_PROXY, or pass trust_env=False"
    )
