"""What a socket is granted before each operation, recorded instead of timed."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from cosyclient.clock import Deadline
from cosyclient.testing import FakeClock
from cosyclient.transports.guard import LONGEST, GuardedSocket, Severed, Spans


class RecordingSocket(socket.socket):
    """Answer from a script, and note every timeout; each operation takes one fake second."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.granted: list[float] = []

    def settimeout(self, value: float | None) -> None:
        assert value is not None
        self.granted.append(value)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        self.clock.advance(1.0)
        return 1

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.clock.advance(1.0)


def guarded(deadline: float | None, **timeout: float | None) -> tuple[GuardedSocket, RecordingSocket]:
    clock = FakeClock()
    sock = RecordingSocket(clock)
    return GuardedSocket(
        sock, Spans(clock, timeout, None if deadline is None else Deadline.after(clock, deadline))
    ), sock


def test_every_read_is_granted_less_as_the_deadline_nears() -> None:
    """A drip cannot outlast it: this is what the socket is told, byte for byte."""
    guard, sock = guarded(5.0, read=3.0)
    for _ in range(5):
        guard.recv_into(bytearray(100))
    with pytest.raises(TimeoutError):
        guard.recv_into(bytearray(100))
    assert sock.granted == [3.0, 3.0, 3.0, 2.0, 1.0]
    assert guard.received == 5
    guard.close()


def test_writing_shares_one_span() -> None:
    """The write step covers the whole of one sendall."""
    guard, sock = guarded(None, write=2.0)
    guard.sendall(b"x")
    assert sock.granted == [2.0]
    guard.close()


def test_no_step_is_unbounded() -> None:
    """Not even when nobody said how long."""
    guard, sock = guarded(None, read=None)
    guard.recv_into(bytearray(1))
    assert sock.granted == [LONGEST]
    spans = Spans(FakeClock(), {"connect": float("inf")}, Deadline(float("inf"), FakeClock()))
    assert {spans.left(each) for each in (spans.connect, spans.read, spans.write, spans.pool)} == {LONGEST}
    guard.close()


def test_severing_wakes_a_reader_and_outlasts_closing() -> None:
    """The thread gets `Severed`, neither an end nor a reset; severing what is closed harms nobody."""
    near, far = socket.socketpair()
    guard = GuardedSocket(near, Spans(FakeClock(), {"read": 60.0}, None))
    caught: list[BaseException] = []

    def read() -> None:
        try:
            guard.recv_into(bytearray(1))
        except OSError as error:
            caught.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    guard.sever()
    reader.join(30)
    assert [type(error) for error in caught] == [Severed]
    assert repr(guard) == "<GuardedSocket severed, 0 bytes received>"
    with pytest.raises(Severed):
        guard.sendall(b"x")
    guard.close()
    guard.close()
    guard.sever()
    far.close()


def test_a_look_waits_for_nothing() -> None:
    """What is there, that there is nothing yet, and the end are three different answers."""
    near, far = socket.socketpair()
    guard = GuardedSocket(near, Spans(FakeClock(), {}, None))
    guard.waits = False
    assert guard.recv_into(bytearray(1)) is None
    far.sendall(b"?")
    assert guard.recv_into(bytearray(2)) == 1
    assert guard.recv_into(bytearray(1)) is None
    far.close()
    assert guard.recv_into(bytearray(1)) == 0
    guard.close()
    with pytest.raises(Severed):
        guard.recv_into(bytearray(1))
