"""The chaos: twenty seconds of it, and the arithmetic by which it tells a loss from a reason. Counts only."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.suites.chaos.callers import Caller, Job
from benchmarks.suites.chaos.disruptions import close_amid, fork, held
from benchmarks.suites.chaos.protocols import WAYS, Way
from benchmarks.suites.chaos.records import SHORT, Entry, Trouble, reason, row_of
from benchmarks.suites.chaos.report import conclusions, draw, tabulate
from benchmarks.suites.chaos.run import QUICK, measure
from benchmarks.suites.chaos.service import TROUBLES, timetable
from cosyclient import CircuitOpen, CosyClient, DeadlineExceeded, Rejected, ServiceFault
from cosyclient.emulator import running
from cosyclient.emulator.speech.echo import echo_samples

if TYPE_CHECKING:
    from pathlib import Path

SPAN = 100.0
BATCH = next(way for way in WAYS if way.protocol == "batch")


@pytest.mark.timeout(240)
def test_twenty_seconds_of_everything_lose_no_text() -> None:
    """With a seed of its own each time: the message of a failure names it."""
    seed = random.randrange(1_000_000)
    # Interrupts are tried one by one in tests/concurrency/test_interrupts.py; `python -m benchmarks chaos` has both.
    document = measure(replace(QUICK, interrupts=False), seed)
    assert document["findings"] == [], f"python -m benchmarks chaos --seconds 20 --seed {seed}"
    assert document["behind"] == {}, seed
    assert [row["protocol"] for row in document["rows"]] == [way.protocol for way in WAYS]
    for row in document["rows"]:
        assert row["spoken"] > 0, (seed, row)
        assert row["texts"] == row["spoken"] + row["failed"] + row["interrupted"] + row["cancelled"], (seed, row)


def entry(error: BaseException | None = None, **values: Any) -> Entry:
    """Return a text asked for in the batch protocol that ended now with *error*."""
    found = Entry(**{"protocol": "batch", "text": "hello", "call": "synthesize", "timeout": 15.0, **values})
    if error is not None:
        found.fails(error)
    return found


def test_a_fault_explains_its_own_errors_while_it_lasts() -> None:
    """And nothing explains what happens in good times."""
    failed = entry(ServiceFault("HTTP 500"))
    during = Trouble(kind="error", began=failed.began - 1.0, ended=failed.ended + 1.0)
    assert reason(failed, [during]) == "error"
    assert reason(failed, []) is None
    assert reason(failed, [replace(during, ended=failed.began - 0.1)]) is None
    assert reason(failed, [replace(during, kind="reset")]) is None
    assert reason(entry(CircuitOpen("open")), [replace(during, kind="reset", ended=float("inf"))]) == "reset"


def test_what_we_do_ourselves_is_a_reason_for_that_text_only() -> None:
    """A timeout that was too short, a client that was closed, a text that was taken back."""
    assert reason(entry(DeadlineExceeded("late"), timeout=SHORT), []) == "short deadline"
    assert reason(entry(DeadlineExceeded("late")), []) is None
    assert entry(Rejected("cancelled by its caller"), leaving=True).ending == "cancelled"
    assert entry(Rejected("cancelled by its caller")).ending == "failed"


def test_audio_is_a_texts_own_or_wrong() -> None:
    """The echo says which; the first ending counts."""
    right, wrong, cut = entry(), entry(), entry()
    right.speaks(echo_samples("hello", 24000))
    right.fails(ServiceFault("too late to matter"))
    wrong.speaks(echo_samples("good bye", 24000))
    cut.speaks(b"")
    assert [each.ending for each in (right, wrong, cut)] == ["spoken", "wrong", "wrong"]
    assert wrong.detail == "good bye"


def test_a_row_counts_each_text_once_and_names_what_nothing_explains() -> None:
    """Texts without an end are the worst of it."""
    spoken, lost, left = entry(), entry(), entry()
    spoken.speaks(echo_samples("hello", 24000))
    spoken.told = 2
    left.leaves("interrupted")
    entries = [spoken, lost, left, entry(ServiceFault("HTTP 500")), entry(protocol="openai")]
    row = row_of("batch", entries, [])
    assert (row["texts"], row["spoken"], row["interrupted"], row["unexplained"], row["unaccounted"]) == (4, 1, 1, 1, 1)
    assert row["causes"] == {}
    assert len(row["findings"]) == 3
    assert any("on_done was called 2 times" in finding for finding in row["findings"])


def test_a_job_ends_what_no_future_will_tell_of() -> None:
    """A future tells by itself, even of an interrupted caller's text."""
    with running(engine="echo") as emulator, CosyClient(emulator.url) as client:
        plain, later = entry(), entry()
        later.future = client.submit("hello")
        Job([plain, later], {}, random.Random(1)).rest(lambda each: each.leaves("interrupted"))
        later.future.result(30.0)
        later.settle()
        assert (plain.ending, later.ending) == ("interrupted", "spoken")


