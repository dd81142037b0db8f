"""A socket with a deadline: every operation ends within what its request grants to it.

Both connection pools (HTTP and WebSocket) read and write through `DeadlineSocket`. gRPC has sockets of its own.
"""

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

# A step without a timeout of its own ends after this many seconds: no wait in this library is unbounded.
LONGEST_WAIT: Final = 600.0
_QUICK_ACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
"""The option of Linux."""


class StepTimeouts:
    """Hold the seconds that one request grants to each of its steps, and the deadline that cuts them all short."""

    __slots__ = ("at", "connect", "now", "pool", "read", "write")

    def __init__(self, clock: Clock, timeout: Mapping[str, float | None], deadline: Deadline | None) -> None:
        self.now: Callable[[], float] = clock.now if deadline is None else deadline.clock.now
        self.at = math.inf if deadline is None else deadline.at
        """The deadline, on the clock of ``now``."""
        get = timeout.get
        self.connect = _bounded(get("connect"))
        self.read = _bounded(get("read"))
        self.write = _bounded(get("write"))
        self.pool = _bounded(get("pool"))

    def within_deadline(self, seconds: float) -> float:
        """Return *seconds*, or what the deadline leaves of them; raise `TimeoutError` when that is nothing."""
        left = self.at - self.now()
        return positive(min(seconds, left))

    def end_of(self, now: float, seconds: float) -> float:
        """Return the instant at which a step of *seconds* ends that begins *now*, at the deadline at the latest."""
        end = now + seconds
        return min(self.at, end)

    def countdown(self, seconds: float) -> Callable[[], float]:
        """Return a function that returns what is left of *seconds* from now on, or raises `TimeoutError`."""
        now = self.now
        end = self.end_of(now(), seconds)
        return lambda: positive(end - now())


def positive(seconds: float) -> float:
    """Return *seconds*; raise `TimeoutError` when none are left."""
    if seconds <= 0:
        # A socket with a timeout of zero would not wait but raise BlockingIOError.
        raise TimeoutError("no time is left")
    return seconds


def _bounded(timeout: float | None) -> float:
    return LONGEST_WAIT if timeout is None else min(timeout, LONGEST_WAIT)


class Aborted(OSError):
    """Report that this client shut the connection down, from another thread."""

    def __init__(self, message: str = "the connection was aborted by this client") -> None:
        super().__init__(message)


