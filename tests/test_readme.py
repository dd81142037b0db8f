"""The README is a promise: its code runs as printed, its numbers are the defaults, its command is what CI runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import cosyclient
from cosyclient import NotFound, PartialFailure
from cosyclient.cli.commands.protocols import markdown
from cosyclient.config import environment
from cosyclient.config.resolve import resolve
from cosyclient.emulator import running
from cosyclient.testing import ScriptedReply, scripted_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.emulator import Emulator

ROOT = Path(cosyclient.__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


ADDRESSES = ("https://tts.example.com", "http://127.0.0.1:8091")
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
COMMANDS = [
    command.removeprefix(".venv/bin/")
    for line in SHELL
    for command in line.split(" && ")
    if command.removeprefix(".venv/bin/").startswith("cosyclient ")
]
LINES = {
    "book.txt": "One sentence.\n第二句话。\n",
    "lines.jsonl": '{"id": "a1", "text": "One.", "speed": 1.2}\n{"text": "Two."}\n',
}

MADE = {
    "cosyclient synth cosyclient/emulator/sample.txt": "out/manifest.jsonl",
    "cosyclient synth book.txt": "book.wav",
    "cosyclient synth lines.jsonl": "out/a1.opus",
    "cosyclient stream": "hello.wav",
}
"""What a command leaves behind; the others print."""


def at(emulator: Emulator, printed: str) -> str:
    """Return what is *printed* with the emulator's address for those that are made up."""
    for address in ADDRESSES:
        printed = printed.replace(address, emulator.url)
    return printed


# What a reader does with a block once it has run.


def _first(names: dict[str, Any], said: str) -> None:
    assert Path("hello.wav").read_bytes().startswith(b"RIFF")
    assert len(names["wavs"]) == 2
    assert re.findall(r"^(\d) <Speech", said, re.MULTILINE) == ["0", "1", "2"]
    assert said.count("Speech") == 4, "that of the callback is the fourth"


def _flask(names: dict[str, Any], said: str) -> None:
    browser = names["app"].test_client()
    reply = browser.post("/speak", data={"text": "hello"})
    assert (reply.status_code, reply.mimetype, reply.data[:4]) == (200, "audio/wav", b"RIFF")
    assert browser.post("/speak", data={"text": " "}).status_code == 400
    names["cosy"].close()
    reply = browser.post("/speak", data={"text": "hello"})
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")


def _django(names: dict[str, Any], said: str) -> None:
    from django.test import RequestFactory

    def post(text: str) -> Any:
        return names["speak"](RequestFactory().post("/speak", {"text": text}))

    reply = post("hello")
    assert (reply.status_code, reply["content-type"], reply.content[:4]) == (200, "audio/wav", b"RIFF")
    assert post(" ").status_code == 400
    names["cosy"].close()
    reply = post("hello")
    assert (reply.status_code, reply["retry-after"]) == (503, "2")


def _streaming(names: dict[str, Any], said: str) -> None:
    reply = names["read_aloud"]("hello, world")
    assert reply["content-type"] == "audio/pcm;rate=24000"
    assert sum(map(len, reply.streaming_content)) > 24000


def _emulator(names: dict[str, Any], said: str) -> None:
    assert "requests=" in said


def _respx(names: dict[str, Any], said: str) -> None:
    assert said == "429\n"


USES: dict[str, Callable[[dict[str, Any], str], None]] = {
    "https://tts.example.com": _first,
    "# Flask": _flask,
    "# Django": _django,
    "read_aloud": _streaming,
    "emulator.inject": _emulator,
    "import respx": _respx,
}
"""By what a block has and no other: a new block needs a line here."""


