"""The client under threads: what runs together, what is conserved, what wakes. Events instead of sleeps."""

from __future__ import annotations

import contextlib
import gc
import pickle
import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Literal

import httpx
import pytest

from cosyclient import (
    AdaptiveConfig,
    BreakerConfig,
    CircuitOpen,
    ClientClosed,
    ClientConfig,
    ConfigurationError,
    CosyClient,
    CosyError,
    DeadlineExceeded,
    Outcome,
    PacingConfig,
    QueueConfig,
    QueueFull,
    RetryConfig,
    ServiceFault,
    Speech,
    TimeoutConfig,
)
from cosyclient.emulator import echo_text, running
from cosyclient.pipeline.queue import pending
from cosyclient.pipeline.queue.pending import Waiter
from tests.support.httpx_service import FAST, PATIENCE, HeldService, client, spoken, texts_of
from tests.support.service import audio_of, text_in
from tests.support.waiting import eventually


def test_fifty_calls_are_in_flight_together() -> None:
    """The breaker does not serialize them."""
    together = threading.Barrier(50, timeout=PATIENCE)

    def handler(request: httpx.Request) -> httpx.Response:
        together.wait()
        return spoken(request)

    config = ClientConfig(adaptive=AdaptiveConfig(enabled=False))
    with client(handler, max_batch=1, concurrency=50, config=config) as cosy, ThreadPoolExecutor(50) as threads:
        speeches = list(threads.map(lambda n: cosy.synthesize(f"text {n}"), range(50)))
        assert [text_in(speech) for speech in speeches] == [f"text {n}" for n in range(50)]


def test_three_thousand_waiting_calls_are_sent_64_to_a_request() -> None:
    """While the only worker is busy 3,000 texts are queued; every request but the first and the last is full."""
    all_queued = threading.Event()
    sizes: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        assert all_queued.wait(PATIENCE)
        sizes.append(len(texts_of(request)))
        return spoken(request)

    config = ClientConfig(queue=QueueConfig(max_pending=4000), pacing=PacingConfig(burst=100))
    with client(handler, concurrency=1, config=config, timeout=PATIENCE) as cosy:
        futures = [cosy.submit(f"text {n}") for n in range(3000)]
        all_queued.set()
        assert [text_in(future.result(PATIENCE)) for future in futures] == [f"text {n}" for n in range(3000)]
    assert sum(sizes) == 3000
    assert all(size == 64 for size in sizes[1:-1])
    assert len(sizes) <= 1 + 3000 // 64 + 1


def test_a_hundred_equal_calls_send_one_text() -> None:
    """Calls that come while it is pending share it, and it is billed once."""
    queued = threading.Event()
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        assert queued.wait(PATIENCE)
        asked.extend(texts_of(request))
        return spoken(request)

    with client(handler) as cosy:
        futures = [cosy.submit("same") for _ in range(100)]
        queued.set()
        assert {text_in(future.result(PATIENCE)) for future in futures} == {"same"}
    assert asked == ["same"]


def test_a_text_goes_on_when_its_first_caller_gives_up() -> None:
    """The first caller's deadline passes; the one that joined later takes over and gets the speech."""
    given_up = threading.Event()
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.extend(texts_of(request))
        assert given_up.wait(PATIENCE)
        return spoken(request)

    with client(handler) as cosy:
        # Time enough for a busy machine to send it: a text whose deadline passes before is never sent.
        leader = cosy.submit("same", timeout=1.0)
        eventually(lambda: asked, "it is sent; a caller that joins before would keep its first deadline")
        follower = cosy.submit("same", timeout=PATIENCE)
        assert isinstance(leader.exception(PATIENCE), DeadlineExceeded)
        given_up.set()
        assert text_in(follower.result(PATIENCE)) == "same"
    assert asked == ["same", "same"]


def test_a_cancelled_text_is_not_sent() -> None:
    """It is cancelled while it is queued: its queue permit is free at once."""
    service = HeldService()

    with client(service, concurrency=1) as cosy:
        first = cosy.submit("first")
        assert service.busy.wait(PATIENCE)
        second = cosy.submit("second")
        assert second.cancel()
        assert cosy.stats().pending == 1
        service.free.set()
        first.result(PATIENCE)
        cosy.close()
    assert service.requests == [["first"]]


