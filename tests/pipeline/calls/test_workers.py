"""The thread that reads the notes: it starts as many workers as are wanted, misses no note and ends when idle."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from cosyclient.pipeline.calls import workers
from cosyclient.pipeline.calls.workers import Workers
from cosyclient.testing import InlineExecutor
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT = 30.0
"""Seconds after which a test fails; none needs them."""


class WorkerCounter:
    """Count the workers wanted and those that ran, as a batcher does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.wanted = 0
        self.under_way = 0
        self.ran = 0
        self.most = 0
        self.claims = 0
        self.threads: set[str] = set()
        self.go_on = threading.Event()
        self.go_on.set()

    def want(self, count: int = 1) -> None:
        with self._lock:
            self.wanted += count

    def claim(self) -> int:
        with self._lock:
            self.claims += 1
            claimed, self.wanted = self.wanted, 0
            self.under_way += claimed
            return claimed

    def work(self) -> None:
        with self._lock:
            self.threads.add(threading.current_thread().name)
            self.most = max(self.most, self.under_way)
        assert self.go_on.wait(TIMEOUT)
        with self._lock:
            self.under_way -= 1
            self.ran += 1

    @property
    def idle(self) -> bool:
        return not (self.wanted or self.under_way)

    def workers(self, most: int = 4, **arguments: object) -> Workers:
        return Workers(
            most,
            claim=self.claim,
            work=self.work,
            idle=lambda: self.idle,
            under_way=lambda: lambda: not self.idle,
            **arguments,  # type: ignore[arg-type]
        )


@pytest.fixture
def counter() -> WorkerCounter:
    return WorkerCounter()


@pytest.fixture
def _short_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "IDLE_TIMEOUT", 0.01)


@pytest.fixture
def _frequent_thread_switches() -> Iterator[None]:
    """Switch between threads a thousand times more often, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def library_threads() -> list[str]:
    """Return the names of the library's threads that run."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cosyclient")]


def refuse_threads(monkeypatch: pytest.MonkeyPatch, refuse: Callable[[threading.Thread], bool]) -> None:
    """Have threads for which *refuse* holds fail to start, as where the system or the interpreter allows no more."""
    start = threading.Thread.start

    def refusing(thread: threading.Thread) -> None:
        if refuse(thread):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)


def test_as_many_workers_run_as_are_wanted(counter: WorkerCounter) -> None:
    """On the executor's threads, never on the caller's, and no more at once than the limit."""
    pool = counter.workers(3)
    assert repr(pool) == "<Workers at rest, at most 3>"
    counter.go_on.clear()
    counter.want(5)
    pool.wake()
    assert repr(pool) == "<Workers running, at most 3>"
    eventually(lambda: len(counter.threads) == 3, "three run")
    counter.go_on.set()
    eventually(lambda: counter.ran == 5, "all ran")
    pool.close(wait=True)
    assert all(name.startswith("cosyclient_") for name in counter.threads)
    assert repr(pool).startswith("<Workers closed")


def test_one_note_serves_a_thousand_callers(counter: WorkerCounter) -> None:
    """They leave one note at once, and all the workers they want are started."""
    pool = counter.workers()
    read, busy = threading.Event(), threading.Event()

    def claim() -> int:
        busy.set()
        assert read.wait(TIMEOUT)
        return counter.claim()

    pool._claim = claim
    pool.wake()
    assert busy.wait(TIMEOUT)
    for _ in range(1000):
        counter.want()
        pool.wake()
    assert len(pool._notes) == 1
    read.set()
    eventually(lambda: counter.ran == 1000, "all ran")
    assert counter.claims <= 3
    pool.close(wait=True)


def test_a_submitted_task_runs_once_on_a_worker(counter: WorkerCounter) -> None:
    pool = counter.workers(1)
    names: list[str] = []
    for _ in range(20):
        pool.submit(lambda: names.append(threading.current_thread().name))
    eventually(lambda: len(names) == 20, "all ran")
    pool.close(wait=True)
    assert set(names) == {"cosyclient_0"}


def test_an_error_of_a_task_ends_no_worker(counter: WorkerCounter) -> None:
    pool = counter.workers(1)

    def broken() -> None:
        raise RuntimeError("broken")

    ran = threading.Event()
    pool.submit(broken)
    pool.submit(ran.set)
    assert ran.wait(TIMEOUT)
    pool.close(wait=True)


