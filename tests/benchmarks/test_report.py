"""The benchmarks' frame: what it lists, what it writes, and that every peer gets its texts spoken. Counts only."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from benchmarks.__main__ import main
from benchmarks.catalogue import BENCHMARKS
from benchmarks.harness import machine
from benchmarks.harness.extra import ExtraMissing, require_extra
from benchmarks.harness.loads import Order, drive
from benchmarks.harness.measure import Ending, mean, peak, percentile, summary
from benchmarks.harness.options import Options
from benchmarks.harness.results import Row, Run, medians, write_json
from benchmarks.harness.tables import seconds, share, table
from benchmarks.harness.texts import CHARACTERS, DIFFERENT, texts
from benchmarks.peers import PEERS
from benchmarks.suites import report
from benchmarks.suites.overhead import frames
from cosyclient.emulator import Emulator, running
from cosyclient.protocols.batch.frames import FrameDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUN = Run(
    asked=100,
    finished=80,
    elapsed=4.0,
    rate=20.0,
    peak=30.0,
    latency_mean=0.25,
    latency_p50=0.2,
    latency_p99=1.5,
    failed_mean=5.0,
    threads=12,
    callers=10,
    cpu=0.4,
    requests=90,
    throttled=7,
    connections=5,
    refused=3,
    service_cpu=0.02,
    errors={"EmptyPoolError": 20.0},
)
NOTHING = replace(RUN, finished=0, rate=0.0, peak=0.0, latency_mean=None, latency_p50=None, latency_p99=None)
PLAN = report.Plan(rtt=0.0, rate=0.0, connections=0, texts=150, callers=4, seconds=0.5, warm_up=0.1)


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """Run a service without limits."""
    with running(engine="tone") as emulator:
        yield emulator


def rows() -> list[Row]:
    """Return one synthetic row per peer; one of them has finished nothing."""
    found = [Row(name=name, label=peer.label, sentence=peer.sentence, runs=[RUN]) for name, peer in PEERS.items()]
    found[0] = replace(found[0], runs=[NOTHING])
    found[-1] = replace(found[-1], runs=[RUN, replace(RUN, rate=40.0), replace(RUN, rate=60.0)])
    return found


def test_the_command_lists_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, name first."""
    assert main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(BENCHMARKS)


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "nonsense"], ["report", "--repeat", "0"]])
def test_the_command_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    """Usage errors exit with 2."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_a_missing_extra_is_named_with_its_remedy() -> None:
    """Nobody should have to read a traceback to learn what to install."""
    with pytest.raises(ExtraMissing, match=r"no_such_package.*pip install '\.\[bench\]'"):
        require_extra(("json", "no_such_package"))


def test_texts_have_twenty_characters_and_differ() -> None:
    """Equal texts in flight would travel once, which would flatter us."""
    some = list(texts(5000, first=DIFFERENT - 5000))
    assert {len(text) for text in some} == {CHARACTERS}
    assert len(set(some)) == len(some)


def test_figures_count_texts_and_leave_failed_ones_out_of_latency() -> None:
    """Weights are texts, not requests; errors are counted by kind."""
    endings = [Ending(1.0, 0.1, 64, ""), Ending(1.9, 0.3, 64, ""), Ending(2.5, 9.0, 2, "Oops"), Ending(3.5, 0.5, 2, "")]
    figures = summary(endings, 5.0)
    assert (figures["asked"], figures["finished"], figures["rate"]) == (132, 130, 26.0)
    assert figures["peak"] == 128
    assert figures["errors"] == {"Oops": 2}
    assert figures["latency_mean"] == pytest.approx((64 * 0.1 + 64 * 0.3 + 2 * 0.5) / 130)
    assert (figures["latency_p50"], figures["latency_p99"], figures["failed_mean"]) == (0.3, 0.5, 9.0)


def test_figures_of_nothing_are_nothing() -> None:
    """A client that finished nothing has a rate of 0 and no latency."""
    assert (peak([]), percentile([], 0.99), mean([]), summary([], 1.0)["rate"]) == (0, None, None, 0)


def test_medians_take_each_figure_and_ignore_what_is_missing() -> None:
    """One lucky run decides nothing."""
    found = medians(
        [RUN, replace(RUN, rate=90.0, latency_p99=None), replace(RUN, rate=30.0, latency_p99=2.5, errors={})]
    )
    assert (found.rate, found.latency_p99) == (30.0, 2.0)
    assert found.errors["EmptyPoolError"] == pytest.approx(40 / 3)
    assert found.error_rate == pytest.approx(0.2)
    assert found.cpu_per_text == pytest.approx(0.005)


def test_the_table_shows_every_client_and_every_figure() -> None:
    """Columns line up; what is not there is a dash."""
    lines = report.tabulate(rows()).splitlines()
    assert len(lines) == 3 + len(PEERS)
    assert [line.split()[0] for line in lines[3:]] == list(PEERS)
    assert "–" in lines[3]
    assert " ".join(lines[-1].split()) == "d synthesize 30 40 20 to 60 250 ms 1.50 s 12 10 20.0 % 90 7 3 5 ms 2.00 %"


def test_conclusions_name_ratios_errors_and_a_service_that_was_slow() -> None:
    """A ratio to nothing is a dash, not an infinity."""
    busy = replace(rows()[3], runs=[replace(RUN, service_cpu=0.97)])
    told = report.conclusions([*rows()[:3], busy, rows()[4]], report.Plan())
    assert "c/a –" in told
    assert "d/b 2.0" in told
    assert "a 20 EmptyPoolError (after 5.00 s on average)" in told
    assert "in c: it may be what was slow" in told


def test_units_follow_the_size() -> None:
    """Figures stay short."""
    assert [seconds(value) for value in (None, 12.3, 0.0123, 0.0000123)] == ["–", "12.30 s", "12 ms", "12 µs"]
    assert [share(value) for value in (None, 0.0, 0.002, 0.5)] == ["–", "0 %", "0.20 %", "50.0 %"]
    assert table(["a", "b\nc"], [["x", "10"]]).splitlines() == ["    b", "a   c", "-  --", "x  10"]


def test_json_and_picture_hold_the_figures(tmp_path: Path) -> None:
    """Machines read the one, people the other."""
    from benchmarks.harness.pictures import draw_report

    about = machine.describe()
    write_json(tmp_path / "new" / "report.json", report.document(rows(), report.Plan(), about, Options(repeat=3)))
    read = json.loads((tmp_path / "new" / "report.json").read_text(encoding="utf-8"))
    assert read["rows"][-1]["median"]["rate"] == 40.0
    assert len(read["rows"][-1]["runs"]) == 3
    assert (read["parameters"]["bound"], read["ratios"]["c/a"]) == (6400.0, None)
    assert {"commit", "cores", "date", "packages", "processor", "python"} <= read["machine"].keys()
    draw_report(tmp_path / "report.svg", rows(), report.Plan(), about)
    drawn = " ".join(ElementTree.parse(tmp_path / "report.svg").getroot().itertext())
    for words in ("(a) one text a request", "(d) synthesize", "quota 6,400", "20.0 %", "1.50 s"):
        assert words in drawn


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_gets_its_texts_spoken(service: Emulator, name: str) -> None:
    """On a service that grants everything nobody fails, and no text is asked for twice."""
    service.reset()
    order = Order(peer=name, url=service.url, audio="opus", texts=150, callers=4, seconds=1.0, warm_up=0.1, pause=0.0)
    seen: list[int] = []
    figures = drive(order, lambda: seen.append(service.counters().texts))
    assert len(seen) == 2
    assert figures["errors"] == {}
    assert figures["asked"] == figures["finished"] > 0
    if PEERS[name].load == "job":
        assert figures["finished"] == 150
        assert seen == [64, 64 + 150]
    else:
        assert service.counters().texts >= figures["finished"]
        assert figures["callers"] == 4
        assert figures["threads"] >= 5


def test_the_report_client_burns_its_tries_on_429_and_does_not_wait(service: Emulator) -> None:
    """Its faults are part of the comparison: three requests, then the whole call is lost."""
    from benchmarks.peers.field_report import FieldReportClient, TriesUsedUp

    async def ask() -> list[bytes]:
        async with FieldReportClient(service.url, format="opus") as client:
            return await client.batch_synth(list(texts(64)))

    service.reset()
    service.inject("throttle", count=3)
    with pytest.raises(TriesUsedUp, match="429"):
        asyncio.run(ask())
    assert service.counters().requests == 3
    assert len(asyncio.run(ask())) == 64


def test_the_before_client_reports_a_status(service: Emulator) -> None:
    """Without a policy, a refusal is the caller's."""
    from benchmarks.peers.before import BeforeClient, HttpStatus

    service.inject("throttle")
    with BeforeClient(service.url, format="opus") as client:
        with pytest.raises(HttpStatus, match="429"):
            client.synthesize("你好")
        assert client.synthesize("你好")


def test_a_whole_report_runs_each_peer_in_its_own_process(service: Emulator) -> None:
    """Figures of the worker and of the service come together in one run."""
    done = report.measure_one(service, replace(PLAN, burst=1, rate=100.0), "c")
    assert (done.asked, done.finished, done.requests, done.throttled) == (150, 150, 3, 0)
    assert done.error_rate == 0


def test_the_frames_of_overhead_are_frames() -> None:
    """What the idle transport answers is what a service would."""
    decoder = FrameDecoder()
    items = [frame for frame in decoder.feed(frames(b"sound", "audio/wav", 3)) if frame.kind == "item"]
    decoder.close()
    assert [(frame.header["index"], frame.payload) for frame in items] == [(0, b"sound"), (1, b"sound"), (2, b"sound")]
