"""The address of a proxy: parsed from a URL, checked, and shown without its password."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, unquote, urlsplit

from cosyclient.errors import ConfigurationError
from cosyclient.util.redaction import MASK

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORTS: Final = {"http": 80, "socks5": 1080}
_KINDS: Final[Mapping[str, Literal["http", "socks5"]]] = {
    "http": "http",
    # With all of them the proxy looks the service's name up, as in httpx.
    **dict.fromkeys(("socks5", "socks5h", "socks"), "socks5"),
}
_MAX_CREDENTIAL_BYTES: Final = 255
"""Bytes of a user name or a password over SOCKS (RFC 1929)."""
_MAX_URL_LENGTH: Final = 4096


@dataclass(frozen=True, slots=True)
class Proxy:
    """Hold a proxy's address; its ``str`` and ``repr`` are without the password."""

    source: str
    """The argument or variable that names it."""
    scheme: Literal["http", "socks5"]
    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, source: str, given: Any) -> Proxy:
        """Return the proxy at the URL *given* by *source*; a bare ``host:port`` means HTTP.

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
        if scheme in ("socks4", "socks4a"):
            raise ConfigurationError(
                f"{source}: of SOCKS only version 5 is supported; write socks5://host:port{_hint(source)}"
            )
        if scheme == "https":
            raise ConfigurationError(
                f"{source}: the proxy itself is reached by plain HTTP, whatever goes through it; write "
                f"http://host:port{_hint(source)}"
            )
        kind = _KINDS.get(scheme)
        plain = url.isprintable() and url.isascii() and " " not in url and len(url) <= _MAX_URL_LENGTH
        if kind is None or not (plain and parts.hostname) or parts.path.strip("/") or parts.query or parts.fragment:
            raise ConfigurationError(
                f"{source}: must look like http://host:port, http://user:password@host:port or socks5://host:port, "
                f"special characters of user and password percent-encoded (value not shown){_hint(source)}"
            )
        user = None if parts.username is None else unquote(parts.username)
        password = unquote(parts.password or "")
        if kind == "socks5" and max(len((user or "").encode()), len(password.encode())) > _MAX_CREDENTIAL_BYTES:
            raise ConfigurationError(
                f"{source}: user and password may have {_MAX_CREDENTIAL_BYTES} bytes each over SOCKS{_hint(source)}"
            )
        return cls(source, kind, parts.hostname, port or _PORTS[kind], user, password)

    @property
    def authorization(self) -> bytes | None:
        """Return the value of ``Proxy-Authorization``, if there are credentials."""
        if self.user is None:
            return None
        return b"Basic " + base64.b64encode(f"{self.user}:{self.password}".encode())

    @property
    def url(self) -> str:
        """Return its address with its credentials."""
        return f"{self.scheme}://{self._userinfo(self.password or '')}{self._at}"

    def _userinfo(self, password: str) -> str:
        return "" if self.user is None else f"{quote(self.user, safe='')}:{quote(password, safe='*')}@"

    @property
    def _at(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self._userinfo(MASK)}{self._at} ({self.source})"

    def __repr__(self) -> str:
        return f"<Proxy {self}>"


def _hint(source: str) -> str:
    """Return what else helps if *source* is a variable that was not set for this client."""
    return (
        ""
        if source.lower() in ("proxy", "cosyclient_proxy")
        else "; or except the service with NO_PROXY, or pass trust_env=False"
    )
