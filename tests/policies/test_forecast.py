"""The forecast: what the pace of a service says of the next attempt, and when it must say nothing."""

from __future__ import annotations

import math

import pytest

from cosyclient.batch import NOTHING_KNOWN
from cosyclient.config import AdaptiveConfig
from cosyclient.policies.forecast import Departure, Forecast

CONFIG = AdaptiveConfig(batch_time=2.0, margin=2.0)


def busy(turns: int = 40) -> tuple[Forecast, list[Departure], float]:
    """Return a forecast after *turns* batches of 128 s of audio, 2 s each, two in flight at any time; and now."""
    forecast, now = Forecast(CONFIG), 0.0
    departures = [forecast.leave(128.0, now)]
    for _ in range(turns):
        departures.append(forecast.leave(128.0, now))
        now += 2.0
        forecast.arrive(departures.pop(0), now)
    return forecast, departures, now


def test_nothing_is_known_at_first() -> None:
    """Nobody is refused, nothing is capped."""
    forecast = Forecast(CONFIG)
    assert forecast.prospect(0.0) is NOTHING_KNOWN
    forecast.leave(4.0, 0.0)
    assert forecast.prospect(10.0) is NOTHING_KNOWN
    assert repr(forecast) == "<Forecast 0.000 s ± 0.000 s, 4 s of audio in flight, 0 a second>"


def test_a_busy_service_is_forecast_by_what_is_in_flight() -> None:
    """64 audio seconds a second: a batch takes 2 s of work, and one is ahead."""
    forecast, _, now = busy()
    prospect = forecast.prospect(now)
    assert forecast.throughput == pytest.approx(64.0, rel=0.1)
    assert prospect.audio == pytest.approx(128.0, rel=0.1)
    assert prospect.ample == pytest.approx(4.0 * 1.25, rel=0.15)
    assert 3.0 < prospect.least <= 4.0
    assert prospect.patience == pytest.approx(16.0, rel=0.1)
    assert not prospect.newest_first


def test_others_that_are_about_to_leave_count() -> None:
    """A second permit came free at the same moment: its batch will be ahead, too."""
    forecast, _, now = busy()
    assert forecast.prospect(now, granted=3).ample > forecast.prospect(now, granted=2).ample + 1.5


def test_a_quick_service_never_caps_a_batch() -> None:
    """0.2 s for whatever is asked: no cap, and a text with 0.6 s left may go."""
    forecast, now = Forecast(CONFIG), 0.0
    for seconds in (4.0, 256.0, 64.0, 4.0, 256.0):
        departure = forecast.leave(seconds, now)
        now += 0.2
        forecast.arrive(departure, now)
    prospect = forecast.prospect(now)
    assert prospect.audio == math.inf
    assert prospect.least <= 0.2
    assert prospect.ample <= 0.6


def test_old_knowledge_refuses_nobody() -> None:
    """With nothing in flight a second is old, or nothing would ever be learned again; the cap stays."""
    forecast, departures, now = busy()
    assert forecast.prospect(now + 7.0).ample > 0
    assert forecast.prospect(now + 9.0).ample == 0
    forecast.arrive(departures.pop(), now + 2.0)
    assert forecast.prospect(now + 2.5).ample > 0
    later = forecast.prospect(now + 3.5)
    assert (later.least, later.ample) == (0.0, 0.0)
    assert later.audio < math.inf


def test_abandoned_work_still_keeps_the_service_busy() -> None:
    """Cut off by our deadline with 100 s of audio missing: whoever comes next waits for that as well."""
    forecast, departures, now = busy()
    before = forecast.prospect(now).ample
    forecast.lose(departures.pop(), 28.0, now, abandoned=True)
    after = forecast.prospect(now)
    # 128 s less in flight, 100 s of them still to be rendered.
    assert after.ample == pytest.approx(before - 28.0 / 64 * 1.25, rel=0.1)
    assert forecast.prospect(now + 0.8).ample < after.ample - 0.8
    forecast.arrive(forecast.leave(64.0, now + 0.8), now + 0.9)
    assert forecast.prospect(now + 0.9).ample <= 2.5


def test_a_failure_of_the_service_leaves_nothing_behind() -> None:
    """A 500 is no work for nobody."""
    forecast, departures, now = busy()
    forecast.lose(departures.pop(), 0.0, now, abandoned=False)
    assert forecast.prospect(now).ample < 2.8


def test_attempts_that_come_to_nothing_one_after_the_other_are_a_collapse() -> None:
    """Once per event; then the newest goes first, alone, half as long; the first answer ends it."""
    forecast = Forecast(CONFIG)
    together = [forecast.leave(128.0, 0.0) for _ in range(4)]
    assert [forecast.lose(each, 0.0, 10.0, abandoned=True) for each in together] == [False, True, False, False]
    stuck = forecast.prospect(10.0)
    assert (stuck.newest_first, stuck.audio, stuck.least) == (True, 64.0, 0.0)
    assert forecast.lose(forecast.leave(64.0, 10.0), 0.0, 20.0, abandoned=True)
    assert forecast.prospect(20.0).audio == 32.0
    forecast.arrive(forecast.leave(32.0, 20.0), 21.0)
    back = forecast.prospect(21.0)
    assert not back.newest_first
    assert back.audio == 64.0


@pytest.mark.parametrize(("returned", "after"), [(100.0, 10.0), (0.0, 0.5)])
def test_half_an_answer_and_a_change_of_mind_are_no_collapse(returned: float, after: float) -> None:
    """What had mostly come, and what was taken back at once, say nothing of the service."""
    forecast = Forecast(CONFIG)
    for turn in range(5):
        departure = forecast.leave(128.0, 20.0 * turn)
        assert not forecast.lose(departure, returned, 20.0 * turn + after, abandoned=True)


def test_forecasts_that_were_too_short_widen_the_margin() -> None:
    """The service is half as fast as it was: more time must be left than the pace says."""
    forecast, departures, now = busy()
    exact = forecast.prospect(now).ample
    for _ in range(2):
        departures.append(forecast.leave(128.0, now))
        now += 4.0
        forecast.arrive(departures.pop(0), now)
    assert forecast.prospect(now).ample > exact + 2.0


def test_it_reads_like_a_status_line() -> None:
    """Latency, deviation, work in flight, pace."""
    forecast, departures, now = busy()
    forecast.arrive(departures.pop(), now + 2.0)
    assert repr(forecast).startswith("<Forecast 4.000 s ± 0.")
    assert repr(forecast).endswith(" 0 s of audio in flight, 64 a second>")
