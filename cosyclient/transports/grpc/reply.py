"""One call's messages while they arrive: each within its time, all within bounds, its end as one of our errors.

grpcio keeps its state under Python's conditions. An exception from outside (Ctrl-C, a signal handler that raises, a
worker's time limit) can leave one locked for ever, and with it every call of the channel. So only threads of our own
speak with grpcio; a caller's waits at a queue that is written in C.
"""

from __future__ import annotations

import _thread
import os
import time
from queue import Empty
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self

import grpc

from cosyclient.clock import Mailbox, closed_gate, open_gate
from cosyclient.errors import (
    AttemptTimeout,
    ClientClosed,
    CosyError,
    DeadlineExceeded,
    DecodeError,
    ServiceError,
    TransportError,
)
from cosyclient.transports.grpc.errors import translate

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cosyclient.clock import Cancellation, Clock, Deadline

_AHEAD: Final = 8
"""Messages taken from grpcio before anybody has read them: beyond, the service is made to wait."""
_MOMENT: Final = 0.02
"""Seconds after the deadline in which grpcio's own word for it is preferred to ours."""


class Home(Protocol):
    """Be what a reply knows of the transport it came over."""

    way: str
    clock: Clock
    closed: bool
    max_reply_bytes: int

    def leave(self, reply: GrpcReply) -> None:
        """Count a call as ended."""


