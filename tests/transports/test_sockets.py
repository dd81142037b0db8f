"""What a socket is granted before each operation, recorded instead of timed."""

from __future__ import annotations

import errno
import socket
import threading
from typing import Any

import pytest

from cosyclient.clock import Deadline
from cosyclient.testing import FakeClock
from cosyclient.transports.sockets import LONGEST, GuardedSocket, Severed, Spans


class RecordingSocket(socket.socket):
    """Let each operation take *pace* fake seconds and move one byte, and note every timeout that is set."""

    def __init__(self, clock: FakeClock, pace: float) -> None:
        super().__init__()
        self.clock = clock
        self.pace = pace
        self.granted: list[float] = []

    def settimeout(self, value: float | None) -> None:
        assert value is not None
        self.granted.append(value)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        return self._operate()

    def send(self, data: Any, flags: int = 0) -> int:
        return self._operate()

    def _operate(self) -> int:
        self.clock.advance(min(self.granted[-1], self.pace))
        if self.granted[-1] < self.pace:
            raise TimeoutError("timed out")
        return 1


def guarded(
    deadline: float | None, pace: float = 1.0, **timeout: float | None
) -> tuple[GuardedSocket, RecordingSocket]:
    clock = FakeClock(now=0.0)
    sock = RecordingSocket(clock, pace)
    return GuardedSocket(
        sock, Spans(clock, timeout, None if deadline is None else Deadline.after(clock, deadline))
    ), sock


def test_a_drip_does_not_outlast_the_deadline() -> None:
    """Each byte is in time; the socket is told anew only when less is left."""
    guard, sock = guarded(5.0, read=3.0)
    for _ in range(5):
        guard.recv_into(bytearray(100))
    with pytest.raises(TimeoutError):
        guard.recv_into(bytearray(100))
    assert sock.granted == [2.0, 1.0]
    assert guard.received == 5
    assert sock.clock.now() == 5.0
    guard.close()


@pytest.mark.parametrize(
    ("read", "deadline", "granted"),
    [(7.0, None, [4.0, 2.0, 1.0]), (2.5, None, [2.0, 0.5]), (0.25, None, [0.25]), (60.0, 6.5, [4.0, 2.0, 0.5])],
)
def test_a_silent_read_ends_when_its_span_does(read: float, deadline: float | None, granted: list[float]) -> None:
    """Neither earlier nor later, though the socket is told powers of two."""
    guard, sock = guarded(deadline, pace=1e9, read=read)
    with pytest.raises(TimeoutError):
        guard.recv_into(bytearray(1))
    assert (sock.granted, sock.clock.now()) == (granted, min(read, deadline or read))
    guard.close()


def test_the_systems_own_timeout_is_not_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that is gone will not answer later."""
    guard, sock = guarded(None, read=60.0)

    def gone(*_: Any) -> int:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(sock, "recv_into", gone)
    monkeypatch.setattr(sock, "send", gone)
    with pytest.raises(TimeoutError, match="Connection timed out"):
        guard.recv_into(bytearray(1))
    with pytest.raises(TimeoutError, match="Connection timed out"):
        guard.sendall(b"x")
    assert sock.clock.now() == 0.0
    guard.close()


def test_writing_shares_one_span() -> None:
    """The write step covers the whole of one sendall."""
    guard, sock = guarded(None, write=2.0)
    guard.sendall(b"xx")
    with pytest.raises(TimeoutError):
        guard.sendall(b"xxx")
    assert sock.clock.now() == 4.0
    guard.close()


def test_no_step_is_unbounded() -> None:
    """Not even when nobody said how long."""
    guard, sock = guarded(None, pace=1e9, read=None)
    with pytest.raises(TimeoutError):
        guard.recv_into(bytearray(1))
    assert sock.clock.now() == LONGEST
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
