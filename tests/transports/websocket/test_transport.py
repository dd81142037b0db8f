"""The WebSocket transport over real sockets: what it carries, what it makes of misbehaviour, and what it gives back."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import socket
import ssl
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import pytest
import trustme
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from cosyclient.clock import Cancellation
from cosyclient.config import ClientConfig, PoolConfig, TimeoutConfig, WireConfig
from cosyclient.errors import (
    AttemptTimeout,
    BulkheadFull,
    ClientClosed,
    ConnectFailed,
    CosyError,
    DeadlineExceeded,
    DecodeError,
    ServiceFault,
    TransportError,
)
from cosyclient.transports.registry import transport_for
from cosyclient.transports.slots import Slot
from cosyclient.transports.websocket.connection import WebSocket
from cosyclient.transports.websocket.messages import MessageAssembler
from cosyclient.transports.websocket.reply import SessionReply
from cosyclient.transports.websocket.transport import WebSocketTransport
from cosyclient.wire import DuplexReply, WireReply, WireRequest
from tests.support.hostile import answers, drips_head, hangs_after, hostile, never_answers, never_reads, reply
from tests.transports.sockets import MADE, Peer, Plain, begun, conversation, made, speaks, spoken, upgraded
from tests.transports.wire import CLOCK, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.hostile import ServedConnection

QUICK = ClientConfig(timeouts=TimeoutConfig(connect=0.05))


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def talking(reply: WireReply) -> DuplexReply:
    """Return *reply* as the conversation it is."""
    assert isinstance(reply, DuplexReply)
    return reply


def says(*messages: str | bytes, close: int | None = None) -> Callable[[ServedConnection], None]:
    """Answer the first text with *messages*, then close as told, or wait for the client to."""

    def behave(peer: Peer) -> None:
        if peer.hear() is None:
            return
        peer.say(*messages)
        if close is not None:
            peer.core.send_close(close)
            peer.flush()
        peer.connection.until_closed()

    return upgraded(behave)


def drops(*messages: str | bytes, rudely: bool = False) -> Callable[[ServedConnection], None]:
    """Answer the first text with *messages*, then be gone without a word."""

    def behave(peer: Peer) -> None:
        peer.hear()
        peer.say(*messages)
        peer.connection.pause(0.05)
        if rudely:
            peer.connection.reset()

    return upgraded(behave)


# --- carrying ---


def test_carries_a_conversation_with_the_credentials() -> None:
    """Its path, its headers, its messages; the audio comes in the order it was sent."""
    with hostile(speaks(b"one", b"", b"two")) as service:
        transport = made(service)
        answer = begun(transport, conversation("/a/b?c=d"))
        assert (answer.status, list(answer.chunks())) == (200, [b"one", b"two"])
        headers: Any = service.requests[0].headers
        assert service.requests[0].path == "/a/b?c=d"
        assert (headers["Authorization"], headers["X-Tag"]) == ("Bearer s3cret-key", "t1")
        assert headers["User-Agent"].startswith("cosyclient/")
        assert headers["Host"] == f"127.0.0.1:{service.port}"
        assert "Sec-WebSocket-Extensions" not in headers
        transport.close()


@pytest.mark.parametrize("base", ["", "/mount", "/talk", "/mount/talk"])
def test_an_address_may_hold_the_path_already(base: str) -> None:
    """Services print the whole of it."""
    with hostile(speaks(b"x")) as service:
        url = f"ws://127.0.0.1:{service.port}{base}"
        transport = transport_for("websocket", settings(url), clock=CLOCK)
        assert isinstance(transport, WebSocketTransport)
        assert spoken(transport) == b"x"
        mount = "/mount" if "mount" in base else ""
        assert service.requests[0].path == f"{mount}/talk"
        transport.close()


def test_speaks_tls_and_trusts_only_whom_it_should() -> None:
    """A certificate nobody vouches for is not accepted, and not tried again."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    with hostile(speaks(b"x" * 300_000, b"y"), tls=server) as service:
        transport = made(service, config=ClientConfig(wire=WireConfig(verify=trusted)))
        assert [len(spoken(transport)) for _ in range(3)] == [300_001] * 3
        assert service.seen == 1
        transport.close()
        with pytest.raises(ConnectFailed, match="TLS certificate") as caught:
            spoken(made(service))
        assert not caught.value.retryable


