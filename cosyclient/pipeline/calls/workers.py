"""The bounded executor and the one thread that submits to it: callers may be interrupted, and only leave a note."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import Empty
from typing import TYPE_CHECKING, Final

from cosyclient.clock import Flag, Mailbox
from cosyclient.util.threads import IDLE_TIMEOUT, start_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

logger = logging.getLogger("cosyclient")

_INTERVAL: Final = 0.1
"""Seconds between two checks of the reader whether the main thread has ended."""
_START_TIMEOUT: Final = 1.0
"""Seconds that a caller waits at most for the reader it starts."""


def _main_lives() -> bool:
    return threading.main_thread().is_alive()


def _run_once(left: list[Callable[[], None]]) -> None:
    """Run the task in *left*, unless another thread has taken it out."""
    try:
        task = left.pop()
    except IndexError:
        return
    task()


class _Reader:
    """Stand for one run of the thread that reads the notes."""

    def __init__(self) -> None:
        self.begun = Flag()
        self.over = Flag()


class Workers:
    """Run *work* on at most *most* threads, as many at once as *claim* returns.

    `wake` and `submit` may be interrupted anywhere: they only leave a note in a mailbox. One thread, the reader, reads
    the notes and submits to the executor, whose own semaphore an interrupt could leave locked. Without work for
    `IDLE_TIMEOUT` seconds all threads end. A program that ends does so when its pending texts are done, as with any
    executor: *under_way* returns a function that tells whether any of those pending now still is. An *executor* that is
    given is used as it is, on the calling thread.
    """

    def __init__(
        self,
        most: int,
        *,
        claim: Callable[[], int],
        work: Callable[[], None],
        idle: Callable[[], bool],
        under_way: Callable[[], Callable[[], bool]],
        executor: Executor | None = None,
    ) -> None:
        self._most = most
        self._claim = claim
        self._work = work
        self._idle = idle
        self._under_way = under_way
        self._given = executor
        self._notes: Mailbox[Callable[[], None] | None] = Mailbox()
        self._lock = threading.Lock()
        # Set under _lock; a reader that ends, or whose start failed, is taken out without it.
        self._running: _Reader | None = None
        self._closed = False
        # Of the thread that reads the notes.
        self._executor: ThreadPoolExecutor | None = None

    def wake(self) -> None:
        """Start the workers that are wanted and do not run."""
        if self._given is not None:
            for _ in range(self._claim()):
                self._given.submit(self._work)
            return
        # One note serves all callers that come before it is read.
        if not self._notes:
            self._notes.put(None)
        self._run()

    def submit(self, task: Callable[[], None]) -> None:
        """Run *task* on a worker."""
        if self._given is not None:
            self._given.submit(task)
            return
        self._notes.put(task)
        self._run()

    def close(self, *, wait: bool) -> None:
        """Let the threads end when they have finished what they do, and *wait* for that."""
        with self._lock:
            self._closed = True
            running = self._running
        self._notes.put(None)
        if running is not None and wait:
            running.over.wait(threading.TIMEOUT_MAX)
        if self._given is not None:
            self._given.shutdown(wait=wait)

    def _run(self) -> None:
        """Start the reader, if none runs."""
        mine = _Reader()
        try:
            if not self._begin(mine):
                return
            start_thread(partial(self._read, mine), "cosyclient-starter", daemon=False)
            # The interpreter waits for threads that have begun.
            mine.begun.wait(_START_TIMEOUT)
        except RuntimeError:
            # No thread can be started, as at the very end of the interpreter: the notes are read here.
            self._running = None
            self._read_all()
        except BaseException:
            if self._running is mine:
                # Interrupted. If the thread runs all the same, it registers again, or ends because another has.
                self._running = None
            raise

    def _read(self, mine: _Reader) -> None:
        mine.begun.set()
        try:
            # If its starter was interrupted, another may be registered, or none.
            while self._begin(mine):
                self._read_all()
                if not (self._closed or _main_lives()):
                    self._finish_after_main_thread()
                    return
                if (self._closed or self._idle()) and self._stop_executor(mine):
                    return
        finally:
            mine.over.set()

    def _finish_after_main_thread(self) -> None:
        """Keep the interpreter alive until the texts pending now are done; another reader serves later ones."""
        still = self._under_way()
        self._running = None
        # Daemon threads may submit texts for ever; they do not keep the interpreter alive.
        reader = _Reader()
        if self._begin(reader):
            try:
                start_thread(partial(self._read_late, reader), "cosyclient-late-starter")
            except RuntimeError:
                self._running = None
        while still():
            time.sleep(_INTERVAL)

    def _read_late(self, mine: _Reader) -> None:
        try:
            while not self._closed:
                self._read_all(late=True)
        finally:
            mine.over.set()

    def _read_all(self, *, late: bool = False) -> None:
        """Serve the notes until none comes for `IDLE_TIMEOUT` seconds or, unless *late*, the main thread has ended."""
        waited = 0.0
        while late or _main_lives() or self._closed or self._running is None:
            hurried = self._closed or self._running is None
            try:
                note = self._notes.get(0.0 if hurried else min(_INTERVAL, IDLE_TIMEOUT))
            except Empty:
                waited += _INTERVAL
                if hurried or waited >= IDLE_TIMEOUT:
                    return
                continue
            waited = 0.0
            try:
                if note is not None:
                    self._execute(note)
                for _ in range(self._claim()):
                    self._execute(self._work)
            except Exception:
                logger.exception("a worker could not be started")

    def _begin(self, mine: _Reader) -> bool:
        """Register *mine* as the reader that runs, unless one does; return whether it is."""
        # Without the lock first: one runs nearly always.
        if self._running is None:
            with self._lock:
                if self._running is None:
                    self._running = mine
        return self._running is mine

    def _stop_executor(self, mine: _Reader) -> bool:
        """Let the executor's threads end; return whether the reader is to end as well."""
        executor, self._executor = self._executor, None
        if executor is not None:
            # Only `close`, which waits for this thread, waits for what they still do; a call that hangs delays no one
            # else.
            executor.shutdown(wait=self._closed)
        # First the mark, then a look at the notes; `submit` does it the other way round, so one sees the other.
        if self._running is mine:
            self._running = None
        return not self._notes or not self._begin(mine)

    def _execute(self, task: Callable[[], None]) -> None:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._most, thread_name_prefix="cosyclient")
        left = [task]
        try:
            self._executor.submit(_run_once, left)
        except RuntimeError:
            # An executor gets no new threads once the main thread has ended, but threads of the user's may still want
            # texts. Where the system allows no more threads, one that runs already may take the task first: the
            # executor has queued it by then.
            try:
                start_thread(partial(_run_once, left), "cosyclient-late")
            except RuntimeError:
                _run_once(left)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "running" if self._running is not None else "at rest"
        return f"<Workers {state}, at most {self._most}>"
