"""Sockets without a client, for what a service can: one prepared request again and again, the replies thrown away."""

from __future__ import annotations

import json
import selectors
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.peers.single import HEADERS, PATH, HttpStatus

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence


class RawSockets:
    """Ask for the same *texts* over all *connections*; one thread, which next to nothing costs time."""

    def __init__(self, base_url: str, *, format: str, connections: int, texts: Sequence[str]) -> None:
        parts = urlsplit(base_url)
        body = json.dumps({"texts": list(texts), "format": format}).encode()
        headers = {"Host": parts.netloc, **HEADERS, "Content-Length": len(body)}
        lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self._request = "\r\n".join(lines).encode() + body
        self._address = parts.hostname, parts.port
        self._connections = connections

    def exchange(self, on_reply: Callable[[float], object], over: threading.Event) -> None:
        """Call *on_reply* after each reply, with when its request was sent, until *over* is set.

        Raises `HttpStatus` for a reply that is not 200, and `OSError` for one that does not come whole.
        """
        buffer = bytearray(1 << 20)
        with selectors.DefaultSelector() as selector:
            connections = [socket.create_connection(self._address) for _ in range(self._connections)]
            try:
                missing, sent = dict.fromkeys(connections, 0), dict.fromkeys(connections, time.perf_counter())
                for each in connections:
                    each.sendall(self._request)
                    selector.register(each, selectors.EVENT_READ)
                while not over.is_set():
                    for key, _ in selector.select(0.1):
                        connection = key.fileobj
                        assert isinstance(connection, socket.socket)
                        count = connection.recv_into(buffer)
                        if not count:
                            raise ConnectionResetError("the service closed a connection")
                        if not missing[connection]:
                            missing[connection] = _length(buffer[: min(count, 4096)])
                        missing[connection] -= count
                        if not missing[connection]:
                            on_reply(sent[connection])
                            sent[connection] = time.perf_counter()
                            connection.sendall(self._request)
            finally:
                for each in connections:
                    each.close()

    def __repr__(self) -> str:
        return f"<RawSockets {self._address}, {self._connections} connections>"


def _length(start: bytearray) -> int:
    """Return the bytes of a reply, head included, whose *start* is given."""
    head = start.partition(b"\r\n\r\n")[0].lower()
    status, *fields = head.split(b"\r\n")
    if status.split()[1:2] != [b"200"]:
        raise HttpStatus(status.decode())
    value = next(field for field in fields if field.startswith(b"content-length:"))
    return len(head) + 4 + int(value.partition(b":")[2])
