"""One WebSocket: the sans-I/O core of the websockets package over a `DeadlineSocket`.

The package's own blocking client starts a thread per connection and reads ahead of its user; the core is the same
protocol without threads and I/O.
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

from cosyclient.transports.pooled_connection import PooledConnection
from cosyclient.transports.reply_limit import too_large
from cosyclient.transports.sockets import Aborted, DeadlineSocket
from cosyclient.transports.websocket.messages import (
    ABNORMAL_CLOSURE,
    ConnectionClosed,
    HandshakeRefused,
    MessageAssembler,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from websockets.uri import WebSocketURI

    from cosyclient.clock import Clock
    from cosyclient.transports.dialer import Dialer
    from cosyclient.transports.sockets import StepTimeouts

_PIECE_BYTES: Final = 64 << 10
_MAX_SEND_BYTES: Final = 1 << 20
"""What is sent at most before the clock is looked at again."""
_MAX_UNSENT_BYTES: Final = 64 << 10
"""With more than this unsent, pings are not answered: a service that reads nothing needs no pongs (RFC 6455, 5.5.3)."""
_MAX_WAIT: Final = 0.5
"""Seconds between two looks at the time that is left."""
_NORMAL_CLOSURE: Final = 1000
_SWITCHING_PROTOCOLS: Final = 101
_DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)

# At DEBUG the package's own logger writes every header and frame, hence the key and the texts.
_DISABLED_LOGGER: Final = logging.Logger("cosyclient.websocket")
_DISABLED_LOGGER.disabled = True


def _send_handshake(core: ClientProtocol, headers: Sequence[tuple[str, str]]) -> None:
    """Start the handshake with *headers*; a function of its own, so that no traceback's variables show the key."""
    request = core.connect()
    for name, value in headers:
        request.headers[name] = value
    core.send_request(request)


