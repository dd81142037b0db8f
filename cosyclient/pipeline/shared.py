"""What a client and its views share: one house per process, built on first use and anew in a forked child."""

from __future__ import annotations

import math
import os
import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

from cosyclient.errors import ClientClosed, ConfigurationError
from cosyclient.pipeline.bulk_window import Window
from cosyclient.pipeline.pipeline import House
from cosyclient.pipeline.stats import ClientStats
from cosyclient.protocols.registry import guess, home, protocol_for
from cosyclient.transports.registry import prepare

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import httpx

    from cosyclient.clock import Clock
    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.events import Events
    from cosyclient.models import VoiceSettings
    from cosyclient.transports.base import Transport


class Core:
    """Share one house between a client and its views, and build it anew in a forked child."""

    def __init__(
        self,
        settings: ResolvedConfig,
        transport: httpx.BaseTransport | Transport | None,
        events: Events,
        clock: Clock,
        executor: Executor | None,
    ) -> None:
        # Made here, so that an unknown name is told now and not at the first call.
        name = settings.protocol or guess(settings.base_url)
        url, model = home(settings.base_url, name)
        voice = settings.voice
        if model is not None and voice.model is None and name.startswith("triton"):
            voice = voice.replace({"model": model})
        self._protocol = protocol = protocol_for(name, settings.rest.wire)
        can, pool = protocol.capabilities, settings.rest.pool
        self.settings = replace(
            settings,
            base_url=url,
            voice=voice,
            protocol=name,
            max_batch=min(settings.max_batch, can.batch),
            rest=replace(
                settings.rest, pool=replace(pool, idle_limit=min(pool.idle_limit, can.idle_limit or pool.idle_limit))
            ),
        )
        self._make_transport = prepare(self.settings, protocol.capabilities.medium, given=transport)
        self._events = events
        self._clock = clock
        self._executor = executor
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._house: House | None = None
        self._closed = self._ended = False
        self._pid = os.getpid()
        _cores.add(self)

    @property
    def window(self) -> int:
        """Return how many texts of one bulk call may be under way: what fills every permit, within the queue."""
        return min(self.settings.bulk_pending, self.settings.sizing.permits * self.settings.max_batch)

    def bulk_window(self, settings: VoiceSettings) -> Window:
        """Return what keeps one bulk job of texts with these *settings* within `window` and its share of memory."""
        return Window(
            settings,
            texts=self.window,
            least=self.settings.max_batch,
            audio_bytes=self.settings.rest.queue.max_audio_bytes,
            useful=self._useful,
        )

    def _useful(self) -> tuple[float, float]:
        house = self._house
        return (math.inf, math.inf) if house is None else house.useful

    def house(self) -> House:
        """Return the house, built now if this process has none yet."""
        if self._pid != os.getpid():
            # Forked by what tells Python nothing of it, such as uWSGI.
            self.forget()
        house = self._house
        if house is not None and not self._closed:
            house.sweep()
            return house
        with self._lock:
            if self._closed:
                raise ClientClosed("the client is closed; make a new one")
            if self._house is None:
                self._house = House(
                    self.settings,
                    self._protocol,
                    make_transport=self._make_transport,
                    events=self._events,
                    clock=self._clock,
                    executor=self._executor,
                )
            return self._house

    def stats(self) -> ClientStats:
        """Return a snapshot; all zeroes before first use."""
        if self._pid != os.getpid():
            self.forget()
        house = self._house
        return ClientStats() if house is None else house.stats()

    def close(self, *, drain: bool) -> None:
        """Close the house; again does nothing, unless it was interrupted."""
        if self._pid != os.getpid():
            self.forget()
        if drain and self._house is not None and self._house.desk.on_own_thread():
            raise ConfigurationError(
                "close: would wait for the thread it is called on, one of the client's own; "
                "use close(drain=False) in on_done, or close on another thread"
            )
        with self._lock:
            if self._ended:
                return
            self._closed = True
            house = self._house
        if house is not None:
            house.close(drain=drain)
        self._ended = True

    def forget(self) -> None:
        """Start clean in a forked child: its threads do not exist, its sockets belong to the parent."""
        self._lock = threading.Lock()
        self._pid = os.getpid()
        house, self._house = self._house, None
        if house is not None:
            house.orphan()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "idle" if self._house is None else "open"
        return f"{self.settings.base_url} {self.settings.protocol} {state} {self.settings.sizing!r}"


_cores: weakref.WeakSet[Core] = weakref.WeakSet()


def _after_fork() -> None:
    for core in list(_cores):
        core.forget()


os.register_at_fork(after_in_child=_after_fork)
