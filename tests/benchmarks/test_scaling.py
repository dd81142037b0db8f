"""The scaling benchmark: every peer gets audio for its texts, and the table shows what was measured. Counts only."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.harness.processes import ProcessFailed, run_module
from benchmarks.peers.single import HttpStatus
from benchmarks.suites.scaling.plan import PEERS, Peer, Plan, Row
from benchmarks.suites.scaling.process import LoadSpec, run_load
from benchmarks.suites.scaling.report import conclusions, document, draw, ratio, tabulate
from benchmarks.suites.scaling.run import answer, measure
from cosyclient import CosyError
from cosyclient.emulator import Emulator, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FIGURES: dict[str, Any] = {
    "asked": 100,
    "finished": 100,
    "rate": 100.0,
    "latency_p50": 0.05,
    "latency_p99": 0.06,
    "cpu": 0.05,
    "threads": 9,
    "errors": {},
    "service_cpu": 0.1,
}


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """Run a service without limits."""
    with running(engine="tone") as emulator:
        yield emulator


def load(client: str, service: Emulator) -> LoadSpec:
    return LoadSpec(
        client=client,
        decode=True,
        url=service.url,
        service=service.pid,
        audio="opus",
        threads=3,
        warm_up=0.1,
        seconds=0.5,
    )


class Instant:
    """Answer every other text at once, and fail the others."""

    def __init__(self, base_url: str, *, format: str, connections: int) -> None:
        self._asked = 0

    def synthesize(self, text: str) -> bytes:
        self._asked += 1
        time.sleep(0.001)
        if self._asked % 2:
            raise HttpStatus(503)
        return b""

    def close(self) -> None:
        pass


class InstantTasks:
    """The same for tasks."""

    def __init__(self, base_url: str, **options: Any) -> None:
        self._asked = 0

    async def synthesize(self, text: str) -> bytes:
        self._asked += 1
        await asyncio.sleep(0.001)
        if self._asked % 2:
            raise HttpStatus(503)
        return b""

    async def __aenter__(self) -> InstantTasks:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def rows() -> list[Row]:
    """Return a row per peer and two steps; ours is slow at the second, and httpx failed there."""
    found = []
    for threads in (8, 64):
        for peer in PEERS:
            runs = [FIGURES]
            if threads == 64 and peer.label == "cosyclient" and peer.plain:
                runs = [{**FIGURES, "rate": rate} for rate in (20.0, 50.0, 80.0)]
            if threads == 64 and peer.label == "httpx" and peer.decode:
                runs = [{**FIGURES, "finished": 0, "rate": 0.0, "latency_p50": None, "errors": {"PoolTimeout": 7}}]
            found.append(Row(peer=peer, threads=threads, runs=runs))
    return found


@pytest.mark.parametrize(
    "peer",
    [peer for peer in PEERS if peer.plain and peer.label != "raw sockets"],
    ids=lambda peer: f"{peer.label}, {'audio' if peer.decode else 'bytes'}",
)
def test_every_peer_gets_audio_for_its_texts_and_an_error_for_a_refusal(service: Emulator, peer: Peer) -> None:
    """One request a text, and none a second time; a package that is not installed is no peer."""
    if peer.needs and not find_spec(peer.needs):
        assert peer not in Plan().peers
        return
    module, _, name = peer.client.rpartition(".")
    make = getattr(import_module(module), name)
    calls = (_calls_of_tasks if hasattr(make, "__aenter__") else _calls)(make, service, decode=peer.decode)
    service.reset()
    audio = [calls(f"text {number}") for number in range(3)]
    assert all(b"OggS" in each if peer.decode else b'"audio_data":' in each for each in audio)
    service.inject("throttle")
    with pytest.raises((HttpStatus, CosyError)):
        calls("refused")
    counted = service.counters()
    assert (counted.texts, counted.requests) == (4, 4)


def _calls(make: Any, service: Emulator, *, decode: bool) -> Callable[[str], bytes]:
    def call(text: str) -> bytes:
        peer = make(service.url, format="opus", connections=2)
        try:
            return bytes(peer.synthesize(text) if decode else peer.fetch(text))
        finally:
            peer.close()

    return call


def _calls_of_tasks(make: Any, service: Emulator, *, decode: bool) -> Callable[[str], bytes]:
    async def call(text: str) -> bytes:
        async with make(service.url, format="opus", connections=2) as peer:
            return bytes(await (peer.synthesize(text) if decode else peer.fetch(text)))

    return lambda text: asyncio.run(call(text))


@pytest.mark.parametrize(
    "client", ["tests.benchmarks.test_scaling.Instant", "tests.benchmarks.test_scaling.InstantTasks"]
)
def test_successes_and_errors_are_both_counted(service: Emulator, client: str) -> None:
    """What fails is no success, in threads and in tasks."""
    figures = run_load(load(client, service))
    assert figures["errors"]["HttpStatus"] + figures["finished"] == figures["asked"]
    assert 0 < figures["finished"] < figures["asked"]


def run(spec: LoadSpec) -> dict[str, Any]:
    return run_module("benchmarks.suites.scaling.process", asdict(spec))


def test_a_peer_runs_in_a_process_of_its_own(service: Emulator) -> None:
    """Its figures come back; when it fails, what it wrote to stderr does."""
    assert run(load("tests.benchmarks.test_scaling.Instant", service))["asked"] > 0
    with pytest.raises(ProcessFailed, match="no_such_peer"):
        run(load("benchmarks.no_such_peer.X", service))


def test_the_services_answer_what_an_emulator_would() -> None:
    """JSON for one text: a little WAV, or four seconds of opus."""
    plain, compressed = (json.loads(answer("opus", plain=each).bodies[0])["results"] for each in (True, False))
    assert base64.b64decode(plain[0]["audio_data"]).startswith(b"RIFF")
    assert base64.b64decode(compressed[0]["audio_data"]).startswith(b"OggS")
    assert (len(plain), len(compressed)) == (1, 1)


def test_every_kind_of_work_is_measured_against_its_own_service() -> None:
    """Raw sockets among them."""
    peers = [peer for peer in PEERS if peer.label in ("raw sockets", "cosyclient")]
    plan = Plan(steps=(4,), warm_up=0.1, seconds=0.5, repeat=1)
    found = measure(plan, peers, "opus", {each: answer("opus", plain=each) for each in (True, False)})
    assert [row.peer.label for row in found] == ["cosyclient", "cosyclient", "raw sockets"]
    assert all(row.rate > 0 and not row.errors for row in found)


def test_the_table_compares_like_with_like_and_names_what_was_missed() -> None:
    """The ratio is to urllib3 doing the same work at the same step."""
    found = rows()
    slow = next(row for row in found if row.threads == 64 and row.peer.label == "cosyclient")
    assert (slow.rate, ratio(slow, found)) == (50.0, 0.5)
    lines = tabulate(found)
    assert lines.count("urllib3  ") >= 4
    assert "20 to 80" in lines
    output = conclusions(found, Plan())
    assert (
        "cosyclient, text to audio, at least 90 % of urllib3's requests/s: 8 threads 1.00 met, 64 threads 0.50 MISSED."
    ) in output
    assert "cosyclient, text to compressed audio, at least 90 % of urllib3's requests/s: 8 threads 1.00 met" in output
    assert "Errors of httpx at 64: 7 PoolTimeout." in output
    assert document(slow, found)["times_urllib3"] == 0.5


def test_the_picture_names_every_client(tmp_path: Path) -> None:
    """One line each."""
    draw(tmp_path / "scaling.svg", rows(), (8, 64), machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "scaling.svg").getroot().itertext())
    for words in ("bound", *(peer.label for peer in PEERS)):
        assert words in drawn
