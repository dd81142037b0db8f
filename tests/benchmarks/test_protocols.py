"""The protocols benchmark: our client beside the official ones, and its report. Counts only."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.peers import official
from benchmarks.suites import protocols
from benchmarks.suites.protocols import CASES, QUICK, OurClient
from cosyclient.emulator import running

if TYPE_CHECKING:
    from pathlib import Path

PLAN = replace(QUICK, threads=2, warm_up=0.1, seconds=0.2, streams=1, first_chunk=0.0, chunk_gap=0.0, rtt=0.0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.protocol)
@pytest.mark.parametrize("ours", [True, False])
def test_both_clients_get_the_same_samples(case: protocols.Case, ours: bool) -> None:
    """16-bit samples of the whole text, at once or in pieces."""
    with running(engine="tone", grpc=case.grpc) as emulator:
        service = official.Service(emulator.url, emulator.grpc_url if case.grpc else "")
        peer = OurClient(case, PLAN, service) if ours else protocols._official(case, PLAN, service)
        audio = peer.synthesize("春暖花开风和日丽")
        assert len(audio) > 24_000
        pieces = peer.pieces("春暖花开风和日丽")
        if pieces is not None:
            assert official.first_piece(pieces) > 0
        peer.close()


def test_a_client_is_measured_in_its_own_process() -> None:
    """Texts a second, processor time, and the first audio."""
    row = protocols.measure(CASES[0], PLAN, ours=True)
    assert min(row["rate"], row["cpu"], row["first"], row["beyond"]) > 0
    assert (row["protocol"], row["client"]) == ("openai", "cosyclient")


def rows() -> list[dict[str, Any]]:
    """Return a pair of rows per protocol; one client cannot stream."""
    figures = {"rate": 100.0, "cpu": 0.001, "first": 0.07, "beyond": 0.002}
    found = []
    for case in CASES:
        found.append({"protocol": case.protocol, "client": "cosyclient", "ours": True, **figures, "rate": 150.0})
        found.append({"protocol": case.protocol, "client": case.label, "ours": False, **figures})
    found[-1] |= {"first": None, "beyond": None}
    return found


def test_table_and_picture_show_each_pair(tmp_path: Path) -> None:
    """Ours beside the other; a dash where there is no stream."""
    lines = [" ".join(line.split()) for line in protocols.tabulate(rows()).splitlines()]
    assert lines[3] == "openai cosyclient 150 1.50 × 1 ms 70 ms 2.0 ms"
    assert lines[-1] == "dashscope SDK, object pool 100 1.00 × 1 ms – –"
    protocols.draw(tmp_path / "protocols.svg", rows(), QUICK, machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "protocols.svg").getroot().itertext())
    assert all(case.label in drawn for case in CASES)
