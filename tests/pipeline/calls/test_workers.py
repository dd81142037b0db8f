"""The thread that reads the notes: it starts as many workers as are wanted, misses no note, and ends when idle."""

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

PATIENCE = 30.0
"""Seconds after which a test gives up; none needs them."""


class Board:
    """Count the workers wanted and those that ran, as a batcher does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.wanted = 0
        self.under_way = 0
        self.ran = 0
        self.most = 0
        self.calls = 0
        self.threads: set[str] = set()
        self.go_on = threading.Event()
        self.go_on.set()

    def want(self, count: int = 1) -> None:
        with self._lock:
            self.wanted += count

    def call(self) -> int:
        with self._lock:
            self.calls += 1
            called, self.wanted = self.wanted, 0
            self.under_way += called
            return called

    def work(self) -> None:
        with self._lock:
            self.threads.add(threading.current_thread().name)
            self.most = max(self.most, self.under_way)
        assert self.go_on.wait(PATIENCE)
        with self._lock:
            self.under_way -= 1
            self.ran += 1

    @property
    def idle(self) -> bool:
        return not (self.wanted or self.under_way)

    def workers(self, most: int = 4, **arguments: object) -> Workers:
        return Workers(
            most,
            claim=self.call,
            work=self.work,
            idle=lambda: self.idle,
            under_way=lambda: lambda: not self.idle,
            **arguments,  # type: ignore[arg-type]
        )


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def _short_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "IDLE_TIMEOUT", 0.01)


@pytest.fixture
def _impatient_interpreter() -> Iterator[None]:
    """Let threads change places a thousand times more often, so that a race has its chance."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def ours() -> list[str]:
    """Return the names of the library's threads that run."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cosyclient")]


def refuse_threads(monkeypatch: pytest.MonkeyPatch, refuse: Callable[[threading.Thread], bool]) -> None:
    """Let threads that *refuse* names not be started, as where the system or the interpreter allows no more."""
    start = threading.Thread.start

    def refusing(thread: threading.Thread) -> None:
        if refuse(thread):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)


def test_as_many_run_as_are_wanted(board: Board) -> None:
    """On the executor's threads, never on the caller's, and no more at once than there are."""
    team = board.workers(3)
    assert repr(team) == "<Workers at rest, at most 3>"
    board.go_on.clear()
    board.want(5)
    team.wake()
    assert repr(team) == "<Workers running, at most 3>"
    eventually(lambda: len(board.threads) == 3, "three run")
    board.go_on.set()
    eventually(lambda: board.ran == 5, "all ran")
    team.close(wait=True)
    assert all(name.startswith("cosyclient_") for name in board.threads)
    assert repr(team).startswith("<Workers closed")


def test_one_note_serves_all_who_wake(board: Board) -> None:
    """A thousand callers at once leave one note, and the workers they want are called all the same."""
    team = board.workers()
    read, busy = threading.Event(), threading.Event()

    def call() -> int:
        busy.set()
        assert read.wait(PATIENCE)
        return board.call()

    team._claim = call
    team.wake()
    assert busy.wait(PATIENCE)
    for _ in range(1000):
        board.want()
        team.wake()
    assert len(team._notes) == 1
    read.set()
    eventually(lambda: board.ran == 1000, "all ran")
    assert board.calls <= 3
    team.close(wait=True)


def test_a_task_handed_over_runs_once_on_a_worker(board: Board) -> None:
    team = board.workers(1)
    names: list[str] = []
    for _ in range(20):
        team.submit(lambda: names.append(threading.current_thread().name))
    eventually(lambda: len(names) == 20, "all ran")
    team.close(wait=True)
    assert set(names) == {"cosyclient_0"}


def test_what_a_task_raises_ends_nothing(board: Board) -> None:
    team = board.workers(1)

    def broken() -> None:
        raise RuntimeError("broken")

    ran = threading.Event()
    team.submit(broken)
    team.submit(ran.set)
    assert ran.wait(PATIENCE)
    team.close(wait=True)


def test_a_call_that_fails_is_logged_and_the_next_note_is_read(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    team = board.workers()
    failed = threading.Event()

    def call() -> int:
        if not failed.is_set():
            failed.set()
            raise ValueError("broken")
        return board.call()

    team._claim = call
    board.want()
    team.wake()
    assert failed.wait(PATIENCE)
    eventually(lambda: "a worker could not be started" in caplog.text, "it was logged")
    team.wake()
    eventually(lambda: board.ran == 1, "it ran")
    team.close(wait=True)


@pytest.mark.usefixtures("_short_idle")
def test_an_idle_client_keeps_no_thread_and_wakes_up_again(board: Board) -> None:
    team = board.workers()
    for turn in range(1, 4):
        board.want(2)
        team.wake()
        eventually(lambda turn=turn: board.ran == 2 * turn, "they ran")  # type: ignore[misc]
        eventually(lambda: not ours(), "all threads have ended")
        assert repr(team) == "<Workers at rest, at most 4>"
    team.close(wait=True)


@pytest.mark.usefixtures("_short_idle")
def test_nobody_rests_while_a_worker_is_under_way(board: Board) -> None:
    """It may call others; the thread that reads the notes outlasts it."""
    team = board.workers()
    board.go_on.clear()
    board.want()
    team.wake()
    eventually(lambda: bool(board.threads), "it runs")
    assert not threading.Event().wait(0.1)
    assert "cosyclient-starter" in ours()
    board.go_on.set()
    eventually(lambda: not ours(), "all threads have ended")


@pytest.mark.parametrize("handed_over", [True, False])
@pytest.mark.usefixtures("_impatient_interpreter")
def test_a_reader_that_goes_to_rest_misses_no_note(
    board: Board, monkeypatch: pytest.MonkeyPatch, handed_over: bool
) -> None:
    """It rests after every note, while many threads leave theirs."""
    monkeypatch.setattr(workers, "IDLE_TIMEOUT", 0.0)
    team = board.workers(2)
    ran = threading.Semaphore(0)
    rounds, count = 100, 8

    def one() -> None:
        for _ in range(rounds):
            if handed_over:
                team.submit(ran.release)
            else:
                board.want()
                team.wake()

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    if handed_over:
        for _ in range(rounds * count):
            assert ran.acquire(timeout=PATIENCE)
        assert not ran.acquire(blocking=False)
    else:
        eventually(lambda: board.ran == rounds * count, "nobody was missed")
    team.close(wait=True)
    eventually(lambda: not ours(), "all threads have ended")


@pytest.mark.usefixtures("_short_idle")
def test_a_lone_note_left_as_the_reader_rests_is_read(board: Board) -> None:
    """Nobody comes after it to wake anybody: one text at a time, each as the threads of the last one end."""
    team = board.workers(1)
    for turn in range(1, 300):
        board.want()
        team.wake()
        eventually(lambda turn=turn: board.ran == turn, "it ran")  # type: ignore[misc]
        if turn % 3:
            threading.Event().wait(0.0095 + 0.00001 * turn)
    team.close(wait=True)


def test_closing_waits_for_what_runs(board: Board) -> None:
    team = board.workers(2)
    board.go_on.clear()
    board.want(2)
    team.wake()
    eventually(lambda: len(board.threads) == 2, "both run")
    closing = threading.Thread(target=team.close, kwargs={"wait": True})
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    board.go_on.set()
    closing.join(PATIENCE)
    assert board.ran == 2
    assert not ours()


def test_closing_waits_for_what_was_handed_over_a_moment_ago() -> None:
    """Whether or not its note has been read."""
    for _ in range(50):
        team = Board().workers(2)
        started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

        def task(
            started: threading.Event = started, go_on: threading.Event = go_on, ended: threading.Event = ended
        ) -> None:
            started.set()
            assert go_on.wait(PATIENCE)
            ended.set()

        team.submit(task)
        closing = threading.Thread(target=team.close, kwargs={"wait": True})
        closing.start()
        assert started.wait(PATIENCE)
        closing.join(0.002)
        assert closing.is_alive()
        go_on.set()
        closing.join(PATIENCE)
        assert ended.is_set()
        assert not ours()


def test_closing_without_waiting_does_not_wait_and_loses_nothing(board: Board) -> None:
    team = board.workers(1)
    board.go_on.clear()
    board.want(3)
    team.wake()
    team.close(wait=False)
    assert board.ran == 0
    board.go_on.set()
    eventually(lambda: board.ran == 3, "all ran")
    eventually(lambda: not ours(), "all threads have ended")


def test_whoever_comes_after_closing_is_served_and_leaves_no_thread(board: Board) -> None:
    """A retry that was under way may still hand its rest over."""
    team = board.workers(1)
    team.close(wait=True)
    ran = threading.Event()
    team.submit(ran.set)
    assert ran.wait(PATIENCE)
    eventually(lambda: not ours(), "all threads have ended")


def test_an_executor_that_was_given_is_used_on_the_calling_thread(board: Board) -> None:
    team = board.workers(executor=InlineExecutor())
    board.want(2)
    team.wake()
    team.submit(lambda: board.threads.add("handed over"))
    assert board.ran == 2
    assert board.threads == {threading.current_thread().name, "handed over"}
    assert not ours()
    given = ThreadPoolExecutor(1)
    Board().workers(executor=given).close(wait=True)
    with pytest.raises(RuntimeError):
        given.submit(print)


def test_where_the_executor_may_start_no_thread_each_task_gets_its_own(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is once the main thread has ended: pools are refused threads, and those that still run want theirs."""

    def submit(*_: object) -> None:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    team = board.workers(2)
    board.want(2)
    team.wake()
    eventually(lambda: board.ran == 2, "both ran")
    assert board.threads == {"cosyclient-late"}
    team.close(wait=True)


