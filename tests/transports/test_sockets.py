"""The timeouts set before each operation of a socket, recorded instead of waited for."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
from typing import Any

import pytest

from cosyclient.clock import Deadline
from cosyclient.testing import FakeClock
from cosyclient.transports.sockets import LONGEST_WAIT, Aborted, DeadlineSocket, StepTimeouts


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


def recording(
    deadline: float | None, pace: float = 1.0, **timeout: float | None
) -> tuple[DeadlineSocket, RecordingSocket]:
    clock = FakeClock(now=0.0)
    sock = RecordingSocket(clock, pace)
    return DeadlineSocket(
        sock, StepTimeouts(clock, timeout, None if deadline is None else Deadline.after(clock, deadline))
    ), sock


def test_slow_bytes_do_not_outlast_the_deadline() -> None:
    """Each byte is in time; the timeout is set anew only when less is left."""
    connection, sock = recording(5.0, read=3.0)
    for _ in range(5):
        connection.recv_into(bytearray(100))
    with pytest.raises(TimeoutError):
        connection.recv_into(bytearray(100))
    assert sock.granted == [2.0, 1.0]
    assert connection.received_bytes == 5
    assert sock.clock.now() == 5.0
    connection.close()


@pytest.mark.parametrize(
    ("read", "deadline", "granted"),
    [(7.0, None, [4.0, 2.0, 1.0]), (2.5, None, [2.0, 0.5]), (0.25, None, [0.25]), (60.0, 6.5, [4.0, 2.0, 0.5])],
)
def test_a_silent_read_ends_with_its_timeout(read: float, deadline: float | None, granted: list[float]) -> None:
    """Neither earlier nor later, though the timeouts set are powers of two."""
    connection, sock = recording(deadline, pace=1e9, read=read)
    with pytest.raises(TimeoutError):
        connection.recv_into(bytearray(1))
    assert (sock.granted, sock.clock.now()) == (granted, min(read, deadline or read))
    connection.close()


def test_the_systems_own_timeout_ends_the_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    """It means that the peer is gone: trying again would not help."""
    connection, sock = recording(None, read=60.0)

    def gone(*_: Any) -> int:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(sock, "recv_into", gone)
    monkeypatch.setattr(sock, "send", gone)
    with pytest.raises(TimeoutError, match="Connection timed out"):
        connection.recv_into(bytearray(1))
    with pytest.raises(TimeoutError, match="Connection timed out"):
        connection.sendall(b"x")
    assert sock.clock.now() == 0.0
    connection.close()


def test_the_write_timeout_covers_the_whole_of_one_sendall() -> None:
    connection, sock = recording(None, write=2.0)
    connection.sendall(b"xx")
    with pytest.raises(TimeoutError):
        connection.sendall(b"xxx")
    assert sock.clock.now() == 4.0
    connection.close()


def test_no_step_is_unbounded() -> None:
    """Without a timeout, or with an infinite one, it ends after `LONGEST_WAIT`."""
    connection, sock = recording(None, pace=1e9, read=None)
    with pytest.raises(TimeoutError):
        connection.recv_into(bytearray(1))
    assert sock.clock.now() == LONGEST_WAIT
    timeouts = StepTimeouts(FakeClock(), {"connect": float("inf")}, Deadline(float("inf"), FakeClock()))
    steps = (timeouts.connect, timeouts.read, timeouts.write, timeouts.pool)
    assert {timeouts.within_deadline(step) for step in steps} == {LONGEST_WAIT}
    connection.close()


def test_an_abort_wakes_the_reader_and_may_follow_a_close() -> None:
    """The reading thread gets `Aborted`, neither an end nor a reset."""
    near, far = socket.socketpair()
    connection = DeadlineSocket(near, StepTimeouts(FakeClock(), {"read": 60.0}, None))
    caught: list[BaseException] = []

    def read() -> None:
        try:
            connection.recv_into(bytearray(1))
        except OSError as error:
            caught.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    connection.abort()
    reader.join(30)
    assert [type(error) for error in caught] == [Aborted]
    assert repr(connection) == "<DeadlineSocket aborted, 0 bytes received>"
    with pytest.raises(Aborted):
        connection.sendall(b"x")
    connection.close()
    connection.close()
    connection.abort()
    far.close()


def test_a_read_that_may_not_block_returns_at_once() -> None:
    """Data, no data yet, and the end give three different results."""
    near, far = socket.socketpair()
    connection = DeadlineSocket(near, StepTimeouts(FakeClock(), {}, None))
    connection.wait_until = 0.0
    assert connection.recv_into(bytearray(1)) is None
    far.sendall(b"?")
    assert connection.recv_into(bytearray(2)) == 1
    assert connection.recv_into(bytearray(1)) is None
    far.close()
    assert connection.recv_into(bytearray(1)) == 0
    connection.close()
    with pytest.raises(Aborted):
        connection.recv_into(bytearray(1))


class PartOfARecord(socket.socket):
    """Have something to read that gives nothing yet, as a TLS socket with a part of a record."""

    parts = 2

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        self.parts -= 1
        if self.parts >= 0:
            raise ssl.SSLWantReadError
        return super().recv_into(buffer, nbytes, flags)


def test_a_wait_outlasts_a_part_of_a_record() -> None:
    """But not where there is none left."""
    near, far = socket.socketpair()
    clock = FakeClock()
    connection = DeadlineSocket(PartOfARecord(fileno=near.detach()), StepTimeouts(clock, {}, None))
    far.sendall(b"?")
    connection.wait_until = clock.now()
    assert connection.recv_into(bytearray(1)) is None
    connection.wait_until = clock.now() + 30.0
    assert connection.recv_into(bytearray(1)) == 1
    assert connection.received_bytes == 1
    connection.close()
    far.close()


def test_a_wait_ends_with_the_deadline() -> None:
    near, far = socket.socketpair()
    clock = FakeClock()
    connection = DeadlineSocket(near, StepTimeouts(clock, {"read": 60.0}, Deadline(clock.now(), clock)))
    connection.wait_until = clock.now() + 600.0
    assert connection.recv_into(bytearray(1)) is None
    connection.wait_until = None
    with pytest.raises(TimeoutError):
        connection.recv_into(bytearray(1))
    connection.close()
    far.close()
