"""What the terminal brings and is shown: Ctrl-C and the progress bar."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from cosyclient.jobs.input import Line


def progress_bar(name: str, *, quiet: bool) -> Any:
    """Return a context manager whose value has ``update`` and ``write``; it shows a bar only on a terminal."""
    shown = sys.stderr.isatty() and not quiet
    try:
        from tqdm import tqdm
    except ImportError:
        if shown:
            print("for a progress bar: pip install '.[cli]' in the checkout", file=sys.stderr)
        return contextlib.nullcontext(_NoBar())
    if not shown:
        return tqdm(disable=True)
    # A terminal that nobody told its size says 0, and the bar would be that wide.
    sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0
    size = {"dynamic_ncols": True} if sized else {"ncols": 80, "nrows": 24}
    return tqdm(unit=" texts", total=_count_lines(name), **size)


def printable(text: str) -> str:
    """Return *text*, which a service may have made up, with nothing in it that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _NoBar:
    def update(self) -> None:
        """Show nothing."""

    def write(self, message: str, file: Any) -> None:
        """Print *message*."""
        print(message, file=file)


def _count_lines(name: str) -> int | None:
    # A pipe (as in `<(command)`) can be read only once, and not by us.
    if name == "-" or not Path(name).is_file():
        return None
    with Path(name).open("rb") as file:
        return sum(1 for line in file if line.strip())


class Stopped(KeyboardInterrupt):
    """End the command at once; ``signal`` is the one that asked for it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


class Interruptible:
    """Take Ctrl-C and SIGTERM as a wish to stop reading, and *wake* who waits for something else.

    A second one stops at once. ``pressed`` is the first one's number, or ``None``.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.pressed: int | None = None
        self._wake = wake
        self._reading = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruptible:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def until_pressed(self, lines: Iterator[Line]) -> Iterator[Line]:
        """Yield *lines* until Ctrl-C or SIGTERM, which also end a read that blocks."""
        while self.pressed is None:
            try:
                self._reading = True
                line = next(lines, None)
            except _Pressed:
                return
            finally:
                self._reading = False
            if line is None:
                return
            yield line

    def _press(self, number: int, _frame: FrameType | None) -> None:
        if self.pressed is not None:
            raise Stopped(number)
        self.pressed = number
        # Not print: the signal may have come in the midst of one.
        again = "press Ctrl-C again" if number == signal.SIGINT else "a second signal is enough"
        os.write(2, f"\nfinishing what is in flight; {again} to stop at once\n".encode())
        self._wake()
        if self._reading:
            raise _Pressed


class _Pressed(Exception):
    """End a blocking read."""
