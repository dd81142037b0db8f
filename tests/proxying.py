"""A proxy, as small as it can be: tunnels for CONNECT, requests passed on, credentials if it wants them."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from tests.hostile import Behaviour, Visit, reply

if TYPE_CHECKING:
    from collections.abc import Iterator

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
DENIED = reply(b"who are you?", status="407 Proxy Authentication Required", headers=("Proxy-Authenticate: Basic",))


def leads_to(port: int, *, authorization: str | None = None) -> Behaviour:
    """Lead whatever is asked for to *port* of this machine: the names are the proxy's to know."""

    def behave(visit: Visit) -> None:
        with contextlib.ExitStack() as stack:
            onward: socket.socket | None = None
            while (received := visit.request()) is not None:
                if authorization is not None and received.headers.get("proxy-authorization") != authorization:
                    visit.send(DENIED)
                    continue
                method, target, version = received.line.split(" ")
                if onward is None:
                    onward = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                    if method == "CONNECT":
                        # Before the service says anything, as one that speaks HTTP/2 does unasked.
                        visit.send(ESTABLISHED)
                    stack.enter_context(_pumping(onward, visit.sock))
                if method == "CONNECT":
                    _pump(visit.sock, onward)
                    return
                assert target.startswith("http://"), "a proxy is told the whole address"
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
