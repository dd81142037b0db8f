"""The sliding window against a list that remembers everything; refusals by chance and by a limit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.policies.base import Refusals, SlidingWindow

outcomes = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.01, 0.5, 0.999, 1.0, 1.001, 7.0, 30.0, 31.0]) | st.floats(0.0, 40.0), st.booleans()
    ),
    max_size=60,
)


@settings(deadline=None)
@given(outcomes)
def test_counts_are_those_of_the_last_thirty_buckets(script: list[tuple[float, bool]]) -> None:
    window = SlidingWindow(30.0)
    now = 1000.0
    seen: list[tuple[float, bool]] = []
    for gap, failed in script:
        now += gap
        window.record(now, failed=failed)
        seen.append((now, failed))
        kept = [bad for at, bad in seen if at // 1.0 > now // 1.0 - 30]
        assert (window.calls, window.failures) == (len(kept), sum(kept))
        assert window.calls >= sum(now - at < 29.0 for at, _ in seen)
        assert window.calls <= sum(now - at < 30.0 for at, _ in seen)


def test_older_instant_joins_the_newest_bucket() -> None:
    window = SlidingWindow(30.0)
    window.record(100.5, failed=False)
    window.record(99.9, failed=True)
    assert (window.calls, window.failures) == (2, 1)
    window.forget(129.9)
    assert window.calls == 2
    window.forget(130.0)
    assert (window.calls, window.failures) == (0, 0)


def test_clearing_forgets() -> None:
    window = SlidingWindow(30.0)
    window.record(1.0, failed=True)
    window.clear()
    assert (window.calls, window.failures) == (0, 0)
    window.record(1.0, failed=False)
    assert (window.calls, window.failures) == (1, 0)


def test_memory_does_not_grow_with_calls() -> None:
    window = SlidingWindow(3.0)
    for step in range(10_000):
        window.record(step * 0.01, failed=False)
        window.record(step * 0.01 - 0.1, failed=False)  # a thread that read the clock earlier
    assert len(window._buckets) <= 30


def test_repr_reads_like_a_status_line() -> None:
    window = SlidingWindow(30.0)
    window.record(1.0, failed=True)
    window.record(1.0, failed=False)
    assert repr(window) == "<SlidingWindow 1 of 2 failed>"


# A limit or chance


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
def test_chance_refuses_the_same_share_whatever_is_asked(
    sent: int, refused: int, sent_below: int, refused_below: int, chance: bool
) -> None:
    """A quota refuses less of what is below; too few, or too many, say nothing."""
    refusals = counted(sent=sent, refused=refused, sent_below=sent_below, refused_below=refused_below)
    assert refusals.by_chance is chance


def test_sudden_refusals_are_no_chance() -> None:
    """As many as there would be by chance, but all of them at once: something has changed."""
    refusals = counted(sent=200, refused=10, sent_below=190, refused_below=2)
    for _ in range(8):
        refusals.record(below=True, refused=True)
    assert not refusals.by_chance


def test_many_refusals_below_are_no_chance() -> None:
    """Then what had been accepted no longer is; one in five is not many."""
    refusals = Refusals()
    for turn in range(400):
        refusals.record(below=True, refused=turn % 5 == 0)
        assert not refusals.many_below
    for turn in range(40):
        refusals.record(below=True, refused=bool(turn % 2))
    assert refusals.many_below
    assert repr(Refusals()) == "<Refusals 0 of 0, below 0 of 0>"


def test_old_refusals_fade() -> None:
    """After some thousand sends that were accepted, chance is not what it was."""
    refusals = counted(sent=400, refused=40, sent_below=400, refused_below=40)
    assert refusals.by_chance
    for _ in range(8000):
        refusals.record(below=True, refused=False)
    assert not refusals.by_chance