def test_where_no_thread_can_be_started_the_caller_does_the_work(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    def start_new_thread(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", start_new_thread)
    refuse_threads(monkeypatch, lambda _: True)
    team = board.workers(2)
    board.want(2)
    team.wake()
    handed_over: list[str] = []
    team.submit(lambda: handed_over.append(threading.current_thread().name))
    assert board.ran == 2
    assert board.threads == {threading.current_thread().name} == set(handed_over)
    assert repr(team) == "<Workers at rest, at most 2>"
    team.close(wait=True)


def test_a_task_whose_thread_was_refused_runs_once(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """An executor has queued it by then, for whichever of its threads comes free."""
    refuse_threads(monkeypatch, lambda thread: thread.name in ("cosyclient_1", "cosyclient_2"))
    team = board.workers(3)
    first, go_on = threading.Event(), threading.Event()
    ran: list[str] = []

    def busy() -> None:
        first.set()
        assert go_on.wait(PATIENCE)

    team.submit(busy)
    assert first.wait(PATIENCE)
    for _ in range(2):
        team.submit(lambda: ran.append(threading.current_thread().name))
    eventually(lambda: not team._notes, "both were read")
    go_on.set()
    team.close(wait=True)
    eventually(lambda: not ours(), "all threads have ended")
    assert len(ran) == 2


@pytest.mark.usefixtures("_short_idle")
def test_who_hangs_keeps_nobody_from_being_served() -> None:
    """An interrupt may have taken a task off the count: it is no reason for those who come to wait for its end."""
    go_on, hangs, served = threading.Event(), threading.Event(), threading.Event()
    team = Workers(2, claim=lambda: 0, work=lambda: None, idle=lambda: True, under_way=lambda: lambda: False)

    def hang() -> None:
        hangs.set()
        assert go_on.wait(PATIENCE)

    team.submit(hang)
    assert hangs.wait(PATIENCE)
    eventually(lambda: team._running is None, "the reader is at rest")
    team.submit(served.set)
    assert served.wait(PATIENCE)
    go_on.set()
    team.close(wait=True)
