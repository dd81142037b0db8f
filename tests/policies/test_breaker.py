"""The breaker: when it opens, how it probes, which results count, and that listeners cannot harm it."""

from __future__ import annotations

import heapq
import logging
import math
import random
import threading
from typing import TYPE_CHECKING, Any

import pybreaker
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.config import BreakerConfig
from cosyclient.errors import CircuitOpen
from cosyclient.policies.breaker import Breaker, BreakerPermit

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1000.0


def make(uniform: Callable[[float, float], float] = lambda low, high: (low + high) / 2, **knobs: Any) -> Breaker:
    """Return a breaker whose jitter is none, unless *uniform* says otherwise."""
    on_change = knobs.pop("on_change", None)
    return Breaker(BreakerConfig(**knobs), name="tts-1", uniform=uniform, on_change=on_change)


def feed(breaker: Breaker, now: float, *, good: int = 0, bad: int = 0) -> None:
    for _ in range(good):
        breaker.acquire(now).record_success(now)
    for _ in range(bad):
        breaker.acquire(now).record_failure(now)


def opened(now: float = NOW, **knobs: Any) -> Breaker:
    """Return a breaker that opened at *now* for 30 s."""
    breaker = make(**knobs)
    feed(breaker, now, bad=20)
    assert breaker.state == "open"
    return breaker


def probing(count: int = 5, now: float = NOW + 30.0, **knobs: Any) -> tuple[Breaker, list[BreakerPermit]]:
    """Return a half-open breaker and *count* of its probes."""
    breaker = opened(**knobs)
    return breaker, [breaker.acquire(now) for _ in range(count)]


def rejection(breaker: Breaker, now: float) -> float:
    """Return the Retry-After with which both `check` and `acquire` reject at *now*."""
    with pytest.raises(CircuitOpen) as checked:
        breaker.check(now)
    with pytest.raises(CircuitOpen) as admitted:
        breaker.acquire(now)
    assert checked.value.retry_after == admitted.value.retry_after
    assert admitted.value.retry_after is not None
    assert not admitted.value.sent
    return admitted.value.retry_after


# Closed


def test_opens_at_twenty_failures_that_are_half() -> None:
    breaker = make()
    feed(breaker, NOW, good=20, bad=19)
    assert breaker.state == "closed"
    feed(breaker, NOW, bad=1)
    assert breaker.state == "open"


def test_calls_in_flight_count_as_calls() -> None:
    """Failures come back at once, successes take a second: nineteen failures of twenty answers do not open it."""
    breaker = make()
    feed(breaker, NOW, bad=1)
    slow = [breaker.acquire(NOW) for _ in range(30)]
    feed(breaker, NOW, bad=24)
    assert breaker.state == "closed"
    for permit in slow[:5]:
        permit.release()
    assert breaker.state == "closed"
    slow[5].record_failure(NOW)
    assert breaker.state == "open"


def test_a_restart_that_resets_all_is_one_failure() -> None:
    """All that was in flight at the first failure fails with it; what was sent after that counts one by one."""
    breaker = make()
    for permit in [breaker.acquire(NOW) for _ in range(200)]:
        permit.record_failure(NOW + 0.1)
    assert repr(breaker) == "<Breaker tts-1: closed, 1 of 1 failed>"
    feed(breaker, NOW + 0.2, bad=18)
    assert breaker.state == "closed"
    feed(breaker, NOW + 0.2, bad=1)
    assert breaker.state == "open"


def test_the_next_restart_is_one_failure_again() -> None:
    """Once the first one is older than the window."""
    breaker = make()
    for now in (NOW, NOW + 40.0, NOW + 80.0):
        for permit in [breaker.acquire(now) for _ in range(200)]:
            permit.record_failure(now)
        assert breaker.state == "closed"


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("share", [0.05, 0.2, 0.3])
def test_failures_by_chance_do_not_open_it(share: float, seed: int) -> None:
    """A service that fails three calls in ten at once and takes its time for the others, forty at a time."""
    dice, breaker, now = random.Random(seed), make(), NOW
    under_way: list[tuple[float, int, bool, BreakerPermit]] = []
    for number in range(2000):
        while len(under_way) < 40:
            failed = dice.random() < share
            until = now + (0.001 if failed else 1.0)
            heapq.heappush(under_way, (until, 40 * number + len(under_way), failed, breaker.acquire(now)))
        now, _, failed, permit = heapq.heappop(under_way)
        permit.record_failure(now) if failed else permit.record_success(now)
        assert breaker.state == "closed"