class WebSocket(PooledConnection):
    """Carry messages both ways: one thread may `receive` while others `enqueue` and `flush`.

    The socket never blocks. A thread waits outside the lock, as long as its step and the deadline allow. So a full send
    buffer never stops the reading thread, which would be a deadlock with a service that waits until its data is read.
    """

    def __init__(
        self, uri: WebSocketURI, *, dialer: Dialer, clock: Clock, lifetime: Callable[[], float], max_reply_bytes: int
    ) -> None:
        super().__init__(dialer, clock, lifetime)
        self.uri = uri
        self.reuse_key: object = None
        """The address and headers it was opened with; it is used again for the same ones only."""
        self.session_idle_limit = 0.0
        """Seconds that it may idle after its last session, by that session's `idle_limit`."""
        self._max_reply_bytes = max_reply_bytes
        # Guards all below, and every operation on the socket: none of them waits, and TLS cannot do two at once.
        self._lock = threading.Lock()
        self._core: ClientProtocol | None = None
        self._send_buffer = bytearray()
        self._assembler = MessageAssembler()
        self._response: Response | None = None
        self._end_error: Exception | None = None
        self._last_activity = 0.0  # when a message was last queued or received

    @property
    def is_closed(self) -> bool:
        """Return whether there is no connection."""
        return self._core is None

    def open(self, headers: Sequence[tuple[str, str]], timeouts: StepTimeouts) -> None:
        """Connect and do the handshake within the connect step and the deadline.

        Raises `HandshakeRefused` with the reply of a service that refuses, and `OSError`, `TimeoutError` included.
        """
        self.timeouts = timeouts
        time_left = timeouts.countdown(timeouts.connect)
        # No compression is offered: audio is compressed already, and texts are short.
        core = ClientProtocol(self.uri, max_size=self._max_reply_bytes, logger=_DISABLED_LOGGER)
        try:
            socket = self._dial(timeouts)
            socket.raw.settimeout(0.0)
            _send_handshake(core, headers)
            with self._lock:
                self._core, self._response, self._end_error = core, None, None
                self._send_buffer += b"".join(core.data_to_send())
            response = self._handshake(core, time_left)
        except WebSocketException as error:
            self.close()
            raise ConnectionError(f"not a WebSocket: {type(error).__name__}") from error
        except BaseException:
            self.close()
            raise
        if response.status_code != _SWITCHING_PROTOCOLS:
            self.close()
            raise HandshakeRefused(response)

    def _handshake(self, core: ClientProtocol, time_left: Callable[[], float]) -> Response:
        while True:
            time_left()
            with self._lock:
                more = self._pump_locked(core)
                response, error = self._response, core.handshake_exc
                if response is not None and (error is None or response.status_code != _SWITCHING_PROTOCOLS):
                    return response
                if error is not None or self._end_error is not None:
                    raise error or self._end_error or ConnectionClosed(ABNORMAL_CLOSURE)
            if not more:
                self._wait_until_ready(time_left)

    def enqueue(self, messages: Sequence[str | bytes]) -> None:
        """Queue *messages* for the next `flush` or `receive`; raises the error of a connection that has ended."""
        if not messages:
            return
        with self._lock:
            core = self._core
            if core is None or self._end_error is not None:
                raise self._end_error or Aborted("the connection is closed")
            for message in messages:
                if isinstance(message, str):
                    core.send_text(message.encode())
                else:
                    core.send_binary(message)
            self._send_buffer += b"".join(core.data_to_send())
            self._last_activity = self._clock.now()

    def flush(self) -> None:
        """Send what is queued within the write step and the deadline."""
        time_left = self.timeouts.countdown(self.timeouts.write)
        while True:
            time_left()
            with self._lock:
                if not self._send_locked():
                    return
            self._wait_until_ready(time_left, readable=False)

    def receive(self, writer_timeout: Callable[[], float]) -> str | bytes:
        """Return the next message, and send what is queued meanwhile; raises `ConnectionClosed` when none will come.

        Waits for the read step, or *writer_timeout* if that is longer, counted from the last message queued or
        received. The deadline is checked on every pass, so pings and empty frames cannot extend the wait.
        """
        began = self._clock.now()
        while True:
            self.timeouts.within_deadline(math.inf)
            with self._lock:
                more = False
                if not self._assembler.messages and self._end_error is None:
                    more = self._pump_locked(self._require_core_locked())
                if self._assembler.messages:
                    self._last_activity = self._clock.now()
                    return self._assembler.messages.popleft()
                if self._end_error is not None:
                    raise self._end_error
            if more:
                self._read_time_left(began, writer_timeout())
            else:
                self._wait_until_ready(lambda: self._read_time_left(began, writer_timeout()))

    def _read_time_left(self, began: float, writer_timeout: float) -> float:
        timeout = max(self.timeouts.read, writer_timeout)
        return self.timeouts.within_deadline(max(began, self._last_activity) + timeout - self._clock.now())

    def is_idle(self) -> bool:
        """Return whether the connection is open and no unrequested message has come; pings that came are answered."""
        with self._lock:
            try:
                more = self._core is None or self._pump_locked(self._core)
            except OSError:
                return False
            return not (more or self._end_error is not None or self._assembler or self._send_buffer)

    def expired(self, now: float, idle_limit: float) -> bool:
        """Return whether this connection idled or lived too long; with an *idle_limit* of 0 none is used twice."""
        return not idle_limit or now - self.idle_since > self.session_idle_limit or now >= self._expires_at

    def close(self) -> None:
        """Close the connection, with a close frame if that can be sent without waiting."""
        with self._lock:
            core, self._core = self._core, None
            socket, self.socket = self.socket, None
            orderly = core is not None and not self._send_buffer and self._end_error is None
            self._send_buffer.clear()
            self._assembler = MessageAssembler()
            if socket is None:
                return
            if core is not None and orderly and not socket.aborted:
                # A core that was interrupted may fail an assertion of its own, which must not replace the interrupt.
                with contextlib.suppress(Exception):
                    core.send_close(_NORMAL_CLOSURE)
                    socket.raw.send(b"".join(core.data_to_send()))
        socket.close()

    # Of the methods below only _wait_until_ready waits.

    def _pump_locked(self, core: ClientProtocol) -> bool:
        """Send and receive what is possible without waiting; return whether more may have come already."""
        self._send_locked()
        received_bytes = 0
        # Bounded, so that a fast service does not hold up the threads that wait for the lock.
        while received_bytes < _PIECE_BYTES:
            data = self._receive_locked()
            if data is None:
                return False
            received_bytes += len(data)
            if data:
                core.receive_data(data)
            else:
                core.receive_eof()
            # Answers to pings and to a close.
            answers = b"".join(core.data_to_send())
            if len(self._send_buffer) < _MAX_UNSENT_BYTES:
                self._send_buffer += answers
            self._handle_events_locked(core, core.events_received())
            if isinstance(core.parser_exc, PayloadTooBig):
                self._end_error = too_large(self._max_reply_bytes)
            elif not data or core.parser_exc is not None:
                reason = "unreadable frames" if data else ""
                self._end_error = self._end_error or ConnectionClosed(ABNORMAL_CLOSURE, reason)
            # If the connection is gone, the next read reports it.
            with contextlib.suppress(OSError):
                self._send_locked()
            if self._end_error is not None:
                return False
        return True

    def _receive_locked(self) -> bytes | None:
        socket = self._require_socket()
        try:
            data = socket.raw.recv(_PIECE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        if not data and socket.aborted:
            raise Aborted
        return data

    def _send_locked(self) -> bool:
        """Send what is possible without waiting, up to `_MAX_SEND_BYTES`; return whether something is still queued."""
        budget = _MAX_SEND_BYTES
        while self._send_buffer:
            if budget <= 0:
                return True
            try:
                sent = self._require_socket().raw.send(bytes(self._send_buffer[:_PIECE_BYTES]))
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return True
            del self._send_buffer[:sent]
            budget -= sent
        return False

    def _handle_events_locked(self, core: ClientProtocol, events: Sequence[object]) -> None:
        for event in events:
            if isinstance(event, Response):
                self._response = event
            elif isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                code = core.close_rcvd.code if core.close_rcvd is not None else ABNORMAL_CLOSURE
                self._end_error = ConnectionClosed(code)
            elif isinstance(event, Frame) and event.opcode in _DATA:
                self._assembler.add(event)

    def _wait_until_ready(self, time_left: Callable[[], float], *, readable: bool = True) -> None:
        """Wait, as long as *time_left* says, until the socket is writable or, with *readable*, has data."""
        # An abort after this line wakes the wait.
        sock = self._require_socket().raw
        # Bounded, because the time left becomes less when another thread ends the text.
        wait.wait_for_socket(sock, readable, bool(self._send_buffer) or not readable, min(time_left(), _MAX_WAIT))

    def _require_socket(self) -> DeadlineSocket:
        if self.socket is None:
            raise Aborted("the connection is closed")
        return self.socket

    def _require_core_locked(self) -> ClientProtocol:
        if self._core is None:
            raise Aborted("the connection is closed")
        return self._core

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "aborted" if self.aborted else "open"
        return f"<WebSocket to {self.uri.host}:{self.uri.port}, {state}>"
