"""The storm benchmark's arithmetic on made-up logs, and that each of its clients tries as often as it should."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.peers.urllib3_retry import Slept, Urllib3RetryClient
from benchmarks.suites.storm import report as storm_words
from benchmarks.suites.storm import run as storm
from benchmarks.suites.storm.clients import CLIENTS, Call, Log, Weather, weather
from cosyclient.emulator import Emulator, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRIES = {"ours": 4, "budget": 4, "bare": 4, "urllib3": 4, "report": 3}


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """Run a service without limits."""
    with running(engine="tone") as emulator:
        yield emulator


def log(bad: range, changes: list[tuple[float, str]] | None = None) -> Log:
    """Return one call every 0.1 s from 100 s on for 20 s; those numbered in *bad* failed."""
    calls = [Call(100 + n / 10, 100 + n / 10 + 0.05, "ServiceFault" if n in bad else "") for n in range(200)]
    return Log(calls=calls, changes=changes or [])


def rows() -> list[dict[str, object]]:
    """Return a row per client and share."""
    return [
        storm._row(client, failing, log(range(round(failing * 200))), 200 * (1 if client == "ours" else 3))
        for client in CLIENTS
        for failing in storm.SHARES
    ]


def test_each_share_of_failures_is_the_median_of_its_runs() -> None:
    """And the spread is that of the amplification."""
    runs = [*rows(), *rows(), *rows()]
    runs[0]["amplification"], runs[30]["amplification"] = 1.5, 1.2
    found = storm.medians(runs)
    assert len(found) == len(CLIENTS) * len(storm.SHARES)
    first = found[0]
    assert (first["client"], first["share"], first["wanted"]) == ("ours", 0.01, 200)
    assert (first["lowest"], first["amplification"], first["highest"]) == (1.0, 1.2, 1.5)
    assert first["errors"] == {"ServiceFault": 2}


def test_an_outage_is_told_by_what_the_service_heard_and_when_calls_succeed_again() -> None:
    """The breaker opened at 105 s, probed at 109 s and, after the recovery at 110 s, closed at 112 s."""
    changes = [(105.0, "open"), (109.0, "half-open"), (109.1, "open"), (112.0, "half-open"), (112.1, "closed")]
    looks = [(100.2 + n / 5, min(n, 30)) for n in range(49)]
    told = storm.story("ours", log(range(121), changes), looks, 100.0, 110.0)
    assert (told.wanted, told.heard, told.probes) == (100, 30, 5)
    assert told.heard_open == 3
    assert told.lost_after == 21
    assert told.opening == pytest.approx(2.0)
    assert told.back == pytest.approx(2.1)
    assert told.beyond == pytest.approx(0.1)
    assert told.goodput[0] == (0.0, 0.0)
    assert told.goodput[-1] == (19.0, 1.0)


def test_a_client_that_never_comes_back_has_no_time_for_it() -> None:
    """Not even when it does well for a while in between."""
    assert storm.back_after(log(range(100, 200)), 110.0) is None
    relapsing = log(range(160, 200))
    assert storm.back_after(relapsing, 110.0) is None
    assert storm.back_after(log(range(100)), 110.0) == 0.0


def test_tables_and_conclusions_say_what_is_missed() -> None:
    """A target that is missed is named so."""
    found = storm.medians(rows())
    lines = storm_words.tabulate(found).splitlines()
    assert len(lines) == 3 + len(found)
    assert " ".join(lines[3].split()) == "ours 1.00 % 200 200 1.00 – 99.0 % 0 0 2 0 µs"
    assert lines[6].split()[-1] == "yes"
    good = storm.story("ours", log(range(121), [(105.0, "open"), (112.0, "half-open")]), [(109.0, 9)], 100.0, 110.0)
    told = storm_words.conclusions(found, [good])
    assert told.count("MISSED") == 0
    for row in found:
        row["amplification"] = 1.2
    lost = storm.story("ours", log(range(200)), [(109.0, 9)], 100.0, 110.0)
    assert storm_words.conclusions(found, [lost]).count("MISSED") == 3
    assert "–" in storm_words.tabulate_outage([lost])


def test_the_picture_names_every_client(tmp_path: Path) -> None:
    """Lines are labelled at their ends, the outage in its legend."""
    outages = [storm.story(name, log(range(121)), [(109.0, 700)], 100.0, 110.0) for name in CLIENTS]
    storm_words.draw(tmp_path / "storm.svg", storm.medians(rows()), outages, storm.QUICK, machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "storm.svg").getroot().itertext())
    for words in ("ours 1.00", "report 3.00", "target 1.1", "urllib3: 700 requests for 100 calls"):
        assert words in drawn


@pytest.mark.parametrize("client", CLIENTS)
def test_each_client_makes_its_calls_and_counts_how_they_end(service: Emulator, client: str) -> None:
    """Where all is well one request a call; where nothing is, as many as its tries."""
    order = Weather(client=client, url=service.url, audio="opus", rate=100.0, seconds=0.2, open_for=1.0)
    service.reset()
    well = weather(order)
    assert (len(well.calls), well.succeeded, well.slept) == (20, 20, 0.0)
    assert service.counters().requests == 20

    service.reset()
    service.inject("error", count=1000)
    one = weather(Weather(client=client, url=service.url, audio="opus", rate=100.0, seconds=0.01, open_for=1.0))
    assert (len(one.calls), one.succeeded, one.errors.total()) == (1, 0, 1)
    assert one.slept > 0
    assert service.counters().requests == TRIES[client]
    service.reset()


def test_the_urllib3_client_retries_posts_and_counts_its_sleep(service: Emulator) -> None:
    """The first retry is at once, the second after 0.4 s."""
    service.reset()
    service.inject("error", count=2)
    with Urllib3RetryClient(service.url, format="opus") as client:
        assert client.synthesize("你好")
        assert client.slept.seconds == pytest.approx(0.4)
    assert service.counters().requests == 3
    assert repr(client.slept) == "<Slept 0.4 s>"
    assert repr(Slept()) == "<Slept 0.0 s>"
