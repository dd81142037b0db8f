"""Open connections to one origin: name lookup, proxy and TLS handshake, within the connect timeout.

Used by the HTTP and WebSocket transports; gRPC connects by itself.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from cosyclient.transports.sockets import Aborted, DeadlineSocket
from cosyclient.transports.tunnels import ProxyRefused, open_tunnel

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from cosyclient.config.proxy import Proxy
    from cosyclient.transports.resolver import Resolver
    from cosyclient.transports.sockets import StepTimeouts

_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
)


class Dialer:
    """Open connections to *host* and *port*, with TLS where there is a context.

    With a *proxy* they are tunnels through it. Without *tunnel* they end at the proxy, and each request must name the
    whole address it is for.
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
        self, timeouts: StepTimeouts, *, opened: Callable[[DeadlineSocket], None], aborted: Callable[[], bool]
    ) -> DeadlineSocket:
        """Connect, proxy and TLS included, within the connect step and the deadline.

        *opened* is called with the socket of each try, so that another thread can abort it. Raises `OSError`:
        `TimeoutError` (also while the name is looked up), `ProxyRefused`, and `Aborted` once *aborted* returns True.
        """
        time_left = timeouts.countdown(timeouts.connect)
        if self._proxy is None:
            connection, sock = self._connect(self.host, self.port, timeouts, time_left, opened, aborted)
        else:
            connection, sock = self._connect_through(self._proxy, timeouts, time_left, opened, aborted)
        try:
            if self._tls is not None:
                secured = self._tls.wrap_socket(
                    sock, server_hostname=self.host, do_handshake_on_connect=False, suppress_ragged_eofs=False
                )
                connection.upgrade(secured)
                secured.settimeout(time_left())
                secured.do_handshake()
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_through(
        self,
        proxy: Proxy,
        timeouts: StepTimeouts,
        time_left: Callable[[], float],
        opened: Callable[[DeadlineSocket], None],
        aborted: Callable[[], bool],
    ) -> tuple[DeadlineSocket, socket.socket]:
        """Connect to *proxy*, and through it if it is to be a tunnel; errors name the proxy."""
        try:
            connection, sock = self._connect(proxy.host, proxy.port, timeouts, time_left, opened, aborted)
            if self._tunnel:
                try:
                    open_tunnel(proxy, self.host, self.port, sock, time_left)
                except BaseException as error:
                    connection.close()
                    if connection.aborted and isinstance(error, OSError):
                        raise Aborted from error
                    raise
        except (Aborted, ProxyRefused):
            raise
        except TimeoutError as error:
            raise TimeoutError(f"the proxy {proxy} did not answer in time: {error}") from error
        except OSError as error:
            raise ConnectionError(f"the proxy {proxy} cannot be used: {error}") from error
        return connection, sock

    def _connect(
        self,
        host: str,
        port: int,
        timeouts: StepTimeouts,
        time_left: Callable[[], float],
        opened: Callable[[DeadlineSocket], None],
        aborted: Callable[[], bool],
    ) -> tuple[DeadlineSocket, socket.socket]:
        """Try every address, each within its share of the time left, so that a silent one leaves some for the next."""
        failure: OSError = OSError("the name has no address")
        addresses = self._resolver.addresses(host, port, time_left, aborted=aborted)
        for untried, (family, kind, proto, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
            sock = socket.socket(family, kind, proto)
            connection = DeadlineSocket(sock, timeouts)
            try:
                opened(connection)
                for option in _OPTIONS:
                    sock.setsockopt(*option)
                sock.settimeout(time_left() / untried)
                connection.raw.connect(address)
            except OSError as error:
                connection.close()
                failure = error
                if connection.aborted:
                    raise
            except BaseException:
                connection.close()
                raise
            else:
                return connection, sock
        raise failure

    def __repr__(self) -> str:
        tls = ", TLS" if self._tls is not None else ""
        through = f" through {self._proxy}" if self._proxy is not None else ""
        return f"<Dialer to {self.host}:{self.port}{tls}{through}>"
