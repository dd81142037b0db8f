"""One conversation over a WebSocket: its audio as it arrives, its texts meanwhile, its socket back at the end."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from cosyclient.errors import ClientClosed, CosyError, DecodeError, TransportError
from cosyclient.transports.faults import FOREIGN
from cosyclient.transports.http import Fields
from cosyclient.transports.inbox import Closed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cosyclient.clock import Cancellation, Deadline
    from cosyclient.transports.websocket import WebSocket
    from cosyclient.wire import Dialogue

_OPEN: Final = 200


class Keeper(Protocol):
    """Be where a conversation's socket comes from, and goes back to."""

    closed: bool
    max_bytes: int

    def translated(self, error: Exception, deadline: Deadline) -> CosyError:
        """Return what the wire's *error* means."""

    def release(self, socket: WebSocket, cancellation: Cancellation, *, reusable: bool) -> None:
        """Take *socket* back."""

    def forget(self, socket: WebSocket) -> None:
        """Take *socket* back from a finalizer, which must not wait for a lock."""


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


class Conversation:
    """Hand out a conversation's audio as it arrives, take its texts meanwhile, and give the socket back at its end."""

    status = _OPEN
    headers: Mapping[str, str] = {}

    def __init__(
        self,
        transport: Keeper,
        socket: WebSocket,
        dialogue: Dialogue,
        cancellation: Cancellation,
        deadline: Deadline,
    ) -> None:
        self._transport = transport
        self.dialogue = dialogue
        self._cancellation = cancellation
        self._deadline = deadline
        self._taken_bytes = 0
        # Makes one order of what the dialogue is told and what it says: no wait and no I/O happens under it.
        self._order = threading.Lock()
        # Guards the fields below: the socket may be closed only when no thread is inside it.
        self._lock = threading.Lock()
        self._held: WebSocket | None = socket
        self._inside = 0
        self._over = False
        self._reusable = False

    def chunks(self) -> Iterator[bytes]:
        """Yield the audio as it arrives, up to ``wire.max_reply_bytes``, sending what the dialogue says to it.

        Raises the `ServiceError` or `DecodeError` the service's messages stand for, `AttemptTimeout`,
        `TransportError`, `DeadlineExceeded` or `ClientClosed`; after any of them the socket is closed.
        """
        try:
            while True:
                audio, done = self._hear()
                if done:
                    self._end(reusable=self.dialogue.reusable)
                if audio:
                    self._count(audio)
                    yield audio
                if done:
                    return
        finally:
            self.close()

    def say(self, text: str) -> None:
        """Put *text* in line, to leave with the next `flush` or read."""
        self.put(lambda: self.dialogue.say(text))

    def finish(self) -> None:
        """Put in line that no more text follows."""
        self.put(self.dialogue.finish)

    def flush(self) -> None:
        """Wait until what was put in line has left."""
        with self._using() as socket:
            socket.flush()

    def put(self, said: Callable[[], Sequence[str | bytes]]) -> None:
        """Put in line what *said* returns."""
        with self._using() as socket, self._order:
            socket.put(said())

    def close(self) -> None:
        """Let go of the socket: back to the pool if the conversation ended as it should, closed otherwise."""
        self._end(reusable=False)

    def _hear(self) -> tuple[bytes, bool]:
        with self._using() as socket:
            try:
                message = socket.hear(lambda: self.dialogue.patience)
            except Closed as error:
                if self.dialogue.closed(error.code):
                    return b"", True
                raise
            with self._order:
                turn = self.dialogue.hear(message)
                socket.put(turn.send)
            if turn.send and turn.done:
                socket.flush()
            return turn.audio, turn.done

    @contextmanager
    def _using(self) -> Iterator[WebSocket]:
        """Be inside the socket: its errors become ours, and it is not closed under us."""
        with self._lock:
            socket = self._held
            if socket is None or self._over:
                raise self._ended()
            self._inside += 1
        try:
            yield socket
        except CosyError:
            raise
        except FOREIGN as error:
            raise self._transport.translated(error, self._deadline) from error
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1
            last = self._over and not self._inside
        if last:
            self._let_go()

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
            if self._over:
                return
            self._over, self._reusable = True, reusable
            socket, inside = self._held, self._inside
        if not inside:
            self._let_go()
        elif socket is not None and not reusable:
            # Whoever is inside wakes, and gives it back.
            socket.sever()

    def _let_go(self) -> None:
        with self._lock:
            socket, self._held = self._held, None
        if socket is not None:
            socket.keeps = self.dialogue.keeps
            self._transport.release(socket, self._cancellation, reusable=self._reusable)

    def __del__(self) -> None:
        if (held := self._held) is not None:
            self._transport.forget(held)

    def __repr__(self) -> str:
        return f"<Conversation {'over' if self._over else 'open'}, {self._taken_bytes} bytes of audio>"
