"""What the WebSocket suites share: services that follow a script after the handshake, and a scripted session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from cosyclient.config import ClientConfig, TimeoutConfig
from cosyclient.errors import ServiceFault
from cosyclient.transports.websocket.transport import WebSocketTransport
from cosyclient.wire import DuplexReply, Step, WireRequest
from tests.transports.wire import CLOCK, settings, soon

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cosyclient.clock import Cancellation
    from cosyclient.wire import WireReply
    from tests.support.hostile import Behaviour, HostileService, ServedConnection


class Peer:
    """The service's side of a WebSocket, on one connection."""

    def __init__(self, connection: ServedConnection) -> None:
        self.connection = connection
        self.core = ServerProtocol(max_size=None)
        self.request: Request | None = None
        self.pongs = 0
        self._messages: list[str | bytes] = []

    def accept(self) -> bool:
        """Do the handshake; return whether there was a client."""
        while self.request is None:
            if not self._receive():
                return False
        self.core.send_response(self.core.accept(self.request))
        self.flush()
        return True

    def receive(self) -> str | bytes | None:
        """Return the next message, or None when the client has closed."""
        while not self._messages:
            if not self._receive():
                return None
        return self._messages.pop(0)

    def send(self, *messages: str | bytes) -> None:
        """Send messages."""
        for message in messages:
            if isinstance(message, str):
                self.core.send_text(message.encode())
            else:
                self.core.send_binary(message)
        self.flush()

    def flush(self) -> None:
        """Send what the core has produced."""
        data = b"".join(self.core.data_to_send())
        if data:
            self.connection.send(data)

    def _receive(self) -> bool:
        data = self.connection.sock.recv(65536)
        if not data:
            return False
        self.core.receive_data(data)
        for event in self.core.events_received():
            if isinstance(event, Request):
                self.request = event
                self.connection.service._note_request(event)  # type: ignore[arg-type]
            elif isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
                data = bytes(event.data)
                self._messages.append(data.decode() if event.opcode is Opcode.TEXT else data)
            elif isinstance(event, Frame) and event.opcode is Opcode.PONG:
                self.pongs += 1
            elif isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                return False
        self.flush()
        return True


def websocket_service(behave: Callable[[Peer], None]) -> Behaviour:
    """Return a service that runs *behave* on every connection, once it is a WebSocket."""

    def connection(connection: ServedConnection) -> None:
        peer = Peer(connection)
        if peer.accept():
            behave(peer)

    return connection


def answers_each(*audio: bytes) -> Behaviour:
    """Answer every text with *audio* and "done", for ever."""

    def behave(peer: Peer) -> None:
        while peer.receive() is not None:
            peer.send(*audio, "done")

    return websocket_service(behave)


class ScriptedSession:
    """Start with *texts*; bytes are audio, and a message says what to do: "done", "fail", "answer …" or "nothing …"."""

    def __init__(
        self, *texts: str, reusable: bool = True, idle_limit: float = 60.0, writer_timeout: float = 0.0
    ) -> None:
        self._texts = texts
        self._reusable_when_done = reusable
        self.reusable = False
        self.idle_limit = idle_limit
        self.writer_timeout = writer_timeout

    def open(self) -> Sequence[str | bytes]:
        return self._texts

    def receive(self, message: str | bytes) -> Step:
        if isinstance(message, bytes):
            return Step(audio=message)
        if message == "fail":
            raise ServiceFault("failed")
        if message.startswith("answer "):
            return Step(send=(message.removeprefix("answer "),))
        if message.startswith("nothing"):
            return Step()
        self.reusable = self._reusable_when_done
        return Step(done=True)

    def send_text(self, text: str) -> Sequence[str | bytes]:
        return [text]

    def end_text(self) -> Sequence[str | bytes]:
        self.writer_timeout = 0.0
        return ["finish"]

    def closed(self, code: int) -> bool:
        return code == 4000


@dataclass(frozen=True)
class SessionFactory:
    """Make a `ScriptedSession` for each attempt."""

    texts: tuple[str, ...] = ("hello",)
    reusable: bool = True
    idle_limit: float = 60.0
    writer_timeout: float = 0.0

    def __call__(self) -> ScriptedSession:
        return ScriptedSession(
            *self.texts, reusable=self.reusable, idle_limit=self.idle_limit, writer_timeout=self.writer_timeout
        )


MADE: list[WebSocketTransport] = []
"""The transports a test has made; conftest closes them after it."""


def made(service: HostileService, **options: Any) -> WebSocketTransport:
    """Return a transport to *service*."""
    url = service.url.replace("http", "ws", 1)
    MADE.append(WebSocketTransport(settings(url, **options), clock=CLOCK))
    return MADE[-1]


def session_request(path: str = "/talk", **options: Any) -> WireRequest:
    """Return a request for a session with these *options*."""
    return WireRequest(
        method="GET", path=path, headers=(("X-Tag", "t1"),), body=b"", new_session=SessionFactory(**options)
    )


def start(
    transport: WebSocketTransport,
    request: WireRequest | None = None,
    *,
    deadline: float = 30.0,
    read_timeout: float = 20.0,
    cancellation: Cancellation | None = None,
) -> WireReply:
    """Send *request* and return its reply."""
    return transport.send(
        request or session_request(), deadline=soon(deadline), read_timeout=read_timeout, cancellation=cancellation
    )


def audio_of(transport: WebSocketTransport, request: WireRequest | None = None, **options: Any) -> bytes:
    """Return all the audio of one session."""
    reply = start(transport, request, **options)
    try:
        return b"".join(reply.chunks())
    finally:
        reply.close()


SHORT_CONNECT = ClientConfig(timeouts=TimeoutConfig(connect=0.05))


def duplex(reply: WireReply) -> DuplexReply:
    """Return *reply*, which takes text too."""
    assert isinstance(reply, DuplexReply)
    return reply


def sends(*messages: str | bytes, close: int | None = None) -> Callable[[ServedConnection], None]:
    """Answer the first text with *messages*, then close with the code *close*, or wait until the client closes."""

    def behave(peer: Peer) -> None:
        if peer.receive() is None:
            return
        peer.send(*messages)
        if close is not None:
            peer.core.send_close(close)
            peer.flush()
        peer.connection.until_closed()

    return websocket_service(behave)


def drops(*messages: str | bytes, reset: bool = False) -> Callable[[ServedConnection], None]:
    """Answer the first text with *messages*, then drop the connection without a close frame."""

    def behave(peer: Peer) -> None:
        peer.receive()
        peer.send(*messages)
        peer.connection.pause(0.05)
        if reset:
            peer.connection.reset()

    return websocket_service(behave)
