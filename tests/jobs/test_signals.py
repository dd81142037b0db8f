"""The command under Ctrl-C, kill -9 and on a terminal: what is finished is whole, and --resume makes the rest."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import termios
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest
import soundfile

from cosyclient.emulator import Emulator, echo_text, running
from tests.support.commands import isolate, read_manifest, started_synth, write_lines
from tests.support.waiting import GENEROUS, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TEXTS = 120
SLOWLY = ("--max-batch", "3", "--concurrency", "2")


@pytest.fixture(scope="module")
def slow_service() -> Iterator[Emulator]:
    """Return a service that takes its time and whose audio carries its text."""
    with running(engine="echo", rtt=0.1) as emulator:
        yield emulator


@pytest.fixture
def slow(slow_service: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Emulator:
    """Return the service with fresh counters, found through the environment, and a file of texts in the directory."""
    isolate(monkeypatch, tmp_path)
    monkeypatch.setenv("COSYCLIENT_BASE_URL", slow_service.url)
    write_lines(*(f"text {number}" for number in range(1, TEXTS + 1)))
    slow_service.reset()
    return slow_service


def pipe_of(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stderr is not None
    return process.stderr


def wavs(directory: str = "out") -> dict[str, str]:
    """Return the text in every file with a final name; each must be whole."""
    found = {}
    for path in Path(directory).glob("[!.]*.wav"):
        assert soundfile.info(path).frames % 2400 == 0
        found[path.name] = echo_text(path.read_bytes())
    return found


ALL = {f"{number:05d}.wav": f"text {number}" for number in range(1, TEXTS + 1)}


def test_ctrl_c_finishes_what_is_in_flight_and_resume_the_rest(slow: Emulator) -> None:
    command = ("in.txt", "-o", "out", *SLOWLY, "--json", "--join", "all.wav")
    with started_synth(*command) as process:
        eventually(read_manifest, "the first text is finished")
        process.send_signal(signal.SIGINT)
        output, said = process.communicate(timeout=GENEROUS)
    assert process.returncode == 130
    assert "\nfinishing what is in flight; press Ctrl-C again to stop at once\n" in said
    assert said.endswith("interrupted; the same command with --resume goes on from here\n")
    summary = json.loads(output)
    assert summary["interrupted"] is True
    assert summary["joined"] is None
    assert 0 < summary["succeeded"] < TEXTS
    assert summary["failed"] == 0, "what was not sent is not failed"
    done = wavs()
    assert done.items() < ALL.items()
    assert {record["file"] for record in read_manifest()} == done.keys()
    assert slow.counters().texts == summary["succeeded"], "what was sent was paid for and is kept"

    with started_synth(*command, "--resume") as process:
        output, _ = process.communicate(timeout=GENEROUS)
    assert process.returncode == 0
    assert json.loads(output)["skipped"] == summary["succeeded"]
    assert wavs() == ALL
    assert sorted(record["file"] for record in read_manifest()) == sorted(ALL)
    assert slow.counters().texts == TEXTS, "no text was made twice"
    parts = sum(soundfile.info(f"out/{name}").frames for name in ALL)
    assert soundfile.info("all.wav").frames == parts + 4800 * (TEXTS - 1)


def test_ctrl_c_while_waiting_for_more_input(slow: Emulator) -> None:
    with started_synth("-", "-o", "out", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write("text 1\ntext 2\n")
        process.stdin.flush()
        eventually(lambda: slow.counters().texts == 2, "both texts were sent")
        process.send_signal(signal.SIGINT)
        assert process.wait(GENEROUS) == 130
        assert pipe_of(process).read().endswith("--resume goes on from here\n")
    assert wavs() == {"00001.wav": "text 1", "00002.wav": "text 2"}


def test_a_second_ctrl_c_stops_at_once(slow: Emulator) -> None:
    with started_synth("in.txt", "-o", "out", *SLOWLY) as process:
        eventually(lambda: len(read_manifest()) >= 3, "the first texts are finished")
        slow.inject("hang", count=100)
        eventually(lambda: slow.counters().faults.get("hang", 0) >= 2, "the service hangs")
        process.send_signal(signal.SIGINT)
        said = pipe_of(process)
        assert [said.readline(), said.readline()][1].startswith("finishing what is in flight")
        process.send_signal(signal.SIGINT)
        rest = said.read()
        assert process.wait(GENEROUS) == 130
    assert rest == "stopped; the same command with --resume goes on from here\n"
    done = wavs()
    assert {record["file"] for record in read_manifest()} == done.keys()
    assert done.items() < ALL.items()


def test_a_killed_run_leaves_complete_files_only(slow: Emulator) -> None:
    with started_synth("in.txt", "-o", "out", *SLOWLY) as process:
        eventually(lambda: len(read_manifest()) >= 9, "some texts are finished")
        process.kill()
        assert process.wait(GENEROUS) == -signal.SIGKILL
    before = wavs()
    assert before.items() < ALL.items()
    with started_synth("in.txt", "-o", "out", "--resume") as process:
        assert process.wait(GENEROUS) == 0
    assert wavs() == ALL
    assert sorted(record["file"] for record in read_manifest()) == sorted(ALL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_embedded_emulator_does_not_outlive_the_command(
    slow: Emulator, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.delenv("COSYCLIENT_BASE_URL")
    with started_synth("-", "-o", "out", stdin=subprocess.PIPE) as process:
        address = re.search(r"http://([\d.]+):(\d+)", pipe_of(process).readline())
        assert address is not None
        socket.create_connection((address[1], int(address[2])), timeout=GENEROUS).close()
        process.send_signal(number)
        # 143 once the job has begun, which the line above does not show.
        assert process.wait(GENEROUS) in ((-number, 143) if number == signal.SIGTERM else (-number,))

    def gone() -> bool:
        try:
            socket.create_connection((address[1], int(address[2])), timeout=GENEROUS).close()
        except OSError:
            return True
        return False

    eventually(gone, "the emulator has ended")


def on_a_terminal(*arguments: str, columns: int = 100) -> tuple[int, str]:
    """Run ``cosyclient synth`` with its stderr on a terminal; return the exit code and what was shown."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24 if columns else 0, columns, 0, 0))
    try:
        with started_synth(*arguments, stderr=theirs, stdout=subprocess.DEVNULL) as process:
            os.close(theirs)
            shown = b""
            # On Linux the end of a terminal without a writer reads as an error.
            with contextlib.suppress(OSError):
                while piece := os.read(ours, 65536):
                    shown += piece
            return process.wait(GENEROUS), shown.decode()
    finally:
        os.close(ours)


