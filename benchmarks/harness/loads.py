"""Put load on each peer and take down what becomes of every text."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.measure import Recorder, Usage, summary
from benchmarks.harness.texts import DIFFERENT, text, texts
from benchmarks.peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cosyclient.events import Event

_WARM_UP_TEXTS: Final = 64


@dataclass(frozen=True, kw_only=True)
class Order:
    """Say which peer is to be driven, against what, how much and how long."""

    peer: str
    url: str
    audio: str
    texts: int
    """Texts in a job."""
    callers: int
    """Threads that call one text after the other."""
    seconds: float
    """How long callers are measured."""
    warm_up: float
    """How long callers call before that, uncounted."""
    pause: float
    """Seconds between the warm-up of a job and the job, in which the service's bucket fills up again."""
    load: str = ""
    """The kind of load, where it is not the peer's usual one."""
    rate: float = 0.0
    """Calls a second of an open load."""


def drive(order: Order, mark: Callable[[], object]) -> dict[str, Any]:
    """Run the peer and return what its user saw; *mark* is called when the measured part begins and when it ends."""
    from benchmarks.harness.flows import open_load, stream, submissions

    loads = {"callers": _callers, "job": _job, "submit": submissions, "open": open_load, "stream": stream}
    with Usage() as usage:
        figures = loads[order.load or PEERS[order.peer].load](order, usage, mark)
    return {**figures, "threads": usage.threads}


# Callers: threads that each ask for one text, wait for it, and ask for the next.


def _callers(order: Order, usage: Usage, mark: Callable[[], object]) -> dict[str, Any]:
    if order.peer == "a":
        from benchmarks.peers.before import BeforeClient

        with BeforeClient(order.url, format=order.audio) as before:
            return _call(before.synthesize, order, usage, mark)
    from cosyclient import CosyClient

    with CosyClient(order.url, format=order.audio) as client:
        return _call(client.synthesize, order, usage, mark)


def _call(
    synthesize: Callable[[str], object], order: Order, usage: Usage, mark: Callable[[], object]
) -> dict[str, Any]:
    recorder, over = Recorder(), threading.Event()

    def caller(first: int) -> None:
        number = first
        while not over.is_set():
            started = time.perf_counter()
            try:
                synthesize(text(number % DIFFERENT))
            except Exception as error:  # noqa: BLE001 - whatever it is, this text did not become audio
                recorder.failed(started, error)
            else:
                recorder.succeeded(started)
            number += order.callers

    threads = [threading.Thread(target=caller, args=(first,), daemon=True) for first in range(order.callers)]
    for thread in threads:
        thread.start()
    since, until, cpu = measured(order, usage, mark)
    over.set()
    for thread in threads:
        thread.join()
    figures = summary(recorder.between(since, until), until - since)
    return {**figures, "cpu": cpu, "callers": order.callers}


def measured(order: Order, usage: Usage, mark: Callable[[], object]) -> tuple[float, float, float]:
    """Wait for the warm-up and the measured part; return when that began and ended, and its processor time."""
    time.sleep(order.warm_up)
    mark()
    usage.start_over()
    since = time.perf_counter()
    time.sleep(order.seconds)
    until, cpu = time.perf_counter(), usage.cpu
    mark()
    return since, until, cpu


# Jobs: one caller with a list of texts, preceded by one uncounted batch.


def _job(order: Order, usage: Usage, mark: Callable[[], object]) -> dict[str, Any]:
    wanted = list(texts(order.texts))
    warm_up = list(texts(_WARM_UP_TEXTS, first=DIFFERENT - _WARM_UP_TEXTS))

    def ready() -> None:
        time.sleep(order.pause)
        mark()
        usage.start_over()

    if order.peer == "c":
        return _job_of_ours(order, wanted, warm_up, usage, ready, mark)
    concurrency = 20 if order.peer == "b20" else 200
    return asyncio.run(_job_of_field_report(order, concurrency, wanted, warm_up, usage, ready, mark))


def _job_of_ours(
    order: Order,
    wanted: Sequence[str],
    warm_up: Sequence[str],
    usage: Usage,
    ready: Callable[[], object],
    over: Callable[[], object],
) -> dict[str, Any]:
    from cosyclient import CosyClient, PartialFailure
    from cosyclient.events import UtteranceFinished

    recorder = Recorder()

    def listen(event: Event) -> None:
        if isinstance(event, UtteranceFinished):
            if event.error is None:
                recorder.took(event.latency)
            else:
                recorder.failed(time.perf_counter() - event.latency, event.error)

    with CosyClient(order.url, format=order.audio, listeners=[listen]) as client:
        client.batch_synth(warm_up)
        ready()
        since = time.perf_counter()
        try:
            audio = len(client.batch_synth(wanted))
        except PartialFailure as failure:
            audio = sum(outcome.speech is not None for outcome in failure.outcomes)
        until, cpu = time.perf_counter(), usage.cpu
        over()
    figures = summary(recorder.between(since, until), until - since)
    # What the caller holds is what counts; the listener only knows when it came.
    if (figures["asked"], figures["finished"]) != (len(wanted), audio):
        raise RuntimeError(f"the listener heard of {figures['finished']} speeches, the caller holds {audio}")
    return {**figures, "cpu": cpu, "callers": 1}


async def _job_of_field_report(
    order: Order,
    concurrency: int,
    wanted: Sequence[str],
    warm_up: Sequence[str],
    usage: Usage,
    ready: Callable[[], object],
    over: Callable[[], object],
) -> dict[str, Any]:
    from benchmarks.peers.field_report import FieldReportClient, cut

    recorder = Recorder()

    class Watched(FieldReportClient):
        async def send(self, texts: Sequence[str]) -> list[bytes]:
            started = time.perf_counter()
            try:
                audio = await super().send(texts)
            except Exception as error:
                recorder.failed(started, error, len(texts))
                raise
            recorder.succeeded(started, len(audio))
            return audio

    async with Watched(order.url, format=order.audio, concurrency=concurrency) as client:
        await client.batch_synth(warm_up)
        ready()
        since = time.perf_counter()
        # Kinder than its batch_synth, which loses every finished batch when one fails: here they all count.
        batches = await asyncio.gather(*map(client.synth, cut(wanted, client.BATCH)), return_exceptions=True)
        until, cpu = time.perf_counter(), usage.cpu
        over()
    figures = summary(recorder.between(since, until), until - since)
    audio = sum(len(batch) for batch in batches if not isinstance(batch, BaseException))
    if (figures["asked"], figures["finished"]) != (len(wanted), audio):
        raise RuntimeError(f"{figures['finished']} speeches were noted, the caller holds {audio}")
    return {**figures, "cpu": cpu, "callers": 1}
