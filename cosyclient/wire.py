"""What travels between a protocol and a transport: requests, replies, and conversations made of messages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cosyclient.util.extra_fields import Headers

_VERSION = "/v1/"


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRequest:
    """Hold one encoded request: where it goes, what it says; encoded once, sent once per attempt."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    dialogue: Callable[[], Dialogue] | None = None
    """What makes the other half of a conversation over messages; one is made per attempt."""

    def under(self, headers: Headers | None) -> WireRequest:
        """Return this request with *headers*, which replace what it says under the same names."""
        return replace(self, headers=laid_over(self.headers, headers.fields())) if headers else self

    def __repr__(self) -> str:
        return f"<WireRequest {self.method} {self.path}, {len(self.body)} bytes>"


def laid_over(fields: Sequence[tuple[str, str]], others: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return *others* and those of *fields* with other names, so that none is there twice."""
    names = {name.lower() for name, _ in others}
    return (*(field for field in fields if field[0].lower() not in names), *others)


def address(base_url: str, path: str) -> str:
    """Return where *path* is at the service of *base_url*, which may name its version or not, as ``/v1``."""
    if path.startswith(_VERSION) and f"{base_url}/".endswith(_VERSION):
        path = path.removeprefix(_VERSION)
    return f"{base_url}/{path.lstrip('/')}"


class Turn(NamedTuple):
    """Say what a message of the service leads to: messages to send, audio to hand on, and whether that was all."""

    send: tuple[str | bytes, ...] = ()
    audio: bytes = b""
    done: bool = False


class Dialogue(Protocol):
    """Hold one conversation over a connection that carries messages; knows no socket.

    The transport makes one call at a time, from whichever thread, and sends what they return in that order.
    """

    reusable: bool
    """Whether the connection may carry another conversation now; only true once this one is done."""
    keeps: float
    """Seconds that a connection may idle after this conversation and before another."""

    @property
    def patience(self) -> float:
        """Return the seconds without a message that are the writer's doing: 0 once all the text is said."""

    def open(self) -> Sequence[str | bytes]:
        """Return the messages to begin with."""

    def hear(self, message: str | bytes) -> Turn:
        """Return what *message* leads to; raises the `ServiceError` or `DecodeError` it stands for."""

    def say(self, text: str) -> Sequence[str | bytes]:
        """Return the messages that carry *text*, or nothing if it is kept until the service is ready.

        Raises `BadUtterance` when it is more than one conversation may carry.
        """

    def finish(self) -> Sequence[str | bytes]:
        """Return the messages that tell that no more text follows, or nothing if that is kept, too."""

    def closed(self, code: int) -> bool:
        """Return whether this is how the conversation ends: the service closed the connection with *code*.

        Raises the `ServiceError` that the code stands for, if it is a refusal.
        """


class WireReply(Protocol):
    """Offer one reply while it arrives; read it once, then close it."""

    @property
    def status(self) -> int:
        """Return the HTTP status or its kin."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the header fields, looked up without regard to case."""

    def chunks(self) -> Iterator[bytes]:
        """Yield the content as it arrives, content codings undone, bounded in size and time."""

    def close(self) -> None:
        """Let go of the connection: back to the pool if it was read whole, closed otherwise."""


@runtime_checkable
class ConversationReply(WireReply, Protocol):
    """Offer the audio of a conversation, whose ``chunks`` are pieces of audio, and take its texts meanwhile."""

    @property
    def dialogue(self) -> Dialogue:
        """Return the conversation, which may have learned more than audio."""

    def say(self, text: str) -> None:
        """Put *text* in line, to leave with the next `flush` or read; waits for nothing and may come from any thread.

        Raises like `Dialogue.say`, and `TransportError` when the conversation is over.
        """

    def finish(self) -> None:
        """Put in line that no more text follows; as `say`."""

    def flush(self) -> None:
        """Wait until what was put in line has left; raises what the wire did, or `DeadlineExceeded`."""
