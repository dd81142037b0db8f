"""What a protocol and a transport exchange: requests, replies, and sessions made of messages.

A protocol makes a `WireRequest`, a transport sends it and returns a `WireReply`.

```python
from cosyclient.wire import WireRequest, join_url

request = WireRequest(method="POST", path="/v1/audio/speech", headers=(("Accept", "audio/wav"),), body=b"{}")
print(request)  # <WireRequest POST /v1/audio/speech, 2 bytes>
print(join_url("https://tts.example.org/v1", request.path))  # https://tts.example.org/v1/audio/speech
```
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cosyclient.util.extra_fields import Headers

_VERSION: Final = "/v1/"

SCHEMES: Final[Mapping[str, tuple[str, ...]]] = {
    "http": ("http", "https"),
    "grpc": ("grpc", "grpcs"),
    "websocket": ("ws", "wss"),
}
"""The schemes of an address over each medium, that without TLS first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRequest:
    """Hold one encoded request; a protocol encodes it once, a transport sends it once per attempt."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    new_session: Callable[[], MessageSession] | None = None
    """Makes the session that a transport over messages runs; called once per attempt."""

    def with_headers(self, headers: Headers | None) -> WireRequest:
        """Return this request with *headers* added; they replace its own fields of the same names."""
        return replace(self, headers=replace_headers(self.headers, headers.fields())) if headers else self

    def __repr__(self) -> str:
        return f"<WireRequest {self.method} {self.path}, {len(self.body)} bytes>"


def replace_headers(
    fields: Sequence[tuple[str, str]], others: Sequence[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """Return *fields* without those named in *others*, then *others*; names are compared without regard to case."""
    names = {name.lower() for name, _ in others}
    return (*(field for field in fields if field[0].lower() not in names), *others)


def join_url(base_url: str, path: str) -> str:
    """Return the address of *path* below *base_url*; a version ``/v1`` that both name is written once."""
    if path.startswith(_VERSION) and f"{base_url}/".endswith(_VERSION):
        path = path.removeprefix(_VERSION)
    return f"{base_url}/{path.lstrip('/')}"


class Step(NamedTuple):
    """Hold what a session does about one message: messages to send, audio to pass on, and whether it has ended."""

    send: tuple[str | bytes, ...] = ()
    audio: bytes = b""
    done: bool = False


class MessageSession(Protocol):
    """Turn texts into messages and messages into audio, for one attempt; it knows no socket.

    The transport calls one method at a time, from any thread, and sends the messages they return in that order.
    """

    reusable: bool
    """Whether the connection can carry another session; true only after this one has ended in good order."""
    idle_limit: float
    """Seconds that the connection may idle between this session and the next."""

    @property
    def writer_timeout(self) -> float:
        """Return the seconds without a message that the caller's writer may cause; 0 once the text has ended.

        The transport waits this long, if it is longer than the read timeout.
        """

    def open(self) -> Sequence[str | bytes]:
        """Return the first messages."""

    def receive(self, message: str | bytes) -> Step:
        """Return what to do about *message*; raises the `ServiceError` or `DecodeError` it stands for."""

    def send_text(self, text: str) -> Sequence[str | bytes]:
        """Return the messages that carry *text*; none while the service is not ready, then a later step sends them.

        Raises `BadUtterance` for more text than a session may carry.
        """

    def end_text(self) -> Sequence[str | bytes]:
        """Return the messages that end the text; none while the service is not ready, as for `send_text`."""

    def closed(self, code: int) -> bool:
        """Return whether a connection closed by the service with *code* is the session's regular end.

        Raises the `ServiceError` of a code that stands for one.
        """


class WireReply(Protocol):
    """Read one reply while it arrives: once, then close it."""

    @property
    def status(self) -> int:
        """Return the HTTP status, or the one that stands for it."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the header fields, looked up without regard to case."""

    def chunks(self) -> Iterator[bytes]:
        """Yield the content as it arrives, content codings undone, bounded in size and time."""

    def close(self) -> None:
        """Release the connection: to the pool if the reply was read to its end, otherwise it is closed."""


@runtime_checkable
class DuplexReply(WireReply, Protocol):
    """Read the audio of a session, whose ``chunks`` are pieces of it, and send its text meanwhile."""

    @property
    def session(self) -> MessageSession:
        """Return the session, which may have learned more than audio."""

    def send_text(self, text: str) -> None:
        """Queue *text* for the next `flush` or read; does not wait, and may be called from any thread.

        Raises what `MessageSession.send_text` raises, and `TransportError` when the session is over.
        """

    def end_text(self) -> None:
        """Queue the end of the text, as `send_text` queues text."""

    def flush(self) -> None:
        """Wait until what was queued is sent; raises the connection's errors, or `DeadlineExceeded`."""
