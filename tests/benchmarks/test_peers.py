"""The peers whose faults are part of the comparison."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.harness.texts import texts
from benchmarks.peers.bare_loop import BareLoop
from benchmarks.peers.before import BeforeClient
from benchmarks.peers.field_report import FieldReportClient, TriesUsedUp
from benchmarks.peers.raw_sockets import RawSockets
from benchmarks.peers.single import HttpStatus
from cosyclient.emulator import Emulator, running
from tests.support.hostile import cuts_after, hostile, reply

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """Run a service without limits."""
    with running(engine="tone") as emulator:
        yield emulator


def test_the_report_client_spends_its_tries_on_429_without_waiting(service: Emulator) -> None:
    """Its faults are part of the comparison: three requests, then the whole call is lost."""

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
    service.inject("throttle")
    with BeforeClient(service.url, format="opus") as client:
        with pytest.raises(HttpStatus, match="429"):
            client.synthesize("你好")
        assert client.synthesize("你好")


def test_the_bare_loop_returns_the_audio_of_a_batch_and_reports_a_status(service: Emulator) -> None:
    """One request, no retry."""
    service.reset()
    with BareLoop(service.url, format="wav", connections=1) as client:
        audio = client.synthesize(list(texts(3)))
        assert [each[:4] for each in audio] == [b"RIFF"] * 3
        service.inject("throttle")
        with pytest.raises(HttpStatus, match="429"):
            client.synthesize(["你好"])
    assert service.counters().requests == 2


def test_raw_sockets_take_whole_replies_only(service: Emulator) -> None:
    """Each is counted once, and a refusal is none."""
    sockets = RawSockets(service.url, format="wav", connections=2, texts=list(texts(3)))
    service.reset()
    over, sent, began = threading.Event(), list[float](), time.perf_counter()

    def noted(started: float) -> None:
        sent.append(started)
        if len(sent) == 5:
            over.set()

    sockets.exchange(noted, over)
    assert service.counters().texts >= 3 * len(sent) >= 15
    assert began < min(sent) <= max(sent) < time.perf_counter()
    over.clear()
    service.inject("throttle")
    with pytest.raises(HttpStatus, match="429"):
        sockets.exchange(lambda _: None, over)
    with hostile(cuts_after(reply(b"x" * 1000)[:-1])) as cut, pytest.raises(ConnectionResetError):
        RawSockets(cut.url, format="wav", connections=1, texts=["hello"]).exchange(noted, over)
