"""The reply of a gRPC call: its messages while they arrive, each wait bounded, its end as one of the library's errors.

grpcio keeps its state under Python's conditions. An exception from outside (Ctrl-C, a signal handler that raises, a
worker's time limit) can leave one locked for ever, and with it every call of the channel. So each call has a thread of
its own, and only such threads call grpcio; the caller waits at a `Mailbox`.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import time
from queue import Empty
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import grpc

from cosyclient.clock import Mailbox, closed_gate, open_gate
from cosyclient.errors import (
    AttemptTimeout,
    ClientClosed,
    CosyError,
    DeadlineExceeded,
    ServiceError,
    TransportError,
)
from cosyclient.transports.grpc.errors import translate
from cosyclient.transports.header_map import HeaderMap
from cosyclient.transports.reply_limit import ReplyLimit

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cosyclient.clock import Cancellation, Deadline
    from cosyclient.transports.grpc.transport import GrpcTransport

_READ_AHEAD: Final = 8
"""Messages taken from grpcio before the caller reads them; beyond, gRPC's flow control makes the service wait."""
_STATUS_GRACE: Final = 0.02
"""Seconds after the deadline in which grpcio's own status is waited for, which says what the call was waiting for."""


class GrpcReply:
    """Read the messages of one reply while they arrive; a thread of its own takes them from grpcio."""

    status: int = 200

    def __init__(
        self, transport: GrpcTransport, deadline: Deadline, read_timeout: float, cancellation: Cancellation | None
    ) -> None:
        self._transport = transport
        self._deadline = deadline
        self._read_timeout = read_timeout
        self._cancellation = cancellation
        self._events: Mailbox[_Started | bytes | _Status | BaseException] = Mailbox()
        self._reads: Mailbox[None] = Mailbox()  # one entry for each message that the caller has read
        self._closed = self._released = False
        self.headers: Mapping[str, str] = HeaderMap()
        """The metadata that came before the messages, without binary values."""
        # Written by the call's thread.
        self._call: Any = None
        self._call_ended = False

    def start(self, make_call: Callable[[], Any]) -> None:
        """Run *make_call* on the call's thread and wait until the service answers; raises the errors of the wire."""
        if self._cancellation is not None:
            self._cancellation.on_cancel(self._cancel_call)
        try:
            _thread.start_new_thread(self._run, (make_call,))
        except RuntimeError as error:
            no_thread = TransportError(f"gRPC: no thread can be started; {error}", sent=False, endpoint_fault=False)
            raise no_thread from error
        started = self._next()
        if isinstance(started, _Started):
            self.headers = HeaderMap((name, value) for name, value in started.metadata if isinstance(value, str))
            failed = self._error_of(started.status) if started.status is not None else None
            if failed is not None and not isinstance(failed, ServiceError):
                raise failed

    def chunks(self) -> Iterator[bytes]:
        """Yield the messages, each whole; returns only when the service has ended the call in good order.

        Raises `ServiceError`, `AttemptTimeout`, `TransportError`, `DeadlineExceeded`, `ClientClosed` or `DecodeError`;
        after any of them, as at the end, the reply is closed.
        """
        limit = ReplyLimit(self._transport.max_reply_bytes)
        try:
            while isinstance(message := self._next(), bytes):
                if self._deadline.expired:
                    # Messages that have come already are read without a wait, hence without a timeout.
                    raise DeadlineExceeded("the deadline passed while the reply was read", sent=True)
                limit.add(len(message))
                yield message
                self._reads.put(None)
            if isinstance(message, _Status) and (error := self._error_of(message)):
                raise error
        finally:
            self.close()

    def close(self) -> None:
        """Release the call; one that has not ended is cancelled, at the service too. A second call does nothing."""
        if self._released:
            return
        # First the mark, then a look for the call; its thread does it the other way round, so one of the two cancels.
        self._closed = True
        if not self._call_ended:
            self._cancel_call()
            self._reads.put(None)
        if self._cancellation is not None:
            self._cancellation.on_cancel(None)
        self._transport.end_call(self)
        # Last: if this was interrupted, the next call completes it.
        self._released = True

    def _next(self) -> _Started | bytes | _Status:
        """Return the next event, waiting no longer than the read timeout and the deadline; raises what the call did."""
        remaining = self._deadline.remaining + _STATUS_GRACE
        try:
            event = self._events.get(min(self._read_timeout, remaining))
        except Empty:
            if self._deadline.expired:
                raise DeadlineExceeded("the deadline passed; gRPC reported nothing until then", sent=True) from None
            raise AttemptTimeout(f"nothing came within {self._read_timeout:.3g} s") from None
        if isinstance(event, BaseException):
            raise event
        return event

    def _run(self, make_call: Callable[[], Any]) -> None:
        """Make the call and pass its events on; runs on the call's thread."""
        end: _Status | BaseException
        _active.add(self)
        while _forking:
            _active.discard(self)
            time.sleep(_POLL)
            _active.add(self)
        try:
            self._call = call = make_call()
            if self._closed or (self._cancellation is not None and self._cancellation.cancelled):
                call.cancel()  # the thread that wanted it found no call yet
            metadata = call.initial_metadata() or ()
            self._events.put(_Started(metadata, None if call.is_active() else _Status.of(call)))
            for count, message in enumerate(call):
                self._events.put(message)
                if count >= _READ_AHEAD:
                    # No longer than the deadline, when grpcio ends the call: a reply that an interrupt lost on its way
                    # to the caller is neither read nor closed.
                    with contextlib.suppress(Empty):
                        self._reads.get(self._deadline.remaining)
            end = _Status.of(call)
        except grpc.RpcError:
            end = _Status.of(self._call)
        except BaseException as error:  # noqa: BLE001 - raised on the caller's thread
            end = error
        _active.discard(self)
        self._call_ended = True
        self._events.put(end)
        self._transport.end_call(self)

    def _cancel_call(self) -> None:
        """Cancel the call, on another thread; its end comes as an event like any other."""
        if (call := self._call) is not None:
            run_uninterrupted(call.cancel)

    def _error_of(self, status: _Status) -> CosyError | None:
        """Return the error of a call that ended with *status*, or None for OK."""
        if status.code == "OK":
            return None
        if self._transport.closed:
            return ClientClosed("the transport was closed meanwhile")
        error = translate(status.code, status.details, self._deadline)
        if isinstance(error, TransportError):
            error.args = (f"{self._transport.destination}: {error}",)
        return error

    def __repr__(self) -> str:
        return f"<GrpcReply {'closed' if self._closed else 'open'}>"


