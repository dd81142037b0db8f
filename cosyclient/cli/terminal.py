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

    from cosyclient.cli.lines import Line


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


class Interruptible:
    """Take Ctrl-C as a wish to stop reading, and *wake* who waits for something else; a second one stops at once."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.pressed = False
        self._wake = wake
        self._reading = False
        self._before: Any = None

    def __enter__(self) -> Interruptible:
        self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def until_pressed(self, lines: Iterator[Line]) -> Iterator[Line]:
        """Yield *lines* until Ctrl-C, which also ends a read that blocks."""
        while not self.pressed:
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

    def _press(self, _signal: int, _frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
        # Not print: the signal may have come in the midst of one.
        os.write(2, b"\nfinishing what is in flight; press Ctrl-C again to stop at once\n")
        self._wake()
        if self._reading:
            raise _Pressed


class _Pressed(Exception):
    """End a blocking read."""
