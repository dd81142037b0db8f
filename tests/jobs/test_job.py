"""A job as its user sees it: it waits for the service, resumes, keeps what is finished, and stops early."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import soundfile

from cosyclient.emulator import Emulator, Settings, echo_text
from cosyclient.util import files
from tests.support.commands import (
    Run,
    isolate,
    read_manifest,
    run_command,
    spoken_texts,
    started_synth,
    write_lines,
    write_objects,
)
from tests.support.ports import quiet_port
from tests.support.waiting import GENEROUS, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def echo_service() -> Iterator[Emulator]:
    """Return a service whose audio carries its text."""
    with Emulator(Settings(engine="echo")) as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
def echo(echo_service: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Return the service with fresh counters, found through the environment."""
    monkeypatch.setenv("COSYCLIENT_BASE_URL", echo_service.url)
    echo_service.reset()
    return echo_service


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs ``cosyclient synth INPUT -o out`` in this process."""
    return lambda *arguments: run_command(capsys, "synth", *arguments, "-o", "out", "--json")


def spoken() -> dict[Any, str]:
    """Return the text in the file of every id, as the manifest has it."""
    return {
        record["id"]: echo_text(Path("out", record["file"]).read_bytes())
        for record in read_manifest()
        if record["file"]
    }


# A service that is down for a while


def test_a_restart_of_the_service_loses_no_line() -> None:
    settings = Settings(engine="echo", rtt=0.05, port=quiet_port())
    write_lines(*(f"text {number}" for number in range(1500)))
    first = Emulator(settings)
    with first, started_synth("in.txt", "-o", "out", "--url", first.url, "--max-batch", "4", "--json") as process:
        eventually(lambda: first.counters().texts > 40, "some were spoken")
        first.close()
        time.sleep(2.5)
        with Emulator(settings):
            output, said = process.communicate(timeout=GENEROUS)
    assert process.returncode == 0, said
    assert json.loads(output)["succeeded"] == 1500
    assert "waiting for the service, 300 s at most (--wait-for-service): " in said
    assert "the service answers again, after " in said
    assert len(spoken_texts()) == len(read_manifest()) == 1500


def test_a_job_waits_for_a_service_that_is_not_up_yet() -> None:
    port = quiet_port()
    write_lines("one", "two")
    with started_synth("in.txt", "-o", "out", "--url", f"http://127.0.0.1:{port}") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("waiting for the service, 300 s at most (--wait-for-service): Conn")
        with Emulator(Settings(engine="echo", port=port)):
            assert process.wait(GENEROUS) == 0
    assert spoken_texts() == {"00001.wav": "one", "00002.wav": "two"}


def test_after_the_wait_the_job_stops_early_without_failed_texts(run: Run) -> None:
    url = f"http://127.0.0.1:{quiet_port()}"
    source = write_lines(*(f"text {number}" for number in range(300)))
    ended = run(source, "--url", url, "--wait-for-service", 1, "--max-batch", 4)
    assert ended.code == 3
    assert (ended.summary["failed"], ended.summary["stopped"]) == (0, "service down")
    assert (ended.summary["texts"], ended.summary["not_sent"]) == (0, 300)
    assert read_manifest() == []
    assert f"no service at {url}: ConnectFailed: " in ended.err
    assert ended.err.endswith("stopped; the same command with --resume goes on from here\n")


def test_texts_with_a_short_timeout_are_submitted_again_while_the_service_is_down() -> None:
    port = quiet_port()
    write_lines("one", "two")
    with started_synth("in.txt", "-o", "out", "--url", f"http://127.0.0.1:{port}", "--timeout", "0.7") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("waiting for the service")
        time.sleep(2.0)
        with Emulator(Settings(engine="echo", port=port)):
            assert process.wait(GENEROUS) == 0
    assert spoken_texts() == {"00001.wav": "one", "00002.wav": "two"}


def test_a_text_that_fails_for_its_own_reason_fails_alone_even_as_the_last(echo: Emulator, run: Run) -> None:
    assert run(write_lines(*(f"text {number}" for number in range(50)))).code == 0
    echo.inject("error", count=100, status=500)
    ended = run(write_lines(*(f"text {number}" for number in range(50)), "poison"), "--resume", "--retries", 0)
    assert (ended.code, ended.summary["failed"], ended.summary["stopped"]) == (1, 1, None)
    assert [record["line"] for record in read_manifest() if record["error"]] == [51]


# What is wrong with all alike


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--voice", "nobody"), "refuses every text: NotFound: HTTP 404 unknown_voice"),
        (("--model", "nothing"), "refuses every text: NotFound: HTTP 404 unknown_model"),
        (("--url", "{}/elsewhere"), "/elsewhere refuses every text: NotFound: HTTP 404"),
    ],
)
def test_an_error_that_every_text_would_get_stops_the_job(
    echo: Emulator, run: Run, options: tuple[str, str], says: str
) -> None:
    source = write_lines(*(f"text {number}" for number in range(400)))
    name, value = options
    ended = run(source, name, value.format(echo.url), "--max-batch", 1, "--concurrency", 4)
    assert (ended.code, ended.summary["stopped"]) == (3, "refused")
    assert says in ended.err
    assert "; for its voices see `cosyclient voices`, for the rest `cosyclient doctor`\n" in ended.err
    assert echo.counters().requests < 40
    assert ended.err.endswith("stopped; after mending this, the same command with --resume goes on from here\n")
    assert ended.summary["texts"] == len(read_manifest())
    assert ended.summary["not_sent"] == 400 - len(read_manifest()) > 300
    assert f", {ended.summary['not_sent']} not sent; see " in ended.err


@pytest.mark.parametrize("texts", [1, 3])
def test_an_unknown_voice_stops_a_short_job_alike(echo: Emulator, run: Run, texts: int) -> None:
    ended = run(write_lines(*(f"text {number}" for number in range(texts))), "--voice", "nobody")
    assert (ended.code, ended.summary["stopped"], ended.summary["not_sent"]) == (3, "refused", 0)
    assert "refuses every text: NotFound: HTTP 404 unknown_voice" in ended.err


def test_a_text_that_is_refused_beside_speeches_of_an_earlier_run_fails_alone(echo: Emulator, run: Run) -> None:
    assert run(write_lines("one")).code == 0
    source = write_objects({"text": "one"}, {"text": "two", "voice": "nobody"})
    assert run(source, "--resume").code == 1


def test_a_job_does_not_wait_for_a_service_of_another_kind(run: Run) -> None:
    with Emulator(Settings(engine="echo", fault={"html": 1.0})) as emulator:
        ended = run(write_lines(*(f"text {number}" for number in range(400))), "--url", emulator.url, "--max-batch", 1)
    assert (ended.code, ended.summary["stopped"]) == (3, "refused")
    assert "refuses every text: DecodeError: HTTP 200: text/html" in ended.err


def test_a_wrong_voice_of_some_lines_does_not_stop_the_job(echo: Emulator, run: Run) -> None:
    source = write_objects({"text": "one"}, *({"text": f"{n}", "voice": "nobody"} for n in range(60)), {"text": "two"})
    ended = run(source, "--max-batch", 1, "--concurrency", 1)
    assert (ended.code, ended.summary["failed"], ended.summary["succeeded"]) == (1, 60, 2)


def test_a_key_that_is_revoked_during_the_job_stops_it(echo: Emulator, run: Run) -> None:
    echo.inject("drip", count=2, bytes=1 << 20, interval=0)
    echo.inject("error", count=1000, status=401)
    source = write_lines(*(f"text {number}" for number in range(400)))
    ended = run(source, "--max-batch", 1, "--concurrency", 1)
    assert (ended.code, ended.summary["succeeded"], ended.summary["stopped"]) == (3, 2, "refused")
    assert ended.summary["requests"] < 30


# A folder that cannot be written


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("what", ["audio", "manifest"])
def test_a_full_disk_ends_the_job_at_once(
    echo: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch, code: int, what: str
) -> None:
    source = write_lines(*(f"text {number}" for number in range(400)))
    part, write = files._create_temporary, os.write
    left = [3]

    def full(path: str = "") -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(code, os.strerror(code), path)

    def no_part(directory: Path) -> tuple[str, int]:
        full(str(directory))
        return part(directory)

    def no_line(handle: int, data: bytes) -> int:
        if b'"fingerprint"' in data:
            if left[0] <= 0:
                write(handle, data[:10])  # as much as there was room for
            full()
        return write(handle, data)

    with monkeypatch.context() as disk:
        if what == "audio":
            disk.setattr(files, "_create_temporary", no_part)
        else:
            disk.setattr(os, "write", no_line)
        ended = run(source, "--max-batch", 1, "--concurrency", 2)
    assert (ended.code, ended.summary["stopped"], ended.summary["succeeded"]) == (4, "output", 3)
    assert f"cosyclient synth: cannot write to out{'' if what == 'audio' else '/manifest.jsonl'}: " in ended.err
    advice = "make it writable" if code == errno.EROFS else "make room there"
    assert f"{os.strerror(code)}; nothing more was sent; {advice}\n" in ended.err
    assert ended.err.endswith("stopped; the same command with --resume goes on from here\n")
    assert echo.counters().texts < 40
    assert [record["error"] for record in read_manifest()] == [None] * 3, "whole lines only"

    assert run(source, "--resume").code == 0
    assert set(spoken().values()) == {f"text {number}" for number in range(400)}


def test_little_disk_space_is_filled_one_text_at_a_time(
    echo: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_lines(*(f"text {number}" for number in range(400)))
    part, left = files._create_temporary, [5]

    def no_part(directory: Path) -> tuple[str, int]:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))
        return part(directory)

    with monkeypatch.context() as disk:
        disk.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
        disk.setattr(files, "_create_temporary", no_part)
        ended = run(source)
    assert (ended.code, ended.summary["succeeded"]) == (4, 5)
    assert echo.counters().texts == 6, "one was bought in vain"


# An earlier run


def test_an_earlier_run_is_neither_overwritten_nor_resumed_by_default(echo: Emulator, run: Run) -> None:
    source = write_lines("one", "two")
    assert run(source).code == 0
    before = Path("out/manifest.jsonl").read_bytes()
    ended = run(source)
    assert ended.code == 2
    assert "out holds an earlier run; --resume goes on with it, --overwrite makes everything anew" in ended.err
    assert echo.counters().texts == 2, "nothing was sent"
    assert Path("out/manifest.jsonl").read_bytes() == before
    assert run(source, "--resume", "--overwrite").code == 2
    assert run(source, "--overwrite").code == 0
    assert echo.counters().texts == 4
    assert len(read_manifest()) == 2


def test_two_runs_cannot_use_one_directory(echo: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines("one", "two")
    with started_synth("-", "-o", "out", stdin=subprocess.PIPE) as process:
        eventually(Path("out/manifest.jsonl").exists, "the first run has begun")
        ended = run("in.txt", "--overwrite")
        assert ended.code == 2
        assert "another run is at work in out; wait for it, or choose another folder" in ended.err
        process.kill()
        process.wait(GENEROUS)
    # The lock is gone with its owner, however that ended.
    assert run("in.txt", "--resume").code == 0


def test_temporary_files_of_a_killed_run_are_removed(echo: Emulator, run: Run) -> None:
    Path("out").mkdir()
    Path("out/.cosyclient-0123456789abcdef.part").write_bytes(b"half")
    Path("out/.mine.part").write_bytes(b"mine")
    assert run(write_lines("one")).code == 0
    assert sorted(path.name for path in Path("out").iterdir()) == [".mine.part", "00001.wav", "manifest.jsonl"]


@pytest.mark.parametrize("left", [0, 2, 1000])
def test_truncated_audio_is_made_again(echo: Emulator, run: Run, left: int) -> None:
    source = write_lines("one", "two", "three")
    assert run(source).code == 0
    os.truncate("out/00002.wav", left)
    Path("out/00003.wav").write_bytes(b"<html>".ljust(Path("out/00003.wav").stat().st_size))
    ended = run(source, "--resume")
    assert (ended.code, ended.summary["succeeded"], ended.summary["skipped"]) == (0, 2, 1)
    assert spoken_texts() == {"00001.wav": "one", "00002.wav": "two", "00003.wav": "three"}
    assert len(read_manifest()) == 3


def test_moved_lines_are_not_requested_again(echo: Emulator, run: Run) -> None:
    assert run(write_lines("one", "two", "three")).code == 0
    echo.reset()
    ended = run(write_lines("zero", "one", "two", "three", "two"), "--resume", "--join", "all.wav", "--gap", 0)
    assert (ended.code, ended.summary["succeeded"], ended.summary["skipped"]) == (0, 1, 4)
    assert echo.counters().texts == 1
    assert spoken() == {"00001": "zero", "00002": "one", "00003": "two", "00004": "three", "00005": "two"}
    assert [record["line"] for record in sorted(read_manifest(), key=lambda each: each["line"])] == [1, 2, 3, 4, 5]
    whole = sum(soundfile.info(Path("out", record["file"])).frames for record in read_manifest())
    assert soundfile.info("all.wav").frames == whole
    # And back again.
    assert run(write_lines("one", "two", "three"), "--resume").summary["skipped"] == 3
    assert echo.counters().texts == 1


def test_a_repeated_line_leaves_the_earlier_record_unchanged(echo: Emulator, run: Run) -> None:
    assert run(write_lines("one", "two", "three")).code == 0
    for _ in range(2):
        assert run(write_lines("one", "two", "three", "two"), "--resume").summary["skipped"] == 4
        assert sorted((record["line"], record["file"]) for record in read_manifest()) == [
            (1, "00001.wav"),
            (2, "00002.wav"),
            (3, "00003.wav"),
            (4, "00002.wav"),
        ]


def test_a_changed_text_takes_the_file_name_of_the_old_one(echo: Emulator, run: Run) -> None:
    assert run(write_lines("one", "two", "three")).code == 0
    assert run(write_lines("one", "zwei", "three"), "--resume").code == 0
    assert spoken_texts() == {"00001.wav": "one", "00002.wav": "zwei", "00003.wav": "three"}
    assert len(read_manifest()) == 3


def test_a_manifest_of_an_earlier_version_or_an_attacker_is_read(echo: Emulator, run: Run) -> None:
    assert run(write_objects({"id": 7, "text": "one"}, {"text": "two"})).code == 0
    old = [{name: record[name] for name in record if name not in ("line", "bytes")} for record in read_manifest()]
    Path("secret.wav").write_bytes(Path("out/7.wav").read_bytes())
    hostile = [
        "[" * 100_000,
        '{"id": [1], "fingerprint": "x", "file": "7.wav", "error": null}',
        '{"id": {}, "fingerprint": [], "file": 5, "error": null}',
        "null",
        '{"id": "x", "file": null, "bytes": ' + "9" * 5000 + "}",
        json.dumps({**old[1], "file": "../secret.wav", "id": "stolen"}),
        json.dumps({**old[1], "file": ".."}),
        json.dumps({**old[1], "file": "a\0b.wav"}),
    ]
    lines = [json.dumps({**old[0], "id": "7"}), *hostile]
    Path("out/manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    ended = run(write_objects({"id": 7, "text": "one"}, {"text": "two"}), "--resume")
    assert (ended.code, ended.summary["skipped"], ended.summary["succeeded"]) == (0, 1, 1)
    assert spoken() == {7: "one", "00002": "two"}
    assert "Traceback" not in ended.err


# Ids and members


def test_any_id_is_kept_and_names_a_file(echo: Emulator, run: Run) -> None:
    names = [
        "a/b",
        "a_b",
        "../escape",
        ".hidden",
        "",
        "好" * 100,
        "A",
        "a",
        "é",
        "e\u0301",
        7,
        7.5,
        "x\0y",
        "con:1?",
        "-o",
    ]
    names += ["manifest.jsonl", "/etc/passwd", "a\nb", "\ud800"]
    ended = run(write_objects(*({"id": name, "text": f"text {n}"} for n, name in enumerate(names))))
    assert ended.code == 0
    records = sorted(read_manifest(), key=lambda record: record["line"])
    assert [record["id"] for record in records] == names
    assert len({record["file"].casefold() for record in records}) == len(names)
    for number, record in enumerate(records):
        assert Path(record["file"]).name == record["file"]
        assert not record["file"].startswith((".", "-"))
        assert len(record["file"].encode()) <= 255
        assert echo_text(Path("out", record["file"]).read_bytes()) == f"text {number}"
    assert [record["file"] for record in records][1] == "a_b.wav"
    echo.reset()
    assert run("in.jsonl", "--resume").code == 0
    assert echo.counters().texts == 0


def test_duplicate_ids_and_ids_that_look_like_line_numbers_lose_no_line(echo: Emulator, run: Run) -> None:
    source = write_objects({"id": "00003", "text": "one"}, {"id": "00003", "text": "two"}, {"text": "three"})
    assert run(source).code == 0
    assert spoken_texts() == {"00003.wav": "one", "00003-2.wav": "two", "00003-3.wav": "three"}
    assert [record["id"] for record in read_manifest()] == ["00003"] * 3


def test_unknown_members_go_to_the_manifest(echo: Emulator, run: Run) -> None:
    source = write_objects(
        {"text": "one", "speaker": "Anna", "chapter": {"n": 1, "tags": ["a"]}, "file": "mine", "error": "none"},
        {"text": "two", "speeed": 2},
    )
    ended = run(source)
    assert ended.code == 0
    first, second = sorted(read_manifest(), key=lambda record: record["line"])
    assert (first["speaker"], first["chapter"]) == ("Anna", {"n": 1, "tags": ["a"]})
    assert (first["file"], first["error"]) == ("00001.wav", None)
    assert first["input"] == {"file": "mine", "error": "none"}
    assert second["speeed"] == 2
    assert 'line 2: "speeed" goes to the manifest only; did you mean speed?\n' in ended.err
    failed = write_objects({"text": "x" * 5000, "speaker": "Ben"})
    assert run(failed, "--overwrite").code == 1
    assert read_manifest()[0]["speaker"] == "Ben"


def test_the_members_of_text_and_id_can_be_renamed(echo: Emulator, run: Run) -> None:
    source = write_objects({"key": "a", "sentence": "one", "text": "original", "id": 5}, {"key": "b", "text": "two"})
    ended = run(source, "--text-field", "sentence", "--id-field", "key")
    assert ended.code == 1
    assert spoken_texts() == {"a.wav": "one"}
    first, second = sorted(read_manifest(), key=lambda record: record["line"])
    assert (first["id"], first["text"], first["input"]) == ("a", "original", {"id": 5})
    assert second["error"] == 'BadUtterance: must be an object with a string "sentence"'
    for options in (("--text-field", "voice"), ("--id-field", ""), ("--id-field", "text")):
        assert run(source, "--overwrite", *options).code == 2


# Who speaks


@pytest.mark.parametrize(
    ("options", "environment", "named"),
    [
        ((), {"COSYCLIENT_API_KEY": "secret"}, "COSYCLIENT_API_KEY is given"),
        (("--protocol", "openai"), {}, "--protocol is given"),
        (("--model", "m"), {"COSYCLIENT_VOICE": "v"}, "--model and COSYCLIENT_VOICE are given"),
        (("--voice", "v"), {}, "--voice is given"),
    ],
)
def test_options_that_need_a_service_require_a_url(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    environment: dict[str, str],
    named: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ended = run(write_lines("one"), *options)
    assert ended.code == 2
    assert f"--url: no service is named, but {named}; name it with --url or COSYCLIENT_BASE_URL" in ended.err
    assert "--emulator" in ended.err
    assert "secret" not in ended.err


def test_records_and_summary_tell_that_the_emulator_was_used(
    echo: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = run(write_lines("hello"), "--emulator", "--voice", "中文女")
    assert ended.code == 0
    assert ended.summary["emulator"] is True
    assert "1 speeches of the emulator, not of CosyVoice, " in ended.err
    assert read_manifest()[0]["emulator"] is True
    # A speech of the emulator does not replace one of the service.
    ended = run(write_lines("hello"), "--resume", "--voice", "中文女")
    assert (ended.code, ended.summary["succeeded"], ended.summary["emulator"]) == (0, 1, False)
    assert "emulator" not in read_manifest()[0]
    assert run(write_lines("hello"), "--overwrite", "--emulator", "--url", echo.url).code == 2


# Signals


def test_sigterm_finishes_what_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator(Settings(engine="echo", rtt=0.1)) as emulator:
        monkeypatch.setenv("COSYCLIENT_BASE_URL", emulator.url)
        write_lines(*(f"text {number}" for number in range(300)))
        slowly = ("--max-batch", "3", "--concurrency", "2")
        with started_synth("in.txt", "-o", "out", *slowly, "--json") as process:
            eventually(lambda: Path("out/manifest.jsonl").exists() and read_manifest(), "the first text is finished")
            process.terminate()
            output, said = process.communicate(timeout=GENEROUS)
        assert process.returncode == 128 + signal.SIGTERM
        assert "finishing what is in flight; a second signal is enough to stop at once\n" in said
        assert json.loads(output)["interrupted"] is True
        assert emulator.counters().texts == json.loads(output)["succeeded"] == len(spoken_texts()), (
            "what was paid for is kept"
        )
        with started_synth("in.txt", "-o", "out", "--resume") as process:
            assert process.wait(GENEROUS) == 0
        assert emulator.counters().texts == 300


def test_a_second_signal_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator(Settings(engine="echo")) as emulator:
        monkeypatch.setenv("COSYCLIENT_BASE_URL", emulator.url)
        emulator.inject("hang", count=100)
        write_lines("one")
        with started_synth("in.txt", "-o", "out") as process:
            eventually(lambda: emulator.counters().faults.get("hang", 0) >= 1, "the service hangs")
            process.terminate()
            assert process.stderr is not None
            assert [process.stderr.readline(), process.stderr.readline()][1].startswith("finishing")
            process.terminate()
            assert process.wait(GENEROUS) == 143


def test_ctrl_c_while_waiting_for_the_service_cancels_everything() -> None:
    with Emulator(Settings(engine="echo")) as found:
        url = found.url
    write_lines(*(f"text {number}" for number in range(200)))
    with started_synth("in.txt", "-o", "out", "--url", url) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("waiting for the service")
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(GENEROUS) == 130
    assert time.monotonic() - began < 20, "it does not wait for the service any longer"
    assert read_manifest() == []


def test_lines_without_speech_are_skipped_and_recorded(
    echo: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = run(write_lines("one", "……！", "🎉", "two"))
    assert (ended.code, ended.summary["skipped"], ended.summary["failed"]) == (0, 2, 0)
    assert spoken_texts() == {"00001.wav": "one", "00004.wav": "two"}
    assert {record["id"]: record.get("skipped") for record in read_manifest()} == {
        "00001": None,
        "00002": "nothing in it to be spoken",
        "00003": "nothing in it to be spoken",
        "00004": None,
    }
    assert run(write_lines("one", "……！", "🎉", "two"), "--resume").summary["skipped"] == 4
    assert len(read_manifest()) == 4
    assert echo.counters().texts == 2