def run_uninterrupted(work: Callable[[], object]) -> threading.Lock:
    """Run *work*, a call of grpcio, on a thread that no interrupt reaches; return a gate that opens when it is done."""
    done = closed_gate()

    def run() -> None:
        try:
            work()
        finally:
            open_gate(done)

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError:
        run()  # no thread can be started, as at the interpreter's end
    return done


# grpcio prepares its core for a fork only while no thread is inside it, and the child of an unprepared one may abort (6
# of 100 during calls of plain grpcio, none of 200 this way). So a fork waits a moment for the calls under way, and new
# calls wait for the fork.
_active: Final[set[GrpcReply]] = set()
_forking: Final[list[int]] = []
_POLL: Final = 0.001
_SETTLE: Final = 0.005
"""Seconds after the last call's end in which grpcio's own threads come to rest."""
_MAX_FORK_WAIT: Final = 2.0
"""Seconds that a fork waits for calls at most; a stream may last for minutes."""


def _before_fork() -> None:
    _forking.append(os.getpid())
    if _active:
        end = time.monotonic() + _MAX_FORK_WAIT
        while _active and time.monotonic() < end:
            time.sleep(_POLL)
        time.sleep(_SETTLE)


def _in_child() -> None:
    _forking.clear()
    _active.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_forking.clear, after_in_child=_in_child)


class _Status(NamedTuple):
    """Hold the status a call ended with."""

    code: str
    details: str

    @classmethod
    def of(cls, call: Any) -> Self:
        """Return the status of *call*, waiting for its end."""
        return cls(call.code().name, call.details() or "")


class _Started(NamedTuple):
    """Hold the metadata that came before the messages, and the status if the call had ended by then."""

    metadata: Sequence[tuple[str, str | bytes]]
    status: _Status | None
