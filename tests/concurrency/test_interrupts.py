"""Interrupts at any instruction: whatever is interrupted, nothing is held afterwards and the next call works.

`tests.support.interrupts` raises at every place where the interpreter would, one after the other; a timer of the system
and exceptions sent to threads do the same at random moments.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import random
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient import BreakerConfig, ClientConfig, CosyClient, CosyError, QueueConfig, RetryConfig
from cosyclient.testing import ScriptedReply, ScriptedTransport
from tests.support.hostile import answers, hostile
from tests.support.interrupts import Interrupter
from tests.support.service import answer, item, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from cosyclient import Speech
    from cosyclient.wire import WireReply, WireRequest

PATIENCE = 20.0
SAMPLES = bytes(range(256)) * 40
FAST: dict[str, Any] = {"requests_per_second": 1e6, "concurrency": 2}


def held(client: CosyClient) -> dict[str, int]:
    """Return what is held, by kind: all counts are 0 where nothing is pending."""
    pipeline, stats = client._shared.pipeline(), client.stats()
    batcher, endpoint = pipeline._batcher, pipeline._endpoint
    limit = endpoint.concurrency._limit
    return {
        "queued": stats.queued,
        "pending": stats.pending,
        "in flight": stats.in_flight,
        "workers": stats.workers,
        "connections": stats.pool.in_use,
        "bulk permits": pipeline._flow._bulk.in_use,
        "inline": len(batcher._inline),
        "seeking": batcher._seeking,
        "batches waiting": batcher._batches_waiting,
        "pending texts": len(pipeline._coalescer.pending()),
        "calls the breaker waits for": endpoint.breaker._in_flight,
        "attempts the limit counts": limit._throughput.in_flight if limit is not None else 0,
    }


def held_at_rest(client: CosyClient) -> dict[str, int]:
    """Return what is still held after workers had time to end."""
    end = time.monotonic() + PATIENCE
    while any((left := held(client)).values()) and time.monotonic() < end:
        time.sleep(0.0005)
    return {name: count for name, count in left.items() if count}


def interrupt_everywhere(client: CosyClient, action: Callable[[int], object], good: Callable[[int], object]) -> int:
    """Interrupt *action* at each place in turn, check that nothing is held and a *good* call works; return how many."""
    at = past = 0
    # The number of places varies with what other threads do, so one run without an interrupt is not the end.
    while past < 3:
        interrupter = Interrupter(at)
        with contextlib.suppress(KeyboardInterrupt):
            interrupter.run(lambda: action(at))  # noqa: B023 - run at once
        assert not held_at_rest(client), interrupter.where
        good(at)
        past = 0 if interrupter.where else past + 1
        at += 1
    return at - past


def scripted(script: Callable[[WireRequest], WireReply | Exception] = answer, **options: Any) -> CosyClient:
    return CosyClient("http://x.test", transport=ScriptedTransport(script), **{**FAST, **options})


def synthesizing(client: CosyClient, text: str) -> Callable[[int], object]:
    return lambda at: client.synthesize(f"{text} {at}", timeout=PATIENCE)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("ordered", [True, False])
def test_an_interrupted_bulk_call_holds_nothing(ordered: bool) -> None:
    with scripted() as client:
        client.synthesize("warm")

        def action(at: int) -> None:
            texts = [f"text {at} {number}" for number in range(3)]
            list(client.synthesize_many(texts, ordered=ordered, timeout=PATIENCE))

        assert interrupt_everywhere(client, action, synthesizing(client, "good")) > 100


@pytest.mark.timeout(300)
def test_an_interrupted_call_over_a_socket_holds_nothing() -> None:
    body = json.dumps({"results": [item(0, "hello")]}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with hostile(answers(head + body)) as service, CosyClient(service.url, **FAST) as client:
        client.synthesize("warm")
        assert interrupt_everywhere(client, synthesizing(client, "text"), synthesizing(client, "good")) > 300


def test_an_interrupted_submit_holds_nothing() -> None:
    with scripted() as client:
        client.synthesize("warm")

        def action(at: int) -> None:
            client.submit(f"text {at}", timeout=PATIENCE).result()

        assert interrupt_everywhere(client, action, synthesizing(client, "good")) > 50


@pytest.mark.timeout(300)
def test_an_interrupted_call_with_retries_holds_nothing() -> None:
    """There is one permit: if it is lost, no later call works."""
    config = ClientConfig(retry=RetryConfig(initial=0.001, budget=10**9), breaker=BreakerConfig(minimum_failures=10**9))
    asked = 0

    def flaky(request: WireRequest) -> WireReply:
        nonlocal asked
        asked += 1
        return refuse(503, **{"Retry-After": "0.001"}) if asked % 2 else answer(request)

    with scripted(flaky, config=config, concurrency=1) as client:
        client.synthesize("warm")
        assert interrupt_everywhere(client, synthesizing(client, "text"), synthesizing(client, "good")) > 200


@pytest.mark.timeout(300)
def test_an_interrupted_stream_holds_nothing() -> None:
    def samples(_: WireRequest) -> WireReply:
        return ScriptedReply(200, {"Content-Type": "audio/pcm"}, [SAMPLES] * 3)

    with scripted(samples, protocol="openai:vllm-omni", model="m", voice="v", concurrency=1) as client:

        def read(at: int) -> None:
            with client.stream(f"text {at}", timeout=PATIENCE) as stream:
                assert list(stream)

        read(0)
        assert interrupt_everywhere(client, read, read) > 200


def test_a_stream_dropped_during_an_interrupt_holds_nothing() -> None:
    """Its finalizer may be interrupted too; what it does not hand over is lost."""

    def samples(_: WireRequest) -> WireReply:
        return ScriptedReply(200, {"Content-Type": "audio/pcm"}, [SAMPLES] * 3)

    with scripted(samples, protocol="openai:vllm-omni", model="m", voice="v", concurrency=1) as client:

        def drop(at: int) -> None:
            stream = client.stream(f"text {at}", timeout=PATIENCE)
            assert next(iter(stream))
            del stream

        drop(0)
        assert interrupt_everywhere(client, drop, drop) > 150


def test_an_interrupted_unary_call_holds_nothing() -> None:
    def voices(_: WireRequest) -> WireReply:
        return ScriptedReply(200, {"Content-Type": "application/json"}, [b'{"voices": ["a"]}'])

    with scripted(voices, protocol="openai:vllm-omni", concurrency=1) as client:
        client.voices()
        assert interrupt_everywhere(client, lambda _: client.voices(), lambda _: client.voices()) > 50


def test_an_interrupted_caller_that_sends_for_others_holds_nothing() -> None:
    """The queue is full and the caller sends a batch of others, which resolves although the caller is interrupted."""
    config = ClientConfig(queue=QueueConfig(max_pending=2, overflow="caller_runs"))
    with scripted(config=config, concurrency=1) as client:
        client.synthesize("warm")
        futures: list[Future[Speech]] = []

        def action(at: int) -> None:
            futures.extend(client.submit(f"text {at} {number}", timeout=PATIENCE) for number in range(4))

        def good(at: int) -> None:
            while futures:
                futures.pop().result(PATIENCE)
            client.synthesize(f"good {at}", timeout=PATIENCE)

        assert interrupt_everywhere(client, action, good) > 100


def test_other_callers_of_an_interrupted_text_get_the_speech() -> None:
    """Equal texts are sent once: only the caller whose thread sends it is interrupted."""
    shared: list[Future[Speech]] = []
    now: list[str] = []

    def joined(request: WireRequest) -> WireReply:
        if now:
            shared.append(client.submit(now.pop(), timeout=PATIENCE))
        return answer(request)

    with scripted(joined, concurrency=2) as client:
        client.synthesize("warm")

        def action(at: int) -> None:
            now[:] = [f"text {at}"]
            client.synthesize(f"text {at}", timeout=PATIENCE)

        def good(_: int) -> None:
            now.clear()
            while shared:
                shared.pop().result(PATIENCE)

        assert interrupt_everywhere(client, action, good) > 200


class Alarm(Exception):
    """Stand for what a signal's handler raises, as for Celery's soft time limit."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, Alarm])
