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
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cosyclient.clock import Cancellation, Deadline
    from cosyclient.wire import WireReply, WireRequest


def user_agent() -> str:
    """Return the name and version that requests carry as their ``User-Agent``."""
    from importlib import metadata  # takes 14 ms, which not every program needs

    try:
        return f"cosyclient/{metadata.version('cosyclient')}"
    except metadata.PackageNotFoundError:
        return "cosyclient/0"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """Count the connections of a pool at one instant: in use, idle, opened since the start, and the most it may hold.

    ``streams`` counts the calls under way where one connection carries many.
    """

    in_use: int = 0
    idle: int = 0
    opened: int = 0
    limit: int = 0
    streams: int = 0


class Transport(Protocol):
    """Carry requests to one endpoint; called from many threads at once."""

    def send(
        self,
        request: WireRequest,
        *,
        deadline: Deadline,
        read_timeout: float,
        cancellation: Cancellation | None = None,
    ) -> WireReply:
        """Send *request* and return its reply as soon as status and headers have come; the caller closes the reply.

        No wait, neither here nor while the reply is read, outlasts *deadline*. The first byte and each gap between
        reads take *read_timeout* seconds at most. Where the transport can, *cancellation* ends the attempt early with a
        `TransportError`, and the connection is not used again. Every status the service answers with is a reply, not an
        error. Raises `ConnectFailed`, `AttemptTimeout`, `TransportError`, `DeadlineExceeded`, `ClientClosed`, or
        `BulkheadFull` when no connection came free. Exceptions of the network or of a library below are translated into
        these, here and while the reply is read.
        """

    def stats(self) -> PoolStats:
        """Return a snapshot of the connections."""

    def close(self) -> None:
        """Close every connection and wake the threads that read from one; a second call does nothing."""
