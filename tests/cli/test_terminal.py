"""The terminal: what Ctrl-C ends, and what a service cannot print."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from cosyclient.cli.terminal import Interruptible, Stopped, printable
from cosyclient.jobs.input import Line

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_control_characters_are_escaped() -> None:
    assert printable("a\x1b[2J\n中") == "a\\x1b[2J\\n中"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_a_blocked_read_and_the_second_raises(number: signal.Signals) -> None:
    wakes: list[None] = []

    def lines() -> Iterator[Line]:
        yield Line(1, "1")
        signal.raise_signal(number)
        raise AssertionError("the read went on")

    previous = signal.getsignal(number)
    with Interruptible(lambda: wakes.append(None)) as interrupt:
        assert [line.number for line in interrupt.until_pressed(lines())] == [1]
        assert (interrupt.pressed, len(wakes)) == (number, 1)
        assert list(interrupt.until_pressed(iter([Line(2, "2")]))) == []
        with pytest.raises(Stopped) as stopped:
            signal.raise_signal(number)
    assert stopped.value.signal == number
    assert signal.getsignal(number) is previous


def test_without_a_signal_all_lines_are_read() -> None:
    with Interruptible(lambda: None) as interrupt:
        assert len(list(interrupt.until_pressed(iter([Line(1, "1"), Line(2, "2")])))) == 2
        assert interrupt.pressed is None
