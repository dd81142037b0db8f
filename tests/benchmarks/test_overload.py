"""The overload benchmark's arithmetic on made-up results, its report, and that each client gets the load it says."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.peers.limits import Aimd, Gradient2
from benchmarks.suites.overload import plan, report, run
from benchmarks.suites.overload.clients import (
    CLIENTS,
    MEAN_SECONDS,
    LoadResult,
    LoadSpec,
    client_of,
    run_load,
    varied_text,
)
from benchmarks.suites.overload.jobs import SCENARIOS, JobSpec, job_texts, run_job
from cosyclient import CosyClient
from cosyclient.emulator import Emulator, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PLAN = plan.Plan(repeat=3, warm_up=10.0, seconds=20.0, phases=(4, 2), phase=30.0)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """Run a service that keeps up, and has rendered all lengths: on a busy machine that takes longer than some wait."""
    lengths = {len(each): each for scenario in SCENARIOS.values() for each in job_texts(scenario)}
    with running(engine="tone") as emulator:
        with CosyClient(emulator.url, format="opus") as first:
            first.batch_synth(lengths.values())
        yield emulator


@pytest.fixture
def service(emulator: Emulator) -> Emulator:
    """Return it with fresh counters."""
    emulator.reset()
    return emulator


def load_result(goodput: Callable[[int], float]) -> LoadResult:
    """Return the result of 70 s; *goodput* says how much of the capacity came back in each second."""
    finished = [(at + 0.5, 2.0, goodput(at) * PLAN.capacity) for at in range(70)]
    return LoadResult(finished=finished, errors=Counter(DeadlineExceeded=30), asked=100, limits=[(5.0, 2), (15.0, 4)])


def rows() -> list[plan.LoadRow]:
    """Return a row per client and load."""
    return [
        plan.LoadRow(
            client=client,
            load=load,
            goodput=good,
            lowest=good - 0.01,
            highest=good + 0.01,
            asked=100,
            lost=0.5,
            wasted=0.25,
            requests=30,
            latency=None if client == "report" else 4.0,
            errors={},
        )
        for client, good in (("ours", 0.97), ("fixed", 0.6), ("gradient", 0.5), ("aimd", 0.4), ("report", 0.1))
        for load in PLAN.loads
    ]


def healthy(ours: float = 1.1, lost: int = 3, exhausted: int = 3) -> list[plan.HealthyRow]:
    """Return what each client does in two scenarios."""
    return [
        plan.HealthyRow(
            client=client,
            scenario=scenario,
            seconds=ours if client == "ours" else 8.0 if client == "aimd" else 1.0,
            fastest=0.9,
            slowest=1.2,
            lost=lost if client == "ours" else 0,
            exhausted=exhausted if client == "ours" else 0,
            texts=2000,
            requests=2400,
            errors={},
        )
        for scenario in ("cold, one batch", "flaky, 20 %")
        for client in CLIENTS
    ]


def changes(ours: Callable[[int], float]) -> list[plan.CapacityRow]:
    """Return what each client does through the phases."""
    results = {
        "ours": load_result(ours),
        **{client: load_result(lambda at: 0.4) for client in list(CLIENTS)[1:-1]},
        "report": LoadResult(),
    }
    return [run.capacity_row(PLAN, client, each) for client, each in results.items()]


def test_texts_differ_and_have_the_stated_length() -> None:
    """Equal texts in flight would share a request, which would favour us."""
    rng = random.Random(1)
    made = [varied_text(number, rng) for number in range(3000)]
    assert len(set(made)) == len(made)
    assert {len(each) for each in made} == set(range(20, 41))
    assert sum(map(len, made)) / len(made) * 0.2 == pytest.approx(MEAN_SECONDS, rel=0.02)


def test_goodput_counts_what_came_back_in_time_within_the_span() -> None:
    """Warm-up and what came later do not count."""
    result = LoadResult(finished=[(9.9, 1.0, 4.0), (10.0, 1.0, 4.0), (29.9, 1.0, 8.0), (30.0, 1.0, 4.0)])
    assert run.goodput(result, 10.0, 30.0) == 12.0 / 20.0


def test_each_row_is_the_run_of_median_goodput() -> None:
    """And the spread is that of all runs."""
    few = [row for row in rows() if (row.client, row.load) == ("ours", 2.0)]
    runs = [replace(few[0], goodput=good) for good in (0.9, 0.99, 0.95)]
    (found,) = run.medians(runs)
    assert (found.lowest, found.goodput, found.highest) == (0.9, 0.95, 0.99)


def test_another_capacity_is_followed_when_goodput_reaches_it_and_stays() -> None:
    """Half the GPUs from 40 s on, used from 52 s on; a good moment before a fall is none."""
    result = load_result(lambda at: 1.0 if at < 40 else 0.5 if at < 44 else 0.1 if at < 52 else 0.5)
    change = run.capacity_row(PLAN, "ours", result)
    assert change.followed == [12.0]
    assert list(change.steady) == pytest.approx([1.0, 1.0])
    assert list(change.goodput[:2]) == pytest.approx([1.0, 1.0])
    assert change.limits == [(-5.0, 2), (5.0, 4)]
    never = run.capacity_row(PLAN, "ours", load_result(lambda at: 1.0 if at < 40 else 0.3))
    assert never.followed == [None]


def test_the_tables_and_the_conclusions_name_what_is_missed() -> None:
    """A quick run does not judge what it was too short for."""
    found = [" ".join(line.split()) for line in report.tabulate_loads(rows()).splitlines()]
    assert found[4] == "ours 2× 97.0 % 96.0 % to 98.0 % 4.00 s 100 50.0 % 30 25.0 % yes"
    assert found[-1] == "report 5× 10.0 % 9.00 % to 11.0 % – 100 50.0 % 30 25.0 %"
    good, bad = changes(lambda at: 1.0 if at < 40 else 0.5), changes(lambda at: 1.0 if at < 40 else 0.2)
    table = [" ".join(line.split()) for line in report.tabulate_capacity(good, PLAN).splitlines()]
    assert table[-len(CLIENTS)] == "ours 100.0 % at once 100.0 % 4 to 4"
    slow = [" ".join(line.split()) for line in report.tabulate_healthy(healthy()).splitlines()]
    assert slow[-1].startswith("flaky, 20 % 1.10 s 1.10 3 1.00 s 1.00 0 ")
    assert table[-1] == "report 0 % not in 30 s 0 % –"
    result = report.conclusions(healthy(), rows(), good, PLAN)
    assert result.count(": met") == 5
    assert "(0 of 4,000; to failed tries 6)" in result
    worse = report.conclusions(healthy(1.4, lost=5), rows(), good, PLAN)
    assert "MISSED (1.40, cold, one batch)" in worse
    assert "MISSED (4 of 4,000; to failed tries 6)" in worse
    assert "From 4 to 2 GPUs, used within 15 s: MISSED (not in 30 s)" in report.conclusions(
        healthy(), rows(), bad, PLAN
    )
    quick = plan.Plan(phases=(4, 2), phase=10.0)
    assert "not judged" in report.conclusions(healthy(), rows(), good, quick)
    assert "medians of 3 runs" in report.introduction(PLAN)


def test_the_picture_shows_every_client(tmp_path: Path) -> None:
    """By name and figure."""
    path = tmp_path / "overload.svg"
    report.draw(path, healthy(lost=9), rows(), changes(lambda at: 1.0 if at < 40 else 0.5), PLAN, machine.describe())
    drawn = " ".join(ElementTree.parse(path).getroot().itertext())
    for each in ("ours 97 %", "fixed 60 %", "report 10 %", "capacity", "5×", "cold, one batch", "9 lost"):
        assert each in drawn


@pytest.mark.parametrize("client", CLIENTS)
def test_each_client_gets_audio_for_its_texts(service: Emulator, client: str) -> None:
    """Where capacity is ample, nothing fails."""
    result = run_load(
        LoadSpec(client=client, url=service.url, audio="opus", rate=20.0, seconds=1.0, deadline=60.0, seed=1)
    )
    assert result.asked == len(result.finished) > 5
    assert not result.errors
    assert service.counters().texts == result.asked
    assert all(waited > 0 and 4.0 <= audio <= 8.0 for _, waited, audio in result.finished)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("scenario", ["idle, then submits", "idle, then a pool", "cold, one batch", "time by length"])
def test_each_client_does_each_kind_of_job(
    service: Emulator, monkeypatch: pytest.MonkeyPatch, client: str, scenario: str
) -> None:
    """All texts of a tenth of the job are asked for once, and none fails where nothing does."""
    tenth = replace(SCENARIOS[scenario], texts=SCENARIOS[scenario].texts // 10)
    monkeypatch.setitem(SCENARIOS, scenario, tenth)
    result = run_job(JobSpec(client=client, scenario=scenario, url=service.url, audio="opus"))
    assert not result.errors
    assert service.counters().texts == tenth.texts + tenth.before


def test_jobs_have_texts_of_their_own() -> None:
    """No two alike, as long as the scenario says."""
    for scenario in SCENARIOS.values():
        made = job_texts(scenario)
        assert len(set(made)) == len(made) == scenario.texts
        assert {len(each) for each in made} == ({scenario.characters} if scenario.characters else set(range(20, 41)))


def test_the_peers_limits_follow_their_formulas() -> None:
    """A failure costs AIMD a tenth; three times the usual time costs Gradient2 a half, less its queue, smoothed."""
    aimd, gradient = Aimd(40), Gradient2(40)
    aimd.update(0.2, 40, dropped=True)
    assert aimd.value == 36.0
    aimd.update(0.2, 10, dropped=False)
    assert aimd.value == 36.0
    aimd.update(0.2, 18, dropped=False)
    assert aimd.value == 37.0
    for _ in range(20):
        gradient.update(0.2, 40, dropped=False)
    assert gradient.value == 40.0
    gradient.update(0.6, 40, dropped=False)
    assert gradient.value == pytest.approx(0.8 * 40.0 + 0.2 * (40.0 * 0.5 + 4.0), rel=0.01)
    with client_of("aimd", "http://127.0.0.1:9", "opus") as client:
        assert client.stats().limit == 40


def test_the_gpus_change_under_the_load() -> None:
    """Set through the service's control endpoint, by the process that makes the load."""
    with running(engine="tone", gpus=4, rtf=0.001) as service:
        run_load(
            LoadSpec(
                client="ours", url=service.url, audio="opus", rate=20.0, seconds=0.5, deadline=60.0, seed=1,
                gpus=[(0.0, 0)],
            )
        )  # fmt: skip
        worked = service.counters().gpu_seconds
        run_load(LoadSpec(client="ours", url=service.url, audio="opus", rate=20.0, seconds=0.5, deadline=60.0, seed=2))
        assert service.counters().gpu_seconds == worked
