"""The loads: each peer and each kind of load gets audio for its texts. Counts only."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from benchmarks.harness.loads import LoadSpec, Window, calling, run_load
from benchmarks.harness.measure import Recorder, Usage
from benchmarks.peers import PEERS
from cosyclient.emulator import Emulator, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """Run a service without limits."""
    with running(engine="tone") as emulator:
        yield emulator


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_gets_audio_for_its_texts(service: Emulator, name: str) -> None:
    """At a service without limits nothing fails, and no text is asked for twice."""
    service.reset()
    spec = LoadSpec(peer=name, url=service.url, audio="wav", texts=150, callers=4, seconds=1.0, warm_up=0.1)
    seen: list[int] = []
    figures = run_load(spec, lambda: seen.append(service.counters().texts))
    assert len(seen) == 2
    assert figures["errors"] == {}
    assert figures["asked"] == figures["finished"] > 0
    if PEERS[name].load == "job":
        assert figures["finished"] == 150
        assert seen == [64, 64 + 150]
    else:
        assert service.counters().texts >= figures["finished"]
        assert (figures["callers"], figures["threads"]) >= ((1, 2) if name == "raw" else (4, 5))


@pytest.mark.parametrize(("peer", "load"), [("d", "many"), ("d", "submit"), ("d", "open"), ("b", "stream")])
def test_every_load_gets_audio_for_its_texts(service: Emulator, peer: str, load: str) -> None:
    """At a service without limits nothing fails; the measured part lies between two marks."""
    service.reset()
    spec = LoadSpec(
        peer=peer,
        url=service.url,
        audio="opus",
        callers=4,
        # The first of 200 batches that are rendered at once come late on a busy machine.
        seconds=3.0 if load == "stream" else 1.0,
        warm_up=1.1 if load == "open" else 0.1,
        load=load,
        rate=20.0,
    )
    marks: list[int] = []
    figures = run_load(spec, lambda: marks.append(service.counters().texts))
    assert len(marks) == 2
    assert figures["errors"] == {}
    assert figures["asked"] == figures["finished"] > 0


def test_our_client_keeps_no_quota_where_there_is_none(service: Emulator) -> None:
    """More than the burst and what the documented quota adds to it."""
    service.reset()
    spec = LoadSpec(peer="d", url=service.url, audio="opus", callers=50, seconds=1.0, warm_up=0.1, paced=False)
    assert run_load(spec, lambda: None)["errors"] == {}
    assert service.counters().requests > 200


def test_callers_call_until_the_block_ends() -> None:
    """Successes and errors are recorded; what ends outside the window is not counted."""
    recorder, asked = Recorder(), threading.Semaphore(0)

    def call(text: str) -> None:
        asked.release()
        if text.endswith("春暖花开"):
            raise ValueError

    with Usage() as usage:
        window = Window(usage, lambda: None)
        window.begin()
        with calling(call, 2, recorder):
            for _ in range(100):
                asked.acquire()
        window.end()
    figures = window.figures(recorder)
    assert figures["asked"] >= 100
    assert figures["errors"]["ValueError"] == figures["asked"] - figures["finished"] > 0
    assert not [each for each in threading.enumerate() if "(caller)" in each.name]
