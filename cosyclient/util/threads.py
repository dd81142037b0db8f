"""Start threads from code that may be interrupted, and when idle ones end."""

from __future__ import annotations

import _thread
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE: Final = 5.0
"""Seconds without work after which a client's threads end; they come back with the next text."""


def start_thread(run: Callable[[], object], name: str, *, daemon: bool = True) -> None:
    """Run *run* on a thread, without waiting for it; raises `RuntimeError` where none can be started any more.

    `Thread.start` waits for an event that the new thread sets: interrupted at the wrong moment it leaves that event's
    lock held, and the thread stands still before its first line. So it is called on a thread that nobody interrupts.
    """
    _thread.start_new_thread(_start, (threading.Thread(target=run, name=name, daemon=daemon), run))


def _start(thread: threading.Thread, run: Callable[[], object]) -> None:
    try:
        thread.start()
    except RuntimeError:
        # The system, or the interpreter, allows no more threads; this one is one.
        run()
