"""Connecting to one origin, name, proxy, TLS and all, within what is granted to it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from cosyclient.transports.sockets import GuardedSocket, Severed
from cosyclient.transports.tunnels import ProxyRefused, ask_for_tunnel

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from cosyclient.config.proxy import Proxy
    from cosyclient.transports.resolving import Resolver
    from cosyclient.transports.sockets import Spans

_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
)


class Dialer:
    """Open connections to *host* and *port*, with TLS where there is a context.

    With a *proxy* they are tunnels through it, or, without *tunnel*, connections to the proxy, which is then told with
    each request where that is to go.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        resolver: Resolver,
        proxy: Proxy | None = None,
        tunnel: bool = True,
    ) -> None:
        self.host = host
        self.port = port
        self._tls = tls
        self._proxy = proxy
        self._tunnel = tunnel
        self._resolver = resolver

    def dial(
        self, spans: Spans, *, opened: Callable[[GuardedSocket], None], severed: Callable[[], bool]
    ) -> GuardedSocket:
        """Connect, proxy and TLS included, within the connect step and the deadline; *opened* gets each try.

        Raises `OSError`: `TimeoutError` also while the name is looked up, `ProxyRefused`, and `Severed` once *severed*
        says so.
        """
        left = spans.until(spans.connect)
        if self._proxy is None:
            guarded, sock = self._connect(self.host, self.port, spans, left, opened, severed)
        else:
            guarded, sock = self._through(self._proxy, spans, left, opened, severed)
        try:
            if self._tls is not None:
                secured = self._tls.wrap_socket(
                    sock, server_hostname=self.host, do_handshake_on_connect=False, suppress_ragged_eofs=False
                )
                guarded.adopt(secured)
                secured.settimeout(left())
                secured.do_handshake()
        except BaseException:
            guarded.close()
            raise
        return guarded

    def _through(
        self,
        proxy: Proxy,
        spans: Spans,
        left: Callable[[], float],
        opened: Callable[[GuardedSocket], None],
        severed: Callable[[], bool],
    ) -> tuple[GuardedSocket, socket.socket]:
        """Connect to *proxy*, and through it if it is to be a tunnel; errors name the proxy."""
        try:
            guarded, sock = self._connect(proxy.host, proxy.port, spans, left, opened, severed)
            if self._tunnel:
                try:
                    ask_for_tunnel(proxy, self.host, self.port, sock, left)
                except BaseException as error:
                    guarded.close()
                    if guarded.severed and isinstance(error, OSError):
                        raise Severed("shut down from our side") from error
                    raise
        except (Severed, ProxyRefused):
            raise
        except TimeoutError as error:
            raise TimeoutError(f"the proxy {proxy} did not answer in time: {error}") from error
        except OSError as error:
            raise ConnectionError(f"the proxy {proxy} cannot be used: {error}") from error
        return guarded, sock

    def _connect(
        self,
        host: str,
        port: int,
        spans: Spans,
        left: Callable[[], float],
        opened: Callable[[GuardedSocket], None],
        severed: Callable[[], bool],
    ) -> tuple[GuardedSocket, socket.socket]:
        """Try every address, each within its share of the time left, so that a silent one leaves some for the next."""
        failure: OSError = OSError("the name has no address")
        addresses = self._resolver.addresses(host, port, left, severed=severed)
        for untried, (family, kind, proto, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
            sock = socket.socket(family, kind, proto)
            guarded = GuardedSocket(sock, spans)
            try:
                opened(guarded)
                for option in _OPTIONS:
                    sock.setsockopt(*option)
                sock.settimeout(left() / untried)
                guarded._live()
                sock.connect(address)
            except OSError as error:
                guarded.close()
                failure = error
                if guarded.severed:
                    raise
            except BaseException:
                guarded.close()
                raise
            else:
                return guarded, sock
        raise failure

    def __repr__(self) -> str:
        tls = ", TLS" if self._tls is not None else ""
        through = f" through {self._proxy}" if self._proxy is not None else ""
        return f"<Dialer to {self.host}:{self.port}{tls}{through}>"
