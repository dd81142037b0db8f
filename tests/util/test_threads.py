"""Threads start without a wait, whatever interrupts the thread that starts them."""

from __future__ import annotations

import threading
from typing import NoReturn

import pytest

from cosyclient.util.threads import start_thread


@pytest.mark.parametrize("daemon", [True, False])
def test_a_thread_runs_under_its_name(daemon: bool) -> None:
    started = threading.Event()
    found: list[tuple[str, bool]] = []

    def run() -> None:
        thread = threading.current_thread()
        found.append((thread.name, thread.daemon))
        started.set()

    start_thread(run, "named", daemon=daemon)
    assert started.wait(30)
    assert found == [("named", daemon)]


def test_where_no_second_thread_can_be_started_the_first_runs_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    ran = threading.Event()
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", start)
        start_thread(ran.set, "limited")
        assert ran.wait(30)


def test_where_no_thread_can_be_started_the_caller_gets_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        start_thread(lambda: None, "never")
