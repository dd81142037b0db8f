"""One WebSocket: its handshake, its frames, and every wait on it."""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING, Any, cast

import pytest
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from cosyclient.errors import (
    AttemptTimeout,
    ConnectFailed,
    CosyError,
    DeadlineExceeded,
    TransportError,
)
from cosyclient.transports.websocket.connection import WebSocket
from cosyclient.transports.websocket.reply import SessionReply
from cosyclient.wire import WireRequest
from tests.support.hostile import drips_head, hangs_after, hostile, never_answers, never_reads
from tests.transports.websocket_wire import (
    SHORT_CONNECT,
    Peer,
    ScriptedSession,
    audio_of,
    made,
    sends,
    session_request,
    start,
    websocket_service,
)
from tests.transports.wire import CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.hostile import ServedConnection


def test_messages_are_assembled_from_frames_and_pings_are_answered() -> None:
    peers: list[Peer] = []

    def behave(peer: Peer) -> None:
        peers.append(peer)
        peer.receive()
        peer.core.send_binary(b"on", fin=False)
        peer.core.send_ping(b"there?")
        peer.core.send_continuation(b"e", fin=True)
        peer.core.send_text("dön".encode()[:2], fin=False)
        peer.core.send_continuation("dön".encode()[2:], fin=True)
        peer.flush()
        while peer.receive() is not None:
            pass

    with hostile(websocket_service(behave)) as service:
        transport = made(service)
        assert list(start(transport).chunks()) == [b"one"]
        transport.close()
        assert service.wait_for(lambda seen: seen.open == 0)
    assert peers[0].pongs == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01 not HTTP\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: d3Jvbmc=\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        b"x" * 100_000,
        b"",
    ],
    ids=["garbage", "bare 101", "wrong key", "endless body", "endless line", "nothing"],
)
def test_an_invalid_handshake_is_a_connect_failure(data: bytes) -> None:
    """Nothing of the session was sent."""

    def behave(connection: ServedConnection) -> None:
        connection.request()
        connection.send(data)

    with hostile(behave) as service:
        with pytest.raises(ConnectFailed) as caught:
            audio_of(made(service))
        assert (caught.value.sent, caught.value.retryable) == (False, True)
        assert service.wait_for(lambda seen: seen.open == 0)


@pytest.mark.parametrize("behaviour", [never_answers(), drips_head(), hangs_after(b"HTTP/1.1 101 Sw")])
def test_a_handshake_ends_with_the_connect_timeout(behaviour: Callable[[ServedConnection], None]) -> None:
    """However slowly it comes."""
    with hostile(behaviour) as service:
        with pytest.raises(ConnectFailed):
            audio_of(made(service, config=SHORT_CONNECT))
        with pytest.raises(DeadlineExceeded):
            audio_of(made(service), deadline=0.05)
        assert service.wait_for(lambda seen: seen.open == 0)


def test_invalid_frames_are_a_transport_error() -> None:
    """Reserved bits, for example."""

    def behave(peer: Peer) -> None:
        peer.receive()
        peer.connection.send(b"\xff" * 100)
        peer.connection.until_closed()

    with hostile(websocket_service(behave)) as service, pytest.raises(TransportError, match="unreadable"):
        audio_of(made(service))


def test_silence_beyond_the_read_timeout_is_an_attempt_timeout() -> None:
    """The call may be retried: its deadline is far."""
    with hostile(sends(b"x")) as service:
        transport = made(service)
        with pytest.raises(AttemptTimeout) as caught:
            audio_of(transport, read_timeout=0.05)
        assert caught.value.sent
        assert service.wait_for(lambda seen: seen.open == 0)
        assert transport.stats().in_use == 0


def test_pings_do_not_extend_a_call_beyond_its_deadline() -> None:
    """Nor do messages."""

    def behave(peer: Peer) -> None:
        peer.receive()
        while True:
            peer.core.send_ping(b"x")
            peer.send(b"y")
            peer.connection.pause(0.005)

    with hostile(websocket_service(behave)) as service, pytest.raises(DeadlineExceeded):
        audio_of(made(service), deadline=0.2)


FLOODS = {
    "pings": [Frame(Opcode.PING, b"")],
    "pongs": [Frame(Opcode.PONG, b"")],
    "empty messages": [Frame(Opcode.BINARY, b"")],
    "messages of no interest": [Frame(Opcode.TEXT, b"nothing")],
    "empty fragments": [Frame(Opcode.CONT, b"", fin=False)],
}


@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_of_frames_cannot_hold_a_call_beyond_its_deadline(what: str) -> None:
    """The clock is looked at while there is work, too."""
    begins = [Frame(Opcode.BINARY, b"x", fin=False)] if what == "empty fragments" else []

    def behave(connection: ServedConnection) -> None:
        peer = Peer(connection)
        if peer.accept():
            peer.connection.send(b"".join(frame.serialize(mask=False) for frame in begins))
            flood(peer)

    def flood(peer: Peer) -> None:
        frames = b"".join(frame.serialize(mask=False) for frame in FLOODS[what]) * 8192
        end = CLOCK.now() + 8.0
        while CLOCK.now() < end:
            peer.connection.send(frames)

    with hostile(behave) as service, pytest.raises(DeadlineExceeded):
        audio_of(made(service), deadline=0.3)


