"""Open a tunnel through a proxy, by CONNECT (RFC 9110, 9.3.6) or SOCKS 5 (RFC 1928 and 1929), under the deadline.

Used by `Dialer` on the socket that leads to the proxy.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from cosyclient.util.redaction import RedactedBytes, single_line

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from cosyclient.config.proxy import Proxy

_MAX_HEAD_BYTES: Final = 16 << 10
_MAX_REASON_CHARACTERS: Final = 100
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([\t\x20-\x7e]*+))?\r\n")
_AUTHENTICATION_REQUIRED: Final = 407
_SOCKS_VERSION: Final = 5
# Authentication methods of SOCKS 5.
_NO_AUTHENTICATION, _USERNAME_PASSWORD = 0, 2
_NOT_ALLOWED: Final = 2
_SOCKS_REASONS: Final = (
    "it failed",
    "not allowed",
    "network unreachable",
    "host unreachable",
    "connection refused",
    "it took too long",
    "command not supported",
    "address type not supported",
)
"""What the reply codes of SOCKS 5 mean, from 1 on."""
_ADDRESS_BYTES: Final = {1: 4, 4: 16}
"""The size of an IPv4 and an IPv6 address, by SOCKS 5's address type."""


class ProxyRefused(ConnectionError):
    """Report that a proxy answered and did not open the way to the service.

    ``temporary`` is True when the proxy could not reach the service, which may succeed later, and False when the proxy
    does not allow it. With *unauthenticated* the message says where the credentials go.
    """

    def __init__(self, proxy: Proxy, reason: str, *, temporary: bool = False, unauthenticated: bool = False) -> None:
        hint = f"; name its user and password, {proxy.scheme}://user:password@host:port" if unauthenticated else ""
        super().__init__(f"the proxy {proxy} refused: {reason}{hint}")
        self.temporary = temporary


def refused_by_status(proxy: Proxy, status: int, phrase: str) -> ProxyRefused:
    """Return the error of an HTTP *proxy* that answered with *status* and its reason *phrase*."""
    reason = f"{status} {single_line(phrase, _MAX_REASON_CHARACTERS)}".rstrip()
    return ProxyRefused(proxy, reason, temporary=status >= 500, unauthenticated=status == _AUTHENTICATION_REQUIRED)


def open_tunnel(proxy: Proxy, host: str, port: int, sock: socket.socket, time_left: Callable[[], float]) -> None:
    """Ask *proxy*, at the other end of *sock*, for a tunnel to *host* and *port*, within *time_left*.

    Raises `OSError`: `ProxyRefused` when the proxy declines, `TimeoutError`, and `ConnectionError` for an answer that
    is none.
    """
    if proxy.scheme == "http":
        _open_http_tunnel(proxy, host, port, sock, time_left)
    else:
        _open_socks_tunnel(proxy, host, port, sock, time_left)


def _open_http_tunnel(proxy: Proxy, host: str, port: int, sock: socket.socket, time_left: Callable[[], float]) -> None:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1".encode(), f"Host: {target}".encode()]
    if proxy.authorization is not None:
        lines.append(RedactedBytes(b"Proxy-Authorization: " + proxy.authorization))
    _send(sock, RedactedBytes(b"\r\n".join(lines) + b"\r\n\r\n"), time_left)
    head = b""
    while b"\r\n\r\n" not in head:
        if len(head) > _MAX_HEAD_BYTES:
            raise ConnectionError("its answer has no end")
        head += _receive(sock, _MAX_HEAD_BYTES, time_left)
    match = _STATUS_LINE.match(head)
    if match is None:
        raise ConnectionError("its answer is not HTTP")
    status = int(match[1])
    if not 200 <= status < 300:
        raise refused_by_status(proxy, status, (match[2] or b"").decode("ascii"))
    if not head.endswith(b"\r\n\r\n"):
        raise ConnectionError("it sent more than the answer to CONNECT")


def _open_socks_tunnel(proxy: Proxy, host: str, port: int, sock: socket.socket, time_left: Callable[[], float]) -> None:
    methods = bytes([_NO_AUTHENTICATION] if proxy.user is None else [_NO_AUTHENTICATION, _USERNAME_PASSWORD])
    _send(sock, bytes([_SOCKS_VERSION, len(methods)]) + methods, time_left)
    version, method = _receive_exactly(sock, 2, time_left)
    if version != _SOCKS_VERSION:
        raise ConnectionError("its answer is not SOCKS 5")
    if method not in methods:
        raise ProxyRefused(proxy, "it wants credentials, or others than a password", unauthenticated=True)
    if method == _USERNAME_PASSWORD:
        _send(sock, _encode_credentials(proxy), time_left)
        if _receive_exactly(sock, 2, time_left)[1]:
            raise ProxyRefused(proxy, "it does not know these credentials", unauthenticated=True)
    _send(sock, bytes([_SOCKS_VERSION, 1, 0]) + _encode_address(host) + port.to_bytes(2, "big"), time_left)
    version, code, _, address_type = _receive_exactly(sock, 4, time_left)
    if version != _SOCKS_VERSION:
        raise ConnectionError("its answer is not SOCKS 5")
    if code:
        reason = _SOCKS_REASONS[code - 1] if code <= len(_SOCKS_REASONS) else f"code {code}"
        raise ProxyRefused(proxy, reason, temporary=code != _NOT_ALLOWED)
    # The address and port of the proxy's own end follow; nothing uses them.
    size = _ADDRESS_BYTES.get(address_type) or _receive_exactly(sock, 1, time_left)[0]
    _receive_exactly(sock, size + 2, time_left)


def _encode_credentials(proxy: Proxy) -> bytes:
    user, password = ((text or "").encode() for text in (proxy.user, proxy.password))
    return RedactedBytes(b"\1" + bytes([len(user)]) + user + bytes([len(password)]) + password)


def _encode_address(host: str) -> bytes:
    """Return *host* as SOCKS 5 writes it; a name is looked up by the proxy."""
    try:
        address = ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        return b"\3" + bytes([len(name)]) + name
    return (b"\1" if address.version == 4 else b"\4") + address.packed


def _send(sock: socket.socket, data: bytes, time_left: Callable[[], float]) -> None:
    sock.settimeout(time_left())
    sock.sendall(data)


def _receive_exactly(sock: socket.socket, size: int, time_left: Callable[[], float]) -> bytes:
    data = b""
    while len(data) < size:
        data += _receive(sock, size - len(data), time_left)
    return data


def _receive(sock: socket.socket, size: int, time_left: Callable[[], float]) -> bytes:
    # However slowly the bytes arrive, the time left is looked at before each read.
    sock.settimeout(time_left())
    data = sock.recv(size)
    if not data:
        raise ConnectionError("it closed the connection without an answer")
    return data
