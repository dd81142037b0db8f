"""Refusals by chance and by a limit, told apart."""

from __future__ import annotations

import pytest

from cosyclient.policies.ratelimit.refusals import Refusals


def counted(*, sent: int, refused: int, sent_below: int, refused_below: int) -> Refusals:
    """Return what was counted, spread evenly."""
    refusals = Refusals()
    for below, count, bad in ((False, sent, refused), (True, sent_below, refused_below)):
        for number in range(count):
            refusals.record(below=below, refused=number * bad // count != (number + 1) * bad // count)
    return refusals


@pytest.mark.parametrize(
    ("sent", "refused", "sent_below", "refused_below", "chance"),
    [
        (200, 10, 200, 10, True),
        (400, 4, 400, 4, True),
        (200, 40, 100, 20, True),
        (200, 10, 200, 0, False),
        (200, 40, 200, 4, False),
        (200, 80, 200, 80, False),
        (49, 5, 200, 20, False),
        (200, 10, 49, 5, False),
        (200, 4, 200, 3, False),
    ],
)
def test_chance_refuses_the_same_share_at_any_rate(
    sent: int, refused: int, sent_below: int, refused_below: int, chance: bool
) -> None:
    """A quota refuses less of what is below; too few, or too many, decide nothing."""
    refusals = counted(sent=sent, refused=refused, sent_below=sent_below, refused_below=refused_below)
    assert refusals.by_chance is chance


def test_sudden_refusals_are_not_by_chance() -> None:
    """As many as by chance, but all of them at once: something has changed."""
    refusals = counted(sent=200, refused=10, sent_below=190, refused_below=2)
    for _ in range(8):
        refusals.record(below=True, refused=True)
    assert not refusals.by_chance


def test_many_refusals_below_are_not_by_chance() -> None:
    """The proven rate is no longer accepted; one in five is not many."""
    refusals = Refusals()
    for turn in range(400):
        refusals.record(below=True, refused=turn % 5 == 0)
        assert not refusals.many_below
    for turn in range(40):
        refusals.record(below=True, refused=bool(turn % 2))
    assert refusals.many_below
    assert repr(Refusals()) == "<Refusals 0 of 0, below 0 of 0>"


def test_old_refusals_fade() -> None:
    """After some thousand accepted sends refusals are no longer put down to chance."""
    refusals = counted(sent=400, refused=40, sent_below=400, refused_below=40)
    assert refusals.by_chance
    for _ in range(8000):
        refusals.record(below=True, refused=False)
    assert not refusals.by_chance