class GrpcReply:
    """Offer the messages of one reply while they arrive; a thread of its own takes them from grpcio."""

    status: int = 200

    def __init__(self, home: Home, deadline: Deadline, read_timeout: float, cancellation: Cancellation | None) -> None:
        self._home = home
        self._until = deadline
        self._read_timeout = read_timeout
        self._cancellation = cancellation
        self._came: Mailbox[_Begun | bytes | _Ended | BaseException] = Mailbox()
        self._room: Mailbox[None] = Mailbox()
        self._over = False
        self.headers: Mapping[str, str] = _Fields()
        """The metadata that came before the messages; what is not text is left out."""
        # Of the thread that listens.
        self._call: Any = None
        self._heard_all = False

    def begin(self, start: Callable[[], Any]) -> None:
        """Have *start* make the call, and wait for the first sign of the service; raises what the wire did instead."""
        if self._cancellation is not None:
            self._cancellation.on_cancel(self._call_off)
        try:
            _thread.start_new_thread(self._listen, (start,))
        except RuntimeError as refused:
            none = TransportError(f"gRPC: no thread is to be had; {refused}", sent=False, endpoint_fault=False)
            raise none from refused
        begun = self._next()
        if isinstance(begun, _Begun):
            self.headers = _Fields({name.lower(): value for name, value in begun.metadata if isinstance(value, str)})
            if begun.ended and (error := self._failure(begun.ended)) and not isinstance(error, ServiceError):
                raise error

    def chunks(self) -> Iterator[bytes]:
        """Yield the messages, each whole; returns only when the service said that this was all.

        Raises `ServiceError`, `AttemptTimeout`, `TransportError`, `DeadlineExceeded`, `ClientClosed` or `DecodeError`;
        after any of them, as at the end, the reply is closed.
        """
        size = 0
        try:
            while isinstance(message := self._next(), bytes):
                if self._until.expired:
                    # Messages that are there already are handed out without a look at the time.
                    raise DeadlineExceeded("the deadline passed while the reply was read", sent=True)
                size += len(message)
                if size > self._home.max_reply_bytes:
                    raise DecodeError(f"reply larger than {self._home.max_reply_bytes} bytes (wire.max_reply_bytes)")
                yield message
                self._room.put(None)
            if isinstance(message, _Ended) and (error := self._failure(message)):
                raise error
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the call; one that has not ended is called off, and the service hears of it."""
        if self._over:
            return
        self._over = True
        if not self._heard_all:
            self._call_off()
            self._room.put(None)
        if self._cancellation is not None:
            self._cancellation.on_cancel(None)
        self._home.leave(self)

    def _next(self) -> _Begun | bytes | _Ended:
        """Return what comes next, waiting no longer than the read timeout and the deadline; raises if nothing does."""
        # grpcio keeps the deadline itself, and knows better what it was waiting for: it is left a moment to say so.
        left = self._until.remaining + _MOMENT
        try:
            came = self._came.get(min(self._read_timeout, left))
        except Empty:
            if self._until.expired:
                raise DeadlineExceeded("the deadline passed; gRPC said nothing until then", sent=True) from None
            raise AttemptTimeout(f"nothing came within {self._read_timeout:.3g} s") from None
        if isinstance(came, BaseException):
            raise came
        return came

    def _listen(self, start: Callable[[], Any]) -> None:
        """Make the call and hand on what comes of it; of a thread of its own."""
        end: _Ended | BaseException
        _calling.add(self)
        while _forks:
            _calling.discard(self)
            time.sleep(_TURN)
            _calling.add(self)
        try:
            self._call = call = start()
            if self._over or (self._cancellation is not None and self._cancellation.cancelled):
                call.cancel()  # whoever wanted that found no call yet
            metadata = call.initial_metadata() or ()
            self._came.put(_Begun(metadata, None if call.is_active() else _Ended.of(call)))
            for count, message in enumerate(call):
                self._came.put(message)
                if count >= _AHEAD:
                    self._room.get()
            end = _Ended.of(call)
        except grpc.RpcError:
            end = _Ended.of(self._call)
        except BaseException as error:  # noqa: BLE001 - raised where the call was asked for
            end = error
        _calling.discard(self)
        self._heard_all = True
        self._came.put(end)
        self._home.leave(self)

    def _call_off(self) -> None:
        """Cancel the call, on a thread of ours; its end comes like any other."""
        if (call := self._call) is not None:
            aside(call.cancel)

    def _failure(self, ended: _Ended) -> CosyError | None:
        """Return what a call that *ended* so means, or ``None`` if it went well."""
        if ended.code == "OK":
            return None
        if self._home.closed:
            return ClientClosed("the transport was closed meanwhile")
        error = translate(ended.code, ended.details, self._until)
        if isinstance(error, TransportError):
            error.args = (f"{self._home.way}: {error}",)
        return error

    def __repr__(self) -> str:
        return f"<GrpcReply {'over' if self._over else 'open'}>"


def aside(work: Callable[[], object]) -> threading.Lock:
    """Do *work* with grpcio on a thread of its own, which nobody interrupts; return a lock that is free when done."""
    done = closed_gate()

    def run() -> None:
        try:
            work()
        finally:
            open_gate(done)

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError:
        run()  # no thread is to be had, as at the interpreter's end
    return done


# grpcio prepares its core for a fork only where nobody is inside it, and the child of an unprepared one may abort (6 of
# 100 amid calls of plain grpcio, none of 200 so): who forks waits a moment for the calls under way, new ones for him.
_calling: Final[set[GrpcReply]] = set()
_forks: Final[list[int]] = []
_TURN: Final = 0.001
_DRAINED: Final = 0.005
"""Seconds after the last call's end in which grpcio's own threads come to rest."""
_LONGEST: Final = 2.0
"""Seconds that a fork waits for calls at most; a stream may last for minutes."""


def _before_fork() -> None:
    _forks.append(os.getpid())
    if _calling:
        end = time.monotonic() + _LONGEST
        while _calling and time.monotonic() < end:
            time.sleep(_TURN)
        time.sleep(_DRAINED)


def _in_child() -> None:
    _forks.clear()
    _calling.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_forks.clear, after_in_child=_in_child)


class _Ended(NamedTuple):
    """Hold the status a call ended with."""

    code: str
    details: str

    @classmethod
    def of(cls, call: Any) -> Self:
        """Ask *call*, which has ended or is about to."""
        return cls(call.code().name, call.details() or "")


class _Begun(NamedTuple):
    """Hold what came before the messages, and the end if that was there already."""

    metadata: Sequence[tuple[str, str | bytes]]
    ended: _Ended | None


class _Fields(dict[str, str]):
    """Look metadata up without regard to case."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)
