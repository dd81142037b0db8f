"""Put load on a peer for a span of time: one caller that submits, calls at a fixed rate, batches without end."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.loads import measured
from benchmarks.harness.measure import Recorder, Usage, summary
from benchmarks.harness.texts import DIFFERENT, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness.loads import Order
    from cosyclient.models import Outcome

_LAST_ANSWERS: Final = 60.0
_ARMFUL: Final = 64
"""Texts that the submitting caller hands over in one go, as many as fit a request."""


def submissions(order: Order, usage: Usage, mark: Callable[[], object]) -> dict[str, Any]:
    """Let one caller submit text after text, at most ``callers`` of them without an answer."""
    from cosyclient import CosyClient

    recorder, over = Recorder(), threading.Event()
    room = _Room(order.callers)

    with CosyClient(order.url, format=order.audio) as client:

        def caller() -> None:
            for number in count():
                if not number % room.armful:
                    room.take()
                    if over.is_set():
                        break
                client.submit(text(number % DIFFERENT), on_done=_noting(recorder, room))

        thread = threading.Thread(target=caller, daemon=True)
        thread.start()
        since, until, cpu = measured(order, usage, mark)
        over.set()
        # The client's own texts come back, and with them an armful of room.
        thread.join()
    return {**summary(recorder.between(since, until), until - since), "cpu": cpu, "callers": 1}


class _Room:
    """Let one caller have so many texts without an answer, and wake him for an armful and not for each."""

    def __init__(self, most: int) -> None:
        self.armful = min(_ARMFUL, most)
        self._armfuls = threading.Semaphore(most // self.armful)
        self._answers = count(1)

    def take(self) -> None:
        """Wait until there is room for an armful."""
        self._armfuls.acquire()

    def give(self) -> None:
        """Note an answer."""
        # One step, so it needs no lock: every number is drawn once.
        if not next(self._answers) % self.armful:
            self._armfuls.release()


def _noting(recorder: Recorder, room: _Room) -> Callable[[Outcome], None]:
    started = time.perf_counter()

    def done(outcome: Outcome) -> None:
        if outcome.error is None:
            recorder.succeeded(started)
        else:
            recorder.failed(started, outcome.error)
        room.give()

    return done


def open_load(order: Order, usage: Usage, mark: Callable[[], object]) -> dict[str, Any]:
    """Let threads call at ``rate`` calls a second, whether the service keeps up or not.

    Each thread has a timetable. A call's latency counts from when it was due, so that a caller held up by the call
    before does not hide what the next one waited.
    """
    from cosyclient import CosyClient

    recorder, over = Recorder(), threading.Event()
    period = order.callers / order.rate

    with CosyClient(order.url, format=order.audio) as client:
        begin = time.perf_counter() + 1.0

        def caller(first: int) -> None:
            for turn in count():
                due = begin + first / order.rate + turn * period
                # Not a wait for the end: with its condition it would cost as much as the call that is measured.
                time.sleep(max(0.0, due - time.perf_counter()))
                if over.is_set():
                    return
                try:
                    client.synthesize(text((first + turn * order.callers) % DIFFERENT))
                except Exception as error:  # noqa: BLE001 - whatever it is, this text did not become audio
                    recorder.failed(due, error)
                else:
                    recorder.succeeded(due)

        threads = [threading.Thread(target=caller, args=(first,), daemon=True) for first in range(order.callers)]
        for thread in threads:
            thread.start()
        since, until, cpu = measured(order, usage, mark)
        over.set()
        for thread in threads:
            thread.join()
    return {**summary(recorder.between(since, until), until - since), "cpu": cpu, "callers": order.callers}


def stream(order: Order, usage: Usage, mark: Callable[[], object]) -> dict[str, Any]:
    """Keep the field report's asyncio client at its concurrency with batch after batch, and drop the audio."""
    return asyncio.run(_stream(order, 20 if order.peer == "b20" else 200, usage, mark))


async def _stream(order: Order, concurrency: int, usage: Usage, mark: Callable[[], object]) -> dict[str, Any]:
    from benchmarks.peers.field_report import FieldReportClient

    recorder, numbers, over = Recorder(), count(), threading.Event()

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

    async with FieldReportClient(order.url, format=order.audio, concurrency=concurrency) as client:
        senders = [asyncio.create_task(sender(client)) for _ in range(concurrency)]
        since, until, cpu = await asyncio.to_thread(measured, order, usage, mark)
        over.set()
        await asyncio.wait(senders, timeout=_LAST_ANSWERS)
    return {**summary(recorder.between(since, until), until - since), "cpu": cpu, "callers": 1}
