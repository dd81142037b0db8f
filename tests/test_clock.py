"""Gates, flags and mailboxes: a waiting thread is woken whichever comes first, and an interrupt leaks nothing."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from queue import Empty
from typing import TYPE_CHECKING

import pytest

from cosyclient.clock import Flag, Mailbox, SystemClock, closed_gate, open_gate
from cosyclient.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 30.0
"""Seconds after which a test gives up; none needs them."""


@pytest.fixture
def _impatient_interpreter() -> Iterator[None]:
    """Let threads change places a thousand times more often, so that a race has its chance."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def test_an_open_gate_lets_one_through_and_is_closed_again() -> None:
    gate = closed_gate()
    clock = SystemClock()
    assert not clock.wait(gate, 0.0)
    open_gate(gate)
    open_gate(gate)
    assert clock.wait(gate, PATIENCE)
    assert not clock.wait(gate, 0.0)


@pytest.mark.parametrize("seconds", [-1.0, 0.0])
def test_no_time_left_is_no_wait(seconds: float) -> None:
    assert not SystemClock().wait(closed_gate(), seconds)
    assert not SystemClock().sleep(seconds, Flag())


def test_an_infinite_wait_is_accepted() -> None:
    """A lock refuses infinity."""
    gate = closed_gate()
    open_gate(gate)
    assert SystemClock().wait(gate, math.inf)
    flag = Flag()
    waker = threading.Thread(target=flag.set)
    waker.start()
    assert flag.wait(math.inf)
    waker.join()


def test_the_fake_clock_advances_where_a_gate_stays_closed() -> None:
    clock, gate = FakeClock(), closed_gate()
    assert not clock.wait(gate, 5.0)
    assert clock.now() == 1005.0
    open_gate(gate)
    assert clock.wait(gate, 5.0)
    assert clock.now() == 1005.0


def test_a_flag_stays_set() -> None:
    flag = Flag()
    assert repr(flag) == "<Flag not set>"
    assert not flag.is_set()
    assert not flag.wait(0.0)
    for _ in range(2):
        flag.set()
        assert flag.is_set()
        assert flag.wait(0.0)
        assert flag.wait(PATIENCE)
    assert repr(flag) == "<Flag set>"


def test_a_sleep_ends_when_its_flag_is_set() -> None:
    for clock in (SystemClock(), FakeClock()):
        flag = Flag()
        assert not clock.sleep(0.001, flag)
        flag.set()
        assert clock.sleep(PATIENCE, flag)
        assert clock.sleep(0.0, flag)
    assert clock.now() == pytest.approx(1000.001)


def test_a_flag_wakes_all_waiting_threads() -> None:
    flag, count = Flag(), 20
    woken: list[bool] = []
    threads = [threading.Thread(target=lambda: woken.append(flag.wait(PATIENCE))) for _ in range(count)]
    for thread in threads:
        thread.start()
    while len(flag._gates) < count:
        assert not woken
    flag.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert woken == [True] * count
    assert not flag._gates


@pytest.mark.usefixtures("_impatient_interpreter")
def test_a_flag_set_while_a_thread_begins_to_wait_is_not_missed() -> None:
    for _ in range(500):
        flag = Flag()
        setter = threading.Thread(target=flag.set)
        setter.start()
        assert flag.wait(PATIENCE)
        setter.join()


def test_an_interrupted_wait_removes_its_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """And changes nothing for the others."""

    class Interrupted:
        def acquire(self, timeout: float = -1) -> bool:
            raise KeyboardInterrupt

    flag = Flag()
    with monkeypatch.context() as patch:
        patch.setattr("cosyclient.clock.closed_gate", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            flag.wait(PATIENCE)
    assert not flag._gates
    flag.set()
    assert flag.wait(PATIENCE)


def test_a_mailbox_keeps_the_order_and_raises_when_it_stays_empty() -> None:
    mailbox = Mailbox[int]()
    for number in range(3):
        mailbox.put(number)
    assert repr(mailbox) == "<Mailbox 3 waiting>"
    assert [mailbox.get(0.0), mailbox.get(PATIENCE), mailbox.get()] == [0, 1, 2]
    for seconds in (-1.0, 0.0, 1e-6):
        with pytest.raises(Empty):
            mailbox.get(seconds)


@pytest.mark.usefixtures("_impatient_interpreter")
@pytest.mark.parametrize("seconds", [1e-6, 1e-4, PATIENCE])
def test_a_mailbox_loses_nothing_and_every_short_wait_ends(seconds: float) -> None:
    """A wait of a microsecond is over before it begins: the queue of the standard library blocks there."""
    mailbox = Mailbox[int]()
    came: list[int] = []

    def write() -> None:
        for number in range(5000):
            mailbox.put(number)

    writer = threading.Thread(target=write)
    writer.start()
    while len(came) < 5000:
        with contextlib.suppress(Empty):
            came.append(mailbox.get(seconds))
    writer.join()
    assert came == list(range(5000))


def test_an_item_whose_put_was_interrupted_is_returned() -> None:
    mailbox = Mailbox[int]()
    mailbox._items.append(1)
    assert mailbox.get() == 1
