"""What all APIs share: settings, counters, quotas, GPU queue and renderer."""

from __future__ import annotations

import asyncio
import hmac
import random
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cosyclient.emulator.core.counters import CounterState
from cosyclient.emulator.core.gpu import GpuQueue
from cosyclient.emulator.core.limits import ConnectionCounter, TokenBuckets
from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.faults.plan import FaultPlan
from cosyclient.emulator.speech.engines import build_engine
from cosyclient.emulator.speech.renderer import Renderer

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.emulator.faults.plan import Fault
    from cosyclient.emulator.server.exchange import Exchange
    from cosyclient.emulator.settings import Settings
    from cosyclient.emulator.speech.items import Audio, Batch, Failure

_STRAGGLING = 10.0
_MOST_RECEIVED = 1000


class Service:
    """Admit requests and render texts as the settings say; the APIs read the requests and write the replies.

    Used on one event loop.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.counters = CounterState()
        self.connections = ConnectionCounter(settings.connections)
        self.rng = random.Random(settings.seed)
        self.faults = FaultPlan(settings.fault, self.rng)
        self._buckets = TokenBuckets(settings.rate, settings.burst)
        self._gpu_settings = settings
        self._gpus = GpuQueue(settings.gpus, settings.rtf)
        self._renderer = Renderer(build_engine(settings.engine))
        self._started = time.monotonic()
        self.received: deque[dict[str, Any]] = deque(maxlen=_MOST_RECEIVED)
        """What the last requests were understood as, oldest first."""
        self.uploads: dict[str, Any] = {}
        """Uploaded voices by name, in lower case."""
        self.on_reset: list[Callable[[], object]] = []
        """Callbacks for state that APIs keep and a reset must drop."""

    def __repr__(self) -> str:
        return f"<Service engine={self.settings.engine} {self.counters!r} {self.connections!r}>"

    def reset(self) -> None:
        """Start over: counters, pending faults, buckets and GPU queue."""
        self.counters.clear()
        self.connections.reset()
        self.faults.clear()
        self._buckets.clear()
        self.set_gpus(gpus=self.settings.gpus, rtf=self.settings.rtf)
        self._gpus.clear()
        self.received.clear()
        for forget in self.on_reset:
            forget()

    def set_gpus(self, *, gpus: int | None = None, rtf: float | None = None) -> None:
        """Change the GPUs until a reset; None keeps a value. Raises ValueError for a broken rule."""
        given: dict[str, Any] = {name: value for name, value in (("gpus", gpus), ("rtf", rtf)) if value is not None}
        # A checked copy: the settings stay those the service was started with.
        self._gpu_settings = replace(self._gpu_settings, **given)
        self._gpus.resize(self._gpu_settings.gpus, self._gpu_settings.rtf, time.monotonic())

    def counts(self) -> dict[str, Any]:
        """Return the counters as plain values."""
        connections = {
            f"connections_{name}": getattr(self.connections, name) for name in ("seen", "open", "peak", "refused")
        }
        return {**vars(self.counters), **connections}

    def check_ready(self) -> None:
        """Raise the Problem of a model that is still loading."""
        left = self._started + self.settings.slow_start - time.monotonic()
        if left > 0:
            raise Problem("loading", "the model is loading", retry_after=left)

    async def admit(self, exchange: Exchange) -> None:
        """Admit a request after its round trip; raises the Problem of one that is refused."""
        await self.delay_round_trip()
        if exchange.connection.refused:
            most = self.settings.connections
            raise Problem(
                "too_many_connections", f"at most {most} connections per address", retry_after=1.0, close=True
            )
        self.check_ready()
        self.authorize(exchange.header("authorization"))
        exchange.headers += self.take_token(exchange.address)

    async def delay_round_trip(self) -> None:
        """Wait for the emulated round trip of the network."""
        settings, seconds = self.settings, self.settings.rtt
        if not seconds:
            return
        if settings.jitter:
            seconds *= self.rng.lognormvariate(0.0, settings.jitter)
        if settings.stragglers and self.rng.random() < settings.stragglers:
            self.counters.stragglers += 1
            seconds *= _STRAGGLING
        await asyncio.sleep(seconds)

    def authorize(self, shown: str) -> None:
        """Raise the Problem of an ``Authorization`` that is not the key asked for."""
        if self.settings.api_key is None:
            return
        scheme, _, token = shown.partition(" ")
        known = hmac.compare_digest(token.strip().encode("latin-1"), self.settings.api_key.encode())
        if scheme.lower() != "bearer" or not known:
            raise Problem("unauthorized", "Authorization must carry a valid bearer token")

    def take_token(self, address: str) -> list[tuple[bytes, bytes]]:
        """Return the headers that announce the quota of *address*; raise the Problem of one that is used up."""
        grant = self._buckets.acquire(address, time.monotonic())
        if not grant:
            return []
        headers = grant.headers if self.settings.quota_headers else []
        if not grant.granted:
            raise Problem(
                "rate_limited",
                f"at most {self.settings.rate:g} requests/s",
                retry_after=grant.wait,
                announced=headers,
            )
        return headers

    def draw_fault(self, *, handshake: bool = False) -> Fault | None:
        """Return the fault that the next request, or the next *handshake*, meets, and count it; or None."""
        fault = self.faults.draw(handshake=handshake)
        if fault:
            self.counters.faults[fault.name] += 1
        return fault

    async def render(self, batch: Batch) -> tuple[list[Audio | Failure], list[float], list[float]]:
        """Return an item per text, when each is ready (nothing when all are at once), and the GPU seconds of each.

        Instants are monotonic. Raises the Problem of a queue that is too long.
        """
        now = time.monotonic()
        backlog = self._gpus.backlog(now)
        if 0 < self.settings.max_wait < backlog:
            raise Problem("overloaded", f"the queue is {backlog:.1f} s long", retry_after=backlog)
        items = await self._renderer.render(batch)
        audios = [getattr(item, "duration_ms", 0) / 1000 for item in items]
        waits = self._gpus.schedule(audios, now)
        work = list(map(self._gpus.work, audios))
        self.counters.gpu_seconds += sum(work)
        return items, waits, work
