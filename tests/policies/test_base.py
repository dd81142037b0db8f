"""The sliding window against a list of all outcomes, and what the policies share."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.policies.base import SlidingWindow

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


def test_an_older_instant_joins_the_newest_bucket() -> None:
    window = SlidingWindow(30.0)
    window.record(100.5, failed=False)
    window.record(99.9, failed=True)
    assert (window.calls, window.failures) == (2, 1)
    window.forget(129.9)
    assert window.calls == 2
    window.forget(130.0)
    assert (window.calls, window.failures) == (0, 0)


def test_clearing_removes_everything() -> None:
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
