"""One WebSocket, driven by the sans-I/O core of the websockets package over a guarded socket.

The package's own blocking client starts a thread per connection, which a pool of them would multiply, and reads ahead
of its user; its core is the same protocol without either.
"""

from __future__ import annotations

import contextlib
import logging
import math
import ssl
import threading
from typing import TYPE_CHECKING, Final

from urllib3.util import wait
from websockets.client import ClientProtocol
from websockets.exceptions import PayloadTooBig, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Response

from cosyclient.errors import DecodeError
from cosyclient.transports.sockets import Aborted, DeadlineSocket
from cosyclient.transports.websocket.messages import WORDLESS, Closed, Inbox, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from websockets.uri import WebSocketURI

    from cosyclient.clock import Clock
    from cosyclient.transports.dialer import Dialer
    from cosyclient.transports.sockets import StepTimeouts

_PIECE_BYTES: Final = 64 << 10
_TURN_BYTES: Final = 1 << 20
"""What is sent before the clock is looked at again."""
_MOST_ANSWERS_BYTES: Final = 64 << 10
"""What may be in line before pings go unanswered: who reads nothing needs no pongs (RFC 6455, 5.5.3)."""
_SLICE: Final = 0.5
_NORMAL: Final = 1000
_SWITCHING: Final = 101
_DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)

# At DEBUG the package's own logger writes down every header and frame: the key, and the texts.
_SILENT: Final = logging.Logger("cosyclient.websocket")
_SILENT.disabled = True


def _greet(core: ClientProtocol, headers: Sequence[tuple[str, str]]) -> None:
    """Have *core* say hello under *headers*, which no frame of a traceback keeps by a name."""
    request = core.connect()
    for name, value in headers:
        request.headers[name] = value
    core.send_request(request)


