"""One socket whose every operation ends within what its request was granted."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any, Final

from urllib3.util import wait

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cosyclient.clock import Clock, Deadline

# A step that nobody bounded ends after this many seconds: no wait in this library is unbounded.
LONGEST: Final = 600.0


class Spans:
    """Hold the seconds one request grants to each of its steps, and the deadline that cuts them all short."""

    __slots__ = ("_at", "_now", "connect", "pool", "read", "write")

    def __init__(self, clock: Clock, timeout: Mapping[str, float | None], deadline: Deadline | None) -> None:
        self._now: Callable[[], float] = clock.now if deadline is None else deadline.clock.now
        self._at = None if deadline is None else deadline.at
        get = timeout.get
        self.connect = _bounded(get("connect"))
        self.read = _bounded(get("read"))
        self.write = _bounded(get("write"))
        self.pool = _bounded(get("pool"))

    def left(self, span: float) -> float:
        """Return *span* or what the deadline leaves of it; raise `TimeoutError` when that is nothing."""
        if self._at is not None:
            span = min(span, self._at - self._now())
        if span <= 0:
            # A socket with a timeout of zero would not wait but answer "try again".
            raise TimeoutError("no time is left")
        return span

    def until(self, span: float) -> Callable[[], float]:
        """Return a function that tells what is left of *span*, counted from now on."""
        end = self._now() + span
        return lambda: self.left(end - self._now())


def _bounded(span: float | None) -> float:
    return LONGEST if span is None else min(span, LONGEST)


class Severed(OSError):
    """Tell that the socket was shut down from our own side, by another thread."""


class GuardedSocket:
    """Pass for a socket, and arm the real one before each operation with what is left of the step and the deadline.

    However slowly the bytes drip, no `recv_into` or `sendall` outlasts ``spans``, with TLS as without. ``received``
    counts the bytes that came in; while ``waits`` is off, `recv_into` only looks.
    """

    def __init__(self, sock: socket.socket, spans: Spans) -> None:
        self.spans = spans
        self.received = 0
        self.waits = True
        self.severed = False
        self._owner = os.getpid()
        # Guards _sock against being closed by its user while another thread shuts it down: by then its number could
        # belong to somebody else's file.
        self._lock = threading.Lock()
        self._sock: socket.socket | None = sock
        self._armed: float | None = None

    def adopt(self, sock: socket.socket) -> None:
        """Use *sock* instead of the one before, which it has taken over."""
        with self._lock:
            self._sock, self._armed = sock, None
            severed = self.severed
        if severed:
            raise Severed("shut down from our side")

    def recv_into(self, buffer: Any) -> int | None:
        """Put what is there into *buffer*, waiting for it as long as the read step and the deadline allow.

        Returns its size, which is 0 at the connection's end, or None when nothing is there and ``waits`` is off.
        """
        sock = self._live()
        if not self.waits:
            return self._look(sock, buffer)
        left = self.spans.until(self.spans.read)
        while True:
            self._arm(sock, left())
            try:
                size = sock.recv_into(buffer)
                break
            except TimeoutError as error:
                if error.errno is not None:
                    # The system's own, about a peer that is gone.
                    raise
        if not size and self.severed:
            # An end that we made ourselves must not pass for the end of the content.
            raise Severed("shut down from our side")
        self.received += size
        return size

    def sendall(self, data: Any) -> None:
        """Send all of *data* within the write step and the deadline."""
        sock = self._live()
        left = self.spans.until(self.spans.write)
        # Not the sockets' own sendall: with TLS it would grant the whole timeout to every 16 KiB record.
        with memoryview(data).cast("B") as view:
            sent = 0
            while sent < len(view):
                self._arm(sock, left())
                try:
                    sent += sock.send(view[sent:])
                except TimeoutError as error:
                    if error.errno is not None:
                        raise

    def _arm(self, sock: socket.socket, left: float) -> None:
        """Let the next operation end within *left* seconds, after which its caller looks at the time again.

        Arming is a system call for which the interpreter is given up, and most operations end at once. So long waits
        are cut to a power of two, which seldom changes.
        """
        span = left if left < 1.0 else math.ldexp(0.5, math.frexp(left)[1])
        if span != self._armed:
            sock.settimeout(span)
            self._armed = span

    def _look(self, sock: socket.socket, buffer: Any) -> int | None:
        if not wait.wait_for_read(sock, 0) and not (isinstance(sock, ssl.SSLSocket) and sock.pending()):
            return None
        # With TLS it may be something that concerns the connection alone, such as a ticket.
        sock.settimeout(0.0)
        self._armed = 0.0
        try:
            return sock.recv_into(buffer)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None

    def sever(self) -> None:
        """Shut the connection down under whoever uses it; that thread gets `Severed`."""
        with self._lock:
            self.severed = True
            if self._sock is not None:
                with contextlib.suppress(OSError):
                    # Not SSLSocket.shutdown: that would turn the other thread's reads into plain ones.
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket without a word to the peer; a second call does nothing."""
        # In a forked child the lock may have been held by a thread that does not exist here.
        with self._lock if self._owner == os.getpid() else contextlib.nullcontext():
            sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def __del__(self) -> None:
        # A forked child drops the parent's sockets without being asked; a warning about each would be noise there,
        # while in the process that opened them it is a leak to be told.
        if getattr(self, "_owner", os.getpid()) != os.getpid():
            self.close()

    def _live(self) -> socket.socket:
        if self.severed or self._sock is None:
            raise Severed("shut down from our side" if self.severed else "the socket is closed")
        return self._sock

    def __repr__(self) -> str:
        state = "severed" if self.severed else "closed" if self._sock is None else "open"
        return f"<GuardedSocket {state}, {self.received} bytes received>"
