"""Put one peer of `scaling` under load in a process of its own: an order comes in on stdin, figures leave on stdout."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.extra import environment
from benchmarks.harness.machine import cpu_seconds
from benchmarks.harness.measure import Recorder, Usage, summary
from benchmarks.harness.texts import DIFFERENT, text

if TYPE_CHECKING:
    from collections.abc import Callable

_TAIL: Final = 4000
_PATIENCE: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Order:
    """Say which peer calls what service, how many at once and how long."""

    peer: str
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


class ProcessFailed(RuntimeError):
    """Report that a peer's process ended without figures."""


def run(order: Order) -> dict[str, Any]:
    """Run *order* in a fresh process and return its figures."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.suites.scaling.process"],
        input=json.dumps(asdict(order)),
        capture_output=True,
        env=environment(),
        text=True,
        timeout=order.warm_up + order.seconds + _PATIENCE,
        check=False,
    )
    if done.returncode or not done.stdout:
        raise ProcessFailed(f"the process of {order.peer} ended with {done.returncode}:\n{done.stderr[-_TAIL:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def drive(order: Order) -> dict[str, Any]:
    """Call until the time is over and return what came of what ended in the measured part."""
    module, _, name = order.peer.rpartition(".")
    make = getattr(import_module(module), name)
    recorder = Recorder()
    if hasattr(make, "__aenter__"):
        figures = asyncio.run(_tasks(order, make, recorder))
    else:
        figures = _threads(order, make, recorder)
    return figures


def _threads(order: Order, make: Callable[..., Any], recorder: Recorder) -> dict[str, Any]:
    peer = make(order.url, format=order.audio, connections=order.threads)
    call = peer.synthesize if order.decode else peer.fetch
    over = threading.Event()

    def caller(first: int) -> None:
        number = first
        while not over.is_set():
            started = time.perf_counter()
            try:
                call(text(number % DIFFERENT))
            except Exception as error:  # noqa: BLE001 - whatever it is, it counts
                recorder.failed(started, error)
            else:
                recorder.succeeded(started)
            number += order.threads

    try:
        with Usage() as usage, ThreadPoolExecutor(order.threads) as threads:
            for first in range(order.threads):
                threads.submit(caller, first)
            time.sleep(order.warm_up)
            look = _Look(order, usage)
            time.sleep(order.seconds)
            figures = look.figures(recorder)
            over.set()
    finally:
        peer.close()
    return figures


async def _tasks(order: Order, make: Callable[..., Any], recorder: Recorder) -> dict[str, Any]:
    with Usage() as usage:
        async with make(order.url, format=order.audio, connections=order.threads) as peer:
            call = peer.synthesize if order.decode else peer.fetch

            async def caller(first: int) -> None:
                number = first
                while True:
                    started = time.perf_counter()
                    try:
                        await call(text(number % DIFFERENT))
                    except Exception as error:  # noqa: BLE001 - whatever it is, it counts
                        recorder.failed(started, error)
                    else:
                        recorder.succeeded(started)
                    number += order.threads

            callers = [asyncio.create_task(caller(first)) for first in range(order.threads)]
            await asyncio.sleep(order.warm_up)
            look = _Look(order, usage)
            await asyncio.sleep(order.seconds)
            figures = look.figures(recorder)
            for each in callers:
                each.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
    return figures


class _Look:
    """Remember the beginning of the measured part."""

    def __init__(self, order: Order, usage: Usage) -> None:
        self._order = order
        self._usage = usage
        usage.start_over()
        self._service = cpu_seconds(order.service)
        self._since = time.perf_counter()

    def figures(self, recorder: Recorder) -> dict[str, Any]:
        """Return what came of it until now."""
        until, cpu, service = time.perf_counter(), self._usage.cpu, cpu_seconds(self._order.service)
        elapsed = until - self._since
        busy = None if service is None or self._service is None else (service - self._service) / elapsed
        threads = self._usage.threads
        return {
            **summary(recorder.between(self._since, until), elapsed),
            "cpu": cpu,
            "threads": threads,
            "service_cpu": busy,
        }

    def __repr__(self) -> str:
        return f"<_Look {self._usage!r}>"


if __name__ == "__main__":
    print(json.dumps(drive(Order(**json.loads(sys.stdin.readline())))), flush=True)