def test_unread_pongs_take_no_memory() -> None:
    """A pong is owed for the latest ping only."""
    longest = [0]

    class Watching(ScriptedSession):
        socket: WebSocket | None = None

        @property
        def writer_timeout(self) -> float:
            longest[0] = max(longest[0], len(self.socket._send_buffer) if self.socket is not None else 0)
            return 0.0

        @writer_timeout.setter
        def writer_timeout(self, _: float) -> None:
            pass

    def behave(peer: Peer) -> None:
        peer.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        pings = Frame(Opcode.PING, b"p" * 125).serialize(mask=False) * 512
        end = CLOCK.now() + 8.0
        while CLOCK.now() < end:
            peer.connection.send(pings)

    with hostile(websocket_service(behave)) as service:
        wanted = WireRequest(method="GET", path="/talk", headers=(), body=b"", new_session=Watching)
        session_reply = start(made(service), wanted, deadline=2.0)
        assert isinstance(session_reply, SessionReply)
        assert isinstance(session_reply.session, Watching)
        session_reply.session.socket = session_reply._slot.connection
        with pytest.raises(DeadlineExceeded):
            b"".join(session_reply.chunks())
    assert 1 << 10 < longest[0] < 1 << 20


def corrupted(seed: int) -> bytes:
    """Return frames as a service would send them, with some of their bytes changed, left out and put in."""
    dice = random.Random(seed)
    frames = [
        Frame(Opcode.TEXT, b"nothing"),
        Frame(Opcode.BINARY, dice.randbytes(200), fin=dice.random() < 0.5),
        Frame(Opcode.CONT, dice.randbytes(70_000)),
        Frame(Opcode.PING, b"p"),
        Frame(Opcode.CLOSE, dice.choice([b"", b"\x03\xe8", b"\x0f\xa0\xff\xfe", b"\x00"])),
        Frame(Opcode.TEXT, b"\xff\xfe"),
        Frame(Opcode.TEXT, b"done"),
    ]
    dice.shuffle(frames)
    data = bytearray(b"".join(frame.serialize(mask=False) for frame in frames))
    for _ in range(dice.randrange(4)):
        at = dice.randrange(min(len(data), 300))
        data[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
    return bytes(data)


def test_corrupted_frames_raise_only_the_librarys_errors() -> None:
    """And each slot is released."""
    seeds = iter(range(150))

    def behave(peer: Peer) -> None:
        peer.receive()
        peer.connection.send(corrupted(next(seeds)))

    ends: list[str] = []
    with hostile(websocket_service(behave)) as service:
        transport = made(service, connections=2)
        for _ in range(150):
            try:
                audio_of(transport, deadline=10.0, read_timeout=5.0)
                ends.append("done")
            except CosyError as error:
                ends.append(type(error).__name__)
            assert transport.stats().in_use == 0
    assert {"done", "TransportError"} <= set(ends)
    assert not {"DeadlineExceeded", "AttemptTimeout"} & set(ends)


def test_pings_do_not_reset_the_read_timeout() -> None:
    """A service that only pings does not answer."""

    def behave(peer: Peer) -> None:
        peer.receive()
        while True:
            peer.core.send_ping(b"x")
            peer.flush()
            peer.connection.pause(0.005)

    with hostile(websocket_service(behave)) as service, pytest.raises(AttemptTimeout):
        audio_of(made(service), read_timeout=0.1)


def test_writing_to_a_service_that_never_reads_ends_at_the_deadline() -> None:
    """Or with the write timeout."""

    def behave(connection: ServedConnection) -> None:
        Peer(connection).accept()
        never_reads()(connection)

    with hostile(behave) as service:
        with pytest.raises(DeadlineExceeded):
            audio_of(made(service), session_request(texts=("x" * (32 << 20),)), deadline=0.5)
        with pytest.raises(AttemptTimeout):
            audio_of(made(service), session_request(texts=("x" * (32 << 20),)), read_timeout=0.2)


def test_a_core_that_was_interrupted_is_closed_without_a_close_frame() -> None:
    """The package's state machine fails an assertion then, which must not replace the interrupt."""
    closed: list[bool] = []

    class Core:
        def send_close(self, _: int) -> None:
            raise AssertionError

    class Socket:
        aborted = False

        def close(self) -> None:
            closed.append(True)

    broken: Any = WebSocket(
        parse_uri("ws://x.test/"), dialer=cast("Any", None), clock=CLOCK, lifetime=lambda: 1.0, max_reply_bytes=1
    )
    broken._core, broken.socket = Core(), Socket()
    broken.close()
    assert closed == [True]
    assert broken.is_closed
