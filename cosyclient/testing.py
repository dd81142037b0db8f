"""Fakes for the tests of programs that use the client: a clock, a transport that follows a script, a listener.

```python
import base64
import json

from cosyclient.audio import wav_bytes
from cosyclient.events import AttemptFinished
from cosyclient.testing import RecordingListener, ScriptedReply, scripted_client

audio = base64.b64encode(wav_bytes(bytes(range(200)), 24000)).decode()
result = {"results": [{"index": 0, "status": "success", "audio_data": audio}]}
listener = RecordingListener()
client, transport = scripted_client(
    [
        ScriptedReply(503),
        ScriptedReply(200, {"Content-Type": "application/json"}, [json.dumps(result).encode()]),
    ],
    listeners=[listener],
)
speech = client.synthesize("Hello.")  # starts no thread, opens no socket, and waits for nothing
print(speech.attempts, [request.path for request in transport.requests])  # 2 ['/batch', '/batch']
print([event.latency for event in listener.of(AttemptFinished)])  # [0.0, 0.0]
```
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

from cosyclient.client import CosyClient
from cosyclient.transports.base import PoolStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cosyclient.clock import Clock, Flag
    from cosyclient.events import Event
    from cosyclient.wire import WireReply, WireRequest


class FakeClock:
    """A clock for tests: every wait returns at once and advances the time by its duration, as `advance` does.

    ``slept`` lists the waits in order, in seconds.
    """

    def __init__(self, now: float = 1000.0, wall: float = 1_800_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now = now
        self._wall_offset = wall - now
        self.slept: list[float] = []

    def now(self) -> float:
        """Return the fake monotonic time."""
        return self._now

    def wall(self) -> float:
        """Return the fake epoch time; it moves with `now`."""
        return self._now + self._wall_offset

    def advance(self, seconds: float) -> None:
        """Move time forward."""
        with self._lock:
            self._now += seconds

    def sleep(self, seconds: float, wake: Flag) -> bool:
        """Move time forward by *seconds* at once, unless *wake* is set."""
        if wake.is_set():
            return True
        with self._lock:
            self.slept.append(seconds)
            self._now += max(0.0, seconds)
        return wake.is_set()

    def wait(self, gate: threading.Lock, seconds: float) -> bool:
        """Let other threads run briefly, then move time forward by *seconds* unless *gate* was opened."""
        if gate.acquire(timeout=0.001):
            return True
        self.advance(max(0.0, seconds))
        return False

    def __repr__(self) -> str:
        return f"<FakeClock {self._now:.3f}>"


class InlineExecutor(Executor):
    """An executor that runs each task in the submitting thread, so that the order of events is always the same.

    A task that a running task submits runs after it: run within it, it could wait for a lock that the outer one holds.
    """

    def __init__(self) -> None:
        self._thread = threading.local()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run *fn*, and what it submits, and return its finished future."""
        future: Future[Any] = Future()
        waiting: deque[Callable[[], None]] | None = getattr(self._thread, "waiting", None)

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - a future carries whatever was raised
                future.set_exception(error)

        if waiting is not None:
            waiting.append(run)
            return future
        waiting = self._thread.waiting = deque([run])
        while waiting:
            waiting.popleft()()
        self._thread.waiting = None
        return future


class ScriptedReply:
    """A reply of given status, headers and pieces of body; an exception among the pieces is raised in its place."""

    def __init__(
        self,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        pieces: Sequence[bytes | Exception] = (),
    ) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in (headers or {}).items()}
        self._pieces = tuple(pieces)
        self.closed = False

    def chunks(self) -> Iterator[bytes]:
        """Yield the pieces in order."""
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        """Set ``closed``."""
        self.closed = True


class ScriptedTransport:
    """A transport that answers from a script: replies and exceptions in order, or a function of the request.

    ``requests`` lists what was sent.
    """

    def __init__(
        self, script: Sequence[WireReply | Exception] | Callable[[WireRequest], WireReply | Exception]
    ) -> None:
        self._lock = threading.Lock()
        self._script = script if callable(script) else iter(script)
        self.requests: list[WireRequest] = []
        self.closed = False

    def send(self, request: WireRequest, **_: object) -> WireReply:
        """Return or raise the next item of the script."""
        with self._lock:
            self.requests.append(request)
            reply = None if callable(self._script) else next(self._script)
        if reply is None:
            reply = self._script(request)  # type: ignore[operator]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def stats(self) -> PoolStats:
        """Return an empty snapshot."""
        return PoolStats()

    def close(self) -> None:
        """Set ``closed``."""
        self.closed = True


class RecordingListener:
    """A listener that keeps every event in ``events``, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Any]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]


def scripted_client(
    script: Sequence[WireReply | Exception] | Callable[[WireRequest], WireReply | Exception],
    *,
    clock: Clock | None = None,
    **arguments: Any,
) -> tuple[CosyClient, ScriptedTransport]:
    """Return a client without threads, sockets or waiting, and the transport that answers it from *script*.

    Every call is finished when it returns; back-off and pacing take time on *clock* only, a `FakeClock` by default.
    """
    transport = ScriptedTransport(script)

    class _Scripted(CosyClient):
        _clock = clock or FakeClock()
        _executor = InlineExecutor()

    arguments.setdefault("base_url", "http://scripted.test")
    return _Scripted(transport=transport, **arguments), transport
