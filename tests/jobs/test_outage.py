"""An outage: when it begins and ends, and what is announced of it."""

from __future__ import annotations

import time

import pytest

from cosyclient.errors import CircuitOpen, ConnectFailed
from cosyclient.jobs.outage import OutageState


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time of the module, as a list of one."""
    seconds = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_wait_is_announced_repeated_and_ended(now: list[float]) -> None:
    announced: list[str] = []
    outage = OutageState(300.0, announced.append)
    outage.begin(ConnectFailed("refused"))
    outage.announce_wait(CircuitOpen("open"))
    now[0] += 10.0
    outage.announce_again()
    now[0] += 20.0
    outage.announce_again()
    outage.announce_again()
    down = [outage.is_down]
    outage.end()
    outage.end()
    assert [*down, outage.is_down] == [True, False]
    assert announced == [
        "waiting for the service, 300 s at most (--wait-for-service): ConnectFailed: refused",
        "still waiting for the service, 30 s by now",
        "the service answers again, after 30 s",
    ]


def test_without_a_wait_nothing_is_announced_and_every_outage_is_long_enough(now: list[float]) -> None:
    announced: list[str] = []
    outage = OutageState(0.0, announced.append)
    waited = [outage.waited_long_enough]
    outage.begin(CircuitOpen("open"))
    outage.announce_wait(CircuitOpen("open"))
    assert [*waited, outage.waited_long_enough] == [False, True]
    assert not announced


def test_the_wait_is_over_shortly_before_its_end(now: list[float]) -> None:
    """Texts whose timeout is as long as the wait fail a little before it ends."""
    outage = OutageState(100.0, lambda _: None)
    outage.begin(ConnectFailed("refused"))
    now[0] += 89.0
    waited = [outage.waited_long_enough]
    now[0] += 1.0
    assert [*waited, outage.waited_long_enough] == [False, True]


def test_a_speech_ends_an_outage_unless_it_was_requested_before(now: list[float]) -> None:
    outage = OutageState(300.0, lambda _: None)
    outage.begin(ConnectFailed("refused"))
    now[0] += 1.0
    outage.end_by_speech()
    down = [outage.is_down]
    now[0] += 2.0
    outage.end_by_speech()
    assert [*down, outage.is_down] == [True, False]


def test_the_cause_is_the_last_error_that_tells_one() -> None:
    outage = OutageState(300.0, lambda _: None)
    failure = ConnectFailed("refused")
    outage.observe(failure)
    outage.begin(CircuitOpen("open"))
    assert outage.cause is failure
