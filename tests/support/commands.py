"""Runs of the command line: in this process and in one of their own, and the files they read and write."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cosyclient.cli import main
from cosyclient.emulator import echo_text
from tests.support.waiting import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

Run: TypeAlias = "Callable[..., CommandResult]"
"""A fixture that runs a command with the arguments it is given."""


@dataclass(frozen=True)
class CommandResult:
    """The exit code and the output of one command."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """Return the summary of ``synth --json``."""
        summary: dict[str, Any] = json.loads(self.out)
        return summary


def isolate(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Run commands in *directory*, without the settings of the user who runs the tests."""
    for name in [name for name in os.environ if name.startswith("COSYCLIENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(directory)


def run_command(capsys: pytest.CaptureFixture[str], *arguments: object) -> CommandResult:
    """Run ``cosyclient`` with *arguments* in this process."""
    capsys.readouterr()
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    output = capsys.readouterr()
    return CommandResult(code, output.out, output.err)


@contextlib.contextmanager
def started_synth(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start ``cosyclient synth`` in a process of its own, and kill it if it runs after the block."""
    command = [sys.executable, "-W", "error::ResourceWarning", "-m", "cosyclient", "synth", *arguments]
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def write_lines(*lines: str, name: str = "in.txt") -> Path:
    """Write an input of *lines*."""
    path = Path(name)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def write_objects(*records: Any, name: str = "in.jsonl") -> Path:
    """Write a JSONL input of *records*; a str is a line as it is."""
    return write_lines(*(record if isinstance(record, str) else json.dumps(record) for record in records), name=name)


def read_manifest(directory: str = "out") -> list[dict[str, Any]]:
    """Return the records of the manifest, in order; none if there is no manifest."""
    path = Path(directory, "manifest.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def spoken_texts(directory: str = "out") -> dict[str, str]:
    """Return the text in every audio file of the echo engine, by file name; no other file may be there."""
    files = {path.name: path for path in Path(directory).iterdir() if path.name != "manifest.jsonl"}
    return {name: echo_text(path.read_bytes()) for name, path in sorted(files.items())}