class DeadlineSocket:
    """Act as a socket that sets the real one's timeout before each operation to what the step and the deadline leave.

    However slowly the bytes arrive, no `recv_into` or `sendall` outlasts ``timeouts``, with TLS as without.
    ``received_bytes`` counts what came in. Where ``wait_until`` is not None, `recv_into` waits only until that
    instant on the clock of ``timeouts``, and takes only what is there from then on.
    """

    def __init__(self, sock: socket.socket, timeouts: StepTimeouts) -> None:
        self.timeouts = timeouts
        self.received_bytes = 0
        self.wait_until: float | None = None
        self.aborted = False
        self._owner = os.getpid()
        # Guards _sock against being closed by its user while another thread shuts it down: by then its file descriptor
        # could belong to another file.
        self._lock = threading.Lock()
        self._sock: socket.socket | None = sock
        self._armed_timeout: float | None = None

    def upgrade(self, sock: socket.socket) -> None:
        """Use *sock*, the TLS socket that wraps the one before; raises `Aborted` if that was shut down meanwhile."""
        with self._lock:
            self._sock, self._armed_timeout = sock, None
            aborted = self.aborted
        if aborted:
            raise Aborted

    @property
    def raw(self) -> socket.socket:
        """Return the real socket; raises `Aborted` when it was shut down or closed."""
        if self.aborted or self._sock is None:
            raise Aborted if self.aborted else Aborted("the socket is closed")
        return self._sock

    def recv_into(self, buffer: Any) -> int | None:
        """Read what is there into *buffer*, waiting for it as long as the read step and the deadline allow.

        Returns the number of bytes: 0 at the connection's end, or None when nothing came before ``wait_until``.
        """
        sock = self.raw
        timeouts = self.timeouts
        now = timeouts.now()
        if self.wait_until is not None:
            size = self._read_available(sock, buffer, min(self.wait_until, timeouts.at), now)
            if size is None:
                return None
        else:
            end = timeouts.end_of(now, timeouts.read)
            while True:
                self._arm(sock, positive(end - now))
                try:
                    size = sock.recv_into(buffer)
                    break
                except TimeoutError as error:
                    # The system's own, of a peer that is gone, has a number.
                    if error.errno is not None:
                        raise
                now = timeouts.now()
        if size == 0 and self.aborted:
            # A reader must not take an abort for the service's own end of the stream.
            raise Aborted
        self.received_bytes += size
        return size

    def sendall(self, data: bytes | memoryview) -> None:
        """Send all of *data* within the write step and the deadline."""
        sock = self.raw
        timeouts = self.timeouts
        now = timeouts.now()
        end = timeouts.end_of(now, timeouts.write)
        sent, size = 0, len(data)
        # Not the socket's own sendall: with TLS it would grant the whole timeout to every 16 KiB record.
        while True:
            self._arm(sock, positive(end - now))
            try:
                sent += sock.send(data[sent:] if sent else data)
            except TimeoutError as error:
                if error.errno is not None:
                    raise
            if sent >= size:
                return
            now = timeouts.now()

    def acknowledge_at_once(self) -> None:
        """Have what comes next acknowledged without delay, where the system can; it forgets that with each sending.

        A server that writes head and content one after the other, with Nagle's algorithm, such as Python's own, holds
        the content back until the head is acknowledged, which the system delays by 40 ms: 44 ms a call in place of 2.
        """
        sock = self._sock
        if _QUICK_ACK is not None and sock is not None:
            with contextlib.suppress(OSError):  # not TCP, or closed meanwhile
                sock.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)

    def _arm(self, sock: socket.socket, seconds: float) -> None:
        """Let the next operation end within *seconds*, after which its caller looks at the time again.

        Setting a timeout is a system call that gives up the interpreter, and most operations end at once. So waits of a
        second and more are cut to a power of two, which seldom changes.
        """
        timeout = seconds if seconds < 1.0 else math.ldexp(0.5, math.frexp(seconds)[1])
        if timeout != self._armed_timeout:
            sock.settimeout(timeout)
            self._armed_timeout = timeout

    def _read_available(self, sock: socket.socket, buffer: Any, until: float, now: float) -> int | None:
        while True:
            seconds = max(0.0, until - now)
            if not (isinstance(sock, ssl.SSLSocket) and sock.pending()) and not wait.wait_for_read(sock, seconds):
                return None
            if self._armed_timeout != 0.0:
                sock.settimeout(0.0)
                self._armed_timeout = 0.0
            try:
                return sock.recv_into(buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                # With TLS it may be a part of a record, or concern the connection alone, such as a session ticket.
                if not seconds:
                    return None
            now = self.timeouts.now()

    def abort(self) -> None:
        """Shut the connection down while another thread uses it; that thread gets `Aborted`."""
        with self._lock:
            self.aborted = True
            if self._sock is not None:
                with contextlib.suppress(OSError):
                    # Not SSLSocket.shutdown: that would turn the other thread's reads into plain ones.
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket without a TLS or protocol farewell; a second call does nothing."""
        # In a forked child the lock may have been held by a thread that does not exist there.
        with self._lock if self._owner == os.getpid() else contextlib.nullcontext():
            sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def __del__(self) -> None:
        # A forked child drops the parent's sockets; a ResourceWarning about each would be noise there. In the process
        # that opened them it reports a leak.
        if getattr(self, "_owner", os.getpid()) != os.getpid():
            self.close()

    def __repr__(self) -> str:
        state = "aborted" if self.aborted else "closed" if self._sock is None else "open"
        return f"<DeadlineSocket {state}, {self.received_bytes} bytes received>"
