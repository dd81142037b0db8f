"""The benchmarks of audio: every reader and decoder gives all of it, the service answers as asked. Counts only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from benchmarks.harness import machine
from benchmarks.harness.fixed import Replies, serving, wav
from benchmarks.harness.resident import peak_bytes, resident_bytes
from benchmarks.suites import memory
from benchmarks.suites.bodies import run as bodies
from benchmarks.suites.bodies.decoders import DECODERS
from benchmarks.suites.bodies.readers import IN_FLIGHT, READERS, TEXTS, opened
from cosyclient.protocols.batch.frames import FrameDecoder
from cosyclient.protocols.codecs import strict as coding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 1_000


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what the rows without the extra do to this process."""
    monkeypatch.setattr(coding, "_fast_decoder", coding._fast_decoder)


@pytest.fixture(scope="module")
def services() -> Iterator[dict[str, str]]:
    """Run a service of either form."""
    with serving("frames", SIZE) as frames, serving("json", SIZE) as plain:
        yield {"frames": frames, "json": plain}


@pytest.mark.parametrize("form", ["frames", "json"])
@pytest.mark.parametrize("count", [1, 64])
def test_prepared_replies_are_whole(form: str, count: int) -> None:
    """As many items as were asked for, each with the same audio."""
    content = b"".join(Replies(form, SIZE).pieces(count))
    if form == "json":
        reply = json.loads(content)
        assert (reply["total"], [each["index"] for each in reply["results"]]) == (count, list(range(count)))
        return
    decoder = FrameDecoder()
    items = [frame for frame in decoder.feed(content) if frame.kind == "item"]
    decoder.close()
    assert [(item.header["index"], item.payload) for item in items] == [(index, wav(SIZE)) for index in range(count)]


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if not reader.keep])
def test_every_reader_reads_every_reply_whole(services: dict[str, str], name: str) -> None:
    """Nobody is fast by leaving something out."""
    form = READERS[name].form
    expected = len(wav(SIZE)) * TEXTS
    if not READERS[name].audio:
        expected = len(b"".join(Replies(form, SIZE).pieces(TEXTS)))
    with opened(name, services[form]) as round_of:
        assert [bodies._size(round_of()) for _ in range(2)] == [IN_FLIGHT * expected] * 2


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_gives_the_same_audio(tmp_path: Path, name: str) -> None:
    """They differ in cost alone."""
    make, form = DECODERS[name]
    path = tmp_path / "reply"
    path.write_bytes(b"".join(Replies(form, SIZE).pieces(TEXTS)))
    assert make()(str(path)) == [wav(SIZE)] * TEXTS


def test_a_row_is_measured_in_its_own_process(services: dict[str, str], tmp_path: Path) -> None:
    """Figures, table, verdict and picture of two rows."""
    names = ("frames-bytes", "frames-ours")
    rows = [{"reader": name, **bodies._apart("read", name, services["frames"], turns=1)} for name in names]
    assert rows[1]["held"] == IN_FLIGHT * TEXTS * len(wav(SIZE))
    assert min(row["cpu"] for row in rows) > 0
    bodies._compare(rows)
    rows[1].update(cpu_ratio=2.5, memory_ratio=1.25)
    assert bodies.verdict(rows).splitlines() == [
        "cosyclient, frames: memory 1.25 x the audio held, goal 1.5 x: met",
        "cosyclient, frames: cpu 2.50 x http.client reading the same bytes, goal 2 x: missed",
    ]
    assert "http.client .read()" in bodies.tabulate_readers(rows)
    bodies.draw(tmp_path / "bodies.svg", rows, machine.describe())
    drawn = " ".join(ElementTree.parse(tmp_path / "bodies.svg").getroot().itertext())
    assert "cosyclient  (frames)" in drawn


@pytest.mark.parametrize("name", ["nothing", "unordered", "submit"])
def test_every_job_gets_its_texts_spoken(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each text once, memory taken down at even steps."""
    memory.main(name, "2000", "http://nowhere.invalid")
    row = {"job": name, **json.loads(capsys.readouterr().out)}
    assert (row["spoken"], row["failed"]) == (2000, 0)
    assert [spoken for spoken, _ in row["points"]] == list(range(10, 2001, 10))
    assert min(row["peak"], row["plateau"]) > 0
    assert "2,000" in memory.tabulate([row])
    memory.draw(tmp_path / "memory.svg", [row], machine.describe())
    assert "2,000 texts pass" in " ".join(ElementTree.parse(tmp_path / "memory.svg").getroot().itertext())


def test_a_job_through_a_socket_runs_in_its_own_process() -> None:
    """Batches of any size are answered in their size."""
    row = memory._apart("socket", 500)
    assert (row["spoken"], row["failed"]) == (500, 0)


def test_resident_memory_is_read() -> None:
    """Both are bytes: an interpreter holds more than a megabyte of them."""
    assert min(peak_bytes(), resident_bytes()) > 1 << 20