def test_what_the_session_answers_is_sent() -> None:
    """While the reader waits for more."""

    def behave(peer: Peer) -> None:
        peer.hear()
        peer.say("say back")
        assert peer.hear() == "back"
        peer.say(b"audio", "done")
        peer.connection.until_closed()

    with hostile(upgraded(behave)) as service:
        assert spoken(made(service)) == b"audio"


def test_texts_are_said_while_another_thread_listens() -> None:
    """Whatever is said arrives, in order."""

    def behave(peer: Peer) -> None:
        while (text := peer.hear()) != "finish":
            peer.say(str(text).encode())
        peer.say("done")
        peer.connection.until_closed()

    with hostile(upgraded(behave)) as service, ThreadPoolExecutor(1) as threads:
        answer = talking(begun(made(service), conversation(texts=("0,",))))
        listening = threads.submit(lambda: b"".join(answer.chunks()))
        for number in range(1, 500):
            answer.send_text(f"{number},")
            answer.flush()
        answer.end_text()
        answer.flush()
        assert listening.result(30) == b"".join(b"%d," % number for number in range(500))


def test_both_sides_may_send_more_than_fits_between_them() -> None:
    """A reader that could not read while it writes would wait for a service that waits for it."""
    block = "x" * 100_000

    def behave(peer: Peer) -> None:
        while (text := peer.hear()) != "finish":
            peer.say(str(text).encode() * 4)
        peer.say("done")
        peer.connection.until_closed()

    with hostile(upgraded(behave)) as service, ThreadPoolExecutor(1) as threads:
        answer = talking(begun(made(service), conversation(texts=tuple([block] * 20))))

        def say() -> None:
            for _ in range(20):
                answer.send_text(block)
                answer.flush()
            answer.end_text()
            answer.flush()

        saying = threads.submit(say)
        assert sum(map(len, answer.chunks())) == 40 * 4 * len(block)
        saying.result(30)


def test_messages_in_several_frames_are_whole_and_pings_are_answered() -> None:
    """Frames are the wire's business."""
    peers: list[Peer] = []

    def behave(peer: Peer) -> None:
        peers.append(peer)
        peer.hear()
        peer.core.send_binary(b"on", fin=False)
        peer.core.send_ping(b"there?")
        peer.core.send_continuation(b"e", fin=True)
        peer.core.send_text("dön".encode()[:2], fin=False)
        peer.core.send_continuation("dön".encode()[2:], fin=True)
        peer.flush()
        while peer.hear() is not None:
            pass

    with hostile(upgraded(behave)) as service:
        transport = made(service)
        assert list(begun(transport).chunks()) == [b"one"]
        transport.close()
        assert service.wait_for(lambda seen: seen.open == 0)
    assert peers[0].pongs == 1


# --- giving back ---


def test_a_socket_is_used_again_if_its_conversation_says_so() -> None:
    """And only then, for the same path only."""
    with hostile(speaks(b"x")) as service:
        transport = made(service)
        for _ in range(5):
            assert spoken(transport) == b"x"
        assert (service.seen, transport.stats().idle) == (1, 1)
        spoken(transport, conversation("/other"))
        assert service.seen == 2
        spoken(transport, conversation("/other", reusable=False))
        spoken(transport, conversation("/other"))
        assert service.seen == 3
        transport.close()
        assert service.wait_for(lambda seen: seen.open == 0)


@pytest.mark.parametrize(
    ("keeps", "idle_limit", "seen"), [(0.0, 4.0, 3), (60.0, 0.0, 3), (60.0, 0.001, 1)], ids=["kept", "never", "longer"]
)
def test_a_socket_idles_as_long_as_its_service_lets_it(keeps: float, idle_limit: float, seen: int) -> None:
    """Which the conversation knows; a limit of 0 turns it off."""
    with hostile(speaks(b"x")) as service:
        transport = made(service, config=ClientConfig(pool=PoolConfig(idle_limit=idle_limit)))
        for _ in range(3):
            spoken(transport, conversation(idle_limit=keeps))
            threading.Event().wait(0.005)
        assert service.seen == seen
        transport.close()


def test_a_socket_grows_old() -> None:
    """New addresses behind a name are found."""
    with hostile(speaks(b"x")) as service:
        transport = made(service, config=ClientConfig(pool=PoolConfig(max_age=0.001)))
        for _ in range(3):
            spoken(transport)
            threading.Event().wait(0.005)
        assert service.seen == 3
        transport.close()


