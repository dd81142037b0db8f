"""The interface of a transport: send one request, return its reply, within a deadline.

Pass an object with these methods as ``CosyClient(transport=…)``, for a medium of your own or for tests.

```python
from cosyclient import CosyClient, Unauthorized
from cosyclient.testing import ScriptedReply
from cosyclient.transports.base import PoolStats


class Refusing:
    def send(self, request, *, deadline, read_timeout, cancellation=None):
        return ScriptedReply(401)

    def stats(self):
        return PoolStats()

    def close(self):
        pass


with CosyClient("https://tts.example.org", transport=Refusing()) as cosy:
    try:
        cosy.synthesize("Hello.")
    except Unauthorized as error:
        print(error.status)  # 401
```
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cosyclient.clock import Cancellation, Deadline
    from cosyclient.wire import WireReply, WireRequest


def agent() -> str:
    """Return what the package calls itself to services."""
    try:
        return f"cosyclient/{metadata.version('cosyclient')}"
    except metadata.PackageNotFoundError:
        return "cosyclient/0"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """Show a pool at one instant: connections in use and idle, opened since the start, and the most it may hold.

    ``streams`` are the calls under way where a connection carries many.
    """

    in_use: int = 0
    idle: int = 0
    opened: int = 0
    limit: int = 0
    streams: int = 0


class Transport(Protocol):
    """Carry requests to one endpoint; safe to use from many threads."""

    def send(
        self,
        request: WireRequest,
        *,
        deadline: Deadline,
        read_timeout: float,
        cancellation: Cancellation | None = None,
    ) -> WireReply:
        """Send *request* and return its reply as soon as status and headers are there.

        No wait, neither here nor while the reply is read, outlasts *deadline*; the first byte and each gap between
        reads are granted *read_timeout* seconds at most. Where the transport can, *cancellation* ends the attempt
        early, as a `TransportError`, and its connection is not used again. Whatever the service answers is a reply.
        Raises `ConnectFailed`, `AttemptTimeout`, `TransportError`, `DeadlineExceeded`, `ClientClosed`, or
        `BulkheadFull` when no connection came free; foreign exceptions of the wire never pass, here or while the
        reply is read.
        """

    def stats(self) -> PoolStats:
        """Return a snapshot of the connections."""

    def close(self) -> None:
        """Close every connection, waking whoever reads from one; a second call does nothing."""