def test_stays_closed_just_below_the_rate() -> None:
    breaker = make()
    feed(breaker, NOW, good=51, bad=49)
    assert breaker.state == "closed"
    feed(breaker, NOW, bad=2)
    assert breaker.state == "open"


def test_too_few_calls_decide_nothing() -> None:
    breaker = make()
    feed(breaker, NOW, bad=19)
    assert breaker.state == "closed"


def test_success_cannot_open_it() -> None:
    breaker = make()
    feed(breaker, NOW, bad=19)
    feed(breaker, NOW, good=1)
    assert breaker.state == "closed"


def test_counts_failures_not_runs_of_them() -> None:
    breaker = make()
    for _ in range(5):
        feed(breaker, NOW, bad=4, good=1)  # pybreaker's own counter would stay closed for ever
    assert breaker.state == "open"


def test_failures_older_than_the_window_are_forgotten() -> None:
    breaker = make()
    feed(breaker, NOW, bad=19)
    feed(breaker, NOW + 30.0, bad=19)
    assert breaker.state == "closed"
    feed(breaker, NOW + 31.0, bad=1)
    assert breaker.state == "open"


def test_released_permits_do_not_count() -> None:
    breaker = make()
    feed(breaker, NOW, bad=19)
    for _ in range(50):
        breaker.acquire(NOW).release()
    assert breaker.state == "closed"
    feed(breaker, NOW, bad=1)
    assert breaker.state == "open"


@pytest.mark.parametrize("second", ["record_success", "record_failure", "release"])
@pytest.mark.parametrize("first", ["record_success", "record_failure", "release"])
def test_only_the_first_report_of_a_permit_counts(first: str, second: str) -> None:
    def report(permit: BreakerPermit, kind: str) -> None:
        if kind == "release":
            permit.release()
        else:
            getattr(permit, kind)(NOW)

    breaker, other = make(), make()
    for each in (breaker, other):
        permit = each.acquire(NOW)
        report(permit, first)
        if each is breaker:
            report(permit, second)
    assert repr(breaker) == repr(other)


def test_check_issues_no_permit() -> None:
    breaker = opened(probes=1)
    for _ in range(10):
        breaker.check(NOW + 30.0)
    assert breaker.state == "open"
    breaker.acquire(NOW + 30.0)
    assert rejection(breaker, NOW + 30.0) == 30.0


# Open


def test_open_rejects_with_the_time_left() -> None:
    breaker = opened()
    assert rejection(breaker, NOW) == 30.0
    assert rejection(breaker, NOW + 29.5) == 0.5
    with pytest.raises(CircuitOpen, match=r"^tts-1: breaker is open, next probe in 12\.5 s$"):
        breaker.check(NOW + 17.5)


def test_a_rejection_names_the_failure_that_opened_the_breaker() -> None:
    breaker = make(minimum_failures=2, probes=1)
    breaker.acquire(NOW).record_failure(NOW, cause="AttemptTimeout: slow")
    breaker.acquire(NOW).record_failure(NOW, cause="ConnectFailed: refused")
    with pytest.raises(CircuitOpen, match="; it opened after: ConnectFailed: refused$"):
        breaker.check(NOW)
    probe = breaker.acquire(NOW + 30.0)
    with pytest.raises(CircuitOpen, match="is half-open, .* opened after: ConnectFailed: refused$"):
        breaker.check(NOW + 30.0)
    probe.record_failure(NOW + 31.0, cause="ServiceFault: HTTP 503")
    with pytest.raises(CircuitOpen, match="; it opened after: ServiceFault: HTTP 503$"):
        breaker.check(NOW + 31.0)