@pytest.mark.parametrize("how", ["closed", "dropped", "unasked"])
def test_a_socket_gone_stale_is_replaced_unseen(how: str) -> None:
    """Whether it was closed, lost, or has something to say that nobody asked for."""

    def behave(peer: Peer) -> None:
        peer.hear()
        peer.say(b"x", "done")
        if how == "closed":
            peer.core.send_close(1000)
        if how == "unasked":
            peer.core.send_text(b"are you there?")
        peer.flush()
        if how != "dropped":
            peer.connection.until_closed()

    with hostile(upgraded(behave)) as service:
        transport = made(service)
        for _ in range(3):
            assert spoken(transport) == b"x"
            threading.Event().wait(0.05)
        assert service.seen == 3
        transport.close()


def test_a_lost_race_with_the_services_closing_may_be_tried_again() -> None:
    """It is the retry policy's decision."""

    def behave(peer: Peer) -> None:
        peer.hear()
        peer.say(b"x", "done")
        peer.hear()
        peer.connection.reset()

    with hostile(upgraded(behave)) as service:
        transport = made(service)
        assert spoken(transport) == b"x"
        with pytest.raises(TransportError) as caught:
            spoken(transport)
        assert (caught.value.retryable, caught.value.sent) == (True, True)
        assert spoken(transport) == b"x"
        transport.close()


# --- refusals ---


@pytest.mark.parametrize("status", ["301 Moved", "401 No", "403 No", "404 No", "429 Slow", "500 Oops", "503 Busy"])
def test_a_refused_handshake_is_a_reply(status: str) -> None:
    """With its headers and its body, for the protocol to judge."""
    with hostile(answers(reply(b"no", status=status, headers=("Retry-After: 3",)))) as service:
        transport = made(service)
        answer = begun(transport)
        assert (str(answer.status), answer.headers["retry-after"]) == (status[:3], "3")
        assert b"".join(answer.chunks()) == b"no"
        answer.close()
        assert transport.stats().in_use == 0
        assert service.wait_for(lambda seen: seen.open == 0)


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
def test_what_is_no_handshake_is_a_connect_failure(data: bytes) -> None:
    """Nothing of the conversation has left."""

    def behave(connection: ServedConnection) -> None:
        connection.request()
        connection.send(data)

    with hostile(behave) as service:
        with pytest.raises(ConnectFailed) as caught:
            spoken(made(service))
        assert (caught.value.sent, caught.value.retryable) == (False, True)
        assert service.wait_for(lambda seen: seen.open == 0)


@pytest.mark.parametrize("behaviour", [never_answers(), drips_head(), hangs_after(b"HTTP/1.1 101 Sw")])
def test_a_handshake_has_its_time(behaviour: Callable[[ServedConnection], None]) -> None:
    """However slowly it drips."""
    with hostile(behaviour) as service:
        with pytest.raises(ConnectFailed):
            spoken(made(service, config=QUICK))
        with pytest.raises(DeadlineExceeded):
            spoken(made(service), deadline=0.05)
        assert service.wait_for(lambda seen: seen.open == 0)


def test_a_service_that_is_not_there_is_a_connect_failure() -> None:
    """Named by its address."""
    with hostile(speaks(b"x")) as service:
        transport = made(service)
    with pytest.raises(ConnectFailed, match=f"{service.port}"):
        spoken(transport)
    assert transport.stats().in_use == 0


# --- breaking off ---


@pytest.mark.parametrize(
    "behaviour",
    [
        drops(),
        drops(b"some"),
        drops(b"some", rudely=True),
        says(b"some", close=1000),
        says(b"some", close=1011),
    ],
    ids=["at once", "amid", "reset", "closed well", "closed ill"],
)
def test_a_conversation_broken_off_is_a_transport_error(behaviour: Callable[[ServedConnection], None]) -> None:
    """Never the end of the audio."""
    with hostile(behaviour) as service:
        transport = made(service)
        with pytest.raises(TransportError) as caught:
            spoken(transport)
        assert not isinstance(caught.value, (ConnectFailed, AttemptTimeout))
        assert (caught.value.sent, caught.value.retryable, caught.value.endpoint_fault) == (True, True, True)
        assert transport.stats().in_use == transport.stats().idle == 0