class WebSocket:
    """Carry messages both ways: one thread may `hear` while others `put` and `flush`.

    The socket never blocks; whoever waits does so outside the lock, for as long as its step and the deadline allow. So
    a reader is never held up by a full send buffer, which would be a deadlock with a service that waits for it to read.
    """

    def __init__(self, uri: WebSocketURI, *, dialer: Dialer, clock: Clock, max_bytes: int) -> None:
        self.uri = uri
        self.purpose: object = None
        """What it was opened for; it may be used again for the same only."""
        self.aborted = False
        self.opened = 0
        self.idle_since = 0.0
        self.keeps = 0.0
        self.worn_at = math.inf
        self.timeouts: StepTimeouts
        self.socket: DeadlineSocket | None = None
        self._dialer = dialer
        self._clock = clock
        self._max_bytes = max_bytes
        # Guards all below, and every operation on the socket: none of them waits, and TLS cannot do two at once.
        self._lock = threading.Lock()
        self._core: ClientProtocol | None = None
        self._outbox = bytearray()
        self._inbox = Inbox()
        self._response: Response | None = None
        self._end: Exception | None = None
        self._moved = 0.0  # when something was last said or heard

    @property
    def is_closed(self) -> bool:
        """Return whether there is no connection."""
        return self._core is None

    def open(self, headers: Sequence[tuple[str, str]], timeouts: StepTimeouts) -> None:
        """Connect and shake hands within the connect step and the deadline.

        Raises `Refused` with the reply of a service that declines, `OSError` (also `TimeoutError`) otherwise.
        """
        self.opened += 1
        self.timeouts = timeouts
        left = timeouts.countdown(timeouts.connect)
        # No compression is offered: audio is compressed already, and texts are short.
        core = ClientProtocol(self.uri, max_size=self._max_bytes, logger=_SILENT)
        try:
            socket = self._dialer.dial(timeouts, opened=self._publish_socket, aborted=lambda: self.aborted)
            socket.raw.settimeout(0.0)
            _greet(core, headers)
            with self._lock:
                self._core, self._response, self._end = core, None, None
                self._outbox += b"".join(core.data_to_send())
            response = self._shake_hands(core, left)
        except WebSocketException as error:
            self.close()
            raise ConnectionError(f"not a WebSocket: {type(error).__name__}") from error
        except BaseException:
            self.close()
            raise
        if response.status_code != _SWITCHING:
            self.close()
            raise Refused(response)

    def _shake_hands(self, core: ClientProtocol, left: Callable[[], float]) -> Response:
        while True:
            left()
            with self._lock:
                more = self._pump_locked(core)
                response, error = self._response, core.handshake_exc
                if response is not None and (error is None or response.status_code != _SWITCHING):
                    return response
                if error is not None or self._end is not None:
                    raise error or self._end or Closed(WORDLESS)
            if not more:
                self._await(left)

    def put(self, messages: Sequence[str | bytes]) -> None:
        """Put *messages* in line, to leave with the next `flush` or `hear`."""
        if not messages:
            return
        with self._lock:
            core = self._core
            if core is None or self._end is not None:
                raise self._end or Aborted("the connection is closed")
            for message in messages:
                if isinstance(message, str):
                    core.send_text(message.encode())
                else:
                    core.send_binary(message)
            self._outbox += b"".join(core.data_to_send())
            self._moved = self._clock.now()

    def flush(self) -> None:
        """Send what is in line within the write step and the deadline."""
        left = self.timeouts.countdown(self.timeouts.write)
        while True:
            left()
            with self._lock:
                if not self._send_locked():
                    return
            self._await(left, heard=False)

    def hear(self, patience: Callable[[], float]) -> str | bytes:
        """Return the next message, sending what is in line meanwhile; raises `Closed` when none will come.

        Waits the read step, or *patience* if that is longer, counted from what was said or heard last. The deadline
        holds whether there is anything to wait for or not: pings and empty frames keep nobody here.
        """
        began = self._clock.now()
        while True:
            self.timeouts.within_deadline(math.inf)
            with self._lock:
                more = False
                if not self._inbox.messages and self._end is None:
                    more = self._pump_locked(self._live_locked())
                if self._inbox.messages:
                    self._moved = self._clock.now()
                    return self._inbox.messages.popleft()
                if self._end is not None:
                    raise self._end
            if more:
                self._left(began, patience())
            else:
                self._await(lambda: self._left(began, patience()))

    def _left(self, began: float, patience: float) -> float:
        span = max(self.timeouts.read, patience)
        return self.timeouts.within_deadline(max(began, self._moved) + span - self._clock.now())

    def is_idle(self) -> bool:
        """Return whether the connection is open and nothing unasked for has come; answers the pings that have."""
        with self._lock:
            try:
                more = self._core is None or self._pump_locked(self._core)
            except OSError:
                return False
            return not (more or self._end is not None or self._inbox or self._outbox)

    def worn(self, now: float, idle_limit: float) -> bool:
        """Return whether this connection idled or lived too long; where *idle_limit* is 0 none is used twice."""
        return not idle_limit or now - self.idle_since > self.keeps or now >= self.worn_at

    def abort(self) -> None:
        """Shut down whatever socket is in use, now or in a moment, so that its threads wake."""
        self.aborted = True
        if self.socket is not None:
            self.socket.abort()

    def close(self) -> None:
        """Close the connection, with a word to the service if that takes no waiting."""
        with self._lock:
            core, self._core = self._core, None
            socket, self.socket = self.socket, None
            polite = core is not None and not self._outbox and self._end is None
            self._outbox.clear()
            self._inbox = Inbox()
            if socket is None:
                return
            if core is not None and polite and not socket.aborted:
                # A core in whose midst an interrupt came asserts what no longer holds; the interrupt must come out.
                with contextlib.suppress(Exception):
                    core.send_close(_NORMAL)
                    socket.raw.send(b"".join(core.data_to_send()))
        socket.close()

    # Below, nothing waits but _await.

    def _pump_locked(self, core: ClientProtocol) -> bool:
        """Send and receive what goes without waiting; return whether more may be there already."""
        self._send_locked()
        received = 0
        # A fast service must not keep the lock for itself.
        while received < _PIECE_BYTES:
            data = self._receive_locked()
            if data is None:
                return False
            received += len(data)
            if data:
                core.receive_data(data)
            else:
                core.receive_eof()
            # Answers to pings and to a close.
            answers = b"".join(core.data_to_send())
            if len(self._outbox) < _MOST_ANSWERS_BYTES:
                self._outbox += answers
            self._sort_locked(core, core.events_received())
            if isinstance(core.parser_exc, PayloadTooBig):
                self._end = DecodeError(f"reply larger than {self._max_bytes} bytes (wire.max_reply_bytes)")
            elif not data or core.parser_exc is not None:
                self._end = self._end or Closed(WORDLESS, "unreadable frames" if data else "")
            # Whom there is nobody to send to any more is found out by the next read.
            with contextlib.suppress(OSError):
                self._send_locked()
            if self._end is not None:
                return False
        return True

    def _receive_locked(self) -> bytes | None:
        socket = self._guarded()
        try:
            data = socket.raw.recv(_PIECE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        if not data and socket.aborted:
            raise Aborted
        return data

    def _send_locked(self) -> bool:
        """Send what goes at once, up to a turn's worth; return whether something is still in line."""
        turn = _TURN_BYTES
        while self._outbox:
            if turn <= 0:
                return True
            try:
                sent = self._guarded().raw.send(bytes(self._outbox[:_PIECE_BYTES]))
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return True
            del self._outbox[:sent]
            turn -= sent
        return False

    def _sort_locked(self, core: ClientProtocol, events: Sequence[object]) -> None:
        for event in events:
            if isinstance(event, Response):
                self._response = event
            elif isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                self._end = Closed(core.close_rcvd.code if core.close_rcvd is not None else WORDLESS)
            elif isinstance(event, Frame) and event.opcode in _DATA:
                self._inbox.take(event)

    def _await(self, left: Callable[[], float], *, heard: bool = True) -> None:
        """Wait, as long as *left* says, until the socket can take something or, if it is *heard*, has something."""
        # Whoever severs the socket after this wakes the wait.
        sock = self._guarded().raw
        # What is left can become less when another thread says that this was all; so it is looked at again.
        wait.wait_for_socket(sock, heard, bool(self._outbox) or not heard, min(left(), _SLICE))

    def _guarded(self) -> DeadlineSocket:
        if self.socket is None:
            raise Aborted("the connection is closed")
        return self.socket

    def _live_locked(self) -> ClientProtocol:
        if self._core is None:
            raise Aborted("the connection is closed")
        return self._core

    def _publish_socket(self, socket: DeadlineSocket) -> None:
        # First publish the socket, then look at the flag: sever() does it the other way round, so one of us acts.
        self.socket = socket
        if self.aborted:
            raise Aborted

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "severed" if self.aborted else "open"
        return f"<WebSocket to {self.uri.host}:{self.uri.port}, {state}>"
