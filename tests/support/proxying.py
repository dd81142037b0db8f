"""Small proxies: tunnels, forwarded requests, credentials where they are required."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from tests.support.hostile import Behaviour, Received, ServedConnection, reply

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy", "grpc_proxy", "no_proxy")
PASSWORD = "pa:ss/w@rd"
LOGIN = "us%20er:pa%3Ass%2Fw%40rd"
BASIC = "Basic dXMgZXI6cGE6c3Mvd0ByZA=="
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
DENIED = reply(b"who are you?", status="407 Proxy Authentication Required", headers=("Proxy-Authenticate: Basic",))


def forwards_to(port: int, *, authorization: str | None = None) -> Behaviour:
    """Forward every request to *port* of this machine, whatever host it names."""

    def behave(connection: ServedConnection) -> None:
        with contextlib.ExitStack() as stack:
            onward: socket.socket | None = None
            while (received := connection.request()) is not None:
                if authorization is not None and received.headers.get("proxy-authorization") != authorization:
                    connection.send(DENIED)
                    continue
                method, target, version = received.line.split(" ")
                if onward is None:
                    onward = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                    if method == "CONNECT":
                        # Before the service sends anything, as one with HTTP/2 does first.
                        connection.send(ESTABLISHED)
                    stack.enter_context(_pumping(onward, connection.sock))
                if method == "CONNECT":
                    _pump(connection.sock, onward)
                    return
                assert target.startswith("http://"), "a proxy gets the absolute address"
                path = "/" + target.removeprefix("http://").partition("/")[2]
                fields = [f"{name}: {value}" for name, value in received.headers.items() if "proxy" not in name]
                onward.sendall("\r\n".join([f"{method} {path} {version}", *fields]).encode() + b"\r\n\r\n")
                onward.sendall(received.body)

    return behave


@contextlib.contextmanager
def _pumping(source: socket.socket, sink: socket.socket) -> Iterator[None]:
    thread = threading.Thread(target=_pump, args=(source, sink), daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            source.shutdown(socket.SHUT_RDWR)
        thread.join(30)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def socks(port: int, *, login: tuple[str, str] | None = None, code: int = 0, drip: float = 0.0) -> Behaviour:
    """Speak SOCKS 5: forward to *port* of this machine, or refuse with *code*; record the target of each request."""

    def behave(connection: ServedConnection) -> None:
        def read(size: int) -> bytes:
            data = b""
            while len(data) < size:
                if not (piece := connection.sock.recv(size - len(data))):
                    raise ConnectionAbortedError("the client left")
                data += piece
            return data

        def send(data: bytes) -> None:
            connection.drip(data, drip) if drip else connection.send(data)

        version, count = read(2)
        ways = read(count)
        assert version == 5
        way = 2 if login is not None else 0
        send(bytes([5, way if way in ways else 0xFF]))
        if way not in ways:
            connection.until_closed()
        if login is not None:
            read(1)
            given = tuple(read(read(1)[0]).decode() for _ in login)
            send(bytes([1, int(given != login)]))
            if given != login:
                connection.until_closed()
        kind = read(4)[3]
        host = read(read(1)[0]).decode() if kind == 3 else socket.inet_ntop(_FAMILIES[kind], read(_SIZES[kind]))
        to = int.from_bytes(read(2), "big")
        connection.service._note_request(Received(f"SOCKS {host} {to}", {}, b""))
        send(bytes([5, code, 0, 3, 9]) + b"somewhere" + b"\0\0")
        if code:
            connection.until_closed()
        with socket.create_connection(("127.0.0.1", port)) as onward, _pumping(onward, connection.sock):
            _pump(connection.sock, onward)

    return behave


_FAMILIES = {1: socket.AF_INET, 4: socket.AF_INET6}
_SIZES = {1: 4, 4: 16}
