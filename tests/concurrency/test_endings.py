"""Every call ends, whatever other calls, callbacks, iterators of texts and Ctrl-C do meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import TYPE_CHECKING

import httpx
import pytest

from cosyclient import (
    ClientClosed,
    ClientConfig,
    ConfigurationError,
    CosyClient,
    CosyError,
    PacingConfig,
    QueueConfig,
    QueueFull,
)
from cosyclient.pipeline.calls import workers
from cosyclient.util import timers
from tests.support.httpx_service import PATIENCE, HeldService, client, spoken
from tests.support.service import text_in
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from cosyclient import Outcome, Speech
    from cosyclient.events import Event

    Handler = Callable[[httpx.Request], httpx.Response]


def idle(cosy: CosyClient) -> bool:
    """Return whether nothing is pending and nothing held."""
    stats = cosy.stats()
    return not (stats.pending or stats.queued or stats.in_flight or stats.pool.in_use)


def config(**queue: object) -> ClientConfig:
    """Return a config without pacing."""
    return ClientConfig(pacing=PacingConfig(burst=100_000), queue=QueueConfig(**queue))  # type: ignore[arg-type]


# Callbacks


@pytest.mark.parametrize("fault", [ValueError, SystemExit, GeneratorExit])
def test_a_callback_that_raises_affects_no_other_text(fault: type[BaseException]) -> None:
    """Its batch has 64 texts, and each callback raises: all 64 futures hold their own speech, and the client works."""
    service = HeldService()

    def raises(_: Outcome) -> None:
        raise fault("raised by the callback")

    with client(service, concurrency=1, config=config(max_pending=150)) as cosy:
        futures = [cosy.submit(f"text {n}", raises) for n in range(150)]
        assert service.busy.wait(PATIENCE)
        service.free.set()
        assert [text_in(future.result(PATIENCE)) for future in futures] == [f"text {n}" for n in range(150)]
        assert text_in(cosy.synthesize("one more")) == "one more"
        eventually(lambda: idle(cosy), "everything is released")
    assert cosy.stats().utterances == 151


def test_a_callback_that_raises_at_the_deadline_stops_no_timer() -> None:
    """The timer's thread continues, so the next text's deadline is kept."""
    service = HeldService()

    def raises(_: Outcome) -> None:
        raise SystemExit

    with client(service) as cosy:
        for n in range(5):
            first = cosy.submit(f"text {n}", raises, timeout=0.02)
            assert isinstance(first.exception(PATIENCE), CosyError)
        service.free.set()
        eventually(lambda: idle(cosy), "everything is released")


# Ctrl-C in the main thread, which is where tests run


def test_an_interrupt_in_a_callback_leaves_no_caller_waiting() -> None:
    """It is raised in the thread of a caller that sends a text which others have joined: their futures resolve."""
    joined: list[Future[Speech]] = []

    def interrupt(_: Outcome) -> None:
        raise KeyboardInterrupt

    def handler(request: httpx.Request) -> httpx.Response:
        if not joined:
            joined.extend(cosy.submit("hello", callback) for callback in (None, interrupt, None))
        return spoken(request)

    with client(handler) as cosy:
        with pytest.raises(KeyboardInterrupt):
            cosy.synthesize("hello")
        assert [text_in(future.result(PATIENCE)) for future in joined] == ["hello"] * 3
        eventually(lambda: idle(cosy), "everything is released")


def interrupted(call: Callable[[], object], when: Callable[[], object]) -> None:
    """Make *call* and press Ctrl-C as soon as *when* holds."""

    def press() -> None:
        eventually(when, "the call is blocked")
        os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=press)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the interrupt may arrive a moment after the call
        pressing.start()
        call()
    pressing.join(PATIENCE)


def test_ctrl_c_ends_one_call_only() -> None:
    """Eight threads wait beside the main thread; only its call ends, and its queue permit is released."""
    service = HeldService()
    with client(service, concurrency=1) as cosy, ThreadPoolExecutor(8) as threads:
        others = [threads.submit(cosy.synthesize, f"text {n}") for n in range(8)]
        eventually(lambda: cosy.stats().pending == 8, "all eight are accepted")
        interrupted(lambda: cosy.synthesize("mine"), lambda: cosy.stats().pending == 9)
        assert cosy.stats().pending == 8
        service.free.set()
        assert [text_in(other.result(PATIENCE)) for other in others] == [f"text {n}" for n in range(8)]
        eventually(lambda: idle(cosy), "everything is released")


@pytest.mark.parametrize("ordered", [True, False])
def test_ctrl_c_in_a_bulk_call_cancels_what_is_not_sent(ordered: bool) -> None:
    """Its queue permits are free at once for later calls."""
    service = HeldService()
    with client(service, concurrency=1, max_batch=4) as cosy:
        texts = (f"text {n}" for n in range(1000))
        interrupted(lambda: list(cosy.synthesize_many(texts, ordered=ordered)), service.busy.is_set)
        assert cosy.stats().queued == 0
        service.free.set()
        eventually(lambda: idle(cosy), "everything is released")
        assert text_in(cosy.synthesize("one more")) == "one more"


@pytest.mark.parametrize("way", ["submit", "synthesize"])
def test_ctrl_c_while_waiting_for_a_permit_acquires_none(way: str) -> None:
    """The queue is full; a caller that is interrupted before its text is accepted holds nothing."""
    service = HeldService()
    with client(service, concurrency=1, config=config(max_pending=2)) as cosy:
        first = [cosy.submit("first"), cosy.submit("second")]
        waits = threading.Event()
        call = cosy.submit if way == "submit" else cosy.synthesize

        def third() -> None:
            waits.set()
            call("third")

        for _ in range(3):
            waits.clear()
            interrupted(third, waits.is_set)
            assert cosy.stats().pending == 2
        service.free.set()
        assert [text_in(future.result(PATIENCE)) for future in first] == ["first", "second"]
        eventually(lambda: idle(cosy), "everything is released")
        assert text_in(cosy.synthesize("third")) == "third"


def test_ctrl_c_during_close_wakes_all_callers() -> None:
    """An interrupted drain becomes a close without draining."""
    service = HeldService()
    with client(service, concurrency=1) as cosy, ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(cosy.synthesize, f"text {n}") for n in range(4)]
        eventually(lambda: cosy.stats().pending == 4, "all are accepted")
        closes = threading.Event()

        def close() -> None:
            closes.set()
            cosy.close()

        def pressed() -> bool:
            if closes.is_set():
                # Closing waits for the worker; it may go once the callers are awake.
                threading.Timer(0.2, service.free.set).start()
            return closes.is_set()

        interrupted(close, pressed)
        ends = [call.exception(PATIENCE) for call in calls]
        assert all(end is None or isinstance(end, ClientClosed) for end in ends)


# Closing while thousands wait


@pytest.mark.parametrize("drain", [True, False])
def test_closing_while_thousands_wait_wakes_all(drain: bool) -> None:
    """Futures, blocked threads and callers without a permit: each gets its own result."""
    before = set(threading.enumerate())
    service = HeldService()
    with client(service, concurrency=2, config=config(max_pending=3000), timeout=PATIENCE) as cosy:
        futures = [cosy.submit(f"text {n}") for n in range(2900)]
        with ThreadPoolExecutor(200) as threads:
            calls = [threads.submit(cosy.synthesize, f"call {n}") for n in range(200)]
            eventually(lambda: cosy.stats().pending == 3000, "the queue is full")
            closing = threading.Thread(target=cosy.close, kwargs={"drain": drain})
            closing.start()
            # Callers that wait for a queue permit are refused by both ways of closing.
            eventually(lambda: sum(call.done() for call in calls) >= 100, "a hundred callers are refused")
            service.free.set()
            closing.join(PATIENCE)
            assert not closing.is_alive()
            all_calls: list[Future[Speech]] = [*futures, *calls]
            assert not wait(all_calls, PATIENCE).not_done
        ends = [future.exception(0) for future in all_calls]
        refused = sum(isinstance(end, ClientClosed) for end in ends)
        if drain:
            assert (ends.count(None), refused) == (3000, 100)
        else:
            assert refused >= 3000 - 2 * 64 + 100
            assert ends.count(None) + refused == 3100
        assert idle(cosy)
    assert set(threading.enumerate()) <= before


def test_closing_from_many_threads_at_once_closes_once() -> None:
    """Draining or not: every call of close returns, and every future is resolved by then."""
    service = HeldService()
    with client(service, concurrency=2, config=config(max_pending=300)) as cosy, ThreadPoolExecutor(8) as threads:
        futures = [cosy.submit(f"text {n}") for n in range(300)]
        closers = [threads.submit(cosy.close, drain=n % 2 == 0) for n in range(8)]
        service.free.set()
        assert not wait(closers, PATIENCE).not_done
        assert all(closer.exception(0) is None for closer in closers)
        assert all(future.done() for future in futures)


@pytest.mark.parametrize("turn", range(5))
def test_a_submit_during_close_resolves_or_raises(turn: int) -> None:
    """Sixteen threads submit as fast as they can: accepted texts resolve, the others raise."""
    accepted: list[Future[Speech]] = []

    def submits(name: int) -> None:
        for n in range(10_000):
            try:
                accepted.append(cosy.submit(f"{name} {n}"))
            except (ClientClosed, QueueFull):
                return

    with client(spoken, concurrency=4) as cosy, ThreadPoolExecutor(16) as threads:
        busy = [threads.submit(submits, name) for name in range(16)]
        eventually(lambda: len(accepted) > 100 * (turn + 1), "texts are coming in")
        cosy.close(drain=False)
        assert not wait(busy, PATIENCE).not_done
        assert all(each.exception() is None for each in busy)
        assert not wait(accepted, PATIENCE).not_done
        assert idle(cosy)


# Cancelling


def test_random_cancellation_resolves_every_future_and_loses_no_permit() -> None:
    """Half of a thousand futures are cancelled from another thread while replies come in."""
    with client(spoken, concurrency=4, max_batch=8, config=config(max_pending=200)) as cosy:
        futures: list[Future[Speech]] = []
        done = threading.Event()

        def cancels() -> None:
            seen = 0
            while not done.is_set() or seen < len(futures):
                if seen < len(futures):
                    if seen % 2:
                        futures[seen].cancel()
                    seen += 1

        cancelling = threading.Thread(target=cancels)
        cancelling.start()
        for n in range(1000):
            futures.append(cosy.submit(f"text {n}"))  # noqa: PERF401 - the other thread reads it meanwhile
        done.set()
        cancelling.join(PATIENCE)
        for n, future in enumerate(futures):
            try:
                assert text_in(future.result(PATIENCE)) == f"text {n}"
            except CancelledError:
                assert n % 2
        eventually(lambda: idle(cosy), "everything is released")


# Texts that raise


@pytest.mark.parametrize("ordered", [True, False])
def test_a_generator_of_texts_that_raises_releases_every_permit(ordered: bool) -> None:
    """Its error is raised to the caller, its texts are cancelled, and the client works."""

    def texts() -> Iterator[str]:
        yield from (f"text {n}" for n in range(3))
        raise LookupError("the book has no more pages")

    service = HeldService()
    with client(service, concurrency=1, max_batch=4) as cosy:
        with pytest.raises(LookupError):
            list(cosy.synthesize_many(texts(), ordered=ordered))
        service.free.set()
        eventually(lambda: idle(cosy), "everything is released")
        assert text_in(cosy.synthesize("one more")) == "one more"


@pytest.mark.parametrize("ordered", [True, False])
def test_a_generator_of_texts_may_use_the_same_client(ordered: bool) -> None:
    """Here each text is made from a speech of that client."""

    def texts() -> Iterator[str]:
        for n in range(50):
            yield f"{text_in(cosy.synthesize(f'seed {n}'))} grown"

    with client(spoken, concurrency=1, config=config(max_pending=2)) as cosy:
        outcomes = sorted(cosy.synthesize_many(texts(), ordered=ordered), key=lambda outcome: outcome.index)
        assert [text_in(outcome.unwrap()) for outcome in outcomes] == [f"seed {n} grown" for n in range(50)]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_bulk_call_closed_early_cancels_what_is_not_sent(ordered: bool) -> None:
    """As by ``break``: the other texts are neither sent nor waited for."""
    asked: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(1)
        return spoken(request)

    with client(handler, concurrency=1, max_batch=2, requests_per_second=50, config=ClientConfig()) as cosy:
        outcomes = cosy.synthesize_many((f"text {n}" for n in range(10_000)), ordered=ordered)
        next(outcomes)
        outcomes.close()
        eventually(lambda: idle(cosy), "everything is released")
        sent = len(asked)
        assert text_in(cosy.synthesize("one more")) == "one more"
        assert len(asked) == sent + 1


# Listeners, and clients that are not closed


@pytest.mark.parametrize("fault", [SystemExit, KeyboardInterrupt, GeneratorExit, ValueError])
def test_a_raising_listener_fails_no_text(fault: type[BaseException]) -> None:
    """Futures resolve, and permits and workers are released."""

    def raises(_: Event) -> None:
        raise fault("raised by the listener")

    with client(spoken, concurrency=2, max_batch=4, listeners=[raises]) as cosy:
        futures = [cosy.submit(f"text {n}") for n in range(50)]
        assert [text_in(future.result(PATIENCE)) for future in futures] == [f"text {n}" for n in range(50)]
        eventually(lambda: idle(cosy) and not cosy.stats().workers, "everything is released")


def test_closing_in_a_callback_does_not_block_the_timer() -> None:
    """Draining is refused there, and the error names the call that is allowed: another future keeps its deadline."""
    service = HeldService()
    refused: SimpleQueue[BaseException] = SimpleQueue()

    def closes(_: Outcome) -> None:
        try:
            cosy.close()
        except ConfigurationError as error:
            refused.put(error)

    with client(service, concurrency=1) as cosy:
        first, second = cosy.submit("first", closes, timeout=0.05), cosy.submit("second", timeout=0.1)
        assert "close(drain=False)" in str(refused.get(timeout=PATIENCE))
        for future in (first, second):
            assert isinstance(future.exception(PATIENCE), CosyError)
        service.free.set()


def test_clients_that_are_not_closed_keep_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty clients: their threads end when idle, and start again with the next text."""
    for module in (workers, timers):
        monkeypatch.setattr(module, "IDLE_TIMEOUT", 0.05)
    before = set(threading.enumerate())

    def library_threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith("cosyclient")} - before

    kept = [CosyClient("http://x.test", transport=httpx.MockTransport(spoken)) for _ in range(50)]
    for turn in range(2):
        futures = [cosy.submit(f"text {turn}") for cosy in kept]
        assert {text_in(future.result(PATIENCE)) for future in futures} == {f"text {turn}"}
        eventually(lambda: not library_threads(), "the threads have ended")
