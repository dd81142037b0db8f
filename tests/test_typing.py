"""Type checkers complete and check the public API: they accept right uses and refuse misspelt ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cosyclient.models import SpeechOptions, StreamOptions, VoiceSettings

ROOT = Path(__file__).parent.parent
API = "tests/typing/api.py"


@pytest.mark.parametrize(
    "checker",
    [
        pytest.param(["mypy", "--strict", API], id="mypy"),
        pytest.param(["basedpyright", "-p", "tests/typing", "--pythonpath", sys.executable], id="pyright"),
    ],
)
def test_checker_accepts_right_uses_and_refuses_mistakes(checker: list[str]) -> None:
    """The mistakes are marked as expected errors, and an expected error that does not occur is an error itself."""
    done = subprocess.run(
        [sys.executable, "-m", *checker], cwd=ROOT, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_options_are_settings_of_the_voice_and_of_the_call() -> None:
    """The types list what the call accepts at run time, and nothing else."""
    known = {*VoiceSettings.__dataclass_fields__, "timeout", "priority"}
    assert set(SpeechOptions.__annotations__) == known
    assert set(StreamOptions.__annotations__) == known - {"format"}