def test_some_conversations_end_with_the_connection() -> None:
    """Which the session decides."""
    with hostile(says(b"all", close=4000)) as service:
        transport = made(service)
        assert [spoken(transport) for _ in range(2)] == [b"all"] * 2
        assert service.seen == 2


def test_frames_nobody_can_read_are_a_transport_error() -> None:
    """Reserved bits, for example."""

    def behave(peer: Peer) -> None:
        peer.hear()
        peer.connection.send(b"\xff" * 100)
        peer.connection.until_closed()

    with hostile(upgraded(behave)) as service, pytest.raises(TransportError, match="unreadable"):
        spoken(made(service))


@pytest.mark.parametrize("pieces", [[b"x" * 100_001], [b"x" * 60_000] * 2], ids=["message", "sum"])
def test_more_than_the_limit_is_refused(pieces: list[bytes]) -> None:
    """One message, or all of them."""
    config = ClientConfig(wire=WireConfig(max_reply_bytes=100_000))
    with hostile(says(*pieces, "done")) as service:
        with pytest.raises(DecodeError, match="larger than 100000 bytes") as caught:
            spoken(made(service, config=config))
        assert not caught.value.retryable
        assert service.wait_for(lambda seen: seen.open == 0)


def test_what_the_session_raises_closes_the_socket() -> None:
    """An error is no state to go on from."""
    with hostile(says(b"x", "fail")) as service:
        transport = made(service)
        with pytest.raises(ServiceFault):
            spoken(transport)
        assert service.wait_for(lambda seen: seen.open == 0)
        assert transport.stats().idle == 0


# --- waiting ---


def test_silence_beyond_the_read_timeout_is_an_attempt_timeout() -> None:
    """The call may try again: its deadline is far."""
    with hostile(says(b"x")) as service:
        transport = made(service)
        with pytest.raises(AttemptTimeout) as caught:
            spoken(transport, read_timeout=0.05)
        assert caught.value.sent
        assert service.wait_for(lambda seen: seen.open == 0)
        assert transport.stats().in_use == 0


def test_pings_do_not_keep_a_call_alive_beyond_its_deadline() -> None:
    """Nor do messages."""

    def behave(peer: Peer) -> None:
        peer.hear()
        while True:
            peer.core.send_ping(b"x")
            peer.say(b"y")
            peer.connection.pause(0.005)

    with hostile(upgraded(behave)) as service, pytest.raises(DeadlineExceeded):
        spoken(made(service), deadline=0.2)


FLOODS = {
    "pings": [Frame(Opcode.PING, b"")],
    "pongs": [Frame(Opcode.PONG, b"")],
    "empty messages": [Frame(Opcode.BINARY, b"")],
    "messages of no interest": [Frame(Opcode.TEXT, b"nothing")],
    "empty fragments": [Frame(Opcode.CONT, b"", fin=False)],
}


@pytest.mark.parametrize("what", FLOODS)
def test_a_busy_service_keeps_nobody_beyond_the_deadline(what: str) -> None:
    """The clock is looked at while there is work, too; a service that keeps on for longer does not decide how long."""
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
        spoken(made(service), deadline=0.3)


def test_pings_of_a_service_that_reads_nothing_take_no_room() -> None:
    """What nobody takes is not kept: a pong is owed for the latest ping only."""
    longest = [0]

    class Watching(Plain):
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

    with hostile(upgraded(behave)) as service:
        wanted = WireRequest(method="GET", path="/talk", headers=(), body=b"", new_session=Watching)
        answer = begun(made(service), wanted, deadline=2.0)
        assert isinstance(answer, SessionReply)
        assert isinstance(answer.session, Watching)
        answer.session.socket = answer._slot.connection
        with pytest.raises(DeadlineExceeded):
            b"".join(answer.chunks())
    assert 1 << 10 < longest[0] < 1 << 20


def spoiled(seed: int) -> bytes:
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


def test_nothing_but_our_errors_leaves_a_conversation() -> None:
    """Whatever the frames are; and each socket's place comes back."""
    seeds = iter(range(150))

    def behave(peer: Peer) -> None:
        peer.hear()
        peer.connection.send(spoiled(next(seeds)))

    ends: list[str] = []
    with hostile(upgraded(behave)) as service:
        transport = made(service, connections=2)
        for _ in range(150):
            try:
                spoken(transport, deadline=10.0, read_timeout=5.0)
                ends.append("done")
            except CosyError as error:
                ends.append(type(error).__name__)
            assert transport.stats().in_use == 0
    assert {"done", "TransportError"} <= set(ends)
    assert not {"DeadlineExceeded", "AttemptTimeout"} & set(ends)