def test_an_attempt_without_waiting_callers_is_cancelled() -> None:
    """The service hangs and the caller gives up: the only worker is free again, and no failure is counted."""
    with (
        running(engine="echo") as emulator,
        CosyClient(emulator.url, concurrency=1, timeout=PATIENCE, max_retries=0) as cosy,
    ):
        emulator.inject("hang")
        future = cosy.submit("never answered")
        while not emulator.counters().in_flight:
            assert not future.done()
        assert future.cancel()
        assert echo_text(cosy.synthesize("next").audio) == "next"
        stats = cosy.stats()
        assert (stats.executions, stats.utterances, stats.retries) == (2, 1, 0)


def test_a_service_that_hangs_opens_the_breaker() -> None:
    """Callers whose deadline passes abort the attempt themselves, and it counts as a failure."""
    config = ClientConfig(
        timeouts=TimeoutConfig(first_byte=0.05, allowance=100.0),
        pacing=PacingConfig(burst=100),
        adaptive=AdaptiveConfig(enabled=False),
        # Attempts in flight together count as one failure, so after the first, calls are made one by one.
        breaker=BreakerConfig(minimum_failures=3),
    )
    with (
        running(engine="tone") as emulator,
        CosyClient(emulator.url, concurrency=20, max_batch=1, timeout=0.5, config=config) as cosy,
        ThreadPoolExecutor(20) as threads,
    ):
        emulator.inject("hang", count=1000)
        errors = list(threads.map(lambda n: _error_of(cosy, f"text {n}"), range(20)))
        assert {type(error) for error in errors} <= {DeadlineExceeded, CircuitOpen}
        # Workers report a moment after their callers return.
        while not isinstance(_error_of(cosy, "one more"), CircuitOpen):
            pass


def _error_of(cosy: CosyClient, text: str) -> CosyError:
    with pytest.raises(CosyError) as caught:
        cosy.synthesize(text)
    return caught.value


def test_a_passed_deadline_carries_the_attempts_before() -> None:
    """One failed, the next hangs: the caller sees both the deadline and what came before it."""
    with running(engine="tone") as emulator, CosyClient(emulator.url, timeout=1.5) as cosy:
        cosy.synthesize("warm", timeout=PATIENCE)  # connects, and has threads start, outside the 1.5 s
        emulator.inject("error", status=500)
        emulator.inject("hang")
        error = _error_of(cosy, "hello")
        assert isinstance(error, DeadlineExceeded)
        before, *ended = [type(attempt.error) for attempt in error.attempts]
        assert before is ServiceFault
        if ended:
            # The worker noted what the deadline ended before the caller woke; the cause is then that attempt's.
            assert ended == [DeadlineExceeded]
        else:
            assert isinstance(error.__cause__, ServiceFault)


def test_nothing_is_lost_in_ten_thousand_calls_with_random_faults() -> None:
    """Every call ends, with no other text's audio; permits, connection slots, workers and futures are all released."""
    dice = random.Random(20261122)
    lock = threading.Lock()

    def handler(request: httpx.Request) -> httpx.Response:
        with lock:
            roll = dice.random()
        if roll < 0.05:
            return httpx.Response(503, headers={"retry-after": "0"})
        if roll < 0.10:
            raise httpx.ReadError("reset")
        if roll < 0.13:
            raise httpx.ReadTimeout("slow")
        if roll < 0.16:
            return httpx.Response(200, content=b"\x8f garbage", headers={"content-type": "application/json"})
        if roll < 0.18:
            return httpx.Response(429, headers={"retry-after": "0.001"})
        if roll < 0.20:
            return spoken(request, keep=lambda made: made["index"] != 0)
        if roll < 0.22:
            return httpx.Response(400)
        return spoken(request)

    config = ClientConfig(
        retry=RetryConfig(initial=0.0005, cap=0.001),
        breaker=BreakerConfig(open_for=0.01, window=1.0, minimum_failures=10),
        pacing=PacingConfig(burst=1000),
        queue=QueueConfig(max_pending=300),
    )
    right: list[int] = []
    failed: list[int | type[CosyError]] = []

    def caller(number: int) -> None:
        try:
            speech = cosy.synthesize(f"text {number % 5000}", timeout=PATIENCE)
            (right if text_in(speech) == f"text {number % 5000}" else failed).append(number)
        except CosyError as error:
            failed.append(type(error))

    with client(handler, max_batch=8, concurrency=16, config=config) as cosy, ThreadPoolExecutor(64) as threads:
        list(threads.map(caller, range(10_000)))
        cosy.close()
        stats = cosy.stats()
    assert len(right) + len(failed) == 10_000
    assert not [each for each in failed if isinstance(each, int)], "a body reached the wrong caller"
    assert len(right) > 5_000
    assert (stats.pending, stats.queued, stats.in_flight, stats.workers) == (0, 0, 0, 0)
    assert stats.calls == 10_000


