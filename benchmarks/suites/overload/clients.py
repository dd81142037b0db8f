"""Make calls at random intervals with one client in a process of its own, and record what its callers get, and when."""

from __future__ import annotations

import asyncio
import json
import math
import random
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.texts import CHARACTERS, DIFFERENT, text
from benchmarks.peers.field_report import FieldReportClient
from benchmarks.peers.limits import LIMITS, install
from cosyclient import AdaptiveConfig, ClientConfig, CosyClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CLIENTS: Final = {
    "ours": "CosyClient with its defaults, a thread a call",
    "fixed": "the same with adaptive.enabled=False: 40 in flight, batches of 64",
    "gradient": "the same with Netflix's Gradient2 limit on raw round-trip times",
    "aimd": "the same with Netflix's AIMD limit: 0.9 on a failure or over 5 s",
    "report": "the field report's client: aiohttp, 200 at once, 5 s time-out, 3 tries, one text a request here",
}
SECONDS_PER_CHARACTER: Final = 0.2
MOST_MORE: Final = 20
"""Characters by which a text may be longer than the shortest."""
_INTERVAL: Final = 0.25


@dataclass(frozen=True, kw_only=True)
class LoadSpec:
    """Define which client calls, where, how often and how long."""

    client: str
    url: str
    audio: str
    rate: float
    """Calls a second, at random intervals (Poisson)."""
    seconds: float
    deadline: float
    seed: int
    gpus: Sequence[tuple[float, int]] = ()
    """Changes of the service's GPUs: after how many seconds, and to how many."""


@dataclass(kw_only=True)
class LoadResult:
    """Hold what became of the calls; instants are seconds since the load began."""

    finished: list[tuple[float, float, float]] = field(default_factory=list)
    """When a text came back in time, how long its caller had waited, and its seconds of audio."""
    errors: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    limits: list[tuple[float, int]] = field(default_factory=list)
    """The client's limit of attempts in flight, read at intervals."""


def varied_text(number: int, chance: random.Random) -> str:
    """Return a text that is like no other: 4 to 8 s of audio, 6 s on average."""
    more = text((number * 7919 + 1) % DIFFERENT)
    return text(number % DIFFERENT) + more[: chance.randint(0, MOST_MORE)]


MEAN_SECONDS: Final = (CHARACTERS + MOST_MORE / 2) * SECONDS_PER_CHARACTER


def client_of(name: str, url: str, audio: str, **options: Any) -> CosyClient:
    """Return a new client of the kind *name*."""
    config = ClientConfig(adaptive=AdaptiveConfig(enabled=name == "ours"))
    client = CosyClient(url, format=audio, config=config, **options)
    if name in LIMITS:
        install(client, name)
    return client


def run_load(spec: LoadSpec) -> LoadResult:
    """Call at the load's rate, whether earlier calls have ended or not, and return what the callers saw."""
    return asyncio.run(_report(spec)) if spec.client == "report" else _ours(spec)


def _calls(spec: LoadSpec) -> Iterator[tuple[float, str]]:
    """Yield the instant and the text of each call; the same for every client."""
    chance = random.Random(spec.seed)
    at = 0.0
    for number in range(DIFFERENT):
        at += chance.expovariate(spec.rate)
        if at >= spec.seconds:
            return
        yield at, varied_text(number, chance)


def _ours(spec: LoadSpec) -> LoadResult:
    result, over = LoadResult(), threading.Event()
    # As many threads as calls can wait at once, so that no call waits for a thread.
    threads = math.ceil(spec.rate * spec.deadline * 1.5) + 20
    with client_of(spec.client, spec.url, spec.audio) as client, ThreadPoolExecutor(threads) as callers:
        began = time.monotonic()
        watcher = threading.Thread(target=_watch_limit, args=(client, result, began, over))
        watcher.start()
        changer = threading.Thread(target=_change, args=(spec, began, over.wait))
        changer.start()

        def call(text: str, made: float) -> None:
            try:
                client.synthesize(text, timeout=max(0.001, made + spec.deadline - time.monotonic()))
            except Exception as error:  # noqa: BLE001 - whatever it is, this text did not become audio
                result.errors[type(error).__name__] += 1
            else:
                _finished(result, text, made, began, spec.deadline)

        for at, text in _calls(spec):
            time.sleep(max(0.0, began + at - time.monotonic()))
            result.asked += 1
            callers.submit(call, text, time.monotonic())
        over.set()
        if spec.gpus:
            # Calls still under way end too late to be counted.
            client.close(drain=False)
        changer.join()
        watcher.join()
    return result


def _finished(result: LoadResult, text: str, made: float, began: float, deadline: float) -> None:
    now = time.monotonic()
    if now - made <= deadline:
        result.finished.append((now - began, now - made, len(text) * SECONDS_PER_CHARACTER))
    else:
        result.errors["late"] += 1


def _watch_limit(client: CosyClient, result: LoadResult, began: float, over: threading.Event) -> None:
    while not over.wait(_INTERVAL):
        result.limits.append((time.monotonic() - began, client.stats().limit))


def _change(spec: LoadSpec, began: float, wait: Callable[[float], object]) -> None:
    for at, gpus in spec.gpus:
        wait(max(0.0, began + at - time.monotonic()))
        set_gpus(spec.url, gpus)


def set_gpus(url: str, gpus: int) -> None:
    """Set the number of GPUs of the emulator at *url*."""
    request = urllib.request.Request(f"{url}/_emulator/gpus", json.dumps({"gpus": gpus}).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=10.0):
        pass


async def _report(spec: LoadSpec) -> LoadResult:
    result = LoadResult()
    async with FieldReportClient(spec.url, format=spec.audio) as client:
        began = time.monotonic()
        changing = asyncio.create_task(asyncio.to_thread(_change, spec, began, time.sleep))

        async def call(text: str) -> None:
            made = time.monotonic()
            try:
                async with asyncio.timeout(spec.deadline):
                    await client.synth([text])
            except Exception as error:  # noqa: BLE001 - whatever it is, this text did not become audio
                result.errors[type(error).__name__] += 1
            else:
                _finished(result, text, made, began, spec.deadline)

        calls = set()
        for at, text in _calls(spec):
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            result.asked += 1
            calls.add(task := asyncio.create_task(call(text)))
            task.add_done_callback(calls.discard)
        for task in calls if spec.gpus else ():
            task.cancel()
        await asyncio.gather(*calls, changing, return_exceptions=True)
    return result
