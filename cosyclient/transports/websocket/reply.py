"""One conversation over a WebSocket: its audio as it arrives, its texts meanwhile, its socket back at the end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol

from cosyclient.errors import ClientClosed, CosyError, DecodeError, TransportError
from cosyclient.transports.errors import WIRE_ERRORS
from cosyclient.transports.http.transport import Fields
from cosyclient.transports.websocket.messages import Closed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cosyclient.clock import Cancellation, Deadline
    from cosyclient.transports.http.pool import Place
    from cosyclient.transports.websocket.connection import WebSocket
    from cosyclient.wire import MessageSession

_OPEN: Final = 200


class Keeper(Protocol):
    """Be where a conversation's socket comes from, and goes back to."""

    closed: bool
    max_bytes: int

    def translated(self, error: Exception, deadline: Deadline) -> CosyError:
        """Return what the wire's *error* means."""

    def release(self, place: Place[WebSocket], cancellation: Cancellation, *, reusable: bool) -> None:
        """Take *place* back; again does nothing."""

    def forget(self, place: Place[WebSocket]) -> None:
        """Take *place* back from a finalizer, which must not wait for a lock."""


class Refusal:
    """Hold the HTTP reply of a service that would not open a WebSocket."""

    def __init__(self, status: int, fields: Sequence[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers: Mapping[str, str] = Fields(
            [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        )
        self._body = body

    def chunks(self) -> Iterator[bytes]:
        """Yield its body."""
        yield self._body

    def close(self) -> None:
        """Do nothing: its socket is closed."""

    def __repr__(self) -> str:
        return f"<Refusal {self.status}>"


class _Use:
    """Be inside a conversation's socket after `enter`: its errors become ours, and it is not closed under us.

    ``with use, use:`` leaves, also where an interrupt comes amid leaving.
    """

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def enter(self) -> WebSocket:
        """Return the socket; raises what became of a conversation that is over."""
        return self._conversation._enter(self)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self._conversation._leave(self)
        if isinstance(error, WIRE_ERRORS) and not isinstance(error, CosyError):
            raise self._conversation._translated(error) from error


class Conversation:
    """Hand out a conversation's audio as it arrives, take its texts meanwhile, and give the socket back at its end."""

    status = _OPEN
    headers: Mapping[str, str] = {}

    def __init__(
        self,
        transport: Keeper,
        place: Place[WebSocket],
        session: MessageSession,
        cancellation: Cancellation,
        deadline: Deadline,
    ) -> None:
        # First, for the finalizer.
        self._transport = transport
        self._place = place
        self.session = session
        self._cancellation = cancellation
        self._deadline = deadline
        self._taken_bytes = 0
        # Makes one order of what the session is told and what it says: no wait and no I/O happens under it.
        self._order = threading.Lock()
        # Guards the fields below: the socket may be closed only when no thread is inside it.
        self._lock = threading.Lock()
        self._inside: set[_Use] = set()
        self._over = False
        self._reusable = False

    def chunks(self) -> Iterator[bytes]:
        """Yield the audio as it arrives, up to ``wire.max_reply_bytes``, sending what the session says to it.

        Raises the `ServiceError` or `DecodeError` the service's messages stand for, `AttemptTimeout`,
        `TransportError`, `DeadlineExceeded` or `ClientClosed`; after any of them the socket is closed.
        """
        try:
            while True:
                audio, done = self._hear()
                if done:
                    self._end(reusable=self.session.reusable)
                if audio:
                    self._count(audio)
                    yield audio
                if done:
                    return
        finally:
            self.close()

    def send_text(self, text: str) -> None:
        """Put *text* in line, to leave with the next `flush` or read."""
        self.put(lambda: self.session.send_text(text))

    def end_text(self) -> None:
        """Put in line that no more text follows."""
        self.put(self.session.end_text)

    def flush(self) -> None:
        """Wait until what was put in line has left."""
        use = _Use(self)
        with use, use:
            use.enter().flush()

    def put(self, said: Callable[[], Sequence[str | bytes]]) -> None:
        """Put in line what *said* returns."""
        use = _Use(self)
        with use, use:
            socket = use.enter()
            with self._order:
                socket.put(said())

    def close(self) -> None:
        """Let go of the socket: back to the pool if the conversation ended as it should, closed otherwise."""
        self._end(reusable=False)

    def _hear(self) -> tuple[bytes, bool]:
        use = _Use(self)
        with use, use:
            socket = use.enter()
            try:
                message = socket.hear(lambda: self.session.writer_timeout)
            except Closed as error:
                if self.session.closed(error.code):
                    return b"", True
                raise
            with self._order:
                turn = self.session.receive(message)
                socket.put(turn.send)
            if turn.send and turn.done:
                socket.flush()
            return turn.audio, turn.done

    def _enter(self, use: _Use) -> WebSocket:
        with self._lock:
            socket = self._place.connection
            if socket is None or self._over:
                raise self._ended()
            self._inside |= {use}
            return socket

    def _leave(self, use: _Use) -> None:
        with self._lock:
            self._inside -= {use}
            last = self._over and not self._inside
        if last:
            self._let_go()

    def _translated(self, error: Exception) -> CosyError:
        return self._transport.translated(error, self._deadline)

    def _ended(self) -> CosyError:
        if self._transport.closed:
            return ClientClosed("the transport was closed meanwhile")
        return TransportError("the conversation is over")

    def _count(self, audio: bytes) -> None:
        self._taken_bytes += len(audio)
        if self._taken_bytes > self._transport.max_bytes:
            raise DecodeError(f"reply larger than {self._transport.max_bytes} bytes (wire.max_reply_bytes)")

    def _end(self, *, reusable: bool) -> None:
        with self._lock:
            if not self._over:
                self._over, self._reusable = True, reusable
            inside = bool(self._inside)
        socket = self._place.connection
        if not inside:
            self._let_go()
        elif socket is not None and not self._reusable:
            # Whoever is inside wakes, and gives it back.
            socket.abort()

    def _let_go(self) -> None:
        if (socket := self._place.connection) is not None:
            socket.keeps = self.session.idle_limit
        if self._place.held:
            self._transport.release(self._place, self._cancellation, reusable=self._reusable)

    def __del__(self) -> None:
        # One whose making was interrupted has none.
        if (place := getattr(self, "_place", None)) is not None and place.held:
            self._transport.forget(place)

    def __repr__(self) -> str:
        return f"<Conversation {'over' if self._over else 'open'}, {self._taken_bytes} bytes of audio>"
