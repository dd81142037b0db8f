"""The reference that pdoc makes of the public modules: each begins with its purpose and an example that runs."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cosyclient.emulator import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosyclient.emulator import Emulator

ROOT = Path(__file__).parent.parent
MODULES = [
    "cosyclient",
    "cosyclient.audio",
    "cosyclient.client",
    "cosyclient.clock",
    "cosyclient.config",
    "cosyclient.emulator",
    "cosyclient.errors",
    "cosyclient.events",
    "cosyclient.models",
    "cosyclient.protocols.base",
    "cosyclient.testing",
    "cosyclient.transports.base",
    "cosyclient.voices",
    "cosyclient.wire",
]
ADDRESS = "https://tts.example.com"
FENCED = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PRINTED = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """Serve the batch protocol on this machine."""
    with running(engine="tone") as emulator:
        yield emulator


@pytest.mark.parametrize("name", MODULES)
def test_the_example_of_each_public_module_runs(
    name: str,
    service: Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the emulator in place of the address; each ``print`` prints what the comment beside it shows."""
    monkeypatch.chdir(tmp_path)
    examples = FENCED.findall(importlib.import_module(name).__doc__ or "")
    assert examples
    for example in examples:
        exec(compile(example.replace(ADDRESS, service.url), name, "exec"), {"__name__": "example"})
        assert capsys.readouterr().out.splitlines() == PRINTED.findall(example)


def test_pdoc_renders_the_public_modules_and_no_other(tmp_path: Path) -> None:
    """Without a warning: each annotation and each member is found."""
    done = subprocess.run(
        [sys.executable, "-m", "pdoc", "cosyclient", "-o", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    rendered = {
        path.relative_to(tmp_path).with_suffix("").as_posix().replace("/", ".") for path in tmp_path.rglob("*.html")
    }
    # That a module has the name of a function beside it shows it, too.
    rendered -= {"index", "cosyclient.emulator.running"}
    assert rendered == {*MODULES, "cosyclient.protocols", "cosyclient.transports"}