def test_the_timetable_is_the_seeds_and_has_every_trouble() -> None:
    """Quiet and trouble take turns."""
    phases = timetable(7, 200.0)
    assert phases == timetable(7, 200.0)
    assert phases != timetable(8, 200.0)
    assert {phase.kind for phase in phases[1::2]} == set(TROUBLES)
    assert {phase.kind for phase in phases[::2]} <= {"calm", "slow", "idle"}
    assert sum(phase.seconds for phase in phases) >= 200.0
    assert any(phase.interrupts for phase in phases)
    assert not any(phase.interrupts for phase in timetable(7, 200.0, interrupts=False))


def test_a_client_closed_amid_calls_and_a_fork_are_accounted_for() -> None:
    """On the batch protocol, with nothing else going on."""
    with running(engine="echo") as emulator:
        callers, left = close_amid(BATCH, emulator.url, "", seed=1)
        entries = [each for caller in callers for job in caller.jobs for each in job.entries]
        assert left == ""
        assert {each.ending for each in entries} <= {"spoken", "failed", "cancelled"}
        assert row_of("batch", entries, [])["unexplained"] == 0
        ways: dict[Way, CosyClient] = {
            replace(BATCH, protocol=name): BATCH.client(emulator.url, "") for name in ("one", "two", "three")
        }
        children, wrong = fork(ways, ways, seed=1)
        assert wrong == ""
        assert [each.future is not None for each in children] == [True, False, False, False]
        assert [each.ending for each in children[1:]] == ["spoken"] * 3
        for client in ways.values():
            client.close()


def test_what_a_client_holds_is_told() -> None:
    """Once it has had time to let go."""
    with running(engine="tone") as emulator, BATCH.client(emulator.url, "") as client:
        emulator.inject("hang")
        future = client.submit("hello")
        assert "1 in flight" in held(BATCH, client, patience=0.5)
        future.cancel()
        assert held(BATCH, client) == ""


def document(**findings: Any) -> dict[str, Any]:
    """Return what a run says, with *findings* in its first row."""
    rows = [row_of(way.protocol, [], []) | {"held": ""} for way in WAYS]
    for row in rows:
        del row["findings"]
    rows[0] |= {"texts": 2, "spoken": 1, "failed": 1, "causes": {"reset": 1}, **findings}
    counts = {"interrupts": 3, "forks": 4, "closes": 5, "restarts": 6}
    return {"rows": rows, "findings": [], "behind": {}, "back": 0.5, **counts}


def test_the_table_and_the_conclusions_say_what_is_missed() -> None:
    """A target that is missed is named so, with the seed to try again."""
    lines = tabulate(document()).splitlines()
    assert len(lines) == 2 + len(WAYS)
    assert " ".join(lines[2].split()) == "batch 2 1 1 0 0 0 0 0 nothing 1 reset"
    assert "MISSED" not in conclusions(document(), 7)
    bad = document(unaccounted=1, held="batch holds 1 pending") | {"behind": {"files": 2}, "findings": ["something"]}
    told = conclusions(bad, 7)
    assert told.count("MISSED") == 4
    for words in ("1 unaccounted", "1 pending", "2 files", "--seed 7", "- something"):
        assert words in told


def test_the_picture_names_every_protocol(tmp_path: Path) -> None:
    """Every bar has its figure."""
    draw(tmp_path / "chaos.svg", document(), QUICK, machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "chaos.svg").getroot().itertext())
    for words in (*(way.protocol for way in WAYS), "1 of 2 spoken", "no texts unaccounted for"):
        assert words in drawn


def test_interrupts_come_out_where_a_caller_catches_them() -> None:
    """One that is swallowed is counted as lost, and the caller goes on."""
    caller = Caller("caller", {}, "seed")
    caller.sent = 1
    caller._await_interrupt()
    assert (caller.lost, caller.seen) == (1, 1)
