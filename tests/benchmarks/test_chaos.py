"""The chaos benchmark: twenty seconds of it, and how it explains failures. Counts only."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.suites.chaos.callers import Caller, CallRecord
from benchmarks.suites.chaos.disruptions import call_after_fork, close_during_calls, held
from benchmarks.suites.chaos.plan import QUICK
from benchmarks.suites.chaos.protocols import CASES, ProtocolCase
from benchmarks.suites.chaos.records import SHORT_TIMEOUT, FaultPeriod, TextRecord, cause_of, row_of
from benchmarks.suites.chaos.report import conclusions, draw, tabulate
from benchmarks.suites.chaos.run import measure
from benchmarks.suites.chaos.service import FAULTS, schedule
from cosyclient import CircuitOpen, CosyClient, DeadlineExceeded, Rejected, ServiceFault
from cosyclient.emulator import running
from cosyclient.emulator.speech.echo import echo_samples

if TYPE_CHECKING:
    from pathlib import Path

SPAN = 100.0
BATCH = next(case for case in CASES if case.protocol == "batch")


@pytest.mark.timeout(240)
def test_twenty_seconds_of_everything_lose_no_text() -> None:
    """With a seed of its own each time: the message of a failure names it."""
    seed = random.randrange(1_000_000)
    # Interrupts are tried one by one in tests/concurrency/test_interrupts.py; `python -m benchmarks chaos` has both.
    document = measure(replace(QUICK, interrupts=False), seed)
    assert document["findings"] == [], f"python -m benchmarks chaos --seconds 20 --seed {seed}"
    assert document["leaked"] == {}, seed
    assert [row["protocol"] for row in document["rows"]] == [case.protocol for case in CASES]
    for row in document["rows"]:
        assert row["succeeded"] > 0, (seed, row)
        assert row["texts"] == row["succeeded"] + row["failed"] + row["interrupted"] + row["cancelled"], (seed, row)


def text_record(error: BaseException | None = None, **values: Any) -> TextRecord:
    """Return a text asked for in the batch protocol that ended now with *error*."""
    found = TextRecord(**{"protocol": "batch", "text": "hello", "call": "synthesize", "timeout": 15.0, **values})
    if error is not None:
        found.note_error(error)
    return found


def test_a_fault_explains_its_own_errors_while_it_lasts() -> None:
    """Nothing explains a failure without a fault."""
    failed = text_record(ServiceFault("HTTP 500"))
    during = FaultPeriod(kind="error", began=failed.began - 1.0, ended=failed.ended + 1.0)
    assert cause_of(failed, [during]) == "error"
    assert cause_of(failed, []) is None
    assert cause_of(failed, [replace(during, ended=failed.began - 0.1)]) is None
    assert cause_of(failed, [replace(during, kind="reset")]) is None
    assert cause_of(text_record(CircuitOpen("open")), [replace(during, kind="reset", ended=float("inf"))]) == "reset"


def test_what_a_caller_does_explains_its_own_text_only() -> None:
    """A timeout that was too short, a text that was cancelled."""
    assert cause_of(text_record(DeadlineExceeded("late"), timeout=SHORT_TIMEOUT), []) == "short deadline"
    assert cause_of(text_record(DeadlineExceeded("late")), []) is None
    assert text_record(Rejected("cancelled by its caller"), cancelling=True).ending == "cancelled"
    assert text_record(Rejected("cancelled by its caller")).ending == "failed"


def test_audio_is_a_texts_own_or_wrong() -> None:
    """The echo shows which; the first ending counts."""
    right, wrong, cut = text_record(), text_record(), text_record()
    right.note_audio(echo_samples("hello", 24000))
    right.note_error(ServiceFault("too late to matter"))
    wrong.note_audio(echo_samples("good bye", 24000))
    cut.note_audio(b"")
    assert [each.ending for each in (right, wrong, cut)] == ["succeeded", "wrong", "wrong"]
    assert wrong.detail == "good bye"


def test_a_row_counts_each_text_once_and_names_what_nothing_explains() -> None:
    """Texts without an end are the worst of it."""
    good, lost, left = text_record(), text_record(), text_record()
    good.note_audio(echo_samples("hello", 24000))
    good.callbacks = 2
    left.note_left("interrupted")
    records = [good, lost, left, text_record(ServiceFault("HTTP 500")), text_record(protocol="openai")]
    row = row_of("batch", records, [])
    assert (row["texts"], row["succeeded"], row["interrupted"], row["unexplained"], row["unaccounted"]) == (
        4,
        1,
        1,
        1,
        1,
    )
    assert row["causes"] == {}
    assert len(row["findings"]) == 3
    assert any("on_done was called 2 times" in finding for finding in row["findings"])


def test_a_call_ends_the_texts_that_have_no_future() -> None:
    """A future ends its text by itself, even that of an interrupted caller."""
    with running(engine="echo") as emulator, CosyClient(emulator.url) as client:
        plain, later = text_record(), text_record()
        later.future = client.submit("hello")
        CallRecord([plain, later], {}, random.Random(1)).end_open(lambda each: each.note_left("interrupted"))
        later.future.result(30.0)
        later.read_future()
        assert (plain.ending, later.ending) == ("interrupted", "succeeded")


def test_a_schedule_follows_from_its_seed_and_has_every_kind_of_fault() -> None:
    """Quiet phases and faults alternate."""
    phases = schedule(7, 200.0)
    assert phases == schedule(7, 200.0)
    assert phases != schedule(8, 200.0)
    assert {phase.kind for phase in phases[1::2]} == set(FAULTS)
    assert {phase.kind for phase in phases[::2]} <= {"calm", "slow", "idle"}
    assert sum(phase.seconds for phase in phases) >= 200.0
    assert any(phase.interrupts for phase in phases)
    assert not any(phase.interrupts for phase in schedule(7, 200.0, interrupts=False))


def test_a_client_closed_during_calls_and_a_fork_are_accounted_for() -> None:
    """On the batch protocol, with nothing else going on."""
    with running(engine="echo") as emulator:
        callers, left = close_during_calls(BATCH, emulator.url, "", seed=1)
        records = [each for caller in callers for call in caller.calls for each in call.texts]
        assert left == ""
        assert {each.ending for each in records} <= {"succeeded", "failed", "cancelled"}
        assert row_of("batch", records, [])["unexplained"] == 0
        cases: dict[ProtocolCase, CosyClient] = {
            replace(BATCH, protocol=name): BATCH.client(emulator.url, "") for name in ("one", "two", "three")
        }
        children, wrong = call_after_fork(cases, cases, seed=1)
        assert wrong == ""
        assert [each.future is not None for each in children] == [True, False, False, False]
        assert [each.ending for each in children[1:]] == ["succeeded"] * 3
        for client in cases.values():
            client.close()


def test_what_a_client_still_holds_is_reported() -> None:
    """After it has had time to release it."""
    with running(engine="tone") as emulator, BATCH.client(emulator.url, "") as client:
        emulator.inject("hang")
        future = client.submit("hello")
        assert "1 in flight" in held(BATCH, client, seconds=0.5)
        future.cancel()
        assert held(BATCH, client) == ""


def document(**findings: Any) -> dict[str, Any]:
    """Return what a run reports, with *findings* in its first row."""
    rows = [row_of(case.protocol, [], []) | {"held": ""} for case in CASES]
    for row in rows:
        del row["findings"]
    rows[0] |= {"texts": 2, "succeeded": 1, "failed": 1, "causes": {"reset": 1}, **findings}
    counts = {"interrupts": 3, "forks": 4, "closes": 5, "restarts": 6}
    return {"rows": rows, "findings": [], "leaked": {}, "recovery": 0.5, **counts}


def test_the_table_and_the_conclusions_name_what_is_missed() -> None:
    """A target that is missed is named so, with the seed to try again."""
    lines = tabulate(document()).splitlines()
    assert len(lines) == 2 + len(CASES)
    assert " ".join(lines[2].split()) == "batch 2 1 1 0 0 0 0 0 nothing 1 reset"
    assert "MISSED" not in conclusions(document(), 7)
    bad = document(unaccounted=1, held="batch holds 1 pending") | {"leaked": {"files": 2}, "findings": ["something"]}
    output = conclusions(bad, 7)
    assert output.count("MISSED") == 4
    for words in ("1 unaccounted", "1 pending", "2 files", "--seed 7", "- something"):
        assert words in output


def test_the_picture_names_every_protocol(tmp_path: Path) -> None:
    """Every bar has its figure."""
    draw(tmp_path / "chaos.svg", document(), QUICK, machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "chaos.svg").getroot().itertext())
    for words in (*(case.protocol for case in CASES), "1 of 2 succeeded", "no texts unaccounted for"):
        assert words in drawn


def test_a_swallowed_interrupt_is_counted() -> None:
    """And the caller continues."""
    caller = Caller("caller", {}, "seed")
    caller.sent = 1
    caller._await_interrupt()
    assert (caller.swallowed, caller.caught) == (1, 1)