@pytest.mark.parametrize(("draw", "span"), [(min, 27.0), (max, 33.0)])
def test_open_time_varies_by_the_jitter(draw: Callable[[float, float], float], span: float) -> None:
    assert rejection(opened(uniform=draw), NOW) == pytest.approx(span)


def test_default_jitter_stays_within_its_share() -> None:
    config = BreakerConfig(minimum_failures=1)
    spans = set()
    for _ in range(200):
        breaker = Breaker(config, name="tts-1")
        breaker.acquire(0.0).record_failure(0.0)
        spans.add(rejection(breaker, 0.0))
    assert 27.0 <= min(spans) < 28.0
    assert 32.0 < max(spans) <= 33.0


@pytest.mark.parametrize(
    ("retry_after", "span"),
    [
        (None, 30.0),
        (5.0, 30.0),
        (90.0, 90.0),
        (-90.0, 30.0),
        (math.nan, 30.0),
        (math.inf, 3600.0),
        (1e9, 3600.0),
    ],
)
def test_retry_after_lengthens_the_open_time(retry_after: float | None, span: float) -> None:
    breaker = make(minimum_failures=1)
    breaker.acquire(NOW).record_failure(NOW, retry_after)
    assert rejection(breaker, NOW) == span


def test_retry_after_of_an_earlier_failure_still_counts() -> None:
    breaker = make(minimum_failures=2)
    breaker.acquire(NOW).record_failure(NOW, 90.0)
    breaker.acquire(NOW).record_failure(NOW + 10.0)
    assert rejection(breaker, NOW + 10.0) == 80.0


# Which results count


def test_stale_failure_does_not_prolong_the_outage() -> None:
    breaker = make()
    stragglers = [breaker.acquire(NOW) for _ in range(5)]
    feed(breaker, NOW, bad=20)
    for straggler in stragglers:
        straggler.record_failure(NOW + 20.0, 500.0)
    assert rejection(breaker, NOW + 20.0) == 10.0
    breaker.acquire(NOW + 30.0)
    assert breaker.state == "half-open"


@pytest.mark.parametrize("report", ["record_success", "record_failure"])
def test_stale_result_decides_nothing_half_open(report: str) -> None:
    breaker = make()
    stragglers = [breaker.acquire(NOW) for _ in range(20)]
    feed(breaker, NOW, bad=20)
    breaker.acquire(NOW + 30.0)
    for straggler in stragglers:
        getattr(straggler, report)(NOW + 30.0)
    assert breaker.state == "half-open"


def test_stale_failures_do_not_open_a_closed_one_again() -> None:
    breaker = make()
    stragglers = [breaker.acquire(NOW) for _ in range(20)]
    feed(breaker, NOW, bad=20)
    feed(breaker, NOW + 30.0, good=5)
    assert breaker.state == "closed"
    for straggler in stragglers:
        straggler.record_failure(NOW + 30.0)
    assert breaker.state == "closed"


def test_a_stale_release_allows_no_probe() -> None:
    breaker = make()
    stragglers = [breaker.acquire(NOW) for _ in range(5)]
    feed(breaker, NOW, bad=20)
    for _ in range(5):
        breaker.acquire(NOW + 30.0)
    for straggler in stragglers:
        straggler.release()
    assert rejection(breaker, NOW + 30.0) == 30.0


# Half-open


def test_exactly_the_configured_probes_pass() -> None:
    breaker, probes = probing(5)
    assert breaker.state == "half-open"
    assert len(probes) == 5
    assert rejection(breaker, NOW + 31.0) == 29.0


