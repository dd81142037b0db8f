"""Call six hostile services with one client, in a process of its own, and record how long each call took to end."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import httpx
import requests
import urllib3
from requests.adapters import HTTPAdapter

from benchmarks.harness.measure import resources, settled
from cosyclient import BreakerConfig, ClientConfig, CosyClient, PacingConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

_TOO_LATE: Final = 1.0
"""Seconds beyond the deadline after which a client is not called for another round, to save time."""
_RELEASE: Final = 2.0
"""Seconds in which a client has to release what it holds."""
_POOL: Final = 2
_BODY: Final = b'{"texts": ["hello"]}'


@dataclass(frozen=True, kw_only=True)
class CallSpec:
    """Define which client calls which service, with which deadline, how many callers at once and how often."""

    client: str
    scenario: str
    url: str
    deadline: float
    callers: int
    rounds: int


@dataclass(kw_only=True)
class CallResults:
    """Hold how long each call took, how it ended, and what was left over."""

    took: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    leaked: dict[str, int] = field(default_factory=dict)
    """What was there after the last call and not before the first: threads, files, permits, places, connections."""


def call_all(spec: CallSpec) -> CallResults:
    """Let ``callers`` call at once, ``rounds`` times, and return how the calls ended."""
    results = CallResults()
    before = resources()
    with _MAKE[spec.client](spec) as (call, held):
        if spec.scenario == "full pool":
            # Longer than all rounds together.
            span = (spec.rounds + 2) * spec.deadline
            holders = [_spawned(lambda: _outcome(lambda: call(span))) for _ in range(_POOL)]
            time.sleep(0.3)
        for _ in range(spec.rounds):
            _round(call, spec, results)
            if max(results.took) > spec.deadline + _TOO_LATE:
                break
        if spec.scenario == "full pool":
            for holder in holders:
                holder.join()
        left = settled(held, dict.fromkeys(held(), 0), _RELEASE)
    left |= {name: count - before[name] for name, count in settled(resources, before, _RELEASE).items()}
    results.leaked = {name: count for name, count in left.items() if count}
    return results


def _round(call: Callable[[float], object], spec: CallSpec, results: CallResults) -> None:
    together = threading.Barrier(spec.callers)
    callers = [_spawned(lambda: _timed(call, spec.deadline, together, results)) for _ in range(spec.callers)]
    for caller in callers:
        caller.join()


def _timed(call: Callable[[float], object], deadline: float, together: threading.Barrier, results: CallResults) -> None:
    together.wait()
    started = time.perf_counter()
    ended = _outcome(lambda: call(deadline))
    results.took.append(time.perf_counter() - started)
    results.errors.append(ended)


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


Made = tuple["Callable[[float], object]", "Callable[[], dict[str, int]]"]


def _connections(spec: CallSpec) -> int:
    return _POOL if spec.scenario == "full pool" else spec.callers


@contextmanager
def _ours(spec: CallSpec) -> Iterator[Made]:
    config = ClientConfig(breaker=BreakerConfig(minimum_failures=1_000_000_000), pacing=PacingConfig(burst=100))
    numbers = iter(range(1_000_000))
    with CosyClient(spec.url, max_batch=1, concurrency=_connections(spec), config=config) as client:

        def held() -> dict[str, int]:
            stats = client.stats()
            return {
                "permits": stats.in_flight,
                "places": stats.pending,
                "queued": stats.queued,
                "connections": stats.pool.in_use,
            }

        # No two texts are alike, because equal ones would share a request.
        yield lambda timeout: client.synthesize(f"text {next(numbers)}", timeout=timeout), held


def _nothing() -> dict[str, int]:
    return {}


@contextmanager
def _httpx(spec: CallSpec) -> Iterator[Made]:
    limits = httpx.Limits(max_connections=_connections(spec), max_keepalive_connections=_connections(spec))
    with httpx.Client(limits=limits, trust_env=False) as client:
        yield (
            lambda timeout: client.post(f"{spec.url}/batch", content=_BODY, timeout=timeout).raise_for_status(),
            _nothing,
        )


def _retry() -> urllib3.Retry:
    return urllib3.Retry(total=1, connect=0, read=0, status=1, status_forcelist=[429], allowed_methods=None)


@contextmanager
def _urllib3(spec: CallSpec) -> Iterator[Made]:
    with urllib3.connection_from_url(spec.url, maxsize=_connections(spec), block=True) as pool:
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
def _requests(spec: CallSpec) -> Iterator[Made]:
    with requests.Session() as session:
        session.trust_env = False
        adapter = HTTPAdapter(pool_maxsize=_connections(spec), pool_block=True, max_retries=_retry())
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        yield lambda timeout: session.post(f"{spec.url}/batch", data=_BODY, timeout=timeout), _nothing


_MAKE: Final[dict[str, Callable[[CallSpec], AbstractContextManager[Made]]]] = {
    "ours": _ours,
    "httpx": _httpx,
    "urllib3": _urllib3,
    "requests": _requests,
}


# Ctrl-C


def block_until_interrupted(spec: CallSpec) -> None:
    """Block in one call for a minute; print the instant (monotonic) at which Ctrl-C ended it."""
    # A process that a shell starts in the background ignores SIGINT, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with _MAKE[spec.client](spec) as (call, _):
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
    block_until_interrupted(
        CallSpec(client=sys.argv[1], scenario="", url=sys.argv[2], deadline=60.0, callers=1, rounds=1)
    )
