"""The terminal: the progress bar, and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cosyclient.jobs.report import NoProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import FrameType

    from cosyclient.jobs.input import Line
    from cosyclient.jobs.report import Progress


def progress_bar(name: str, *, quiet: bool) -> AbstractContextManager[Progress]:
    """Return the progress bar of a job over the input *name*; it is shown only on a terminal."""
    shown = sys.stderr.isatty() and not quiet
    try:
        from tqdm import tqdm
    except ImportError:
        if shown:
            print("for a progress bar: pip install '.[cli]' in the checkout", file=sys.stderr)
        return contextlib.nullcontext(NoProgress())
    if not shown:
        return cast("AbstractContextManager[Progress]", tqdm(disable=True))
    # A terminal whose size was never set reports 0 columns, and the bar would be that wide.
    sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0
    size = {"dynamic_ncols": True} if sized else {"ncols": 80, "nrows": 24}
    return cast("AbstractContextManager[Progress]", tqdm(unit=" texts", total=count_lines(name), **size))


def printable(text: str) -> str:
    """Return *text*, which may come from a service, with control characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def count_lines(name: str) -> int | None:
    """Return the lines of the input *name* that are not blank, or None if they cannot be counted."""
    # A pipe (as in `<(command)`) can be read only once, so its lines cannot be counted.
    if name == "-" or not Path(name).is_file():
        return None
    with Path(name).open("rb") as file:
        return sum(1 for line in file if line.strip())


class Stopped(KeyboardInterrupt):
    """End the command at once; ``signal`` is the number of the signal that asked for it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


class Interruptible:
    """A context manager in which Ctrl-C or SIGTERM ends reading and calls *wake*, and a second one raises `Stopped`.

    ``pressed`` is the number of the first signal, or None.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.pressed: int | None = None
        self._wake = wake
        self._reading = False
        self._previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> Interruptible:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def until_pressed(self, lines: Iterator[Line]) -> Iterator[Line]:
        """Yield *lines* until Ctrl-C or SIGTERM, which also end a read that blocks."""
        while self.pressed is None:
            try:
                self._reading = True
                line = next(lines, None)
            except _ReadInterrupted:
                return
            finally:
                self._reading = False
            if line is None:
                return
            yield line

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.pressed is not None:
            raise Stopped(number)
        self.pressed = number
        # Not print: the signal may have interrupted one, whose buffer cannot be entered twice.
        again = "press Ctrl-C again" if number == signal.SIGINT else "a second signal is enough"
        os.write(2, f"\nfinishing what is in flight; {again} to stop at once\n".encode())
        self._wake()
        if self._reading:
            raise _ReadInterrupted


class _ReadInterrupted(Exception):
    """End a blocking read."""