def test_a_released_probe_may_be_sent_again() -> None:
    breaker, probes = probing(5)
    probes[0].release()
    probes[0].release()
    breaker.check(NOW + 30.0)
    breaker.acquire(NOW + 30.0)
    assert rejection(breaker, NOW + 30.0) == 30.0


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ("FF", "half-open"),
        ("FFF", "open"),
        ("SS", "half-open"),
        ("SSS", "closed"),
        ("FFSS", "half-open"),
        ("FFSSS", "closed"),
        ("SSFFF", "open"),
    ],
)
def test_the_state_changes_as_soon_as_the_result_is_certain(results: str, state: str) -> None:
    breaker, probes = probing(5)
    for probe, result in zip(probes, results, strict=False):
        if result == "S":
            probe.record_success(NOW + 31.0)
        else:
            probe.record_failure(NOW + 31.0)
    assert breaker.state == state


@settings(deadline=None)
@given(st.floats(0.01, 1.0), st.integers(1, 12), st.data())
def test_any_full_set_of_results_changes_the_state(rate: float, count: int, data: st.DataObject) -> None:
    failed = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    breaker, probes = probing(count, probes=count, failure_rate=rate)
    for probe, bad in zip(probes, failed, strict=True):
        if bad:
            probe.record_failure(NOW + 31.0)
        else:
            probe.record_success(NOW + 31.0)
    assert breaker.state == ("open" if sum(failed) / count >= rate else "closed")


def test_it_reopens_for_the_whole_time_or_as_long_as_asked() -> None:
    breaker, probes = probing(5)
    probes[0].record_failure(NOW + 31.0, 100.0)
    for probe in probes[1:3]:
        probe.record_failure(NOW + 32.0)
    assert rejection(breaker, NOW + 32.0) == 99.0


def test_closing_starts_with_an_empty_window() -> None:
    breaker = make(open_for=1.0)
    feed(breaker, NOW, bad=20)
    feed(breaker, NOW + 1.0, good=3)
    feed(breaker, NOW + 1.0, bad=19)
    assert breaker.state == "closed"


def test_closing_forgets_the_retry_after_of_a_probe() -> None:
    breaker = make(minimum_failures=1)
    feed(breaker, NOW, bad=1)
    breaker.acquire(NOW + 30.0).record_failure(NOW + 30.0, 500.0)
    feed(breaker, NOW + 30.0, good=3)
    assert breaker.state == "closed"
    feed(breaker, NOW + 31.0, bad=1)
    assert rejection(breaker, NOW + 31.0) == 30.0


def test_probes_that_do_not_report_do_not_keep_it_half_open_for_ever() -> None:
    breaker, silent = probing(5)
    assert rejection(breaker, NOW + 59.0) == 1.0
    renewed = [breaker.acquire(NOW + 60.0) for _ in range(5)]
    assert rejection(breaker, NOW + 60.0) == 60.0  # an endpoint may be slower than that: twice the time
    for probe in silent:
        probe.record_success(NOW + 60.0)
    assert breaker.state == "half-open"
    for probe in renewed:
        probe.record_success(NOW + 100.0)
    assert breaker.state == "closed"


def test_the_probe_timeout_begins_with_the_last_probe() -> None:
    breaker, probes = probing(4)
    probes.append(breaker.acquire(NOW + 80.0))
    assert rejection(breaker, NOW + 80.1) == pytest.approx(29.9)
    for probe in probes:
        probe.record_success(NOW + 81.0)
    assert breaker.state == "closed"


def test_the_probe_timeout_is_the_configured_one_after_the_next_opening() -> None:
    breaker, _ = probing(5)
    for _ in range(5):
        breaker.acquire(NOW + 60.0).record_failure(NOW + 60.0) if breaker.state == "half-open" else None
    assert breaker.state == "open"
    for _ in range(5):
        breaker.acquire(NOW + 90.0)
    assert rejection(breaker, NOW + 90.0) == 30.0


# Listeners, and pybreaker


class Recorder(pybreaker.CircuitBreakerListener):
    def __init__(self) -> None:
        self.changes: list[tuple[str | None, str]] = []

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        self.changes.append((old_state.name if old_state else None, new_state.name))


class RaisingListener(pybreaker.CircuitBreakerListener):
    def state_change(self, *_: object) -> None:
        raise RuntimeError("a bug of the listener")