def test_a_claim_that_fails_is_logged_and_the_next_note_is_read(
    counter: WorkerCounter, caplog: pytest.LogCaptureFixture
) -> None:
    pool = counter.workers()
    failed = threading.Event()

    def claim() -> int:
        if not failed.is_set():
            failed.set()
            raise ValueError("broken")
        return counter.claim()

    pool._claim = claim
    counter.want()
    pool.wake()
    assert failed.wait(TIMEOUT)
    eventually(lambda: "a worker could not be started" in caplog.text, "it was logged")
    pool.wake()
    eventually(lambda: counter.ran == 1, "it ran")
    pool.close(wait=True)


@pytest.mark.usefixtures("_short_idle")
def test_idle_workers_end_their_threads_and_start_again(counter: WorkerCounter) -> None:
    pool = counter.workers()
    for turn in range(1, 4):
        counter.want(2)
        pool.wake()
        eventually(lambda turn=turn: counter.ran == 2 * turn, "they ran")  # type: ignore[misc]
        eventually(lambda: not library_threads(), "all threads have ended")
        assert repr(pool) == "<Workers at rest, at most 4>"
    pool.close(wait=True)


@pytest.mark.usefixtures("_short_idle")
def test_the_reader_stays_while_a_worker_runs(counter: WorkerCounter) -> None:
    """The worker may start others, so the thread that reads the notes outlasts it."""
    pool = counter.workers()
    counter.go_on.clear()
    counter.want()
    pool.wake()
    eventually(lambda: bool(counter.threads), "it runs")
    assert not threading.Event().wait(0.1)
    assert "cosyclient-starter" in library_threads()
    counter.go_on.set()
    eventually(lambda: not library_threads(), "all threads have ended")


@pytest.mark.parametrize("submitted", [True, False])
@pytest.mark.usefixtures("_frequent_thread_switches")
def test_a_reader_that_ends_misses_no_note(
    counter: WorkerCounter, monkeypatch: pytest.MonkeyPatch, submitted: bool
) -> None:
    """It ends after every note, while many threads leave theirs."""
    monkeypatch.setattr(workers, "IDLE_TIMEOUT", 0.0)
    pool = counter.workers(2)
    ran = threading.Semaphore(0)
    rounds, count = 100, 8

    def one() -> None:
        for _ in range(rounds):
            if submitted:
                pool.submit(ran.release)
            else:
                counter.want()
                pool.wake()

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    if submitted:
        for _ in range(rounds * count):
            assert ran.acquire(timeout=TIMEOUT)
        assert not ran.acquire(blocking=False)
    else:
        eventually(lambda: counter.ran == rounds * count, "no note was missed")
    pool.close(wait=True)
    eventually(lambda: not library_threads(), "all threads have ended")


@pytest.mark.usefixtures("_short_idle")
def test_a_single_note_left_while_the_reader_ends_is_read(counter: WorkerCounter) -> None:
    """No later note would wake a reader: one text at a time, each while the threads of the last one end."""
    pool = counter.workers(1)
    for turn in range(1, 300):
        counter.want()
        pool.wake()
        eventually(lambda turn=turn: counter.ran == turn, "it ran")  # type: ignore[misc]
        if turn % 3:
            threading.Event().wait(0.0095 + 0.00001 * turn)
    pool.close(wait=True)


def test_closing_waits_for_running_workers(counter: WorkerCounter) -> None:
    pool = counter.workers(2)
    counter.go_on.clear()
    counter.want(2)
    pool.wake()
    eventually(lambda: len(counter.threads) == 2, "both run")
    closing = threading.Thread(target=pool.close, kwargs={"wait": True})
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    counter.go_on.set()
    closing.join(TIMEOUT)
    assert counter.ran == 2
    assert not library_threads()


def test_closing_waits_for_a_task_submitted_just_before() -> None:
    """Whether or not its note has been read."""
    for _ in range(50):
        pool = WorkerCounter().workers(2)
        started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

        def task(
            started: threading.Event = started, go_on: threading.Event = go_on, ended: threading.Event = ended
        ) -> None:
            started.set()
            assert go_on.wait(TIMEOUT)
            ended.set()

        pool.submit(task)
        closing = threading.Thread(target=pool.close, kwargs={"wait": True})
        closing.start()
        assert started.wait(TIMEOUT)
        closing.join(0.002)
        assert closing.is_alive()
        go_on.set()
        closing.join(TIMEOUT)
        assert ended.is_set()
        assert not library_threads()


