"""Make calls at a fixed rate, whether earlier ones have ended or not, with each client, in a process of its own."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.harness.texts import DIFFERENT, text
from benchmarks.peers.field_report import FieldReportClient
from benchmarks.peers.urllib3_retry import Urllib3RetryClient
from cosyclient import BreakerConfig, ClientConfig, CosyClient, PacingConfig, RetryConfig
from cosyclient.events import BreakerChanged, RetryScheduled

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.events import Event

CLIENTS: Final = {
    "ours": "CosyClient as it comes",
    "budget": "the same without its breaker",
    "bare": "the same without breaker and budget",
    "urllib3": "urllib3, Retry(total=3), threads",
    "report": "the report's asyncio client, 3 tries",
}
_THREADS: Final = 400
"""Enough for every call that waits in its backoff, so that no call waits for a thread."""
_NEVER: Final = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class LoadSpec:
    """Define which client sends how many calls a second, where to, for how long."""

    client: str
    url: str
    audio: str
    rate: float
    seconds: float
    open_for: float


class Call(NamedTuple):
    """Hold when a call was made and when it ended (monotonic seconds, the same clock in every process), and how."""

    made: float
    ended: float
    error: str


@dataclass(kw_only=True)
class CallLog:
    """Hold what one client's user saw."""

    calls: list[Call] = field(default_factory=list)
    slept: float = 0.0
    """Seconds that calls, or batches, spent between tries."""
    changes: list[tuple[float, str]] = field(default_factory=list)
    """When the breaker changed its state, and to which."""

    @property
    def succeeded(self) -> int:
        """Return the calls that brought audio."""
        return sum(not call.error for call in self.calls)

    @property
    def errors(self) -> Counter[str]:
        """Return the failed calls by error."""
        return Counter(call.error for call in self.calls if call.error)

    def note(self, made: float, error: BaseException | None) -> None:
        """Note that the call made at *made* has just ended."""
        self.calls.append(Call(made, time.monotonic(), "" if error is None else type(error).__name__))


def run_load(spec: LoadSpec) -> CallLog:
    """Run the load on the client that *spec* names and return what its user saw."""
    if spec.client == "report":
        return asyncio.run(_run_report(spec))
    if spec.client == "urllib3":
        return _run_urllib3(spec)
    return _run_ours(spec)


def _run_urllib3(spec: LoadSpec) -> CallLog:
    log = CallLog()
    with Urllib3RetryClient(spec.url, format=spec.audio) as client:
        _in_threads(spec, log, client.synthesize)
    log.slept = client.slept.seconds
    return log


def _run_ours(spec: LoadSpec) -> CallLog:
    log, slept = CallLog(), []

    def listen(event: Event) -> None:
        if isinstance(event, RetryScheduled):
            slept.append(event.wait)
        elif isinstance(event, BreakerChanged):
            log.changes.append((time.monotonic(), event.new))

    minimum = {} if spec.client == "ours" else {"minimum_failures": _NEVER}
    # One text a request, like the others; a quota that this load never reaches.
    config = ClientConfig(
        breaker=BreakerConfig(open_for=spec.open_for, **minimum),
        retry=RetryConfig(budget=_NEVER) if spec.client == "bare" else RetryConfig(),
        pacing=PacingConfig(burst=1000),
    )
    with CosyClient(
        spec.url,
        format=spec.audio,
        max_batch=1,
        requests_per_second=10_000,
        concurrency=50,
        timeout=30,
        config=config,
        listeners=[listen],
    ) as client:
        _in_threads(spec, log, client.synthesize)
    log.slept = sum(slept)
    return log


def _in_threads(spec: LoadSpec, log: CallLog, synthesize: Callable[[str], object]) -> None:
    def call(number: int, made: float) -> None:
        try:
            synthesize(text(number % DIFFERENT))
        except Exception as error:  # noqa: BLE001 - whatever it is, this text did not become audio
            log.note(made, error)
        else:
            log.note(made, None)

    with ThreadPoolExecutor(_THREADS) as threads:
        began = time.monotonic()
        for number in range(round(spec.rate * spec.seconds)):
            due = began + number / spec.rate
            time.sleep(max(0.0, due - time.monotonic()))
            threads.submit(call, number, due)


async def _run_report(spec: LoadSpec) -> CallLog:
    log = CallLog()

    async def call(number: int, made: float) -> None:
        try:
            await client.synth([text(number % DIFFERENT)])
        except Exception as error:  # noqa: BLE001 - as above
            log.note(made, error)
        else:
            log.note(made, None)

    async with FieldReportClient(spec.url, format=spec.audio) as client, asyncio.TaskGroup() as calls:
        began = time.monotonic()
        for number in range(round(spec.rate * spec.seconds)):
            due = began + number / spec.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            calls.create_task(call(number, due))
    log.slept = client.slept
    return log