ALL_CHANGES = [("closed", "open"), ("open", "half-open"), ("half-open", "open"), ("open", "half-open")]
ALL_CHANGES += [("half-open", "closed")]


def make_all_changes(breaker: Breaker) -> None:
    feed(breaker, NOW, bad=20)
    feed(breaker, NOW + 30.0, bad=3)
    feed(breaker, NOW + 60.0, good=3)


def test_every_listener_receives_every_change_in_order() -> None:
    changes: list[tuple[str, str]] = []
    breaker = make(on_change=lambda old, new: changes.append((old, new)))
    recorder = Recorder()
    breaker.circuit_breaker.add_listener(recorder)
    make_all_changes(breaker)
    assert changes == ALL_CHANGES
    assert recorder.changes == ALL_CHANGES


def test_pybreaker_mirrors_the_state() -> None:
    breaker = make()
    shown = []
    for action in (
        lambda: None,
        lambda: feed(breaker, NOW, bad=20),
        lambda: breaker.acquire(NOW + 30.0),
        lambda: feed(breaker, NOW + 30.0, good=3),
    ):
        action()
        shown.append((breaker.circuit_breaker.current_state, breaker.circuit_breaker.state.name, breaker.state))
    assert shown == [(state,) * 3 for state in ("closed", "open", "half-open", "closed")]
    assert breaker.circuit_breaker.name == "tts-1"


def test_raising_listeners_harm_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def raise_broken(_old: str, _new: str) -> None:
        raise RuntimeError("a bug of the listener")

    breaker = make(on_change=raise_broken)
    recorder = Recorder()
    breaker.circuit_breaker.add_listeners(RaisingListener(), recorder)
    with caplog.at_level(logging.ERROR, "cosyclient"):
        make_all_changes(breaker)
    assert recorder.changes == ALL_CHANGES
    assert breaker.state == "closed"
    assert breaker.circuit_breaker.current_state == "closed"
    assert len(caplog.records) == 2 * len(ALL_CHANGES)


def test_listener_can_be_removed() -> None:
    breaker = make()
    recorder, stranger = Recorder(), Recorder()
    breaker.circuit_breaker.add_listener(recorder)
    breaker.circuit_breaker.remove_listener(recorder)
    make_all_changes(breaker)
    assert recorder.changes == []
    with pytest.raises(ValueError, match="not a listener"):
        breaker.circuit_breaker.remove_listener(stranger)


def test_listener_may_use_the_breaker() -> None:
    """No lock is held, and a change made by a listener is reported after the one it was called for."""
    changes: list[tuple[str, str]] = []

    def probe(old: str, new: str) -> None:
        changes.append((old, new))
        repr(breaker)
        if new == "half-open":
            feed(breaker, NOW + 30.0, good=3)

    breaker = make(on_change=probe)
    feed(breaker, NOW, bad=20)
    breaker.acquire(NOW + 30.0)
    assert changes == [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]
    assert breaker.state == breaker.circuit_breaker.current_state == "closed"


def test_interrupted_listener_costs_no_permit() -> None:
    def interrupt(_old: str, new: str) -> None:
        if new == "half-open":
            raise KeyboardInterrupt

    breaker = opened(on_change=interrupt, probes=1)
    permit = BreakerPermit(breaker)
    with pytest.raises(KeyboardInterrupt):
        breaker.acquire(NOW + 30.0, permit)
    assert rejection(breaker, NOW + 30.0) == 30.0  # it was acquired; its holder releases it
    permit.release()
    breaker.acquire(NOW + 30.0).record_success(NOW + 30.0)
    assert breaker.state == breaker.circuit_breaker.current_state == "closed"


