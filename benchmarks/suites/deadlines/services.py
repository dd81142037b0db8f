"""Six hostile services, run together in one process."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from benchmarks.harness.hostile import ServedConnection, hostile, reply, unanswered

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from benchmarks.harness.hostile import Behaviour

_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"


def serve(cap: float, pipe: Connection) -> None:
    """Run the services, send their URLs by scenario, and end when *pipe* is closed.

    Each lets go of a client after *cap* seconds.
    """

    def behaving(behaviour: Behaviour, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{stack.enter_context(hostile(behaviour)).port}"

    def silent(connection: ServedConnection) -> None:
        connection.sock.settimeout(cap)
        connection.until_closed()

    def drip(connection: ServedConnection) -> None:
        connection.request()
        drops = int(cap * 10)
        connection.send(_HEAD % drops)
        connection.drip(b" " * drops, 0.1)

    def silence(connection: ServedConnection) -> None:
        connection.request()
        connection.send(_HEAD % 1000)
        silent(connection)

    def throttled(connection: ServedConnection) -> None:
        while connection.request():
            connection.send(reply(b"later", status="429 Too Many Requests", headers=(f"Retry-After: {cap:.0f}",)))

    with ExitStack() as stack:
        urls = {
            "no SYN": f"http://127.0.0.1:{stack.enter_context(unanswered())}",
            "TLS stall": behaving(silent, "https"),
            "full pool": behaving(silent),
            "drip": behaving(drip),
            "silence": behaving(silence),
            "Retry-After": behaving(throttled),
            "stop": behaving(ServedConnection.until_closed),
        }
        pipe.send(urls)
        with suppress(EOFError):
            pipe.recv()
