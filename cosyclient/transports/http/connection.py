"""One HTTP connection: written here, opened by a `Dialer`, read by http.client through `RawReply`."""

from __future__ import annotations

import io
import math
from http.client import RemoteDisconnected
from typing import TYPE_CHECKING, Any, Final

from urllib3.connection import HTTPConnection

from cosyclient.transports.http.response import RawReply
from cosyclient.transports.pooled_connection import PooledConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosyclient.clock import Clock
    from cosyclient.transports.dialer import Dialer
    from cosyclient.transports.http.head import RawRequest
    from cosyclient.transports.sockets import DeadlineSocket, StepTimeouts

_BUFFER_BYTES: Final = 16 << 10
# Head and content are sent in one write, hence usually in one packet, unless joining them would copy more than this.
_JOIN_BYTES: Final = 256 << 10


class _SocketReader(io.RawIOBase):
    """Read from a socket for a `BufferedReader`, and raise at the connection's end.

    http.client would accept a head, or the lines after the last chunk, as complete wherever the connection ends.
    """

    def __init__(self, socket: DeadlineSocket) -> None:
        self._socket = socket
        self.keeps_errors = False
        """Whether an error is kept for the next read: a `BufferedReader` drops the bytes that came before one."""
        self._kept: list[OSError] = []

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        try:
            if self._kept:
                raise self._kept.pop()
            size = self._socket.recv_into(buffer)
            if size == 0:
                raise RemoteDisconnected("the connection was closed before the end of the reply")
        except OSError as error:
            if not self.keeps_errors:
                raise
            self._kept.append(error)
            return None
        return size


class ReplyBuffer(io.BufferedReader):
    """Keep the bytes of one connection that have come and are not read yet, from one reply to the next."""

    raw: _SocketReader

    def __init__(self, socket: DeadlineSocket) -> None:
        super().__init__(_SocketReader(socket), _BUFFER_BYTES)
        self._socket = socket

    def read_at_once(self, size: int, seconds: float) -> bytes:
        """Return *size* bytes, fewer if not all come within *seconds* or an error comes first: the next read raises it.

        They are written where they stay, in as few steps as they come in, without a piece of Python for each.
        """
        socket, reader = self._socket, self.raw
        try:
            socket.wait_until, reader.keeps_errors = socket.timeouts.now() + seconds, True
            return self.read(size) or b""
        finally:
            socket.wait_until, reader.keeps_errors = None, False

    def has_nothing(self) -> bool:
        """Return whether the connection is open, and nothing has come that is not read."""
        socket = self._socket
        try:
            socket.wait_until = -math.inf
            # None means that nothing is buffered and nothing has come; the connection's end is an OSError.
            return self.read(1) is None
        except OSError:
            return False
        finally:
            socket.wait_until = None

    def close(self) -> None:
        """Do nothing: http.client closes its file after each reply, and this one lives as long as the connection."""


class Connection(HTTPConnection, PooledConnection):
    """Send requests and read replies within the timeouts of each.

    http.client reads. Its writing, and urllib3's own request and response, would double the cost of a request.
    """

    def __init__(self, *args: Any, dialer: Dialer, clock: Clock, lifetime: Callable[[], float], **kwargs: Any) -> None:
        HTTPConnection.__init__(self, *args, **kwargs)
        PooledConnection.__init__(self, dialer, clock, lifetime)
        self._received: ReplyBuffer

    def connect(self) -> None:
        """Open the connection, TLS handshake included; raises `OSError`."""
        socket = self._dial(self.timeouts)
        self._received = ReplyBuffer(socket)
        self.sock = socket

    def start_request(self, timeouts: StepTimeouts) -> None:
        """Apply *timeouts* to the next request."""
        self.timeouts = timeouts
        if self.socket is not None:
            self.socket.timeouts = timeouts
            self.socket.received_bytes = 0

    def write_request(self, request: RawRequest) -> None:
        """Send *request*, head and content together where that copies little; raises `OSError`."""
        socket = self.socket
        assert socket is not None  # noqa: S101 - connect() made it
        # Views, and no local variable for the bytes: tools that show a traceback's variables would show key and texts.
        if isinstance(request.content, bytes) and len(request.content) <= _JOIN_BYTES and not request.chunked:
            socket.sendall(memoryview(request.head + request.content))
        else:
            socket.sendall(request.head)
            for piece in _pieces(request):
                socket.sendall(piece)
        socket.acknowledge_at_once()

    def read_reply(self, method: str) -> RawReply:
        """Return the reply to a request by *method* once its status and fields have come; raises `READ_ERRORS`."""
        reply = RawReply(self, method)
        reply.begin()
        return reply

    def makefile(self, _mode: str) -> ReplyBuffer:
        """Return the file that replies are read from; called by http.client."""
        return self._received

    @property
    def nothing_received(self) -> bool:
        """Return whether no byte of the current reply has come."""
        return self.socket is None or not self.socket.received_bytes

    @property
    def is_connected(self) -> bool:
        """Return whether the connection is open and no unrequested bytes have come."""
        return self.sock is not None and self._received.has_nothing()

    def expired(self, now: float, idle_limit: float) -> bool:
        """Return whether this connection idled or lived too long to be used again."""
        return now - self.idle_since > idle_limit or now >= self._expires_at


def _pieces(request: RawRequest) -> Iterator[memoryview]:
    content = request.content
    for piece in (content,) if isinstance(content, bytes) else content:
        if piece:
            yield memoryview(b"%x\r\n%b\r\n" % (len(piece), piece) if request.chunked else piece)
    if request.chunked:
        yield memoryview(b"0\r\n\r\n")
