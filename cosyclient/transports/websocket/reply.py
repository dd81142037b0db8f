"""The replies of the WebSocket transport: one session over a WebSocket, or the HTTP reply that refused it.

A `SessionReply` is a `cosyclient.wire.DuplexReply`: one thread reads its audio while others send its text.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from cosyclient.errors import ClientClosed, CosyError, TransportError
from cosyclient.transports.errors import WIRE_ERRORS
from cosyclient.transports.header_map import HeaderMap
from cosyclient.transports.reply_limit import ReplyLimit
from cosyclient.transports.websocket.messages import ConnectionClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from websockets.http11 import Response

    from cosyclient.clock import Cancellation, Deadline
    from cosyclient.transports.slots import Slot
    from cosyclient.transports.websocket.connection import WebSocket
    from cosyclient.transports.websocket.transport import WebSocketTransport
    from cosyclient.wire import MessageSession

_OK: Final = 200


class HandshakeReply:
    """Hold the HTTP reply of a service that refused to open a WebSocket."""

    def __init__(self, response: Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = HeaderMap(response.headers.raw_items())
        self._body = bytes(response.body)

    def chunks(self) -> Iterator[bytes]:
        """Yield its body."""
        yield self._body

    def close(self) -> None:
        """Do nothing: its connection is closed."""

    def __repr__(self) -> str:
        return f"<HandshakeReply {self.status}>"


class _SocketUse:
    """Use a session's WebSocket: it is not released meanwhile, and its exceptions are translated.

    ``with use, use:`` ends the use twice, because an interrupt may come while it is ended the first time.
    """

    def __init__(self, reply: SessionReply) -> None:
        self._reply = reply

    def begin(self) -> WebSocket:
        """Return the WebSocket; raises the error of a session that is over."""
        return self._reply.begin_use(self)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self._reply.end_use(self)
        if isinstance(error, WIRE_ERRORS) and not isinstance(error, CosyError):
            raise self._reply.translate(error) from error


class SessionReply:
    """Yield a session's audio as it arrives, send its text meanwhile, and release the WebSocket at its end."""

    status = _OK
    headers: Mapping[str, str] = {}

    def __init__(
        self,
        transport: WebSocketTransport,
        slot: Slot[WebSocket],
        session: MessageSession,
        cancellation: Cancellation,
        deadline: Deadline,
    ) -> None:
        # First, for the finalizer.
        self._transport = transport
        self._slot = slot
        self.session = session
        self._cancellation = cancellation
        self._deadline = deadline
        self._limit = ReplyLimit(transport.max_reply_bytes)
        # Held while the session makes messages and while they are queued, so that they are sent in the order it made
        # them; no wait and no I/O happens under it.
        self._session_lock = threading.Lock()
        # Guards the fields below: the WebSocket is released only when no thread uses it.
        self._lock = threading.Lock()
        self._uses: set[_SocketUse] = set()
        self._over = False
        self._reusable = False

    def chunks(self) -> Iterator[bytes]:
        """Yield the audio as it arrives, up to ``wire.max_reply_bytes``, and send what the session answers.

        Raises the `ServiceError` or `DecodeError` the service's messages stand for, `AttemptTimeout`,
        `TransportError`, `DeadlineExceeded` or `ClientClosed`; after any of them the WebSocket is closed.
        """
        try:
            while True:
                audio, done = self._receive()
                if done:
                    self._end(reusable=self.session.reusable)
                if audio:
                    self._limit.add(len(audio))
                    yield audio
                if done:
                    return
        finally:
            self.close()

    def send_text(self, text: str) -> None:
        """Queue *text* for the next `flush` or read."""
        self.enqueue(lambda: self.session.send_text(text))

    def end_text(self) -> None:
        """Queue the end of the text."""
        self.enqueue(self.session.end_text)

    def flush(self) -> None:
        """Wait until what was queued is sent."""
        use = _SocketUse(self)
        with use, use:
            use.begin().flush()

    def enqueue(self, make_messages: Callable[[], Sequence[str | bytes]]) -> None:
        """Queue the messages that *make_messages*, a method of the session, returns."""
        use = _SocketUse(self)
        with use, use:
            websocket = use.begin()
            with self._session_lock:
                websocket.enqueue(make_messages())

    def close(self) -> None:
        """Release the WebSocket: to the pool if the session ended in good order, otherwise it is closed."""
        self._end(reusable=False)

    def _receive(self) -> tuple[bytes, bool]:
        """Return the audio of the next message, and whether the session has ended."""
        use = _SocketUse(self)
        with use, use:
            websocket = use.begin()
            try:
                message = websocket.receive(lambda: self.session.writer_timeout)
            except ConnectionClosed as error:
                if self.session.closed(error.code):
                    return b"", True
                raise
            with self._session_lock:
                step = self.session.receive(message)
                websocket.enqueue(step.send)
            if step.send and step.done:
                websocket.flush()
            return step.audio, step.done

    def begin_use(self, use: _SocketUse) -> WebSocket:
        """Return the WebSocket, which is not released before `end_use`; raises the error of a session that is over."""
        with self._lock:
            websocket = self._slot.connection
            if websocket is None or self._over:
                raise self._over_error()
            self._uses |= {use}
            return websocket

    def end_use(self, use: _SocketUse) -> None:
        """End *use*, and release the WebSocket after the last one of a session that is over; again does nothing."""
        with self._lock:
            self._uses -= {use}
            last = self._over and not self._uses
        if last:
            self._release()

    def translate(self, error: Exception) -> CosyError:
        """Return what *error*, one of `WIRE_ERRORS`, means to the caller."""
        return self._transport.translate(error, self._deadline)

    def _over_error(self) -> CosyError:
        if self._transport.closed:
            return ClientClosed("the transport was closed meanwhile")
        return TransportError("the session is over")

    def _end(self, *, reusable: bool) -> None:
        with self._lock:
            if not self._over:
                self._over, self._reusable = True, reusable
            in_use = bool(self._uses)
        websocket = self._slot.connection
        if not in_use:
            self._release()
        elif websocket is not None and not self._reusable:
            # The threads that use it wake, and the last of them releases it.
            websocket.abort()

    def _release(self) -> None:
        if (websocket := self._slot.connection) is not None:
            websocket.session_idle_limit = self.session.idle_limit
        if self._slot.held:
            self._transport.release(self._slot, self._cancellation, reusable=self._reusable)

    def __del__(self) -> None:
        # An interrupt in __init__ leaves it without a slot.
        if (slot := getattr(self, "_slot", None)) is not None and slot.held:
            self._transport.slots.dropped.append(slot)

    def __repr__(self) -> str:
        return f"<SessionReply {'over' if self._over else 'open'}, {self._limit.received_bytes} bytes of audio>"
