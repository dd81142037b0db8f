"""A proxy on the way to the service: what names it, where it is, and the credentials that nobody is to see."""

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
    # The names are the proxy's to look up with all of them, as httpx has it.
    **dict.fromkeys(("socks5", "socks5h", "socks"), "socks5"),
}
_MOST_OF_A_LOGIN: Final = 255
_MOST: Final = 4096


@dataclass(frozen=True, slots=True)
class Proxy:
    """Hold a proxy's address; it is written and shown without its password."""

    source: str
    """The argument or variable that names it."""
    scheme: Literal["http", "socks5"]
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
        if scheme in ("socks4", "socks4a"):
            raise ConfigurationError(
                f"{source}: of SOCKS only version 5 is spoken; write socks5://host:port{_way_out(source)}"
            )
        if scheme == "https":
            raise ConfigurationError(
                f"{source}: the proxy itself is spoken to in plain HTTP, whatever goes through it; write "
                f"http://host:port{_way_out(source)}"
            )
        kind = _KINDS.get(scheme)
        plain = url.isprintable() and url.isascii() and " " not in url and len(url) <= _MOST
        if kind is None or not (plain and parts.hostname) or parts.path.strip("/") or parts.query or parts.fragment:
            raise ConfigurationError(
                f"{source}: must look like http://host:port, http://user:password@host:port or socks5://host:port, "
                f"special characters of user and password percent-encoded (value not shown){_way_out(source)}"
            )
        user = None if parts.username is None else unquote(parts.username)
        password = unquote(parts.password or "")
        if kind == "socks5" and max(len((user or "").encode()), len(password.encode())) > _MOST_OF_A_LOGIN:
            raise ConfigurationError(
                f"{source}: user and password may have {_MOST_OF_A_LOGIN} bytes each over SOCKS{_way_out(source)}"
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
        """Return its address, credentials and all."""
        return f"{self.scheme}://{self._login(self.password or '')}{self._at}"

    def _login(self, password: str) -> str:
        return "" if self.user is None else f"{quote(self.user, safe='')}:{quote(password, safe='*')}@"

    @property
    def _at(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self._login(MASK)}{self._at} ({self.source})"

    def __repr__(self) -> str:
        return f"<Proxy {self}>"


def _way_out(source: str) -> str:
    """Return what else to do about a variable of the environment, which its user may not have meant for us."""
    return (
        ""
        if source.lower() in ("proxy", "cosyclient_proxy")
        else "; or except the service with NO_PROXY, or pass trust_env=False"
    )
