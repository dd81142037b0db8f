"""Put load on the clients of `report`, `quota` and `overhead`, and record how every text ends.

Three kinds of load: threads that call one text after the other, one caller with many texts, and calls at a fixed rate.
`Window` and `calling` serve other benchmarks, too.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.measure import Recorder, Usage, summary
from benchmarks.harness.prepared import BATCH
from benchmarks.harness.texts import DIFFERENT, text, texts
from benchmarks.peers import PEERS
from benchmarks.peers.bare_loop import BareLoop
from benchmarks.peers.before import BeforeClient
from benchmarks.peers.field_report import FieldReportClient, cut
from benchmarks.peers.raw_sockets import RawSockets
from cosyclient import CosyClient, PartialFailure
from cosyclient.events import UtteranceFinished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cosyclient.events import Event
    from cosyclient.models import Outcome

_LAST_REPLIES: Final = 60.0
"""Seconds that requests under way may take when the measured part is over."""


@dataclass(frozen=True, kw_only=True)
class LoadSpec:
    """Define which peer is called, where, how often and how long."""

    peer: str
    audio: str
    seconds: float
    """How long callers are measured."""
    warm_up: float
    """How long callers call before that, uncounted."""
    callers: int = 1
    """Threads that call; for ``submit``, the texts that may be under way."""
    url: str = ""
    texts: int = 0
    """Texts in a job."""
    pause: float = 0.0
    """Seconds between the warm-up of a job and the job, in which the service's token bucket fills up again."""
    load: str = ""
    """The kind of load, where it is not the peer's usual one."""
    rate: float = 0.0
    """Calls a second, where the load has a fixed rate."""
    paced: bool = True
    """Whether our client is to keep the documented quota."""
    confined: bool = True
    """Whether the client has one core to itself and the service the others, or both share all."""


class Window:
    """Hold the measured part of a run: when it began and ended, and the processor time it used."""

    def __init__(self, usage: Usage, mark: Callable[[], object]) -> None:
        self._usage = usage
        self._mark = mark
        self.since = self.until = self.cpu = 0.0

    def begin(self) -> None:
        """Begin; what came before is warm-up."""
        self._mark()
        self._usage.start_over()
        self.since = time.perf_counter()

    def end(self) -> None:
        """End; what comes later is not counted."""
        self.until, self.cpu = time.perf_counter(), self._usage.cpu
        self._mark()

    def wait(self, warm_up: float, seconds: float) -> None:
        """Wait for *warm_up* seconds, then measure for *seconds*, while others make the load."""
        time.sleep(warm_up)
        self.begin()
        time.sleep(seconds)
        self.end()

    def figures(self, recorder: Recorder) -> dict[str, Any]:
        """Return the figures of what ended between its beginning and its end."""
        endings = recorder.between(self.since, self.until)
        return {**summary(endings, self.until - self.since), "cpu": self.cpu}

    def __repr__(self) -> str:
        return f"<Window {self.until - self.since:.1f} s>"


@contextmanager
def calling(call: Callable[[Any], object], callers: int, recorder: Recorder, *, batch: int = 0) -> Iterator[None]:
    """Let *callers* threads make one *call* after the other until the block ends.

    Each has a text of its own, or a list of *batch* texts.
    """
    begin, over = threading.Event(), threading.Event()

    def caller(first: int) -> None:
        begin.wait()
        number = first
        while not over.is_set():
            started = time.perf_counter()
            try:
                call(list(texts(batch, number * batch % DIFFERENT)) if batch else text(number % DIFFERENT))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
                recorder.failed(started, error, batch or 1)
            else:
                recorder.succeeded(started, batch or 1)
            number += callers

    threads = [threading.Thread(target=caller, args=(first,), daemon=True) for first in range(callers)]
    for thread in threads:
        thread.start()
    # Not before all are there: beside a thousand that call, starting one more takes 10 ms.
    begin.set()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@contextmanager
