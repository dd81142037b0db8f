"""One connection of a pool."""

from __future__ import annotations

import io
from http.client import RemoteDisconnected
from typing import TYPE_CHECKING, Any, Final

from urllib3.connection import HTTPConnection

from cosyclient.transports.http.response import Reply
from cosyclient.transports.sockets import Aborted, DeadlineSocket, StepTimeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosyclient.clock import Clock
    from cosyclient.transports.dialer import Dialer
    from cosyclient.transports.http.head import Outgoing

_BUFFER_BYTES: Final = 16 << 10
# Head and content leave in one write, hence usually in one packet, unless joining them would copy more than this.
_JOIN_BYTES: Final = 256 << 10


class _Inlet(io.RawIOBase):
    """Be what a BufferedReader reads from, and raise at the connection's end.

    http.client would take a head, or the lines after the last chunk, for whole wherever somebody cuts them.
    """

    def __init__(self, socket: DeadlineSocket) -> None:
        self._guard = socket

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        size = self._guard.recv_into(buffer)
        if size == 0:
            raise RemoteDisconnected("the connection was closed before the end of the reply")
        return size


class _Inbox(io.BufferedReader):
    """Keep what arrived on one connection and was not used yet, from one reply to the next."""

    def close(self) -> None:
        # http.client closes its file with each reply; there is nothing to let go of.
        pass


class Connection(HTTPConnection):
    """Connect through a `Dialer`, keep to the spans of the request at hand, and know one's own age.

    Reading is http.client's work; urllib3's own request and response, and http.client's writing, would double its cost.
    """

    def __init__(self, *args: Any, dialer: Dialer, clock: Clock, lifetime: Callable[[], float], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.timeouts: StepTimeouts
        self.socket: DeadlineSocket | None = None
        self.aborted = False
        self.opened = 0
        self.idle_since = 0.0
        self._dialer = dialer
        self._clock = clock
        self._lifetime = lifetime
        self._worn_at = 0.0
        self._inbox: _Inbox

    def connect(self) -> None:
        """Open a guarded socket, TLS handshake included."""
        self.opened += 1
        socket = self._dialer.dial(self.timeouts, opened=self._publish_socket, aborted=lambda: self.aborted)
        self._worn_at = self._clock.now() + self._lifetime()
        self._inbox = _Inbox(_Inlet(socket), _BUFFER_BYTES)
        self.sock = socket

    def begin(self, timeouts: StepTimeouts) -> None:
        """Put the next request under *spans*."""
        self.timeouts = timeouts
        if self.socket is not None:
            self.socket.timeouts = timeouts
            self.socket.received_bytes = 0

    def dispatch(self, request: Outgoing) -> None:
        """Send *request*, head and content together where that copies little."""
        socket = self.socket
        assert socket is not None  # noqa: S101 - connect() made it
        # Views, and nothing by a name of its own: what shows the variables of a traceback would show key and texts.
        if isinstance(request.content, bytes) and len(request.content) <= _JOIN_BYTES and not request.chunked:
            socket.sendall(memoryview(request.head + request.content))
            return
        socket.sendall(request.head)
        for piece in _pieces(request):
            socket.sendall(piece)

    def answer(self, method: str) -> Reply:
        """Return the reply to a request by *method* once its status and fields are there."""
        reply = Reply(self, method=method)
        reply.begin()
        return reply

    def makefile(self, _mode: str) -> _Inbox:
        """Return what replies are read from."""
        return self._inbox

    @property
    def untouched(self) -> bool:
        """Return whether no byte of the reply has come."""
        return self.socket is None or not self.socket.received_bytes

    @property
    def is_connected(self) -> bool:
        """Return whether the connection is open and nothing unasked for has arrived on it."""
        if self.sock is None or self.socket is None:
            return False
        self.socket.blocking = False
        try:
            # None is "nothing yet": neither kept from the last reply nor under way; the end is an OSError.
            return self._inbox.read(1) is None
        except OSError:
            return False
        finally:
            self.socket.blocking = True

    def worn(self, now: float, idle_limit: float) -> bool:
        """Return whether this connection idled or lived too long to be used again."""
        return now - self.idle_since > idle_limit or now >= self._worn_at

    def abort(self) -> None:
        """Shut down whatever socket is in use, now or in a moment, so that its thread wakes."""
        self.aborted = True
        if self.socket is not None:
            self.socket.abort()

    def _publish_socket(self, socket: DeadlineSocket) -> None:
        # First publish the socket, then look at the flag: sever() does it the other way round, so one of us acts.
        self.socket = socket
        if self.aborted:
            raise Aborted


def _pieces(request: Outgoing) -> Iterator[memoryview]:
    content = request.content
    for piece in (content,) if isinstance(content, bytes) else content:
        if piece:
            yield memoryview(b"%x\r\n%b\r\n" % (len(piece), piece) if request.chunked else piece)
    if request.chunked:
        yield memoryview(b"0\r\n\r\n")
