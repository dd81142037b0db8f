"""Connecting to one origin, name, TLS and all, within what is granted to it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from cosyclient.transports.guard import GuardedSocket

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from cosyclient.transports.guard import Spans
    from cosyclient.transports.resolving import Resolver

_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
)


class Dialer:
    """Open connections to *host* and *port*, with TLS where there is a context."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None, resolver: Resolver) -> None:
        self.host = host
        self.port = port
        self._tls = tls
        self._resolver = resolver

    def dial(
        self, spans: Spans, *, opened: Callable[[GuardedSocket], None], severed: Callable[[], bool]
    ) -> GuardedSocket:
        """Connect, TLS handshake included, within the connect step and the deadline; *opened* gets each try.

        Raises `OSError`: `TimeoutError` also while the name is looked up, and `Severed` once *severed* says so.
        """
        left = spans.until(spans.connect)
        guarded, sock = self._connect(spans, left, opened, severed)
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

    def _connect(
        self,
        spans: Spans,
        left: Callable[[], float],
        opened: Callable[[GuardedSocket], None],
        severed: Callable[[], bool],
    ) -> tuple[GuardedSocket, socket.socket]:
        """Try every address, each within its share of the time left, so that a silent one leaves some for the next."""
        failure: OSError = OSError("the name has no address")
        addresses = self._resolver.addresses(self.host, self.port, left, severed=severed)
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
        return f"<Dialer to {self.host}:{self.port}{', TLS' if self._tls is not None else ''}>"
