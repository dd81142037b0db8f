"""The bodies benchmark: every reader and decoder gives all of the audio. Counts only."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.harness.prepared import BATCH, Replies, serving, wav
from benchmarks.suites.bodies import run as bodies
from benchmarks.suites.bodies.decoders import DECODERS
from benchmarks.suites.bodies.readers import IN_FLIGHT, READERS, opened
from cosyclient.protocols.codecs import strict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 1_000


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what the rows without the extra do to this process."""
    monkeypatch.setattr(strict, "_fast_decoder", strict._fast_decoder)


@pytest.fixture(scope="module")
def services() -> Iterator[dict[str, str]]:
    """Run a service of either form."""
    with serving("frames", SIZE) as frames, serving("json", SIZE) as plain:
        yield {"frames": frames, "json": plain}


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if not reader.keep])
def test_every_reader_reads_every_reply_whole(services: dict[str, str], name: str) -> None:
    """None is fast because it leaves something out."""
    form = READERS[name].form
    expected = len(wav(SIZE)) * BATCH
    if not READERS[name].audio:
        expected = len(Replies(form, wav(SIZE)).body(BATCH))
    with opened(name, services[form]) as round_of:
        assert [bodies._size(round_of()) for _ in range(2)] == [IN_FLIGHT * expected] * 2


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_gives_the_same_audio(tmp_path: Path, name: str) -> None:
    """They differ in cost alone."""
    make, form = DECODERS[name]
    path = tmp_path / "reply"
    path.write_bytes(Replies(form, wav(SIZE)).body(BATCH))
    assert make()(str(path)) == [wav(SIZE)] * BATCH


def test_a_row_is_measured_in_its_own_process(services: dict[str, str], tmp_path: Path) -> None:
    """Figures, table, conclusions and picture of two rows."""
    names = ("frames-bytes", "frames-ours")
    rows = [{"reader": name, **bodies._measure_apart("read", name, services["frames"], turns=1)} for name in names]
    assert rows[1]["held"] == IN_FLIGHT * BATCH * len(wav(SIZE))
    assert min(row["cpu"] for row in rows) > 0
    bodies._compare(rows)
    rows[1].update(cpu_ratio=2.5, memory_ratio=1.25)
    assert bodies.conclusions(rows).splitlines() == [
        "cosyclient, frames: memory 1.25 x the audio held, target 1.5 x: met",
        "cosyclient, frames: cpu 2.50 x http.client reading the same bytes, target 2 x: MISSED",
    ]
    assert "http.client .read()" in bodies.tabulate_readers(rows)
    bodies.draw(tmp_path / "bodies.svg", rows, machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "bodies.svg").getroot().itertext())
    assert "cosyclient  (frames)" in drawn