def draining(sockets: RawSockets, recorder: Recorder, batch: int) -> Iterator[None]:
    """Let *sockets* get replies to requests for *batch* texts until the block ends."""
    over = threading.Event()
    noted = partial(recorder.succeeded, texts=batch)
    thread = threading.Thread(target=sockets.exchange, args=(noted, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def run_load(spec: LoadSpec, mark: Callable[[], object]) -> dict[str, Any]:
    """Run the load and return what the peer's user saw; *mark* is called as the measured part begins and ends."""
    loads = {
        "callers": _callers,
        "bare": _bare_loop,
        "job": _job,
        "many": _many,
        "submit": _submissions,
        "open": _open_load,
        "stream": _stream,
        "drain": _drain,
    }
    with Usage() as usage:
        figures = loads[spec.load or PEERS[spec.peer].load](spec, Window(usage, mark))
    return {**figures, "threads": usage.threads}


def _ours(spec: LoadSpec) -> CosyClient:
    """Return our client as it comes, but for the quota where there is none."""
    return (
        CosyClient(spec.url, format=spec.audio)
        if spec.paced
        else CosyClient(spec.url, format=spec.audio, requests_per_second=None)
    )


def _callers(spec: LoadSpec, window: Window) -> dict[str, Any]:
    recorder = Recorder()
    client = BeforeClient(spec.url, format=spec.audio) if spec.peer == "a" else _ours(spec)
    with client, calling(client.synthesize, spec.callers, recorder):
        window.wait(spec.warm_up, spec.seconds)
    return {**window.figures(recorder), "callers": spec.callers}


def _bare_loop(spec: LoadSpec, window: Window) -> dict[str, Any]:
    recorder = Recorder()
    with (
        BareLoop(spec.url, format=spec.audio, connections=spec.callers) as client,
        calling(client.synthesize, spec.callers, recorder, batch=BATCH),
    ):
        window.wait(spec.warm_up, spec.seconds)
    return {**window.figures(recorder), "callers": spec.callers}


def _drain(spec: LoadSpec, window: Window) -> dict[str, Any]:
    recorder = Recorder()
    sockets = RawSockets(spec.url, format=spec.audio, connections=spec.callers, texts=list(texts(BATCH)))
    with draining(sockets, recorder, BATCH):
        window.wait(spec.warm_up, spec.seconds)
    return {**window.figures(recorder), "callers": 1}


# Jobs: one caller with a list of texts, preceded by one uncounted batch.


def _job(spec: LoadSpec, window: Window) -> dict[str, Any]:
    wanted = list(texts(spec.texts))
    warm_up = list(texts(BATCH, first=DIFFERENT - BATCH))
    recorder = Recorder()
    if spec.peer == "c":
        held = _job_of_ours(spec, wanted, warm_up, window, recorder)
    else:
        held = asyncio.run(_job_of_field_report(spec, wanted, warm_up, window, recorder))
    figures = window.figures(recorder)
    # What the caller holds is what counts; the recorder only knows when it came.
    if (figures["asked"], figures["finished"]) != (len(wanted), held):
        raise RuntimeError(f"{figures['finished']} speeches were recorded, the caller holds {held}")
    return {**figures, "callers": 1}


def _job_of_ours(
    spec: LoadSpec, wanted: Sequence[str], warm_up: Sequence[str], window: Window, recorder: Recorder
) -> int:
    def listen(event: Event) -> None:
        if isinstance(event, UtteranceFinished):
            if event.error is None:
                recorder.took(event.latency)
            else:
                recorder.failed(time.perf_counter() - event.latency, event.error)

    with CosyClient(spec.url, format=spec.audio, listeners=[listen]) as client:
        client.batch_synth(warm_up)
        time.sleep(spec.pause)
        window.begin()
        try:
            held = len(client.batch_synth(wanted))
        except PartialFailure as failure:
            held = sum(outcome.speech is not None for outcome in failure.outcomes)
        window.end()
    return held


async def _job_of_field_report(
    spec: LoadSpec, wanted: Sequence[str], warm_up: Sequence[str], window: Window, recorder: Recorder
) -> int:
    class Recorded(FieldReportClient):
        async def send(self, texts: Sequence[str]) -> list[bytes]:
            started = time.perf_counter()
            try:
                audio = await super().send(texts)
            except Exception as error:
                recorder.failed(started, error, len(texts))
                raise
            recorder.succeeded(started, len(audio))
            return audio

    async with Recorded(spec.url, format=spec.audio) as client:
        await client.batch_synth(warm_up)
        time.sleep(spec.pause)  # nothing else runs on this loop
        window.begin()
        # In its favour: its batch_synth loses every finished batch when one fails, here they all count.
        batches = await asyncio.gather(*map(client.synth, cut(wanted, client.BATCH)), return_exceptions=True)
        window.end()
    return sum(len(batch) for batch in batches if not isinstance(batch, BaseException))


# Loads that go on for a span of time.


def _many(spec: LoadSpec, window: Window) -> dict[str, Any]:
    """Let one caller read outcome after outcome of an endless list; a text's latency counts from when it was taken."""
    recorder, over = Recorder(), threading.Event()
    taken: deque[float] = deque()

    def wanted() -> Iterator[str]:
        for number in count():
            if over.is_set():
                return
            taken.append(time.perf_counter())
            yield text(number % DIFFERENT)

    def caller() -> None:
        for outcome in client.synthesize_many(wanted()):
            _record(recorder, taken.popleft(), outcome)

    with _ours(spec) as client:
        thread = threading.Thread(target=caller, daemon=True)
        thread.start()
        window.wait(spec.warm_up, spec.seconds)
        over.set()
        thread.join()
    return {**window.figures(recorder), "callers": 1}


def _submissions(spec: LoadSpec, window: Window) -> dict[str, Any]:
    """Let one caller submit text after text, at most ``callers`` of them without a reply."""
    recorder, over = Recorder(), threading.Event()
    limit = _OutstandingLimit(spec.callers)

    with _ours(spec) as client:

        def caller() -> None:
            for number in count():
                if not number % limit.size:
                    limit.acquire()
                    if over.is_set():
                        break
                client.submit(text(number % DIFFERENT), on_done=_recording(recorder, limit))

        thread = threading.Thread(target=caller, daemon=True)
        thread.start()
        window.wait(spec.warm_up, spec.seconds)
        over.set()
        # The texts under way are answered, and that lets the caller see that it is over.
        thread.join()
    return {**window.figures(recorder), "callers": 1}


class _OutstandingLimit:
    """Limit the texts one caller has under way; it is woken for *size* replies at once, not for each."""

    def __init__(self, most: int) -> None:
        self.size = min(BATCH, most)
        self._permits = threading.Semaphore(most // self.size)
        self._replies = count(1)

    def acquire(self) -> None:
        """Wait until *size* more texts may be submitted."""
        self._permits.acquire()

    def note_reply(self) -> None:
        """Count a reply."""
        # One step, so it needs no lock: every number is drawn once.
        if not next(self._replies) % self.size:
            self._permits.release()


def _recording(recorder: Recorder, limit: _OutstandingLimit) -> Callable[[Outcome], None]:
    started = time.perf_counter()

    def done(outcome: Outcome) -> None:
        _record(recorder, started, outcome)
        limit.note_reply()

    return done


def _record(recorder: Recorder, started: float, outcome: Outcome) -> None:
    if outcome.error is None:
        recorder.succeeded(started)
    else:
        recorder.failed(started, outcome.error)


def _open_load(spec: LoadSpec, window: Window) -> dict[str, Any]:
    """Let threads call at ``rate`` calls a second, whether the service keeps up or not.

    Each thread has a schedule. A call's latency counts from when it was due, so that a caller held up by one call
    does not hide what the next one waited.
    """
    recorder, over = Recorder(), threading.Event()
    period = spec.callers / spec.rate

    with _ours(spec) as client:
        begin = time.perf_counter() + 1.0

        def caller(first: int) -> None:
            for turn in count():
                due = begin + first / spec.rate + turn * period
                # Not a wait for `over`: with its condition it would cost as much as the call that is measured.
                time.sleep(max(0.0, due - time.perf_counter()))
                if over.is_set():
                    return
                try:
                    client.synthesize(text((first + turn * spec.callers) % DIFFERENT))
                except Exception as error:  # noqa: BLE001 - whatever it is, this text did not become audio
                    recorder.failed(due, error)
                else:
                    recorder.succeeded(due)

        threads = [threading.Thread(target=caller, args=(first,), daemon=True) for first in range(spec.callers)]
        for thread in threads:
            thread.start()
        window.wait(spec.warm_up, spec.seconds)
        over.set()
        for thread in threads:
            thread.join()
    return {**window.figures(recorder), "callers": spec.callers}


def _stream(spec: LoadSpec, window: Window) -> dict[str, Any]:
    """Keep the field report's client at its concurrency with one batch after the other, and drop the audio."""
    recorder = Recorder()
    asyncio.run(_send_batches(spec, window, recorder))
    return {**window.figures(recorder), "callers": 1}


async def _send_batches(spec: LoadSpec, window: Window, recorder: Recorder) -> None:
    numbers, over = count(), threading.Event()

    async def sender(client: FieldReportClient) -> None:
        while not over.is_set():
            batch = [text(next(numbers) % DIFFERENT) for _ in range(client.BATCH)]
            started = time.perf_counter()
            try:
                audio = await client.synth(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, these texts did not become audio
                recorder.failed(started, error, len(batch))
            else:
                recorder.succeeded(started, len(audio))

    async with FieldReportClient(spec.url, format=spec.audio) as client:
        senders = [asyncio.create_task(sender(client)) for _ in range(client.CONCURRENCY)]
        await asyncio.to_thread(window.wait, spec.warm_up, spec.seconds)
        over.set()
        await asyncio.wait(senders, timeout=_LAST_REPLIES)
