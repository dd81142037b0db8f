"""Run a service that misbehaves on purpose, over raw sockets: it shows what mocks cannot.

    with hostile(behaviour) as service:
        client = ...(service.url)
        ...
    assert service.seen == 1

A behaviour is a function of one `ServedConnection`, run in a thread of its own for each connection. Whatever it does,
leaving the context ends it: sockets are shut down, threads joined. `tests.support.hostile` has more behaviours.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

JOIN_SECONDS = 10.0


@dataclass(frozen=True)
class Received:
    """Hold one request as it came; header names are lower-cased."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """Return the request's target."""
        return self.line.split(" ")[1]


class ServedConnection:
    """Serve one connection; this is what a behaviour is given."""

    def __init__(self, service: HostileService, sock: socket.socket, number: int) -> None:
        self.service = service
        self.sock = sock
        self.number = number
        self._kept = b""

    def request(self) -> Received | None:
        """Read one request whole; None when the client closed."""
        while b"\r\n\r\n" not in self._kept:
            if not self._more():
                return None
        head, _, self._kept = self._kept.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._kept) < length:
            if not self._more():
                return None
        body, self._kept = self._kept[:length], self._kept[length:]
        received = Received(line, headers, body)
        self.service._note_request(received)
        return received

    def send(self, data: bytes) -> None:
        """Send *data* whole."""
        self.sock.sendall(data)

    def drip(self, data: bytes, interval: float) -> None:
        """Send *data* byte by byte, *interval* seconds apart."""
        for at in range(len(data)):
            self.send(data[at : at + 1])
            self.pause(interval)

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than the service runs."""
        if self.service.stopping.wait(seconds):
            raise ConnectionAbortedError("the service is stopped")

    def until_closed(self) -> None:
        """Send nothing until the client closes; what it sends meanwhile is dropped."""
        with contextlib.suppress(ConnectionError):
            while self.sock.recv(65536):
                pass

    def reset(self) -> None:
        """Close with a reset instead of an orderly end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _more(self) -> bool:
        data = self.sock.recv(65536)
        self._kept += data
        return bool(data)


Behaviour = Callable[[ServedConnection], None]


@dataclass
class HostileService:
    """Record what a service saw: connections ``seen`` and still ``open``, the most at a time, and the requests."""

    port: int
    scheme: str = "http"
    seen: int = 0
    open: int = 0
    peak: int = 0
    requests: list[Received] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        # Guards the counters; notified whenever one changes.
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        """Return the service's base URL."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def wait_for(self, predicate: Callable[[HostileService], bool], seconds: float = 30.0) -> bool:
        """Wait until *predicate* of this record holds; return whether it does."""
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self), seconds)

    def _note_request(self, received: Received) -> None:
        with self._changed:
            self.requests.append(received)
            self._changed.notify_all()

    def _note_connection(self, change: int) -> None:
        with self._changed:
            self.open += change
            self.seen += change > 0
            self.peak = max(self.peak, self.open)
            self._changed.notify_all()


@contextlib.contextmanager
def hostile(
    behaviour: Behaviour,
    *,
    tls: ssl.SSLContext | None = None,
    backlog: int = 512,
    listener: socket.socket | None = None,
) -> Iterator[HostileService]:
    """Run a service that treats every connection with *behaviour*, behind TLS if given a server context.

    It accepts from *listener* if there is one, which it closes in the end.
    """
    listener = listener or socket.create_server(("127.0.0.1", 0), backlog=backlog)
    service = HostileService(listener.getsockname()[1], "https" if tls else "http")
    sockets: set[socket.socket] = set()
    threads: list[threading.Thread] = []
    lock = threading.Lock()

    def serve(sock: socket.socket, number: int) -> None:
        raw = sock
        try:
            if tls is not None:
                sock = tls.wrap_socket(sock, server_side=True)
                with lock:
                    sockets.discard(raw)
                    sockets.add(sock)
            behaviour(ServedConnection(service, sock, number))
        except OSError:
            pass  # The client closed, or the service is stopped: a behaviour may expect both.
        finally:
            with lock:
                sockets.discard(sock)
                sock.close()
                raw.close()
            service._note_connection(-1)

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            service._note_connection(+1)
            thread = threading.Thread(target=serve, args=(sock, service.seen), daemon=True, name="hostile-connection")
            with lock:
                if service.stopping.is_set():
                    sock.close()
                    service._note_connection(-1)
                    return
                sockets.add(sock)
                threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept, daemon=True, name="hostile-accept")
    acceptor.start()
    try:
        yield service
    finally:
        service.stopping.set()
        # shutdown() and not close(): only it wakes a thread blocked in accept or recv.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        acceptor.join(JOIN_SECONDS)
        listener.close()
        with lock:
            for sock in sockets:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
            waiting = list(threads)
        for thread in waiting:
            thread.join(JOIN_SECONDS)
        assert not any(thread.is_alive() for thread in [acceptor, *waiting]), "a hostile thread did not end"


@contextlib.contextmanager
def unanswered() -> Iterator[int]:
    """Yield a port where connecting neither succeeds nor fails: the listener's queue is full, SYNs are dropped."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def reply(body: bytes = b"ok", *, status: str = "200 OK", headers: tuple[str, ...] = ()) -> bytes:
    """Return the bytes of a whole, correct reply."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