@pytest.mark.parametrize("code", BLOCKS, ids=[f"block {number}" for number in range(1, len(BLOCKS) + 1)])
def test_each_block_of_python_runs_as_printed(
    code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for the address, where it names one; and it is good for what it is there for."""
    from django.conf import settings

    if not settings.configured:
        settings.configure(DEFAULT_CHARSET="utf-8")
    (use,) = [use for mark, use in USES.items() if mark in code]
    monkeypatch.chdir(tmp_path)
    with running(engine="tone") as emulator:
        monkeypatch.setenv("COSYCLIENT_BASE_URL", emulator.url)
        names: dict[str, Any] = {"__name__": "readme"}
        exec(compile(at(emulator, code), "README.md", "exec"), names)
        use(names, capsys.readouterr().out)
        if "cosy" in names:
            names["cosy"].close()


def shell(command: str, folder: Path) -> subprocess.Popen[str]:
    """Start *command* as a shell does in which this package is installed."""
    scripts = str(Path(sys.executable).parent)
    return subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
        env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
    )  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_runs_as_printed(command: str, tmp_path: Path) -> None:
    """In a folder with the files it names; one that never ends prints its address, and ends with Ctrl-C."""
    for name, lines in LINES.items():
        (tmp_path / name).write_text(lines, encoding="utf-8")
    (tmp_path / "cosyclient").symlink_to(ROOT / "cosyclient")
    made = next((tmp_path / file for start, file in MADE.items() if command.startswith(start)), None)
    with running(engine="tone") as emulator:
        process = shell(at(emulator, command), tmp_path)
        try:
            if command.startswith("cosyclient emulator"):
                assert process.stderr is not None
                assert "http://" in process.stderr.readline()
                process.send_signal(signal.SIGINT)
            said, told = process.communicate(timeout=60.0)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == 0, told
        assert made is None or made.stat().st_size > 1000
        assert made is not None or said or command.startswith("cosyclient emulator")


def extras_of(install: str) -> set[str]:
    """Return the extras of this project that an *install* command names; fails when there is none of that name."""
    named = re.search(r"pip install (?:-q )?(?:-e )?'\.\[([a-z,-]+)\]'", install)
    assert named is not None, install
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(named[1].split(",")) <= set(project["optional-dependencies"]), install
    return set(named[1].split(","))


def test_every_other_line_of_shell_installs_what_there_is() -> None:
    """From here, for no index has it, with extras that exist."""
    rest = [each for line in SHELL for each in line.split(" && ") if each.removeprefix(".venv/bin/") not in COMMANDS]
    installing = [each for each in rest if each.startswith(".venv/bin/pip ")]
    assert set(rest) - set(installing) == {
        "python3 -m venv .venv",
        ".venv/bin/python -m pytest -q -n 3 --dist worksteal",
    }
    assert all(extras_of(each) for each in installing)


def test_nobody_is_told_to_install_from_an_index_that_has_nothing() -> None:
    """Neither in the README, but for the sentence on the day it is published, nor in the code."""
    published = "No package index has it yet; once one has, `pip install 'cosyclient[cli,fast]'` does the same"
    assert published in README
    told = {"README.md": README.replace(published, "")}
    for package in ("cosyclient", "benchmarks"):
        told |= {str(path): path.read_text(encoding="utf-8") for path in (ROOT / package).rglob("*.py")}
    assert [name for name, text in told.items() if re.search(r"cosyclient\[[a-z]|pip install '?cosyclient", text)] == []
    for name, text in told.items():
        for line in text.splitlines():
            if "pip install" in line:
                assert extras_of(line.replace("{extra}", "grpc")), name


def test_the_defaults_are_as_printed() -> None:
    """Where the table names a number, the code has it."""
    found = resolve(
        base_url="http://x", api_key=None, protocol="batch", voice={}, requests_per_second=100.0, max_connections=50,
        concurrency=None, max_batch=64, timeout=None, max_retries=3, config=None, environ={},
    )  # fmt: skip
    config = found.config
    budget = config.retry.full_budget(found.sizing.permits)
    printed = [
        f"{found.max_pending:,} texts; full",
        f"{budget} tokens per client (a retry of all {found.sizing.permits} in flight; more",
        f"may be), {config.retry.transient_cost} a transient",
        f"{config.retry.throttle_cost} a throttle,",
        f"an outage costs {budget // config.retry.transient_cost} extra",
        f"{found.sizing.permits} in flight",
        f"burst {config.pacing.burst};",
        f"in a bulk call {config.timeouts.job / 60:.0f} min and 1 s",
        f"longer than {config.adaptive.tolerance:.0f} s, or",
        f"≥ {config.breaker.minimum_failures} failures in {config.breaker.window:.0f} s that are "
        f"≥ {config.breaker.failure_rate * 100:.0f} % of the calls",
        f"for {config.breaker.open_for:.0f} s ± ",
        f"exactly {config.breaker.probes} probes",
        f"not reused after {config.pool.idle_limit:.0f} s",
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
    assert picked.rstrip().endswith("-m pytest -q -n 3 --dist worksteal")
    sentences = [
        line
        for line in (ROOT / "cosyclient/emulator/sample.txt").read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    assert len(sentences) >= 100
    assert f"turns {len(sentences)} Chinese and English sentences" in README.replace("\n", " ")


def test_the_batch_example_is_what_is_sent_and_read() -> None:
    """The request to the letter, and the reply as it is printed: one speech, one error."""
    asked, answered = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", README, re.DOTALL))
    client, transport = scripted_client(
        lambda _: ScriptedReply(200, {"Content-Type": "application/json"}, [json.dumps(answered).encode()])
    )
    with pytest.raises(PartialFailure) as failed:
        client.batch_synth(asked["texts"])
    assert json.loads(transport.requests[0].body) == asked
    assert (transport.requests[0].method, transport.requests[0].path) == ("POST", "/batch")
    one, two = failed.value.outcomes
    assert one.speech is not None
    assert (one.speech.media_type, len(one.speech.pcm()) > 0) == ("audio/wav", True)
    assert isinstance(two.error, NotFound)
    client.close()


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
