"""The README is a promise: its code runs as printed, its numbers are the defaults, its command is what CI runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cosyclient
from cosyclient import environment
from cosyclient.cli.protocols import markdown
from cosyclient.emulator import running
from cosyclient.settings import resolve

if TYPE_CHECKING:
    import pytest

ROOT = Path(cosyclient.__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def block(mark: str) -> str:
    (found,) = [code for code in BLOCKS if mark in code]
    return str(found)


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    return names


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The ten lines at the top, against the emulator instead of the made-up address."""
    monkeypatch.chdir(tmp_path)
    with running(engine="tone") as emulator:
        names = run(block("https://tts.example.com").replace("https://tts.example.com", emulator.url))
    assert (tmp_path / "hello.wav").read_bytes().startswith(b"RIFF")
    assert len(names["wavs"]) == 2
    assert "Speech" in capsys.readouterr().out


def test_the_flask_view_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Audio for a text, 400 for none."""
    with running(engine="tone") as emulator:
        monkeypatch.setenv("COSYCLIENT_BASE_URL", emulator.url)
        names = run(block("# Flask"))
        browser = names["app"].test_client()
        reply = browser.post("/speak", data={"text": "hello"})
        assert (reply.status_code, reply.mimetype, reply.data[:4]) == (200, "audio/wav", b"RIFF")
        assert browser.post("/speak", data={"text": " "}).status_code == 400
        names["cosy"].close()


def test_the_django_view_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The view as printed, called with a request."""
    from django.conf import settings
    from django.test import RequestFactory

    if not settings.configured:
        settings.configure(DEFAULT_CHARSET="utf-8")
    with running(engine="tone") as emulator:
        monkeypatch.setenv("COSYCLIENT_BASE_URL", emulator.url)
        names = run(block("# Django"))
        reply = names["speak"](RequestFactory().post("/speak", {"text": "hello"}))
        assert (reply.status_code, reply["content-type"], reply.content[:4]) == (200, "audio/wav", b"RIFF")
        names["cosy"].close()


def test_the_streaming_view_runs() -> None:
    """Samples come out of a Django response as they came in."""
    from django.conf import settings

    if not settings.configured:
        settings.configure(DEFAULT_CHARSET="utf-8")
    with running(engine="tone") as emulator:
        names = run(block("read_aloud").replace("http://127.0.0.1:8091", emulator.url))
        reply = names["read_aloud"]("hello, world")
        assert reply["content-type"] == "audio/pcm;rate=24000"
        assert sum(map(len, reply.streaming_content)) > 24000
        names["cosy"].close()


def test_the_emulator_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Faults on demand, counters at the end."""
    run(block("emulator.inject"))
    assert "requests" in capsys.readouterr().out


def test_every_code_block_is_run_above() -> None:
    """A new block needs a test here."""
    assert len(BLOCKS) == 5


def test_the_defaults_are_as_printed() -> None:
    """Where the table names a number, the code has it."""
    found = resolve(
        base_url="http://x", api_key=None, protocol="batch", voice={}, requests_per_second=100.0, max_connections=50,
        concurrency=None, max_batch=64, timeout=None, max_retries=3, config=None, environ={},
    )  # fmt: skip
    rest = found.rest
    budget = rest.retry.full_budget(found.sizing.permits)
    printed = [
        f"{found.max_pending:,} texts; full",
        f"{budget} tokens per client (a retry of all {found.sizing.permits} in flight; more",
        f"may be), {rest.retry.transient_cost} a transient",
        f"{rest.retry.throttle_cost} a throttle,",
        f"an outage costs {budget // rest.retry.transient_cost} extra",
        f"{found.sizing.permits} in flight",
        f"burst {rest.pacing.burst};",
        f"in a bulk call {rest.timeouts.job / 60:.0f} min and 1 s",
        f"longer than {rest.adaptive.tolerance:.0f} s, or",
        f"≥ {rest.breaker.minimum_failures} failures in {rest.breaker.window:.0f} s that are "
        f"≥ {rest.breaker.failure_rate * 100:.0f} % of the calls",
        f"for {rest.breaker.open_for:.0f} s ± ",
        f"exactly {rest.breaker.probes} probes",
        f"not reused after {rest.pool.idle_limit:.0f} s",
    ]
    assert [sentence for sentence in printed if sentence not in README] == []


def test_ci_runs_the_printed_test_command() -> None:
    """The script finds the line in the README; the sample is as large as promised."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    picked = subprocess.run(
        ["awk", "/^<!-- ci:/ {found = 1} found && /^python3 / {print; exit}", str(ROOT / "README.md")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "awk '/^<!-- ci:/ {found = 1} found && /^python3 / {print; exit}' README.md" in script
    assert picked.startswith("python3 -m venv .venv && ")
    assert picked.rstrip().endswith("-m pytest -q")
    sentences = [
        line
        for line in (ROOT / "cosyclient/emulator/sample.txt").read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    assert len(sentences) >= 100
    assert f"turns {len(sentences)} Chinese and English sentences" in README.replace("\n", " ")


def test_the_table_of_the_environment_is_that_of_the_code() -> None:
    """Every variable, and no other."""
    shown = re.search(r"<!-- environment: .*? -->\n(.*?)\n<!-- /environment -->", README, re.DOTALL)
    assert shown is not None
    assert shown[1] == environment.markdown()


def test_the_table_of_protocols_is_that_of_the_data() -> None:
    """Made by the command that the comment names."""
    shown = re.search(r"<!-- protocols: .*? -->\n(.*?)\n<!-- /protocols -->", README, re.DOTALL)
    assert shown is not None
    assert shown[1] == markdown()
