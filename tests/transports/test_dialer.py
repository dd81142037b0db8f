"""Connections as a `Dialer` opens them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from cosyclient.transports.http.connection import Connection
from cosyclient.transports.http.urllib3_transport import Urllib3Transport
from tests.support.hostile import (
    answers,
    hostile,
    unanswered,
)
from tests.transports.wire import httpx_client

if TYPE_CHECKING:
    import pytest


def test_sockets_have_nodelay_and_keepalive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nagle's delay would cost 40 ms a request, and keep-alive notices a dead peer."""
    seen: list[Connection] = []
    connect = Connection.connect

    def noting(self: Connection) -> None:
        connect(self)
        seen.append(self)

    monkeypatch.setattr(Connection, "connect", noting)
    with hostile(answers()) as service, Urllib3Transport() as transport:
        httpx_client(transport).get(service.url)
        assert seen[0].socket is not None
        sock = seen[0].socket._sock
        assert sock is not None
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_each_address_gets_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not answer leaves time for the next."""
    with hostile(answers()) as service, unanswered() as port, Urllib3Transport() as transport:
        dead = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))
        good = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", service.port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [dead, good])
        assert httpx_client(transport, connect=0.2).get("http://two-addresses.test").status_code == 200