def test_fragments_take_the_room_of_their_bytes() -> None:
    """However many of them are empty."""
    assembler = MessageAssembler()
    assembler.add(Frame(Opcode.TEXT, b"a", fin=False))
    tracemalloc.start()
    try:
        for _ in range(100_000):
            assembler.add(Frame(Opcode.CONT, b"", fin=False))
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()
    assert assembler
    assembler.add(Frame(Opcode.CONT, b"b"))
    assert list(assembler.messages) == ["ab"]
    assembler.messages.clear()
    assert not assembler


def test_pings_are_no_answer() -> None:
    """A service that only pings says nothing."""

    def behave(peer: Peer) -> None:
        peer.hear()
        while True:
            peer.core.send_ping(b"x")
            peer.flush()
            peer.connection.pause(0.005)

    with hostile(upgraded(behave)) as service, pytest.raises(AttemptTimeout):
        spoken(made(service), read_timeout=0.1)


def test_the_writers_silence_is_not_the_services() -> None:
    """As long as text may follow the gap is the session's to allow; after that it is the read timeout's."""
    heard = threading.Event()

    def behave(peer: Peer) -> None:
        while peer.hear() != "finish":
            pass
        heard.set()
        peer.connection.until_closed()

    with hostile(upgraded(behave)) as service, ThreadPoolExecutor(1) as threads:
        answer = talking(begun(made(service), conversation(writer_timeout=30.0), read_timeout=0.05))
        listening = threads.submit(lambda: b"".join(answer.chunks()))
        threading.Event().wait(0.3)
        assert not listening.done()
        answer.end_text()
        answer.flush()
        assert heard.wait(30)
        assert isinstance(listening.exception(30), AttemptTimeout)


def test_a_service_that_never_reads_ends_at_the_deadline() -> None:
    """Writing waits too."""

    def behave(connection: ServedConnection) -> None:
        Peer(connection).accept()
        never_reads()(connection)

    with hostile(behave) as service:
        with pytest.raises(DeadlineExceeded):
            spoken(made(service), conversation(texts=("x" * (32 << 20),)), deadline=0.5)
        with pytest.raises(AttemptTimeout):
            spoken(made(service), conversation(texts=("x" * (32 << 20),)), read_timeout=0.2)


def test_an_expired_deadline_sends_nothing() -> None:
    """Not even a connection is opened."""
    with hostile(speaks(b"x")) as service:
        with pytest.raises(DeadlineExceeded) as caught:
            spoken(made(service), deadline=0.0)
        assert (caught.value.sent, service.seen) == (False, 0)


def test_a_full_pool_is_our_own_back_pressure() -> None:
    """The service is not to blame."""
    with hostile(says(b"x")) as service:
        transport = made(service, connections=1)
        holder = begun(transport)
        with pytest.raises(BulkheadFull) as caught:
            spoken(transport, deadline=0.1)
        assert (caught.value.sent, caught.value.endpoint_fault) == (False, False)
        holder.close()
        assert transport.stats().in_use == 0


# --- waking ---


def test_a_cancellation_wakes_the_reader_and_the_service_sees_it() -> None:
    """Closing the socket is the one way to end a conversation at once."""
    with hostile(says(b"x")) as service, ThreadPoolExecutor(1) as threads:
        transport, cancellation = made(service), Cancellation()
        answer = begun(transport, cancellation=cancellation)
        pieces = answer.chunks()
        assert next(pieces) == b"x"
        waiting = threads.submit(next, pieces)
        cancellation.cancel()
        assert isinstance(waiting.exception(30), TransportError)
        assert service.wait_for(lambda seen: seen.open == 0)
        assert transport.stats().in_use == transport.stats().idle == 0
        with pytest.raises(TransportError, match="over"):
            talking(answer).send_text("more")


def test_a_cancelled_call_does_not_begin() -> None:
    """Whoever changed his mind while it connected."""
    with hostile(speaks(b"x")) as service:
        transport, cancellation = made(service), Cancellation()
        cancellation.cancel()
        with pytest.raises(CosyError):
            spoken(transport, cancellation=cancellation)
        assert transport.stats().in_use == 0


