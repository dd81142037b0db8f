"""The fixture for users' own suites, used as they use it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import cosyclient.emulator

ROOT = Path(cosyclient.emulator.__file__).parents[2]

CONFTEST = 'pytest_plugins = ["cosyclient.emulator.pytest_plugin"]'

SUITE = """
import json
import urllib.request

import pytest

from cosyclient.emulator import Settings

pids = []


def speak(emulator):
    body = json.dumps({"texts": ["hello"]}).encode()
    request = urllib.request.Request(emulator.url + "/batch", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_starts_fresh(cosyvoice_emulator, turn):
    assert cosyvoice_emulator.counters().requests == 0
    assert speak(cosyvoice_emulator)["succeeded"] == 1
    cosyvoice_emulator.inject("hang")
    pids.append(cosyvoice_emulator.pid)
    assert len(set(pids)) == 1


@pytest.mark.cosyvoice_emulator(json_shape="objects")
def test_a_marker_changes_the_settings(cosyvoice_emulator):
    assert isinstance(speak(cosyvoice_emulator), list)


def test_a_test_may_have_several(cosyvoice_emulators):
    one, two = cosyvoice_emulators(), cosyvoice_emulators(seed=1)
    assert one.url != two.url


class TestOverriding:
    @pytest.fixture
    def cosyvoice_emulator_settings(self):
        return Settings(engine="echo")

    def test_the_settings_fixture_can_be_overridden(self, cosyvoice_emulator):
        assert cosyvoice_emulator.settings.engine == "echo"
"""


def test_the_plugin_serves_a_suite(tmp_path: Path) -> None:
    """Fresh counters, one process, settings by marker, by call and by fixture."""
    (tmp_path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (tmp_path / "test_suite.py").write_text(SUITE, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command += ["--strict-markers", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_a_suite_gets_the_plugin_only_on_request() -> None:
    """As an entry point it would load this library and httpx into every run of every user."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "entry-points" not in project
