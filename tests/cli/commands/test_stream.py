"""`cosyclient stream`, `voices` and `protocols` from a shell's side."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cosyclient.audio import parse_wav
from cosyclient.cli import main
from cosyclient.client import CosyClient
from cosyclient.emulator import echo_text, running
from cosyclient.protocols.registry import every_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosyclient.emulator import Emulator

ROOT = Path(__file__).parents[3]
TEXT = "你好，世界。Hello."


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """Run a service whose audio carries its text."""
    with running(engine="echo") as emulator:
        yield emulator


def spoken(service: Emulator) -> list[str]:
    """Return the options to reach *service*."""
    return ["--url", service.url, "--protocol", "runtime", "--voice", "中文女"]


def test_samples_go_to_standard_output(service: Emulator) -> None:
    """Nothing else does: a pipe to a player must work."""
    done = subprocess.run(
        [sys.executable, "-m", "cosyclient", "stream", "-", *spoken(service)],
        input=TEXT.encode(), capture_output=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert echo_text(done.stdout) == TEXT
    assert done.stderr.decode() == "s16le, 24000 Hz, 1 channel(s)\n"


def test_a_file_is_a_wav(service: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And what breaks off leaves what had come."""
    path = tmp_path / "a.wav"
    assert main(["stream", TEXT, "-o", str(path), *spoken(service)]) == 0
    assert echo_text(path.read_bytes()) == TEXT
    assert parse_wav(path.read_bytes()).sample_rate == 24000
    path.unlink()
    with running(engine="echo", chunk_seconds=0.1) as emulator:
        emulator.inject("cut", share=0.5, chunked=True)
        assert main(["stream", TEXT, "-o", str(path), *spoken(emulator)]) == 1
    assert "what had arrived is in" in capsys.readouterr().err
    assert parse_wav(path.read_bytes()).samples


def test_a_player_is_handed_the_samples(service: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the words that player understands."""
    player = tmp_path / "aplay"
    player.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/said"\ncat > "{tmp_path}/received"\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert main(["stream", TEXT, "--play", *spoken(service)]) == 0
    assert "-r 24000 -c 1" in (tmp_path / "said").read_text()
    assert echo_text((tmp_path / "received").read_bytes()) == TEXT


def test_wrong_options_send_nothing(
    service: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No player, both ways out at once, a protocol that cannot."""
    service.reset()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["stream", TEXT, "--play", *spoken(service)]) == 2
    assert "--play: none of ffplay" in capsys.readouterr().err
    assert main(["stream", TEXT, "--play", "-o", "x.wav", *spoken(service)]) == 2
    assert main(["stream", TEXT, "-o", str(tmp_path / "x.wav"), "--url", service.url]) == 2
    said = capsys.readouterr().err
    assert "protocol batch sends audio whole only; use cosyclient synth, or another protocol; " in said
    assert "protocols that can: " in said
    monkeypatch.delenv("COSYCLIENT_BASE_URL", raising=False)
    assert main(["stream", TEXT, "-o", str(tmp_path / "x.wav")]) == 2
    assert "emulator" not in capsys.readouterr().err, "none is started in vain"
    assert main(["stream", TEXT, "-o", "x.wav", "--transcript", "a", *spoken(service)]) == 2
    assert service.counters().requests == 0


def test_voices_are_listed(service: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    """A name a line, or JSON; a protocol without such a request is an error."""
    asked = ["voices", "--url", service.url, "--protocol", "openai:vllm-omni"]
    assert main(asked) == 0
    assert "中文女" in capsys.readouterr().out.splitlines()
    assert main([*asked, "--json"]) == 0
    assert "中文女" in json.loads(capsys.readouterr().out)
    assert main(["voices", "--url", service.url]) == 2
    assert "protocol batch cannot list voices" in capsys.readouterr().err


def test_protocols_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Every one, as a table and as data."""
    assert main(["protocols"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in every_name())
    assert main(["protocols", "--json"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == set(every_name())


@pytest.mark.parametrize(
    ("path", "says"),
    [("missing/hello.wav", "No such file or directory"), (".", "Is a directory"), ("in.txt/a.wav", "Not a directory")],
)
def test_a_file_that_cannot_be_written_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("x")
    with running(engine="tone") as emulator:
        assert main(["stream", "hello", "-o", path, "--url", emulator.url, "--protocol", "runtime"]) == 2
        assert capsys.readouterr().err == f"cosyclient stream: --output: {path}: {says}\n"
        assert emulator.counters().requests == 0


def test_the_names_of_voices_do_nothing_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(CosyClient, "voices", lambda _: ["中文女", "a\x1b[2Jb", "c\nd\u202e"])
    assert main(["voices", "--url", "http://127.0.0.1:9", "--protocol", "openai:vllm-omni"]) == 0
    assert capsys.readouterr().out == "中文女\na\\x1b[2Jb\nc\\nd\\u202e\n"
