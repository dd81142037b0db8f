"""What the pictures share: the file, its rows and its notes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from benchmarks.harness import machine
from benchmarks.harness.pictures import canvas, figure_note, label_rows, made_by, note, tidy

if TYPE_CHECKING:
    from pathlib import Path


def test_a_picture_holds_its_title_rows_notes_and_caption_as_text(tmp_path: Path) -> None:
    """It is legible, and searchable, without the table."""
    path = tmp_path / "new" / "picture.svg"
    caption = made_by("some", machine.describe())
    with canvas(path, title="The title", caption=caption, size=(6, 3), columns=2) as (left, right):
        for axis in (left, right):
            tidy(axis, "a panel", grid="x")
            label_rows(axis, ["first", "second"])
        left.barh(0, 3)
        figure_note(left, "3 texts", (3, 0))
        note(right, "a note", (0, 1), ha="right")
        assert left.get_ylim() == (1.4, -0.6)
    drawn = " ".join(ElementTree.parse(path).getroot().itertext())
    for text in ("The title", "a panel", "first", "second", "3 texts", "a note", "python -m benchmarks some"):
        assert text in drawn
