"""Put load on the clients of `report` and `quota`, and record how every text ends.

Three kinds of load: threads that call one text after the other, one caller with a job of many texts, and calls at a
fixed rate. `Window` and `calling` serve other benchmarks, too.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.measure import Recorder, Usage, summary
from benchmarks.harness.texts import DIFFERENT, text, texts
from benchmarks.peers import PEERS
from benchmarks.peers.before import BeforeClient
from benchmarks.peers.field_report import FieldReportClient, cut
from cosyclient import CosyClient, PartialFailure
from cosyclient.events import UtteranceFinished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cosyclient.events import Event
    from cosyclient.models import Outcome

_WARM_UP_TEXTS: Final = 64
_LAST_REPLIES: Final = 60.0
"""Seconds that requests under way may take when the measured part is over."""
_HANDED_OVER: Final = 64
"""Texts that the submitting caller hands over at once, as many as fit a request."""


@dataclass(frozen=True, kw_only=True)
class LoadSpec:
    """Define which peer is called, where, how often and how long."""

    peer: str
    url: str
    audio: str
    texts: int
    """Texts in a job."""
    callers: int
    """Threads that call; for ``submit``, the texts that may be under way."""
    seconds: float
    """How long callers are measured."""
    warm_up: float
    """How long callers call before that, uncounted."""
    pause: float
    """Seconds between the warm-up of a job and the job, in which the service's token bucket fills up again."""
    load: str = ""
    """The kind of load, where it is not the peer's usual one."""
    rate: float = 0.0
    """Calls a second, where the load has a fixed rate."""


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
def calling(call: Callable[[str], object], callers: int, recorder: Recorder) -> Iterator[None]:
    """Let *callers* threads make one *call* after the other, each with a text of its own, until the block ends."""
    over = threading.Event()

    def caller(first: int) -> None:
        number = first
        while not over.is_set():
            started = time.perf_counter()
            try:
                call(text(number % DIFFERENT))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
                recorder.failed(started, error)
            else:
                recorder.succeeded(started)
            number += callers

    threads = [threading.Thread(target=caller, args=(first,), daemon=True) for first in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def run_load(spec: LoadSpec, mark: Callable[[], object]) -> dict[str, Any]:
    """Run the load and return what the peer's user saw; *mark* is called as the measured part begins and ends."""
    loads = {"callers": _callers, "job": _job, "submit": _submissions, "open": _open_load, "stream": _stream}
    with Usage() as usage:
        figures = loads[spec.load or PEERS[spec.peer].load](spec, Window(usage, mark))
    return {**figures, "threads": usage.threads}


def _callers(spec: LoadSpec, window: Window) -> dict[str, Any]:
    recorder = Recorder()
    client: BeforeClient | CosyClient
    client = BeforeClient(spec.url, format=spec.audio) if spec.peer == "a" else CosyClient(spec.url, format=spec.audio)
    with client, calling(client.synthesize, spec.callers, recorder):
        window.wait(spec.warm_up, spec.seconds)
    return {**window.figures(recorder), "callers": spec.callers}


# Jobs: one caller with a list of texts, preceded by one uncounted batch.


def _job(spec: LoadSpec, window: Window) -> dict[str, Any]:
    wanted = list(texts(spec.texts))
    warm_up = list(texts(_WARM_UP_TEXTS, first=DIFFERENT - _WARM_UP_TEXTS))
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

    async with Recorded(spec.url, format=spec.audio, concurrency=_concurrency(spec)) as client:
        await client.batch_synth(warm_up)
        time.sleep(spec.pause)  # nothing else runs on this loop
        window.begin()
        # In its favour: its batch_synth loses every finished batch when one fails, here they all count.
        batches = await asyncio.gather(*map(client.synth, cut(wanted, client.BATCH)), return_exceptions=True)
        window.end()
    return sum(len(batch) for batch in batches if not isinstance(batch, BaseException))


def _concurrency(spec: LoadSpec) -> int:
    return 20 if spec.peer == "b20" else 200


# Loads that go on for a span of time.


def _submissions(spec: LoadSpec, window: Window) -> dict[str, Any]:
    """Let one caller submit text after text, at most ``callers`` of them without a reply."""
    recorder, over = Recorder(), threading.Event()
    limit = _OutstandingLimit(spec.callers)

    with CosyClient(spec.url, format=spec.audio) as client:

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
        self.size = min(_HANDED_OVER, most)
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
        if outcome.error is None:
            recorder.succeeded(started)
        else:
            recorder.failed(started, outcome.error)
        limit.note_reply()

    return done


def _open_load(spec: LoadSpec, window: Window) -> dict[str, Any]:
    """Let threads call at ``rate`` calls a second, whether the service keeps up or not.

    Each thread has a schedule. A call's latency counts from when it was due, so that a caller held up by one call
    does not hide what the next one waited.
    """
    recorder, over = Recorder(), threading.Event()
    period = spec.callers / spec.rate

    with CosyClient(spec.url, format=spec.audio) as client:
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

    concurrency = _concurrency(spec)
    async with FieldReportClient(spec.url, format=spec.audio, concurrency=concurrency) as client:
        senders = [asyncio.create_task(sender(client)) for _ in range(concurrency)]
        await asyncio.to_thread(window.wait, spec.warm_up, spec.seconds)
        over.set()
        await asyncio.wait(senders, timeout=_LAST_REPLIES)
