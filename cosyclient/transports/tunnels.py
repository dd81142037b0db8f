"""Asking a proxy for a tunnel, by CONNECT (RFC 9110, 9.3.6) or SOCKS 5 (RFC 1928 and 1929), under the deadline."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from cosyclient.util.quoting import ConcealedBytes, plain

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from cosyclient.config.proxy import Proxy

_MOST_OF_A_HEAD: Final = 16 << 10
_MOST_OF_A_REASON: Final = 100
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([\t\x20-\x7e]*+))?\r\n")
_UNKNOWN: Final = 407
"""The status of a proxy that wants credentials, or others."""
_SOCKS: Final = 5
_OPEN, _LOGIN = 0, 2
_NOT_ALLOWED: Final = 2
_REASONS: Final = (
    "it failed",
    "not allowed",
    "network unreachable",
    "host unreachable",
    "connection refused",
    "it took too long",
    "command not supported",
    "address type not supported",
)
"""What the codes of SOCKS from 1 on mean."""
_ADDRESS_BYTES: Final = {1: 4, 4: 16}


class ProxyRefused(ConnectionError):
    """Tell that a proxy answered and would not, or could not, lead to the service.

    ``passing`` is whether it only could not: that may be for the service's sake, and may be better the next time.
    """

    def __init__(self, proxy: Proxy, said: str, *, passing: bool = False, stranger: bool = False) -> None:
        hint = f"; name its user and password, {proxy.scheme}://user:password@host:port" if stranger else ""
        super().__init__(f"the proxy {proxy} refused: {said}{hint}")
        self.passing = passing


def refusal(proxy: Proxy, status: int, reason: str) -> ProxyRefused:
    """Return what an HTTP *proxy* means by *status*."""
    said = f"{status} {plain(reason, _MOST_OF_A_REASON)}".rstrip()
    return ProxyRefused(proxy, said, passing=status >= 500, stranger=status == _UNKNOWN)


def ask_for_tunnel(proxy: Proxy, host: str, port: int, sock: socket.socket, left: Callable[[], float]) -> None:
    """Have *proxy*, at the other end of *sock*, lead to *host* and *port*, within what is *left*.

    Raises `OSError`: `ProxyRefused` when it says no, `TimeoutError`, and others for what is no answer.
    """
    if proxy.scheme == "http":
        _connect(proxy, host, port, sock, left)
    else:
        _socks(proxy, host, port, sock, left)


def _connect(proxy: Proxy, host: str, port: int, sock: socket.socket, left: Callable[[], float]) -> None:
    to = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {to} HTTP/1.1".encode(), f"Host: {to}".encode()]
    if proxy.authorization is not None:
        lines.append(ConcealedBytes(b"Proxy-Authorization: " + proxy.authorization))
    _send(sock, ConcealedBytes(b"\r\n".join(lines) + b"\r\n\r\n"), left)
    head = b""
    while b"\r\n\r\n" not in head:
        if len(head) > _MOST_OF_A_HEAD:
            raise ConnectionError("its answer has no end")
        head += _receive(sock, _MOST_OF_A_HEAD, left)
    match = _STATUS.match(head)
    if match is None:
        raise ConnectionError("its answer is not HTTP")
    status = int(match[1])
    if not 200 <= status < 300:
        raise refusal(proxy, status, (match[2] or b"").decode("ascii"))
    if not head.endswith(b"\r\n\r\n"):
        raise ConnectionError("it said more than that the tunnel is there")


def _socks(proxy: Proxy, host: str, port: int, sock: socket.socket, left: Callable[[], float]) -> None:
    ways = bytes([_OPEN] if proxy.user is None else [_OPEN, _LOGIN])
    _send(sock, bytes([_SOCKS, len(ways)]) + ways, left)
    version, way = _exactly(sock, 2, left)
    if version != _SOCKS:
        raise ConnectionError("its answer is not SOCKS 5")
    if way not in ways:
        raise ProxyRefused(proxy, "it wants credentials, or others than a password", stranger=True)
    if way == _LOGIN:
        _send(sock, _login(proxy), left)
        if _exactly(sock, 2, left)[1]:
            raise ProxyRefused(proxy, "it does not know these credentials", stranger=True)
    _send(sock, bytes([_SOCKS, 1, 0]) + _address(host) + port.to_bytes(2, "big"), left)
    version, code, _, kind = _exactly(sock, 4, left)
    if version != _SOCKS:
        raise ConnectionError("its answer is not SOCKS 5")
    if code:
        reason = _REASONS[code - 1] if code <= len(_REASONS) else f"code {code}"
        raise ProxyRefused(proxy, reason, passing=code != _NOT_ALLOWED)
    _exactly(sock, (_ADDRESS_BYTES.get(kind) or _exactly(sock, 1, left)[0]) + 2, left)


def _login(proxy: Proxy) -> bytes:
    user, password = ((text or "").encode() for text in (proxy.user, proxy.password))
    return ConcealedBytes(b"\1" + bytes([len(user)]) + user + bytes([len(password)]) + password)


def _address(host: str) -> bytes:
    """Return *host* as SOCKS writes it; names are the proxy's to look up."""
    try:
        address = ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        return b"\3" + bytes([len(name)]) + name
    return (b"\1" if address.version == 4 else b"\4") + address.packed


def _send(sock: socket.socket, data: bytes, left: Callable[[], float]) -> None:
    sock.settimeout(left())
    sock.sendall(data)


def _exactly(sock: socket.socket, size: int, left: Callable[[], float]) -> bytes:
    data = b""
    while len(data) < size:
        data += _receive(sock, size - len(data), left)
    return data


def _receive(sock: socket.socket, size: int, left: Callable[[], float]) -> bytes:
    # Whatever drips in, the time left is looked at before each read.
    sock.settimeout(left())
    data = sock.recv(size)
    if not data:
        raise ConnectionError("it closed the connection without an answer")
    return data
