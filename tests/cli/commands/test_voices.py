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
    assert capsys.readouterr().err.startswith(
        "cosyclient voices: protocol batch cannot list voices; see what its service says; protocols that can: openai:"
    )


def test_without_a_service_no_emulator_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COSYCLIENT_BASE_URL", raising=False)
    assert main(["voices"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("cosyclient voices: --url: name the service, and its protocol; protocols that list voices: ")
    assert "openai:vllm-omni" in said
    assert main(["voices", "--emulator"]) == 2
    said = capsys.readouterr().err
    assert "protocol batch cannot list voices" in said
    assert "emulator" not in said


def test_the_voices_of_an_emulator_are_listed_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["voices", "--emulator", "--protocol", "openai:vllm-omni"]) == 0
    assert "中文女" in capsys.readouterr().out.splitlines()
