"""The WebSocket transport: conversations over a bounded pool of sockets, each wait within the call's deadline."""

from __future__ import annotations

import queue
import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import httpx

from cosyclient.clock import Cancellation
from cosyclient.errors import (
    BulkheadFull,
    ClientClosed,
    ConfigurationError,
    CosyError,
    DeadlineExceeded,
    DecodeError,
    TransportError,
)
from cosyclient.transports.connection import tls_context
from cosyclient.transports.faults import FOREIGN, ours
from cosyclient.transports.guard import Severed, Spans
from cosyclient.transports.http import Fields, version
from cosyclient.transports.pool import Places

try:
    from websockets.uri import parse_uri

    from cosyclient.transports.websocket import Closed, Refused, WebSocket
except ImportError as error:
    raise ConfigurationError(
        "this protocol is spoken over a WebSocket, which needs a package: pip install 'cosyclient[model-studio]'"
    ) from error

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cosyclient.clock import Clock, Deadline
    from cosyclient.settings import ResolvedConfig
    from cosyclient.transports.base import PoolStats
    from cosyclient.transports.connection import Connection
    from cosyclient.wire import Dialogue, WireReply, WireRequest

_AGE_SPREAD: Final = 0.2
_OPEN: Final = 200


class WebSocketTransport:
    """Hold conversations with one service, each on a socket of its own while it lasts.

    At most ``sizing.connections`` sockets. One is used again only if its conversation ended as it should and says so,
    for the same path, within the time the service keeps it; never after an error or a cancellation, for closing it is
    the one way to end a conversation at once. Safe to use from many threads; a forked child needs one of its own.
    """

    def __init__(
        self,
        settings: ResolvedConfig,
        *,
        clock: Clock,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        wire, pool = settings.rest.wire, settings.rest.pool
        self._base_url = settings.base_url
        self._connect = settings.rest.timeouts.connect
        self._max_bytes = wire.max_reply_bytes
        self._verify = wire.verify
        self._clock = clock
        self._idle_limit = pool.idle_limit
        self._lifetime: Callable[[], float] = lambda: pool.max_age * uniform(1 - _AGE_SPREAD, 1 + _AGE_SPREAD)
        self._headers: list[tuple[str, str]] = [("User-Agent", f"cosyclient/{version()}")]
        if settings.api_key is not None:
            self._headers.append(("Authorization", f"Bearer {settings.api_key.reveal()}"))
        self._places = Places(settings.sizing.connections, clock, pool.idle_limit)
        # A pool's places begin as rights to open a connection.
        for _ in range(settings.sizing.connections):
            self._places.put(None)
        # Guards the making of the context, which reads the CA file once; nothing else waits for it.
        self._tls_lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    def send(
        self,
        request: WireRequest,
        *,
        deadline: Deadline,
        read_timeout: float,
        cancellation: Cancellation | None = None,
    ) -> WireReply:
        """Begin the conversation *request* holds and return it; a service that declines has an HTTP reply for it.

        Raises `BulkheadFull`, `ConnectFailed`, `AttemptTimeout`, `TransportError`, `DeadlineExceeded` or
        `ClientClosed`.
        """
        if self._closed:
            raise ClientClosed("the transport is closed")
        if request.dialogue is None:
            raise TypeError("a request without a dialogue cannot be sent over a WebSocket")
        left = deadline.remaining
        if not left:
            raise DeadlineExceeded("the deadline passed before the request was sent")
        steps = {"connect": self._connect, "read": read_timeout, "write": read_timeout, "pool": left}
        spans = Spans(self._clock, steps, deadline)
        cancellation = cancellation or Cancellation()
        socket = self._borrow(request, spans, deadline)
        try:
            cancellation.on_cancel(socket.sever)
            if socket.is_closed:
                self._open(socket, request, spans, deadline)
            dialogue = request.dialogue()
            reply = Conversation(self, socket, dialogue, cancellation, deadline)
        except Refused as refused:
            self._release(socket, cancellation, reusable=False)
            response = refused.response
            return Refusal(response.status_code, list(response.headers.raw_items()), bytes(response.body))
        except BaseException:
            self._release(socket, cancellation, reusable=False)
            raise
        try:
            reply.put(dialogue.open)
            reply.flush()
        except BaseException:
            reply.close()
            raise
        return reply

    def stats(self) -> PoolStats:
        """Return a snapshot of the sockets."""
        return self._places.stats()

    def close(self) -> None:
        """Close every socket; whoever waits for one, or listens to one, gets `ClientClosed`."""
        self._closed = True
        idle, lent = self._places.shut()
        for connection in idle:
            connection.close()
        for connection in lent:
            connection.sever()

    def _borrow(self, request: WireRequest, spans: Spans, deadline: Deadline) -> WebSocket:
        """Take a place: with an open socket fit for *request*, or with one still to be opened."""
        try:
            place = self._places.get(timeout=spans.left(spans.pool))
        except (queue.Empty, TimeoutError) as error:
            if self._closed:
                raise ClientClosed("the transport was closed meanwhile") from error
            raise BulkheadFull("no socket came free in time") from error
        socket = cast("WebSocket | None", place)
        try:
            uri, purpose = self._target(request)
            if socket is not None:
                worn = socket.worn(self._clock.now(), self._idle_limit)
                if worn or socket.purpose != purpose or not socket.is_idle():
                    socket.close()
            if socket is None or socket.is_closed:
                opened = 0 if socket is None else socket.opened
                socket = WebSocket(
                    parse_uri(uri), tls=self._context(uri), clock=self._clock, max_bytes=self._max_bytes
                )
                socket.opened, socket.purpose = opened, purpose
            socket.spans = spans
            self._places.lend(cast("Connection", socket))
        except Severed as error:
            self._give_back(socket, reusable=False)
            raise ClientClosed("the transport was closed meanwhile") from error
        except BaseException:
            self._give_back(socket, reusable=False)
            raise
        return socket

    def _open(self, socket: WebSocket, request: WireRequest, spans: Spans, deadline: Deadline) -> None:
        try:
            socket.open([*self._headers, *request.headers], spans)
        except CosyError:
            raise
        except TimeoutError as error:
            raise self._translated(httpx.ConnectTimeout(f"no connection in time: {error}"), deadline) from error
        except (OSError, UnicodeError) as error:
            shown = httpx.ConnectError(str(error)[:200] or type(error).__name__)
            shown.__cause__ = error
            raise self._translated(shown, deadline) from error
        socket.worn_at = self._clock.now() + self._lifetime()

    def _translated(self, error: Exception, deadline: Deadline) -> CosyError:
        if self._closed:
            return ClientClosed("the transport was closed meanwhile")
        translated = ours(error, deadline)
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)) and not isinstance(error, TimeoutError):
            translated.args = (f"{self._base_url}: {translated}",)
        return translated

    def _release(self, socket: WebSocket, cancellation: Cancellation, *, reusable: bool) -> None:
        cancellation.on_cancel(None)
        self._give_back(socket, reusable=reusable)

    def _give_back(self, socket: WebSocket | None, *, reusable: bool) -> None:
        try:
            if socket is not None:
                socket.idle_since = self._clock.now()
                if not reusable or socket.severed:
                    socket.close()
        finally:
            self._places.put(cast("Connection | None", socket))

    def _target(self, request: WireRequest) -> tuple[str, object]:
        path = request.path.lstrip("/")
        # Services print their whole address, path included, where others name the host.
        told = urlsplit(self._base_url).path.strip("/")
        uri = self._base_url if told and (told == path or told.endswith("/" + path)) else f"{self._base_url}/{path}"
        return uri, (uri, request.headers)

    def _context(self, uri: str) -> ssl.SSLContext | None:
        if not uri.startswith("wss:"):
            return None
        with self._tls_lock:
            if self._tls is None:
                self._tls = tls_context(self._verify)
            return self._tls

    def __repr__(self) -> str:
        stats = self.stats()
        state = "closed" if self._closed else f"{stats.in_use} in use, {stats.idle} idle of {stats.limit}"
        return f"<WebSocketTransport {self._base_url} {state}, {stats.opened} opened>"


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
    headers: Mapping[str, str] = {}  # noqa: RUF012 - a conversation has none, and nobody writes to it

    def __init__(
        self,
        transport: WebSocketTransport,
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
            raise self._transport._translated(_shown(error), self._deadline) from error
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1
            last = self._over and not self._inside
        if last:
            self._let_go()

    def _ended(self) -> CosyError:
        if self._transport._closed:
            return ClientClosed("the transport was closed meanwhile")
        return TransportError("the conversation is over")

    def _count(self, audio: bytes) -> None:
        self._taken_bytes += len(audio)
        if self._taken_bytes > self._transport._max_bytes:
            raise DecodeError(f"reply larger than {self._transport._max_bytes} bytes (wire.max_reply_bytes)")

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
            self._transport._release(socket, self._cancellation, reusable=self._reusable)

    def __del__(self) -> None:
        if (held := self._held) is not None:
            self._transport._places.orphans.append(cast("Connection", held))

    def __repr__(self) -> str:
        return f"<Conversation {'over' if self._over else 'open'}, {self._taken_bytes} bytes of audio>"


def _shown(error: Exception) -> Exception:
    return TimeoutError("nothing came in time") if isinstance(error, TimeoutError) else error
