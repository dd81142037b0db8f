"""What the call asks of a protocol: bytes from utterances, speeches from bytes; no socket, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.errors import CosyError
    from cosyclient.models import Speech, Utterance, WireReply, WireRequest

Item: TypeAlias = "tuple[int, Speech | CosyError]"
"""A position in the batch and what became of the text there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Hold what a service announced of its limits; ``None`` where it said nothing (or nothing readable).

    ``limit`` requests per ``window`` seconds are allowed, ``remaining`` are left, ``reset`` seconds until refill.
    """

    limit: float | None = None
    window: float | None = None
    remaining: float | None = None
    reset: float | None = None


class WireProtocol(Protocol):
    """Speak one way of serving CosyVoice."""

    name: str

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for *utterances*, which share their settings; *key* identifies it across retries."""

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the texts' speeches and errors as soon as they arrive, together what arrives together.

        Every position comes exactly once. Raises the `ServiceError` a refusal stands for, or `DecodeError` or
        `TransportError` when the reply breaks off; what was yielded before stands. *wall* is the present in epoch
        seconds, for dates in headers.
        """

    def quota(self, reply: WireReply) -> Quota | None:
        """Return what the reply's headers announce of the service's limits."""
