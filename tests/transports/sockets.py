"""What the WebSocket transport's suites share: services that misbehave after the handshake, and a plain session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from cosyclient.errors import ServiceFault
from cosyclient.transports.websocket.transport import WebSocketTransport
from cosyclient.wire import Step, WireRequest
from tests.transports.wire import CLOCK, settings, soon

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cosyclient.clock import Cancellation
    from cosyclient.wire import WireReply
    from tests.support.hostile import Behaviour, HostileService, ServedConnection


class Peer:
    """Speak the service's side of a WebSocket on a connection."""

    def __init__(self, connection: ServedConnection) -> None:
        self.connection = connection
        self.core = ServerProtocol(max_size=None)
        self.request: Request | None = None
        self.pongs = 0
        self._messages: list[str | bytes] = []

    def accept(self) -> bool:
        """Shake hands; return whether there was a client."""
        while self.request is None:
            if not self._receive():
                return False
        self.core.send_response(self.core.accept(self.request))
        self.flush()
        return True

    def hear(self) -> str | bytes | None:
        """Return the next message, or None when the client has closed."""
        while not self._messages:
            if not self._receive():
                return None
        return self._messages.pop(0)

    def say(self, *messages: str | bytes) -> None:
        """Send messages."""
        for message in messages:
            if isinstance(message, str):
                self.core.send_text(message.encode())
            else:
                self.core.send_binary(message)
        self.flush()

    def flush(self) -> None:
        """Send what the core has to say."""
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


def upgraded(behave: Callable[[Peer], None]) -> Behaviour:
    """Treat every connection with *behave*, once it is a WebSocket."""

    def connection(connection: ServedConnection) -> None:
        peer = Peer(connection)
        if peer.accept():
            behave(peer)

    return connection


def speaks(*audio: bytes) -> Behaviour:
    """Answer every text with *audio* and "done", for ever."""

    def behave(peer: Peer) -> None:
        while peer.hear() is not None:
            peer.say(*audio, "done")

    return upgraded(behave)


class Plain:
    """Open with texts, take bytes for audio, "done" for the end, "fail" for an error, "say …", "nothing …"."""

    def __init__(
        self, *texts: str, reusable: bool = True, idle_limit: float = 60.0, writer_timeout: float = 0.0
    ) -> None:
        self._texts = texts
        self._may = reusable
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
        if message.startswith("say "):
            return Step(send=(message[4:],))
        if message.startswith("nothing"):
            return Step()
        self.reusable = self._may
        return Step(done=True)

    def send_text(self, text: str) -> Sequence[str | bytes]:
        return [text]

    def end_text(self) -> Sequence[str | bytes]:
        self.writer_timeout = 0.0
        return ["finish"]

    def closed(self, code: int) -> bool:
        return code == 4000


@dataclass(frozen=True)
class Make:
    """Make a `Plain` per attempt."""

    texts: tuple[str, ...] = ("hello",)
    reusable: bool = True
    idle_limit: float = 60.0
    writer_timeout: float = 0.0

    def __call__(self) -> Plain:
        return Plain(
            *self.texts, reusable=self.reusable, idle_limit=self.idle_limit, writer_timeout=self.writer_timeout
        )


MADE: list[WebSocketTransport] = []
"""What a test has made; its module closes them after it."""


def made(service: HostileService, **options: Any) -> WebSocketTransport:
    """Return a transport to *service*."""
    url = service.url.replace("http", "ws", 1)
    MADE.append(WebSocketTransport(settings(url, **options), clock=CLOCK))
    return MADE[-1]


def conversation(path: str = "/talk", **options: Any) -> WireRequest:
    """Return a request for a conversation of this kind."""
    return WireRequest(method="GET", path=path, headers=(("X-Tag", "t1"),), body=b"", new_session=Make(**options))


def begun(
    transport: WebSocketTransport,
    request: WireRequest | None = None,
    *,
    deadline: float = 30.0,
    read_timeout: float = 20.0,
    cancellation: Cancellation | None = None,
) -> WireReply:
    """Return the reply to *request*."""
    return transport.send(
        request or conversation(), deadline=soon(deadline), read_timeout=read_timeout, cancellation=cancellation
    )


def spoken(transport: WebSocketTransport, request: WireRequest | None = None, **options: Any) -> bytes:
    """Return all the audio of a conversation."""
    reply = begun(transport, request, **options)
    try:
        return b"".join(reply.chunks())
    finally:
        reply.close()
