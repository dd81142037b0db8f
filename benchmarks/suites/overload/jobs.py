"""Run jobs on one client at a service that keeps up, in a process of its own: how long they take, what is lost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.texts import text, texts
from benchmarks.peers.field_report import FieldReportClient, cut
from benchmarks.suites.overload.clients import client_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from cosyclient import CosyClient

_SHORT: Final = 4
"""Characters of the calls made before the job, which let the client see an idle service."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Describe a service that keeps up, and the job it gets."""

    sentence: str
    service: Mapping[str, Any]
    job: str
    """Name of the job in `_JOBS`."""
    before: int = 0
    """Short calls made, one after the other, before the job."""
    texts: int = 2000
    """Asked for in all."""
    characters: int = 20
    at_once: int = 32
    timeout: float | None = None
    max_batch: int = 64


_SINGLES: Final[dict[str, Any]] = {"job": "threads", "max_batch": 1}

_FLAKY: Final = "20 ms, 503 at once for that share; 2,000 texts, one a request, 32 threads"

SCENARIOS: Final = {
    "idle, then submits": Scenario(
        sentence="0.2 s; three short calls, then 300 submits of 260 characters, timeout=10",
        service={"rtt": 0.2},
        job="submit",
        before=3,
        texts=300,
        characters=260,
        timeout=10.0,
    ),
    "idle, then a pool": Scenario(
        sentence="0.2 s; one short call, then ThreadPoolExecutor(50) with batch_synth of 40 texts each",
        service={"rtt": 0.2},
        job="drop-in",
        before=1,
        at_once=50,
    ),
    "cold, single calls": Scenario(
        sentence="0.2 s; 50 threads make the client's first calls",
        service={"rtt": 0.2},
        job="threads",
        texts=50,
        at_once=50,
    ),
    "cold, one batch": Scenario(
        sentence="0.2 s; the client's first call is batch_synth of 1,000 texts",
        service={"rtt": 0.2},
        job="batch",
        texts=1000,
    ),
    "flaky, 5 %": Scenario(sentence=_FLAKY, service={"rtt": 0.02, "fault": {"unavailable": 0.05}}, **_SINGLES),
    "flaky, 10 %": Scenario(sentence="", service={"rtt": 0.02, "fault": {"unavailable": 0.1}}, **_SINGLES),
    "flaky, 20 %": Scenario(sentence="", service={"rtt": 0.02, "fault": {"unavailable": 0.2}}, **_SINGLES),
    "jittery": Scenario(
        sentence="200 ms, log-normal (σ 0.8); 2,000 texts, one a request, 32 threads",
        service={"rtt": 0.2, "jitter": 0.8},
        **_SINGLES,
    ),
    "stragglers": Scenario(
        sentence="100 ms, 3 % of requests ten times that; as above",
        service={"rtt": 0.1, "stragglers": 0.03},
        **_SINGLES,
    ),
    "time by length": Scenario(
        sentence="0.05 s a second of audio and no queue, 20 to 40 characters; as above, 1,000 texts",
        service={"rtt": 0.01, "gpus": 2560, "rtf": 0.05},
        characters=0,
        texts=1000,
        **_SINGLES,
    ),
}
"""Services that keep up, by name."""


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """Define which client does the job of which scenario, and where."""

    client: str
    scenario: str
    url: str
    audio: str


@dataclass(kw_only=True)
class JobResult:
    """Hold how a job ended."""

    seconds: float
    errors: Counter[str] = field(default_factory=Counter)
    requests: int = 0


def job_texts(scenario: Scenario) -> list[str]:
    """Return the texts of a job; those without a given length have 20 to 40 characters."""
    if not scenario.characters:
        return [text(n) + text(n + 7919)[: n % 21] for n in range(scenario.texts)]
    longer = scenario.characters // 20
    return ["".join(texts(longer, longer * n)) for n in range(scenario.texts)]


def run_job(spec: JobSpec) -> JobResult:
    """Run the job and return how it ended."""
    scenario = SCENARIOS[spec.scenario]
    return asyncio.run(_report(spec, scenario)) if spec.client == "report" else _ours(spec, scenario)


def _ours(spec: JobSpec, scenario: Scenario) -> JobResult:
    wanted, errors = job_texts(scenario), Counter[str]()
    defaults: dict[str, Any] = (
        {} if scenario.max_batch > 1 else {"max_batch": 1, "requests_per_second": 1e6, "concurrency": 32}
    )
    options = {"timeout": scenario.timeout} if scenario.timeout else {}
    client = client_of(spec.client, spec.url, spec.audio, **defaults)
    with client, ThreadPoolExecutor(scenario.at_once) as threads:
        for number in range(scenario.before):
            client.synthesize(text(number)[:_SHORT])
        began = time.monotonic()
        _JOBS[scenario.job](client, threads, wanted, options, errors)
        return JobResult(seconds=time.monotonic() - began, errors=errors)


def _submit(client: CosyClient, _: object, wanted: list[str], options: dict[str, Any], errors: Counter[str]) -> None:
    for future in [client.submit(each, **options) for each in wanted]:
        if (error := future.exception()) is not None:
            errors[type(error).__name__] += 1


def _threads(
    client: CosyClient, threads: ThreadPoolExecutor, wanted: list[str], options: dict[str, Any], errors: Counter[str]
) -> None:
    def call(text: str) -> None:
        try:
            client.synthesize(text, **options)
        except Exception as error:  # noqa: BLE001 - whatever it is, this text did not become audio
            errors[type(error).__name__] += 1

    list(threads.map(call, wanted))


def _batch(client: CosyClient, _: object, wanted: Sequence[str], options: dict[str, Any], errors: Counter[str]) -> None:
    for outcome in client.synthesize_many(wanted, **options):
        if outcome.error is not None:
            errors[type(outcome.error).__name__] += 1


def _drop_in(
    client: CosyClient, threads: ThreadPoolExecutor, wanted: list[str], options: dict[str, Any], errors: Counter[str]
) -> None:
    share = len(wanted) // 50
    parts = [wanted[start : start + share] for start in range(0, len(wanted), share)]
    list(threads.map(lambda part: _batch(client, None, part, options, errors), parts))


_JOBS: Final[dict[str, Callable[..., None]]] = {
    "submit": _submit,
    "threads": _threads,
    "batch": _batch,
    "drop-in": _drop_in,
}


async def _report(spec: JobSpec, scenario: Scenario) -> JobResult:
    wanted, errors = job_texts(scenario), Counter[str]()
    size = {"batch": 64, "drop-in": len(wanted) // 50}.get(scenario.job, 1)
    at_once = scenario.at_once if scenario.job == "threads" else 200
    async with FieldReportClient(spec.url, format=spec.audio, concurrency=at_once) as client:
        for number in range(scenario.before):
            await client.synth([text(number)[:_SHORT]])

        async def send(part: Sequence[str]) -> None:
            try:
                async with asyncio.timeout(scenario.timeout):
                    await client.synth(part)
            except Exception as error:  # noqa: BLE001 - whatever it is, these texts did not become audio
                errors[type(error).__name__] += len(part)

        began = time.monotonic()
        parts: Iterable[Awaitable[None]] = map(send, cut(wanted, size))
        await asyncio.gather(*parts)
        return JobResult(seconds=time.monotonic() - began, errors=errors)
