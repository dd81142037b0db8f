"""The voices of a service, a name a line or as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cosyclient.cli import main
from cosyclient.emulator import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosyclient.emulator import Emulator


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """Run a service that lists its voices."""
    with running(engine="tone", serve="openai", dialect="vox-box") as emulator:
        yield emulator


def test_voices_are_printed_a_name_a_line_or_as_json(service: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--url", service.url, "--protocol", "openai:vox-box"]
    assert main(["voices", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert main(["voices", "--json", *options]) == 0
    assert json.loads(capsys.readouterr().out) == lines


def test_a_protocol_that_lists_no_voices_is_an_error(service: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["voices", "--url", service.url, "--protocol", "batch"]) == 2
    assert capsys.readouterr().err.startswith("cosyclient voices: BadUtterance: ")