def test_audio_is_freed_with_its_last_reference() -> None:
    """Nothing that held a speech is part of a cycle, so no memory waits for the garbage collector."""
    with running(engine="tone") as emulator, CosyClient(emulator.url, config=FAST) as cosy:
        gc.collect()
        # Objects of earlier tests, held by their reports, are not counted.
        before = {id(each) for each in _held()}
        gc.disable()
        try:
            cosy.batch_synth([f"text {n}" for n in range(200)])
            list(cosy.synthesize_many([f"more {n}" for n in range(100)], ordered=False))
            cosy.synthesize("one")
            cosy.submit("another").result(PATIENCE)
            cosy.close()
            left = [each for each in _held() if id(each) not in before]
        finally:
            gc.enable()
    assert left == []


def _held() -> list[object]:
    return [each for each in gc.get_objects() if isinstance(each, (Speech, Waiter, httpx.Response))]


def test_no_thread_is_left_after_close() -> None:
    """Workers and timer have ended when `close` returns; making a client starts none."""
    before = set(threading.enumerate())
    with client(spoken) as cosy:
        assert set(threading.enumerate()) == before
        wait([cosy.submit(f"text {n}") for n in range(500)], PATIENCE)
    assert set(threading.enumerate()) <= before


def test_all_callers_wake_when_the_client_closes() -> None:
    """Callers in flight, queued, or waiting for a queue permit: each gets `ClientClosed`."""
    inside, over = threading.Event(), threading.Event()

    class Hanging(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            inside.set()
            assert over.wait(PATIENCE)
            raise httpx.ReadError("closed")

        def close(self) -> None:
            over.set()

    config = ClientConfig(queue=QueueConfig(max_pending=20))
    cosy = CosyClient(
        "http://mock.test", transport=Hanging(), concurrency=2, max_batch=4, config=config, timeout=PATIENCE
    )
    with ThreadPoolExecutor(40) as threads:
        calls = [threads.submit(cosy.synthesize, f"text {n}") for n in range(40)]
        assert inside.wait(PATIENCE)
        while cosy.stats().pending < 20:
            assert not over.wait(0.001)
        cosy.close(drain=False)
        errors = [call.exception(PATIENCE) for call in calls]
    assert {type(error) for error in errors} == {ClientClosed}
    assert cosy.stats().pending == 0


def test_close_finishes_pending_texts() -> None:
    """With drain, the default, every text accepted before is spoken."""
    service = HeldService()

    config = ClientConfig(queue=QueueConfig(max_pending=20))
    with client(service, concurrency=1, max_batch=2, config=config) as cosy:
        futures = [cosy.submit(f"text {n}") for n in range(9)]
        assert service.busy.wait(PATIENCE)
        closing = threading.Thread(target=cosy.close)
        closing.start()
        while True:
            try:
                cosy.submit("late").cancel()
            except ClientClosed:
                break
        service.free.set()
        closing.join(PATIENCE)
        assert all(text_in(future.result(0)) == f"text {n}" for n, future in enumerate(futures))


def test_with_caller_runs_the_caller_of_a_full_queue_sends() -> None:
    """It sends a batch on its own thread instead of waiting."""
    busy, free = threading.Event(), threading.Event()
    senders: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        senders.append(threading.current_thread().name)
        if texts_of(request) == ["first"]:
            busy.set()
            assert free.wait(PATIENCE)
        return spoken(request)

    config = ClientConfig(queue=QueueConfig(max_pending=2, overflow="caller_runs"), pacing=PacingConfig(burst=100))
    with client(handler, concurrency=1, max_connections=2, config=config) as cosy:
        first = cosy.submit("first")
        assert busy.wait(PATIENCE)
        others = [cosy.submit(f"text {n}") for n in range(6)]
        free.set()
        assert [text_in(future.result(PATIENCE)) for future in others] == [f"text {n}" for n in range(6)]
        assert text_in(first.result(PATIENCE)) == "first"
    assert senders.count(threading.current_thread().name) == 5


def test_with_reject_a_full_queue_raises_at_once() -> None:
    """The message names the setting to change."""
    service = HeldService()

    config = ClientConfig(queue=QueueConfig(max_pending=2, overflow="reject"))
    with client(service, concurrency=1, config=config) as cosy:
        first, second = cosy.submit("first"), cosy.submit("second")
        with pytest.raises(QueueFull, match="queue.max_pending"):
            cosy.submit("third")
        service.free.set()
        assert text_in(first.result(PATIENCE)) == "first"
        assert text_in(second.result(PATIENCE)) == "second"


@pytest.mark.parametrize("overflow", ["reject", "block"])
def test_equal_texts_of_a_list_share_a_permit_when_the_queue_is_full(overflow: Literal["reject", "block"]) -> None:
    """They are sent once, and none is refused for want of a permit that it does not need."""
    service = HeldService()
    service.free.set()

    texts = ["one", "two", "one", "two", "one"]
    config = ClientConfig(queue=QueueConfig(max_pending=2, overflow=overflow))
    with client(service, config=config) as cosy:
        outcomes = list(cosy.synthesize_many(texts, priority="interactive"))
        assert [outcome.speech and text_in(outcome.speech) for outcome in outcomes] == texts
        assert service.requests == [["one", "two"]]
        assert cosy.stats().pending == 0


def test_a_future_whose_lock_is_held_delays_no_other() -> None:
    """As a thread that was interrupted within `concurrent.futures.wait` leaves it; the others of a reply go first."""
    queued, held, let_go = threading.Event(), threading.Event(), threading.Event()
    futures: list[Future[Speech]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        assert held.wait(PATIENCE)
        return spoken(request)

    def hold() -> None:
        assert queued.wait(PATIENCE)
        with contextlib.ExitStack() as locks:
            for future in futures[:-1]:
                locks.enter_context(future._condition)
            held.set()
            let_go.wait(PATIENCE)

    holder = threading.Thread(target=hold)
    holder.start()
    config = ClientConfig(queue=QueueConfig(linger=0.2))
    with pytest.MonkeyPatch.context() as patched, client(handler, timeout=PATIENCE, config=config) as cosy:
        patched.setattr(pending, "_STUCK", PATIENCE)
        futures += [cosy.submit(f"text {n}") for n in range(30)]
        queued.set()
        assert text_in(futures[-1].result(PATIENCE / 2)) == "text 29"
        let_go.set()
        assert [text_in(future.result(PATIENCE)) for future in futures] == [f"text {n}" for n in range(30)]
    holder.join()


def test_bulk_texts_leave_queue_permits_free_and_are_sent_last() -> None:
    """A batch job that fills its share of the queue neither blocks an interactive call nor is sent before it."""
    service = HeldService()

    queue = QueueConfig(max_pending=8, bulk_share=0.75, overflow="reject")
    with client(service, concurrency=1, max_batch=4, config=ClientConfig(queue=queue)) as cosy:
        job = cosy.with_options(priority="bulk")
        waiting = [job.submit("bulk 0")]
        assert service.busy.wait(PATIENCE)
        waiting += [job.submit(f"bulk {n}") for n in range(1, 6)]
        with pytest.raises(QueueFull):
            job.submit("bulk 6")
        waiting += [cosy.submit("urgent 1"), job.submit("urgent 2", priority="interactive")]
        with pytest.raises(QueueFull):
            cosy.submit("urgent 3")
        service.free.set()
        for future in waiting:
            future.result(PATIENCE)
        assert service.requests == [
            ["bulk 0"],
            ["urgent 1", "urgent 2", "bulk 1", "bulk 2"],
            ["bulk 3", "bulk 4", "bulk 5"],
        ]
        assert cosy.synthesize("urgent 3").duration > 0


def test_an_interactive_caller_promotes_an_equal_bulk_text() -> None:
    """Equal texts are sent once: the bulk text gets the priority of the interactive call that joins it."""
    service = HeldService()

    config = ClientConfig(queue=QueueConfig(max_pending=20))
    with client(service, concurrency=1, max_batch=2, config=config) as cosy:
        futures = [cosy.submit("first", priority="bulk")]
        assert service.busy.wait(PATIENCE)
        futures += [cosy.submit(f"bulk {n}", priority="bulk") for n in range(3)]
        futures.append(cosy.submit("bulk 2"))
        service.free.set()
        for future in futures:
            future.result(PATIENCE)
    assert service.requests == [["first"], ["bulk 2", "bulk 0"], ["bulk 1"]]


@pytest.mark.parametrize("method", ["synthesize", "submit"])
def test_an_unknown_priority_is_refused_at_once(method: str) -> None:
    """The message names the two there are."""
    with client(spoken) as cosy, pytest.raises(ConfigurationError, match="'interactive' or 'bulk', got 'urgent'"):
        getattr(cosy, method)("hello", priority="urgent")


def test_futures_without_a_waiting_thread_resolve_at_their_deadline() -> None:
    """The service hangs: the timer resolves each future, callbacks run, and queue permits are released."""
    over = threading.Event()

    def handler(request: httpx.Request) -> httpx.Response:
        assert over.wait(PATIENCE)
        return spoken(request)

    errors: list[BaseException | None] = []
    done = threading.Event()
    with client(handler, concurrency=2) as cosy:
        futures = [
            cosy.submit(f"text {n}", lambda outcome: errors.append(outcome.error), timeout=0.05) for n in range(20)
        ]
        futures[-1].add_done_callback(lambda _: done.set())
        assert all(isinstance(future.exception(PATIENCE), DeadlineExceeded) for future in futures)
        assert done.wait(PATIENCE)
        assert len(errors) == 20
        assert cosy.stats().pending == 0
        over.set()


@pytest.mark.parametrize("ordered", [True, False])
def test_bulk_calls_share_a_client_without_mixing(ordered: bool) -> None:
    """Eight jobs at once, each gets its own texts in its own order."""

    def job(name: int) -> list[tuple[int, str]]:
        texts = (f"job {name} text {n}" for n in range(200))
        return [(outcome.index, text_in(outcome.unwrap())) for outcome in cosy.synthesize_many(texts, ordered=ordered)]

    config = ClientConfig(pacing=PacingConfig(burst=10_000))
    with client(spoken, config=config) as cosy, ThreadPoolExecutor(8) as threads:
        jobs = list(threads.map(job, range(8)))
    for name, outcomes in enumerate(jobs):
        if ordered:
            assert [index for index, _ in outcomes] == list(range(200))
        assert sorted(outcomes) == [(n, f"job {name} text {n}") for n in range(200)]


def test_a_callback_may_submit_but_not_block() -> None:
    """On a worker's own thread a blocking call could wait for itself; the error names the call to use instead."""
    refused: list[BaseException] = []
    chained: SimpleQueue[str] = SimpleQueue()

    def on_done(_: Outcome) -> None:
        for call in (lambda: cosy.synthesize("again"), lambda: cosy.batch_synth(["again"])):
            try:
                call()
            except ConfigurationError as error:
                refused.append(error)
        cosy.submit("chained", lambda outcome: chained.put(text_in(outcome.unwrap())))

    with client(spoken, concurrency=1) as cosy:
        cosy.submit("first", on_done)
        assert chained.get(timeout=PATIENCE) == "chained"
    assert len(refused) == 2
    assert "use submit" in str(refused[0])


def test_a_callback_on_the_timers_thread_may_not_block_either() -> None:
    """The text's deadline passed, so its callback runs on the timer's thread, which keeps all other deadlines."""
    over, refused = threading.Event(), SimpleQueue[BaseException]()

    def handler(request: httpx.Request) -> httpx.Response:
        assert over.wait(PATIENCE)
        return spoken(request)

    def on_done(_: Outcome) -> None:
        try:
            cosy.synthesize("again")
        except CosyError as error:
            refused.put(error)

    with client(handler) as cosy:
        cosy.submit("first", on_done, timeout=0.05)
        assert isinstance(refused.get(timeout=PATIENCE), ConfigurationError)
        over.set()


def test_a_callback_may_close_the_client_without_draining() -> None:
    """Draining would wait for the callback's own worker; the error names the call that is allowed."""
    closed, refused = threading.Event(), SimpleQueue[str]()

    def on_done(_: Outcome) -> None:
        try:
            cosy.close()
        except ConfigurationError as error:
            refused.put(str(error))
        cosy.close(drain=False)
        closed.set()

    with client(spoken, concurrency=1) as cosy:
        cosy.submit("first", on_done)
        assert closed.wait(PATIENCE)
        assert "close(drain=False)" in refused.get(timeout=PATIENCE)
        with pytest.raises(ClientClosed):
            cosy.submit("late")


def test_a_client_cannot_be_pickled() -> None:
    """The error names where to make one instead."""
    with client(spoken) as cosy, pytest.raises(TypeError, match="in each worker process"):
        pickle.dumps(cosy)


def test_a_callback_sees_its_callers_context() -> None:
    """Context variables of the submitting code are set in the callback."""
    from contextvars import ContextVar

    request_id: ContextVar[str] = ContextVar("request_id")
    request_id.set("r-1")
    seen: list[str] = []
    with client(spoken) as cosy:
        future = cosy.submit("hello", lambda _: seen.append(request_id.get("lost")))
        assert isinstance(future.result(PATIENCE), Speech)
        assert audio_of("hello") == future.result().audio
        cosy.close()
    assert seen == ["r-1"]
