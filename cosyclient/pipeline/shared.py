"""What a client and its views share: one pipeline per process, made on first use and anew in a forked child."""

from __future__ import annotations

import math
import os
import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

from cosyclient.errors import ClientClosed, ConfigurationError
from cosyclient.pipeline.bulk import BulkWindow
from cosyclient.pipeline.stats import ClientStats
from cosyclient.protocols.addresses import guess, without_route
from cosyclient.protocols.registry import protocol_for
from cosyclient.transports.registry import prepare

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import httpx

    from cosyclient.clock import Clock
    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.events import Events
    from cosyclient.models import VoiceSettings
    from cosyclient.pipeline.pipeline import Pipeline
    from cosyclient.transports.base import Transport


class SharedPipeline:
    """Share one pipeline between a client and its views, and make it anew in a forked child."""

    def __init__(
        self,
        settings: ResolvedConfig,
        transport: httpx.BaseTransport | Transport | None,
        events: Events,
        clock: Clock,
        executor: Executor | None,
    ) -> None:
        # Imported when a client is made: with what it needs it takes a quarter of the time of ``import cosyclient``.
        from cosyclient.pipeline.pipeline import Pipeline

        self._new_pipeline = Pipeline
        # Made here, so that an unknown name is an error now and not at the first call.
        name = settings.protocol or guess(settings.base_url)
        url, model = without_route(settings.base_url, name)
        voice = settings.voice
        if model is not None and voice.model is None and name.startswith("triton"):
            voice = voice.replace({"model": model})
        self._protocol = protocol = protocol_for(name, settings.config.wire)
        can, pool = protocol.capabilities, settings.config.pool
        self.settings = replace(
            settings,
            base_url=url,
            voice=voice,
            protocol=name,
            max_batch=min(settings.max_batch, can.batch),
            config=replace(
                settings.config, pool=replace(pool, idle_limit=min(pool.idle_limit, can.idle_limit or pool.idle_limit))
            ),
        )
        self._make_transport = prepare(self.settings, protocol.capabilities.medium, given=transport)
        self._events = events
        self._clock = clock
        self._executor = executor
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._pipeline: Pipeline | None = None
        self._closed = self._ended = False
        self._pid = os.getpid()
        _shared_pipelines.add(self)

    @property
    def window(self) -> int:
        """Return how many texts of one bulk call may be pending: as many as fill every permit, within the queue."""
        return min(self.settings.bulk_pending, self.settings.sizing.permits * self.settings.max_batch)

    def bulk_window(self, settings: VoiceSettings) -> BulkWindow:
        """Return the window of one bulk call whose texts have these *settings*."""
        return BulkWindow(
            settings,
            texts=self.window,
            least=self.settings.max_batch,
            audio_bytes=self.settings.config.queue.max_audio_bytes,
            capacity=self._bulk_capacity,
        )

    def _bulk_capacity(self) -> tuple[float, float]:
        pipeline = self._pipeline
        return (math.inf, math.inf) if pipeline is None else pipeline.bulk_capacity

    def pipeline(self) -> Pipeline:
        """Return the pipeline, made now if this process has none yet."""
        if self._pid != os.getpid():
            # Forked by something that runs no fork hooks of Python, such as uWSGI.
            self.reset_after_fork()
        pipeline = self._pipeline
        if pipeline is not None and not self._closed:
            pipeline.release_dropped_streams()
            return pipeline
        with self._lock:
            if self._closed:
                raise ClientClosed("the client is closed; make a new one")
            if self._pipeline is None:
                self._pipeline = self._new_pipeline(
                    self.settings,
                    self._protocol,
                    make_transport=self._make_transport,
                    events=self._events,
                    clock=self._clock,
                    executor=self._executor,
                )
            return self._pipeline

    def stats(self) -> ClientStats:
        """Return a snapshot; all zeroes before first use."""
        if self._pid != os.getpid():
            self.reset_after_fork()
        pipeline = self._pipeline
        return ClientStats() if pipeline is None else pipeline.stats()

    def close(self, *, drain: bool) -> None:
        """Close the pipeline; again does nothing, unless it was interrupted."""
        if self._pid != os.getpid():
            self.reset_after_fork()
        if drain and self._pipeline is not None and self._pipeline.admission.on_own_thread():
            raise ConfigurationError(
                "close: would wait for the thread it is called on, one of the client's own; "
                "use close(drain=False) in on_done, or close on another thread"
            )
        with self._lock:
            if self._ended:
                return
            self._closed = True
            pipeline = self._pipeline
        if pipeline is not None:
            pipeline.close(drain=drain)
        self._ended = True

    def reset_after_fork(self) -> None:
        """Start clean in a forked child: its threads do not exist, its sockets belong to the parent."""
        self._lock = threading.Lock()
        self._pid = os.getpid()
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.reset_after_fork()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "idle" if self._pipeline is None else "open"
        return f"{self.settings.base_url} {self.settings.protocol} {state} {self.settings.sizing!r}"


_shared_pipelines: weakref.WeakSet[SharedPipeline] = weakref.WeakSet()


def _after_fork() -> None:
    for shared in list(_shared_pipelines):
        shared.reset_after_fork()


os.register_at_fork(after_in_child=_after_fork)
