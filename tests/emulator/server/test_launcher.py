"""The emulator's process: it serves when the block begins, and ends with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cosyclient.emulator
from cosyclient.emulator import EmulatorError, Settings, running
from cosyclient.emulator.extra import require_extra
from tests.emulator.wire import call, open_socket, post, raw_request

if TYPE_CHECKING:
    from cosyclient.emulator import Emulator

ROOT = Path(cosyclient.emulator.__file__).parents[2]


def is_alive(pid: int) -> bool:
    """Tell whether a process of ours exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_dead(pid: int) -> None:
    """Look until the process is gone; the test's own time limit bounds the wait."""
    while is_alive(pid):
        pass


def test_it_serves_within_the_block_and_ends_with_it() -> None:
    """It accepts requests at once, refuses them at the end, and its repr shows which."""
    with running(engine="tone") as emulator:
        assert call(emulator.url, "GET", "/health").status == 200
        assert repr(emulator) == f"<Emulator {emulator.url} engine=tone running>"
        pid = emulator.pid
    assert not is_alive(pid)
    assert repr(emulator) == f"<Emulator {emulator.url} engine=tone closed>"
    with pytest.raises(ConnectionRefusedError):
        open_socket(emulator.url)
    emulator.close()


def test_options_and_a_settings_record_exclude_each_other() -> None:
    """Either works, not both; the error names a wrong option."""
    with running(Settings(engine="echo")) as emulator:
        assert emulator.settings.engine == "echo"
    with pytest.raises(TypeError, match="unknown option engin; did you mean engine"), running(engin="tone"):
        pass
    with pytest.raises(TypeError, match="unknown option x; known are host, port, "), running(x=1):
        pass
    with pytest.raises(TypeError, match="not both"), running(Settings(), rtt=1.0):
        pass
    with pytest.raises(ValueError, match="rtt must be at least 0"), running(rtt=-1):
        pass
    with pytest.raises(TypeError), running(no_such_switch=1):
        pass


def test_a_hanging_request_does_not_delay_close() -> None:
    """Closing ends a request that would never end."""
    with running(engine="tone") as emulator:
        emulator.inject("hang")
        connection = open_socket(emulator.url)
        connection.sendall(raw_request({"texts": ["a"]}))
        while not emulator.counters().in_flight:
            pass
    with connection:
        assert not is_alive(emulator.pid)


def test_a_port_in_use_is_an_error() -> None:
    """The error of the child process reaches the caller."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmulatorError, match=f"cannot listen on 127.0.0.1:{port}"), running(port=port):
            pass


def test_a_dead_emulator_is_an_error() -> None:
    """Once its process was killed, every call raises."""
    with running(engine="tone") as emulator:
        os.kill(emulator.pid, signal.SIGKILL)
        wait_until_dead(emulator.pid)
        with pytest.raises(EmulatorError, match="does not answer"):
            emulator.counters()


def test_it_dies_with_its_parent() -> None:
    """It ends even when the parent is killed."""
    code = (
        "import os, signal\n"
        "from cosyclient.emulator import running\n"
        "with running(engine='tone') as emulator:\n"
        "    print(emulator.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    parent = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert parent.returncode == -signal.SIGKILL
    wait_until_dead(int(parent.stdout))


def test_a_forked_child_cannot_end_it(emulator: Emulator) -> None:
    """Only the process that started it closes it."""
    child = os.fork()
    if child == 0:
        emulator.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert call(emulator.url, "GET", "/health").status == 200


def test_ipv6_works() -> None:
    """An address with colons becomes a URL with brackets."""
    with running(engine="tone", host="::1") as emulator:
        assert emulator.url.startswith("http://[::1]:")
        assert post(emulator.url, {"texts": ["a"]}).status == 200


def test_the_foreground_ends_with_ctrl_c() -> None:
    """``python -m cosyclient.emulator`` prints its address and exits with 0."""
    command = [sys.executable, "-m", "cosyclient.emulator", "--engine", "tone"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        line = server.stderr.readline()
        url = line.partition(" on ")[2].split()[0]
        assert post(url, {"texts": ["a"]}).status == 200
        server.send_signal(signal.SIGINT)
        assert server.stderr.read() == ""
    assert server.returncode == 0


def test_a_usage_error_exits_with_2() -> None:
    """A broken rule on the command line is reported in one line."""
    command = [sys.executable, "-m", "cosyclient.emulator", "--rtt", "-1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "python -m cosyclient.emulator: rtt must be at least 0, not -1.0\n"


def test_importing_is_light() -> None:
    """What renders and serves is loaded when used; the same holds for the plugin."""
    heavy = ["starlette", "uvicorn", "httptools", "numpy", "soundfile", "soxr", "espeakng_loader"]
    code = (
        "import sys, types\n"
        "library = sys.modules['cosyclient'] = types.ModuleType('cosyclient')\n"
        f"library.__path__ = [{str(ROOT / 'cosyclient')!r}]\n"
        "import cosyclient.emulator, cosyclient.emulator.pytest_plugin\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
        "print([name for name in sys.modules if name.startswith('cosyclient.') and '.emulator' not in name])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both stand in the error."""
    monkeypatch.setattr("cosyclient.emulator.extra.find_spec", lambda name: None if name == "soxr" else object())
    with pytest.raises(EmulatorError, match=r"needs soxr: run  pip install '\.\[emulator\]'"):
        require_extra()


def test_the_sample_is_varied() -> None:
    """Well over a hundred different sentences, Chinese and English, short and long."""
    lines = Path(cosyclient.emulator.__file__).with_name("sample.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) >= 120
    assert len(set(lines)) == len(lines)
    assert all(line == line.strip() and line for line in lines)
    chinese = [line for line in lines if any("\u4e00" <= character <= "\u9fff" for character in line)]
    mixed = [line for line in chinese if any(character.isascii() and character.isalpha() for character in line)]
    assert len(chinese) >= 50
    assert len(lines) - len(chinese) >= 40
    assert len(mixed) >= 5
