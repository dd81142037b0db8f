"""One call's messages while they arrive: each within its time, all within bounds, its end as one of our errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import grpc

from cosyclient.clock import Deadline
from cosyclient.errors import (
    AttemptTimeout,
    ClientClosed,
    CosyError,
    DeadlineExceeded,
    DecodeError,
    ServiceError,
    TransportError,
)
from cosyclient.transports.grpc_faults import ours

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cosyclient.clock import Cancellation, Clock
    from cosyclient.expiry import Expiry

_CANCELLED: Final = "CANCELLED"


class Home(Protocol):
    """Be what a reply knows of the transport it came over."""

    way: str
    clock: Clock
    closed: bool
    max_reply_bytes: int
    gaps: Expiry[GrpcReply]

    def leave(self, reply: GrpcReply) -> None:
        """Count a call as ended."""


class GrpcReply:
    """Offer the messages of one reply while they arrive; also what the timer watches, until the next message's time."""

    status: int = 200

    def __init__(self, home: Home, deadline: Deadline, read_timeout: float, cancellation: Cancellation | None) -> None:
        self._home = home
        self._until = deadline
        self._read_timeout = read_timeout
        self._cancellation = cancellation
        self._call: Any = None
        self._metadata: dict[str, str] | None = None
        self._late = False
        self._over = False
        # What the timer looks at.
        self.deadline = deadline
        self.watched = False
        self.done = True

    def begin(self, call: Any) -> None:
        """Wait for the first sign of the service; raises what the wire did instead."""
        self._call = call
        if self._cancellation is not None:
            self._cancellation.on_cancel(call.cancel)
        self._within(call.initial_metadata)
        if not call.is_active() and (error := self._failure()) is not None and not isinstance(error, ServiceError):
            raise error

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the metadata that came before the messages; what is not text is left out."""
        if self._metadata is None:
            pairs = self._call.initial_metadata() or ()
            self._metadata = _Fields({name.lower(): value for name, value in pairs if isinstance(value, str)})
        return self._metadata

    def chunks(self) -> Iterator[bytes]:
        """Yield the messages, each whole; returns only when the service said that this was all.

        Raises `ServiceError`, `AttemptTimeout`, `TransportError`, `DeadlineExceeded`, `ClientClosed` or `DecodeError`;
        after any of them, as at the end, the reply is closed.
        """
        size = 0
        try:
            while True:
                message = self._within(lambda: next(self._call, None))
                if message is None:
                    return
                if self._until.expired:
                    # Messages that are there already are handed out without a look at the time.
                    raise DeadlineExceeded("the deadline passed while the reply was read", sent=True)
                size += len(message)
                if size > self._home.max_reply_bytes:
                    raise DecodeError(f"reply larger than {self._home.max_reply_bytes} bytes (wire.max_reply_bytes)")
                yield message
        except grpc.RpcError as error:
            raise (self._failure() or TransportError("gRPC: broken off")) from error
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the call; one that has not ended is called off, and the service hears of it."""
        if self._over:
            return
        self._over = True
        if self._cancellation is not None:
            self._cancellation.on_cancel(None)
        if self._call is not None:
            self._call.cancel()
        self._home.leave(self)

    def call_off(self) -> None:
        """End a call whose next message is late; of the timer."""
        # It may have come since, and another be waited for.
        if not self.done and self.deadline.expired:
            self._late = True
            self._call.cancel()

    def _within(self, wait: Callable[[], Any]) -> Any:
        """Return what *wait* returns, and see to it that it does within the read timeout."""
        gaps, clock = self._home.gaps, self._home.clock
        latest = clock.now() + self._read_timeout
        if latest >= self._until.at:
            # grpcio itself keeps the deadline.
            return wait()
        self.done = False
        self.deadline = Deadline(latest, clock)
        gaps.watch(self)
        try:
            return wait()
        finally:
            self.done = True
            gaps.forget(self)

    def _failure(self) -> CosyError | None:
        """Return what the call ended with, or ``None`` if it went well."""
        code, details = self._call.code().name, self._call.details() or ""
        if code == "OK":
            return None
        if self._home.closed:
            return ClientClosed("the transport was closed meanwhile")
        if code == _CANCELLED and self._late:
            return AttemptTimeout(f"nothing came within {self._read_timeout:.3g} s")
        error = ours(code, details, self._until)
        if isinstance(error, TransportError):
            error.args = (f"{self._home.way}: {error}",)
        return error

    def __repr__(self) -> str:
        return f"<GrpcReply {'over' if self._over else 'open'}>"


class _Fields(dict[str, str]):
    """Look metadata up without regard to case."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)
