"""Put open load on one client in a process of its own, and take down what its callers get, and when."""

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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cosyclient import CosyClient

CLIENTS: Final = {
    "ours": "CosyClient as it comes, a thread a call",
    "fixed": "the same with adaptive.enabled=False: 40 in flight, batches of 64",
    "gradient": "the same with Netflix's Gradient2 limit on raw round-trip times",
    "aimd": "the same with Netflix's AIMD limit: 0.9 on a failure or over 5 s",
    "report": "the field report's client: aiohttp, 200 at once, 5 s time-out, 3 tries, one text a request here",
}
SECONDS_A_CHARACTER: Final = 0.2
MOST_MORE: Final = 20
"""Characters by which a text may be longer than the shortest."""
_LOOK: Final = 0.25


@dataclass(frozen=True, kw_only=True)
class Load:
    """Say which client is driven, against what, how hard and how long; ``gpus`` change after so many seconds."""

    client: str
    url: str
    audio: str
    rate: float
    """Calls a second, at random intervals (Poisson)."""
    seconds: float
    deadline: float
    seed: int
    gpus: Sequence[tuple[float, int]] = ()


@dataclass(kw_only=True)
class Story:
    """Hold what became of the calls; instants are seconds since the load began."""

    spoken: list[tuple[float, float, float]] = field(default_factory=list)
    """When a text came back in time, how long its caller had waited, and its seconds of audio."""
    errors: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    limits: list[tuple[float, int]] = field(default_factory=list)
    """What the client allowed itself in flight, looked at now and then."""


def words(number: int, chance: random.Random) -> str:
    """Return a text that is like no other: 4 to 8 s of audio, 6 s on average."""
    more = text((number * 7919 + 1) % DIFFERENT)
    return text(number % DIFFERENT) + more[: chance.randint(0, MOST_MORE)]


MEAN_SECONDS: Final = (CHARACTERS + MOST_MORE / 2) * SECONDS_A_CHARACTER


def client_of(name: str, url: str, audio: str, **terms: Any) -> CosyClient:
    """Return the client *name*, new."""
    from benchmarks.peers.limits import LIMITS, install
    from cosyclient import AdaptiveConfig, ClientConfig, CosyClient

    config = ClientConfig(adaptive=AdaptiveConfig(enabled=name == "ours"))
    client = CosyClient(url, format=audio, config=config, **terms)
    if name in LIMITS:
        install(client, name)
    return client


def drive(load: Load) -> Story:
    """Call at the load's rate, whatever became of the calls before, and return what the callers saw."""
    return asyncio.run(_report(load)) if load.client == "report" else _ours(load)


def _arrivals(load: Load) -> Iterator[tuple[float, str]]:
    """Yield the instant and the text of each call; the same for every client."""
    chance = random.Random(load.seed)
    at = 0.0
    for number in range(DIFFERENT):
        at += chance.expovariate(load.rate)
        if at >= load.seconds:
            return
        yield at, words(number, chance)


def _ours(load: Load) -> Story:
    story, over = Story(), threading.Event()
    # As many threads as calls can wait at once, so that no call waits for a thread.
    threads = math.ceil(load.rate * load.deadline * 1.5) + 20
    with client_of(load.client, load.url, load.audio) as client, ThreadPoolExecutor(threads) as callers:
        began = time.monotonic()
        looker = threading.Thread(target=_look, args=(client, story, began, over))
        looker.start()
        changer = threading.Thread(target=_change, args=(load, began, over.wait))
        changer.start()

        def call(words: str, made: float) -> None:
            try:
                client.synthesize(words, timeout=max(0.001, made + load.deadline - time.monotonic()))
            except Exception as error:  # noqa: BLE001 - whatever it is, this text did not become audio
                story.errors[type(error).__name__] += 1
            else:
                _spoken(story, words, made, began, load.deadline)

        for at, words in _arrivals(load):
            time.sleep(max(0.0, began + at - time.monotonic()))
            story.asked += 1
            callers.submit(call, words, time.monotonic())
        over.set()
        if load.gpus:
            # What is still under way comes too late to be counted.
            client.close(drain=False)
        changer.join()
        looker.join()
    return story


def _spoken(story: Story, words: str, made: float, began: float, deadline: float) -> None:
    now = time.monotonic()
    if now - made <= deadline:
        story.spoken.append((now - began, now - made, len(words) * SECONDS_A_CHARACTER))
    else:
        story.errors["late"] += 1


def _look(client: CosyClient, story: Story, began: float, over: threading.Event) -> None:
    while not over.wait(_LOOK):
        story.limits.append((time.monotonic() - began, client.stats().limit))


def _change(load: Load, began: float, wait: Callable[[float], object]) -> None:
    for at, gpus in load.gpus:
        wait(max(0.0, began + at - time.monotonic()))
        set_gpus(load.url, gpus)


def set_gpus(url: str, gpus: int) -> None:
    """Let the emulator at *url* go on with so many GPUs."""
    order = urllib.request.Request(f"{url}/_emulator/gpus", json.dumps({"gpus": gpus}).encode(), method="POST")
    with urllib.request.urlopen(order, timeout=10.0):
        pass


async def _report(load: Load) -> Story:
    from benchmarks.peers.field_report import FieldReportClient

    story = Story()
    async with FieldReportClient(load.url, format=load.audio) as client:
        began = time.monotonic()
        changing = asyncio.create_task(asyncio.to_thread(_change, load, began, time.sleep))

        async def call(words: str) -> None:
            made = time.monotonic()
            try:
                async with asyncio.timeout(load.deadline):
                    await client.synth([words])
            except Exception as error:  # noqa: BLE001 - whatever it is, this text did not become audio
                story.errors[type(error).__name__] += 1
            else:
                _spoken(story, words, made, began, load.deadline)

        calls = set()
        for at, words in _arrivals(load):
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            story.asked += 1
            calls.add(task := asyncio.create_task(call(words)))
            task.add_done_callback(calls.discard)
        for task in calls if load.gpus else ():
            task.cancel()
        await asyncio.gather(*calls, changing, return_exceptions=True)
    return story