@pytest.mark.parametrize("columns", [100, 0])
def test_a_terminal_shows_rate_and_time_left(slow: Emulator, columns: int) -> None:
    Path("in.txt").write_text("".join(f"text {number}\n\n" for number in range(1, 31)) + "x" * 5000 + "\n")
    code, shown = on_a_terminal("in.txt", "-o", "out", *SLOWLY, columns=columns)
    assert code == 1
    states = shown.split("\r")
    assert any(re.search(r"\d+%\|.*\| \d+/31 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+ texts/s\]", state) for state in states)
    assert any("100%|" in state and "31/31" in state for state in states), "bad lines are done with, too"
    assert "line 61: BadUtterance: text: 5000 code points" in shown
    assert "30 speeches" in states[-2] + states[-1]


def test_a_pipe_on_a_terminal_is_read_once(slow: Emulator) -> None:
    os.mkfifo("fifo")
    writer = os.open("fifo", os.O_RDWR)
    try:
        os.write(writer, b"text 1\ntext 2\n")
        os.set_inheritable(writer, False)
        with started_synth("fifo", "-o", "out") as process:
            eventually(lambda: slow.counters().texts == 2, "both texts were sent")
            os.close(writer)
            writer = -1
            assert process.wait(GENEROUS) == 0
    finally:
        if writer >= 0:
            os.close(writer)
    assert wavs() == {"00001.wav": "text 1", "00002.wav": "text 2"}


@pytest.mark.parametrize("arguments", [(), ("--quiet",)])
def test_no_terminal_no_bar(slow: Emulator, arguments: tuple[str, ...]) -> None:
    with started_synth("in.txt", "-o", "out", *arguments) as process:
        output, said = process.communicate(timeout=GENEROUS)
    assert (process.returncode, output) == (0, "")
    assert len(said.splitlines()) == (0 if arguments else 1)
    assert "\r" not in said


def test_quiet_on_a_terminal_is_quiet(slow: Emulator) -> None:
    assert on_a_terminal("in.txt", "-o", "out", "--quiet") == (0, "")