@pytest.mark.parametrize("report", ["record_success", "record_failure", "release"])
@pytest.mark.parametrize("state", ["closed", "open", "half-open"])
def test_reports_of_a_permit_that_was_never_acquired_change_nothing(state: str, report: str) -> None:
    """Neither before `acquire` nor after it was rejected: an interrupted caller need not know how far it came."""
    breaker = make(minimum_failures=1, probes=1)
    feed(breaker, NOW, good=1, bad=state != "closed")
    if state == "half-open":
        breaker.acquire(NOW + 30.0)
    permit, now, before = BreakerPermit(breaker), NOW + 30.0 * (state == "half-open"), repr(breaker)
    assert breaker.state == state
    for _ in range(2):
        permit.release() if report == "release" else getattr(permit, report)(now)
        assert repr(breaker) == before
        if state != "closed":
            with pytest.raises(CircuitOpen):
                breaker.acquire(now, permit)


def test_a_permit_made_beforehand_is_the_one_that_is_acquired() -> None:
    breaker = make()
    permit = BreakerPermit(breaker)
    assert repr(permit) == "<BreakerPermit, none>"
    assert breaker.acquire(NOW, permit) is permit
    assert repr(permit) == "<BreakerPermit of state 0>"
    permit.record_failure(NOW)
    assert repr(breaker) == "<Breaker tts-1: closed, 1 of 1 failed>"


def test_a_change_made_as_the_reporting_thread_returns_is_reported() -> None:
    """Another thread makes it after the reporting one saw that nothing is left, and before it has returned."""
    changes: list[tuple[str, str]] = []
    breaker = make(on_change=lambda old, new: changes.append((old, new)), probes=1)
    real = breaker._lock

    class LockWithARace:
        def __enter__(self) -> None:
            real.acquire()

        def __exit__(self, *_: object) -> None:
            real.release()
            # The first release of the lock after the change was reported.
            if changes and pending:
                pending.clear()
                other = threading.Thread(target=lambda: breaker.acquire(NOW + 30.0))
                other.start()
                other.join()

    pending = [True]
    breaker._lock = LockWithARace()  # type: ignore[assignment]
    feed(breaker, NOW, bad=20)
    assert breaker.state == "half-open"
    assert changes == [("closed", "open"), ("open", "half-open")]


def test_wall_clock_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidden:
        @staticmethod
        def now(_zone: object) -> str:
            return "not a date"

    monkeypatch.setattr(pybreaker, "datetime", Forbidden)
    breaker = make()
    make_all_changes(breaker)
    assert breaker.state == "closed"


# Against a model that remembers every call


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 3.0, 31.0]), st.booleans()), max_size=80),
    st.integers(1, 10),
    st.sampled_from([0.1, 0.3, 0.5, 1.0]),
)
def test_opens_exactly_when_the_model_says_so(script: list[tuple[float, bool]], minimum: int, rate: float) -> None:
    breaker = make(minimum_failures=minimum, failure_rate=rate)
    now = NOW
    seen: list[tuple[float, bool]] = []
    for gap, failed in script:
        now += gap
        permit = breaker.acquire(now)
        if failed:
            permit.record_failure(now)
        else:
            permit.record_success(now)
        seen.append((now, failed))
        kept = [bad for at, bad in seen if at // 1.0 > now // 1.0 - 30]
        # A success cannot open it: it does so at the failure that is one too many.
        if failed and sum(kept) >= minimum and sum(kept) / len(kept) >= rate:
            assert breaker.state == "open"
            return
        assert breaker.state == "closed"


def test_repr_reads_like_a_status_line() -> None:
    breaker = make()
    feed(breaker, NOW, good=1, bad=1)
    assert repr(breaker) == "<Breaker tts-1: closed, 1 of 2 failed>"
    feed(breaker, NOW, bad=19)
    assert repr(breaker) == "<Breaker tts-1: open until 1030.000>"
    probe = breaker.acquire(NOW + 30.0)
    assert repr(breaker) == "<Breaker tts-1: half-open, 4 of 5 probes left, 0 failed>"
    assert repr(probe) == "<BreakerPermit of state 2>"
    probe.record_failure(NOW + 30.0)
    assert repr(breaker) == "<Breaker tts-1: half-open, 4 of 5 probes left, 1 failed>"
    assert repr(probe) == "<BreakerPermit, none>"