def test_closing_without_waiting_returns_at_once_and_loses_nothing(counter: WorkerCounter) -> None:
    pool = counter.workers(1)
    counter.go_on.clear()
    counter.want(3)
    pool.wake()
    pool.close(wait=False)
    assert counter.ran == 0
    counter.go_on.set()
    eventually(lambda: counter.ran == 3, "all ran")
    eventually(lambda: not library_threads(), "all threads have ended")


def test_a_task_submitted_after_closing_runs_and_leaves_no_thread(counter: WorkerCounter) -> None:
    """A retry that runs meanwhile may still submit its texts."""
    pool = counter.workers(1)
    pool.close(wait=True)
    ran = threading.Event()
    pool.submit(ran.set)
    assert ran.wait(TIMEOUT)
    eventually(lambda: not library_threads(), "all threads have ended")


def test_a_given_executor_is_used_and_closed(counter: WorkerCounter) -> None:
    pool = counter.workers(executor=InlineExecutor())
    counter.want(2)
    pool.wake()
    pool.submit(lambda: counter.threads.add("submitted"))
    assert counter.ran == 2
    assert counter.threads == {threading.current_thread().name, "submitted"}
    assert not library_threads()
    given = ThreadPoolExecutor(1)
    WorkerCounter().workers(executor=given).close(wait=True)
    with pytest.raises(RuntimeError):
        given.submit(print)


def test_without_a_thread_of_the_executor_each_task_gets_its_own(
    counter: WorkerCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the main thread has ended, pools may start no thread, and calls that still run need workers."""

    def submit(*_: object) -> None:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    pool = counter.workers(2)
    counter.want(2)
    pool.wake()
    eventually(lambda: counter.ran == 2, "both ran")
    assert counter.threads == {"cosyclient-late"}
    pool.close(wait=True)


def test_without_any_new_thread_the_caller_does_the_work(
    counter: WorkerCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_new_thread(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", start_new_thread)
    refuse_threads(monkeypatch, lambda _: True)
    pool = counter.workers(2)
    counter.want(2)
    pool.wake()
    ran_on: list[str] = []
    pool.submit(lambda: ran_on.append(threading.current_thread().name))
    assert counter.ran == 2
    assert counter.threads == {threading.current_thread().name} == set(ran_on)
    assert repr(pool) == "<Workers at rest, at most 2>"
    pool.close(wait=True)


def test_a_task_whose_thread_was_refused_runs_once(counter: WorkerCounter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor has queued it by then, for the next of its threads that is free."""
    refuse_threads(monkeypatch, lambda thread: thread.name in ("cosyclient_1", "cosyclient_2"))
    pool = counter.workers(3)
    first, go_on = threading.Event(), threading.Event()
    ran: list[str] = []

    def busy() -> None:
        first.set()
        assert go_on.wait(TIMEOUT)

    pool.submit(busy)
    assert first.wait(TIMEOUT)
    for _ in range(2):
        pool.submit(lambda: ran.append(threading.current_thread().name))
    eventually(lambda: not pool._notes, "both were read")
    go_on.set()
    pool.close(wait=True)
    eventually(lambda: not library_threads(), "all threads have ended")
    assert len(ran) == 2


@pytest.mark.usefixtures("_short_idle")
def test_a_task_that_hangs_does_not_delay_others() -> None:
    """An interrupt may have removed a running task from the count: later tasks do not wait for its end."""
    go_on, hangs, served = threading.Event(), threading.Event(), threading.Event()
    pool = Workers(2, claim=lambda: 0, work=lambda: None, idle=lambda: True, under_way=lambda: lambda: False)

    def hang() -> None:
        hangs.set()
        assert go_on.wait(TIMEOUT)

    pool.submit(hang)
    assert hangs.wait(TIMEOUT)
    eventually(lambda: pool._running is None, "the reader is at rest")
    pool.submit(served.set)
    assert served.wait(TIMEOUT)
    go_on.set()
    pool.close(wait=True)
