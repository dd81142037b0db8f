"""Call six hostile services with one client, in a process of its own, and note how long each call took to give up."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import httpx
import requests
import urllib3
from requests.adapters import HTTPAdapter

from benchmarks.harness.adversary import Visit, hostile, reply, unanswered
from benchmarks.harness.measure import threads_now
from cosyclient import BreakerConfig, ClientConfig, CosyClient, PacingConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from benchmarks.harness.adversary import Behaviour

SCENARIOS: Final = {
    "no SYN": "the listener's queue is full, connecting is never answered",
    "TLS stall": "connections are accepted, the handshake is not",
    "full pool": "two connections, both taken by calls that hang",
    "drip": "a body that comes byte by byte, ten a second",
    "silence": "status and headers come, and then nothing",
    "Retry-After": "429 with a Retry-After beyond the deadline",
}
CLIENTS: Final = {
    "ours": "synthesize(timeout=…), everything else as it comes, but for the breaker, which would soon refuse",
    "httpx": "Client(timeout=…), Limits of the pool",
    "urllib3": "Timeout(total=…), pool_timeout=…, Retry of 429 that heeds Retry-After",
    "requests": "timeout=…, pool_block=True, the same Retry",
}
HOPELESS: Final = 1.0
"""A client that was so many seconds late in one round is not asked again: it would only take time."""
_POOL: Final = 2
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
_BODY: Final = b'{"texts": ["hello"]}'


# The services, in a process that runs them all


def serve(cap: float, pipe: Connection) -> None:
    """Run the services, send their URLs by scenario, and end when *pipe* is closed.

    Each lets go of a client after *cap* seconds.
    """

    def behaving(behaviour: Behaviour, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{stack.enter_context(hostile(behaviour)).port}"

    def mute(visit: Visit) -> None:
        visit.sock.settimeout(cap)
        visit.until_closed()

    def drip(visit: Visit) -> None:
        visit.request()
        drops = int(cap * 10)
        visit.send(_HEAD % drops)
        visit.drip(b" " * drops, 0.1)

    def silence(visit: Visit) -> None:
        visit.request()
        visit.send(_HEAD % 1000)
        mute(visit)

    def later(visit: Visit) -> None:
        while visit.request():
            visit.send(reply(b"later", status="429 Too Many Requests", headers=(f"Retry-After: {cap:.0f}",)))

    with ExitStack() as stack:
        urls = {
            "no SYN": f"http://127.0.0.1:{stack.enter_context(unanswered())}",
            "TLS stall": behaving(mute, "https"),
            "full pool": behaving(mute),
            "drip": behaving(drip),
            "silence": behaving(silence),
            "Retry-After": behaving(later),
            "stop": behaving(Visit.until_closed),
        }
        pipe.send(urls)
        with suppress(EOFError):
            pipe.recv()


# The clients


@dataclass(frozen=True, kw_only=True)
class Order:
    """Say which client calls which service, with which deadline, how many callers at once and how often."""

    client: str
    scenario: str
    url: str
    deadline: float
    callers: int
    rounds: int


@dataclass(kw_only=True)
class Ends:
    """Hold how long each call took, how it ended, and what was left over."""

    took: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    leaked: dict[str, int] = field(default_factory=dict)
    """What was there after the last call and not before the first: threads, files, permits, places, connections."""


def call_all(order: Order) -> Ends:
    """Let *callers* call at once, *rounds* times, and return how it ended."""
    ends = Ends()
    make = {"ours": _ours, "httpx": _httpx, "urllib3": _urllib3, "requests": _requests}[order.client]
    before = _resources()
    with make(order) as (call, held):
        if order.scenario == "full pool":
            # Longer than all rounds together.
            hold = (order.rounds + 2) * order.deadline
            holders = [_spawned(lambda: _outcome(lambda: call(hold))) for _ in range(_POOL)]
            time.sleep(0.3)
        for _ in range(order.rounds):
            _round(call, order, ends)
            if max(ends.took) > order.deadline + HOPELESS:
                break
        if order.scenario == "full pool":
            for holder in holders:
                holder.join()
        left = _settled(held, dict.fromkeys(held(), 0))
    left |= {name: count - before[name] for name, count in _settled(_resources, before).items()}
    ends.leaked = {name: count for name, count in left.items() if count}
    return ends


def _round(call: Callable[[float], object], order: Order, ends: Ends) -> None:
    together = threading.Barrier(order.callers)
    callers = [_spawned(lambda: _timed(call, order.deadline, together, ends)) for _ in range(order.callers)]
    for caller in callers:
        caller.join()


def _timed(call: Callable[[float], object], deadline: float, together: threading.Barrier, ends: Ends) -> None:
    together.wait()
    started = time.perf_counter()
    ended = _outcome(lambda: call(deadline))
    ends.took.append(time.perf_counter() - started)
    ends.errors.append(ended)


def _outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever it is, the call has ended
        return type(error).__name__
    return "no error"


def _spawned(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _resources() -> dict[str, int]:
    return {"threads": threads_now(), "files": len(os.listdir("/proc/self/fd"))}


def _settled(look: Callable[[], dict[str, int]], wanted: dict[str, int]) -> dict[str, int]:
    """Return what *look* sees: what is wanted, or what is there after two seconds."""
    patience = time.monotonic() + 2.0
    while (seen := look()) != wanted and time.monotonic() < patience:
        time.sleep(0.01)
    return seen


Made = tuple["Callable[[float], object]", "Callable[[], dict[str, int]]"]


def _connections(order: Order) -> int:
    return _POOL if order.scenario == "full pool" else order.callers


@contextmanager
def _ours(order: Order) -> Iterator[Made]:
    config = ClientConfig(breaker=BreakerConfig(minimum_failures=1_000_000_000), pacing=PacingConfig(burst=100))
    numbers = iter(range(1_000_000))
    with CosyClient(order.url, max_batch=1, concurrency=_connections(order), config=config) as client:

        def held() -> dict[str, int]:
            stats = client.stats()
            return {
                "permits": stats.in_flight,
                "places": stats.pending,
                "queued": stats.queued,
                "connections": stats.pool.in_use,
            }

        # No two texts alike: equal ones would share a request.
        yield lambda timeout: client.synthesize(f"text {next(numbers)}", timeout=timeout), held


def _nothing() -> dict[str, int]:
    return {}


@contextmanager
def _httpx(order: Order) -> Iterator[Made]:
    limits = httpx.Limits(max_connections=_connections(order), max_keepalive_connections=_connections(order))
    with httpx.Client(limits=limits, trust_env=False) as client:
        yield (
            lambda timeout: client.post(f"{order.url}/batch", content=_BODY, timeout=timeout).raise_for_status(),
            _nothing,
        )


def _retry() -> urllib3.Retry:
    return urllib3.Retry(total=1, connect=0, read=0, status=1, status_forcelist=[429], allowed_methods=None)


@contextmanager
def _urllib3(order: Order) -> Iterator[Made]:
    with urllib3.connection_from_url(order.url, maxsize=_connections(order), block=True) as pool:
        yield (
            lambda timeout: pool.request(
                "POST",
                "/batch",
                body=_BODY,
                timeout=urllib3.Timeout(total=timeout),
                pool_timeout=timeout,
                retries=_retry(),
            ),
            _nothing,
        )


@contextmanager
def _requests(order: Order) -> Iterator[Made]:
    with requests.Session() as session:
        session.trust_env = False
        adapter = HTTPAdapter(pool_maxsize=_connections(order), pool_block=True, max_retries=_retry())
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        yield lambda timeout: session.post(f"{order.url}/batch", data=_BODY, timeout=timeout), _nothing


# Ctrl-C


def interrupted(order: Order) -> None:
    """Block in one call for a minute; print the instant (monotonic) at which Ctrl-C came through."""
    make: Any = {"ours": _ours, "httpx": _httpx, "urllib3": _urllib3, "requests": _requests}[order.client]
    # A shell starts what runs in its background deaf to Ctrl-C, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with make(order) as (call, _):
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            try:
                call(60.0)
            except KeyboardInterrupt:
                sys.stdout.write(f"{time.monotonic()}\n")
                sys.stdout.flush()
                raise
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    interrupted(Order(client=sys.argv[1], scenario="", url=sys.argv[2], deadline=60.0, callers=1, rounds=1))