def test_two_thousand_signals_leave_nothing_held(kind: type[BaseException]) -> None:
    """A timer of the system raises them at random moments."""
    dice = random.Random(20261128)
    raised = 0

    def handler(*_: object) -> None:
        raise kind

    old = signal.signal(signal.SIGALRM, handler)
    body = json.dumps({"results": [item(0, "hello")]}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    try:
        with hostile(answers(head + body)) as service, CosyClient(service.url, **FAST) as client:
            client.synthesize("warm")
            for number in range(2000):
                try:
                    signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-5, 1.2e-3))
                    client.synthesize(f"text {number}", timeout=PATIENCE)
                    signal.setitimer(signal.ITIMER_REAL, 0.0)
                except kind:
                    signal.setitimer(signal.ITIMER_REAL, 0.0)
                    raised += 1
            assert raised > 200
            assert not held_at_rest(client)
            client.synthesize("one more", timeout=PATIENCE)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, old)


@pytest.mark.timeout(300)
def test_exceptions_raised_in_eight_threads_leave_nothing_held() -> None:
    """Some timeout utilities raise them so: the client never blocks."""
    over = threading.Event()
    spoken = [0] * 8
    raised = [0] * 8

    def call(index: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            # The exception may come late, outside of the call.
            with contextlib.suppress(Alarm):
                try:
                    client.synthesize(f"text {index} {number}", timeout=PATIENCE)
                    spoken[index] += 1
                except (Alarm, CosyError):
                    raised[index] += 1

    def slow(request: WireRequest) -> WireReply:
        time.sleep(0.001)
        return answer(request)

    with scripted(slow, concurrency=4) as client:
        client.synthesize("warm")
        threads = [threading.Thread(target=call, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        dice = random.Random(1128)
        for _ in range(3000):
            thread = dice.choice(threads)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Alarm))
            time.sleep(0.0005)
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert min(spoken) > 0
        assert sum(raised) > 200
        assert not held_at_rest(client)
        client.synthesize("one more", timeout=PATIENCE)


def test_garbage_collection_under_a_lock_does_not_block() -> None:
    """A forgotten stream is released by the next call, not by the collector, which runs at any allocation."""

    def samples(_: WireRequest) -> WireReply:
        return ScriptedReply(200, {"Content-Type": "audio/pcm"}, [SAMPLES] * 3)

    with scripted(samples, protocol="openai:vllm-omni", model="m", voice="v", concurrency=1) as client:
        bulkhead = client._shared.pipeline()._endpoint.bulkhead

        def forget() -> None:
            stream = client.stream("forgotten", timeout=PATIENCE)
            vars(stream)["myself"] = stream  # only the collector finds it

        forget()
        with bulkhead._lock:
            gc.collect()
        assert bulkhead.in_use == 1
        with client.stream("next", timeout=PATIENCE) as stream:
            assert list(stream)
        assert not held_at_rest(client)


def test_an_error_at_the_end_of_an_attempt_leaks_no_permit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Impossible numbers in a reply once raised there."""
    with scripted(concurrency=1) as client:
        client.synthesize("warm")
        concurrency = client._shared.pipeline()._endpoint.concurrency
        finish = concurrency.finish

        def divides(*arguments: Any, **more: Any) -> None:
            monkeypatch.setattr(concurrency, "finish", finish)
            raise ZeroDivisionError

        for number in range(3):
            monkeypatch.setattr(concurrency, "finish", divides)
            with contextlib.suppress(CosyError):
                client.synthesize(f"text {number}", timeout=PATIENCE)
            assert not held_at_rest(client)
        client.synthesize("one more", timeout=PATIENCE)


@pytest.fixture(autouse=True)
def _finalizers_may_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Objects of earlier tests are not to be collected during these. An interrupt in a finalizer or a weak reference's
    # callback is printed by the interpreter and not raised.
    gc.collect()
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    yield
    gc.collect()
