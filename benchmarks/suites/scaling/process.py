"""Put one peer of `scaling` under load in a process of its own: a load comes in on stdin, figures go out on stdout."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.harness.loads import Window, calling, draining
from benchmarks.harness.machine import cpu_seconds, share_of_core
from benchmarks.harness.measure import Recorder, Usage
from benchmarks.harness.processes import read_parameters
from benchmarks.harness.texts import DIFFERENT, text

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True)
class LoadSpec:
    """Define which peer calls what service, with how many threads and how long."""

    client: str
    """Module and class."""
    decode: bool
    """Whether a reply is to become audio, or only to be read."""
    url: str
    service: int
    """The service's process."""
    audio: str
    threads: int
    warm_up: float
    seconds: float


def run_load(spec: LoadSpec) -> dict[str, Any]:
    """Call until the time is over and return the figures of what ended in the measured part."""
    module, _, name = spec.client.rpartition(".")
    make = getattr(import_module(module), name)
    recorder = Recorder()
    service: list[float | None] = []
    with Usage() as usage:
        window = Window(usage, lambda: service.append(cpu_seconds(spec.service)))
        if hasattr(make, "__aenter__"):
            asyncio.run(_call_in_tasks(spec, make, recorder, window))
        elif hasattr(make, "exchange"):
            sockets = make(spec.url, format=spec.audio, connections=spec.threads, texts=[text(0)])
            with draining(sockets, recorder, 1):
                window.wait(spec.warm_up, spec.seconds)
        else:
            _call_in_threads(spec, make, recorder, window)
    figures = window.figures(recorder)
    busy = share_of_core(service[0], service[1], figures["elapsed"])
    return {**figures, "threads": usage.threads, "service_cpu": busy}


def _call_in_threads(spec: LoadSpec, make: Callable[..., Any], recorder: Recorder, window: Window) -> None:
    peer = make(spec.url, format=spec.audio, connections=spec.threads)
    try:
        with calling(peer.synthesize if spec.decode else peer.fetch, spec.threads, recorder):
            window.wait(spec.warm_up, spec.seconds)
    finally:
        peer.close()


async def _call_in_tasks(spec: LoadSpec, make: Callable[..., Any], recorder: Recorder, window: Window) -> None:
    async with make(spec.url, format=spec.audio, connections=spec.threads) as peer:
        call = peer.synthesize if spec.decode else peer.fetch

        async def caller(first: int) -> None:
            number = first
            while True:
                started = time.perf_counter()
                try:
                    await call(text(number % DIFFERENT))
                except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
                    recorder.failed(started, error)
                else:
                    recorder.succeeded(started)
                number += spec.threads

        callers = [asyncio.create_task(caller(first)) for first in range(spec.threads)]
        await asyncio.sleep(spec.warm_up)
        window.begin()
        await asyncio.sleep(spec.seconds)
        window.end()
        for each in callers:
            each.cancel()
        await asyncio.gather(*callers, return_exceptions=True)


if __name__ == "__main__":
    print(json.dumps(run_load(LoadSpec(**read_parameters()))), flush=True)