def test_a_finished_conversation_cannot_be_cancelled_into_the_next() -> None:
    """By then the socket may carry somebody else's."""
    with hostile(speaks(b"x")) as service:
        transport, cancellation = made(service), Cancellation()
        spoken(transport, cancellation=cancellation)
        answer = begun(transport)
        cancellation.cancel()
        assert b"".join(answer.chunks()) == b"x"
        assert service.seen == 1


def test_closing_wakes_whoever_listens_connects_or_waits_for_a_place() -> None:
    """They get `ClientClosed`."""
    with hostile(says(b"x")) as service, hostile(never_answers()) as mute, ThreadPoolExecutor(8) as threads:
        listening, connecting = made(service, connections=2), made(mute, connections=2)
        waiting = [threads.submit(spoken, transport) for transport in (listening, connecting) for _ in range(4)]
        assert service.wait_for(lambda seen: len(seen.requests) == 2)
        assert mute.wait_for(lambda seen: seen.seen == 2)
        listening.close()
        connecting.close()
        listening.close()
        assert {type(each.exception(timeout=30)) for each in waiting} == {ClientClosed}
        assert (listening.stats().in_use, connecting.stats().in_use) == (0, 0)
        with pytest.raises(ClientClosed):
            spoken(listening)


def test_a_forgotten_conversation_gives_its_place_back() -> None:
    """When it is collected."""
    with hostile(says(b"x")) as service:
        transport = made(service, connections=1)
        for _ in range(3):
            begun(transport)
            gc.collect()
        assert transport.stats().opened == 3


def test_many_failures_leave_every_place_free() -> None:
    """Poison in each phase, from many threads; then the pool works as if new."""
    moods: list[Callable[[ServedConnection], None]] = [
        drops(),
        drops(b"x", rudely=True),
        says(b"x", "fail"),
        says(b"x"),
        says(close=1011),
        answers(reply(b"no", status="503 Busy")),
        never_answers(),
        speaks(b"x"),
    ]

    def behave(connection: ServedConnection) -> None:
        moods[connection.number % len(moods)](connection)

    with hostile(behave) as service:
        transport = made(service, connections=4, config=QUICK)

        def one(_: int) -> None:
            with contextlib.suppress(CosyError):
                spoken(transport, conversation(reusable=False), read_timeout=0.02)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(one, range(200)))
        assert transport.stats().in_use == 0
        assert transport.stats().idle == 0
        held: list[Slot[WebSocket]] = [Slot() for _ in range(4)]
        for slot in held:
            transport.slots.acquire(slot, 0.0)
        assert [slot.connection for slot in held] == [None] * 4
        assert transport.stats().in_use == 4


def test_both_sides_of_a_fork_keep_their_own() -> None:
    """The child lets go of the parent's sockets without a word to the service, and makes its own."""
    with hostile(speaks(b"x")) as service:
        holder = {"transport": made(service)}
        assert spoken(holder["transport"]) == b"x"
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                try:
                    spoken(holder["transport"])
                except RuntimeError:
                    holder["transport"] = made(service)
                    gc.collect()
                    code = 0 if spoken(holder["transport"]) == b"x" else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert spoken(holder["transport"]) == b"x"
        assert service.seen == 2
        holder["transport"].close()


def test_they_read_like_status_lines() -> None:
    """For whoever looks."""
    with hostile(speaks(b"x")) as service:
        transport = made(service, connections=2)
        answer = begun(transport)
        assert repr(answer) == "<SessionReply open, 0 bytes of audio>"
        assert "1 in use, 0 idle of 2, 1 opened" in repr(transport)
        b"".join(answer.chunks())
        assert repr(answer) == "<SessionReply over, 1 bytes of audio>"
        transport.close()
        assert "closed" in repr(transport)


def test_a_core_that_was_interrupted_is_closed_without_a_word() -> None:
    """The package's state machine asserts then, and its complaint would take the interrupt's place."""
    closed: list[bool] = []

    class Core:
        def send_close(self, _: int) -> None:
            raise AssertionError

    class Socket:
        aborted = False

        def close(self) -> None:
            closed.append(True)

    broken: Any = WebSocket(parse_uri("ws://x.test/"), dialer=cast("Any", None), clock=CLOCK, max_reply_bytes=1)
    broken._core, broken.socket = Core(), Socket()
    broken.close()
    assert closed == [True]
    assert broken.is_closed
