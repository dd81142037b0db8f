"""Threads: how the library starts them, and when idle ones end."""

from __future__ import annotations

import _thread
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_TIMEOUT: Final = 5.0
"""Seconds without work after which a client's thread ends; the next text starts another."""


def start_thread(run: Callable[[], object], name: str, *, daemon: bool = True) -> None:
    """Call *run* on a new thread without waiting for it; raises `RuntimeError` where none can be started.

    `Thread.start` waits for an event that the new thread sets. An interrupt during that wait can leave the event's lock
    held, and the new thread blocks for ever before its first line. So `Thread.start` is called on a second new thread,
    which no interrupt reaches.
    """
    _thread.start_new_thread(_start, (threading.Thread(target=run, name=name, daemon=daemon), run))


def _start(thread: threading.Thread, run: Callable[[], object]) -> None:
    try:
        thread.start()
    except RuntimeError:
        # The system or the interpreter allows no further thread: use this one.
        run()
