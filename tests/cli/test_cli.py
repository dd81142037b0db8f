"""The command line as its user sees it: its input, its files, its output and its exit code."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from cosyclient import __version__
from cosyclient.emulator import Emulator, Settings, extra
from cosyclient.models import Utterance, VoiceSettings
from tests.support.commands import (
    CommandResult,
    Run,
    isolate,
    read_manifest,
    run_command,
    spoken_texts,
    write_lines,
    write_objects,
)
from tests.support.ports import quiet_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "cosyclient")


@pytest.fixture(scope="module")
def services() -> Iterator[Callable[..., Emulator]]:
    """Return a function that gives an emulator with these settings, with fresh counters and no faults waiting."""
    started: dict[str, Emulator] = {}

    def service(**settings: Any) -> Emulator:
        key = repr(sorted(settings.items()))
        if key not in started:
            started[key] = Emulator(Settings(**settings))
        started[key].reset()
        return started[key]

    try:
        yield service
    finally:
        for emulator in started.values():
            emulator.close()


@pytest.fixture
def echo(services: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Return a service whose audio carries its text; commands find it through the environment."""
    emulator = services(engine="echo")
    monkeypatch.setenv("COSYCLIENT_BASE_URL", emulator.url)
    return emulator


@pytest.fixture
def tone(services: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Return a service that knows every format; commands find it through the environment."""
    emulator = services(engine="tone")
    monkeypatch.setenv("COSYCLIENT_BASE_URL", emulator.url)
    return emulator


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command in this process."""
    return partial(run_command, capsys)


def spawn(*arguments: object, **options: Any) -> CommandResult:
    """Run the command in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], check=False, capture_output=True, text=True, timeout=60, **options
    )
    return CommandResult(done.returncode, done.stdout, done.stderr)


def errors(directory: str = "out") -> dict[str, str]:
    return {record["id"]: record["error"] for record in read_manifest(directory) if record["error"] is not None}


# What is asked for


def test_a_text_file_becomes_one_wav_a_line(echo: Emulator, run: Run) -> None:
    source = write_lines("\ufeff你好，世界。", "", "  Hello there.  ", "   ", "第三句")
    ended = run("synth", source, "-o", "some/where")
    assert ended.code == 0
    assert spoken_texts("some/where") == {
        "00001.wav": "你好，世界。",
        "00003.wav": "Hello there.",
        "00005.wav": "第三句",
    }
    records = {record["id"]: record for record in read_manifest("some/where")}
    assert list(records["00001"]) == ["id", "line", "fingerprint", "file", "bytes", "duration", "attempts", "error"]
    for name, text in (("00001", "你好，世界。"), ("00003", "Hello there."), ("00005", "第三句")):
        info = soundfile.info(f"some/where/{name}.wav")
        assert (info.samplerate, info.channels, info.subtype) == (24000, 1, "PCM_16")
        assert records[name] == {
            "id": name,
            "line": int(name),
            "fingerprint": Utterance(text, VoiceSettings()).fingerprint,
            "file": f"{name}.wav",
            "bytes": Path("some/where", f"{name}.wav").stat().st_size,
            "duration": round(info.frames / info.samplerate, 6),
            "attempts": 1,
            "error": None,
        }
    assert ended.out == ""
    assert ended.err.startswith("3 speeches, 0.6 s of audio in ")
    assert ended.err.endswith(" requests); 0 failed, 0 skipped; see some/where/manifest.jsonl\n")


def test_jsonl_names_ids_and_options_a_line(tone: Emulator, run: Run) -> None:
    source = write_objects(
        {"id": "intro", "text": "你好，世界，今天天气真好"},
        {"id": 7, "text": "你好，世界，今天天气真好", "speed": 2.0},
        {"text": "hello", "format": "mp3", "sample_rate": 48000, "voice": "英文女", "seed": 0},
        "",
        {"id": "第一课", "text": "hello", "format": "pcm", "sample_rate": 8000, "instruct": "softly", "model": None},
        name="in.ndjson",
    )
    assert run("synth", source, "-o", "out").code == 0
    records = {record["id"]: record for record in read_manifest()}
    assert {name: record["file"] for name, record in records.items()} == {
        "intro": "intro.wav",
        7: "7.wav",
        "00003": "00003.mp3",
        "第一课": "第一课.pcm",
    }
    assert records[7]["duration"] < records["intro"]["duration"]
    assert soundfile.info("out/00003.mp3").samplerate == 48000
    assert Path("out/第一课.pcm").stat().st_size == round(records["第一课"]["duration"] * 8000) * 2


def test_options_of_the_command_hold_for_every_line_that_names_none(
    tone: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSYCLIENT_VOICE", "中文男")
    source = write_objects({"text": "hello"}, {"text": "hello", "seed": 1})
    command = ("synth", source, "-o", "out", "--seed", 0, "--instruct", "softly", "--sample-rate", 16000)
    assert run(*command).code == 0
    voice = partial(VoiceSettings, voice="中文男", instruct="softly", sample_rate=16000)
    made = {record["id"]: record["fingerprint"] for record in read_manifest()}
    assert made == {f"0000{n}": Utterance("hello", voice(seed=n - 1)).fingerprint for n in (1, 2)}


@pytest.mark.parametrize("jsonl", [False, True])
def test_standard_input(echo: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch, jsonl: bool) -> None:
    text = '{"text": "一"}\n{"text": "二"}' if jsonl else "一\n二"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert run("synth", "-", "-o", "out", *(["--jsonl"] if jsonl else [])).code == 0
    assert spoken_texts() == {"00001.wav": "一", "00002.wav": "二"}


def test_without_a_url_an_emulator_is_started_and_stderr_tells() -> None:
    ended = spawn("synth", "-", "-o", "out", "--join", "all.wav", input="你好，世界\nHello, world\n")
    assert ended.code == 0
    assert ended.out == ""
    first, summary = ended.err.splitlines()
    assert first.startswith("no --url: started the embedded emulator at http://127.0.0.1:")
    assert first.endswith("(eSpeak NG voices, not CosyVoice)")
    assert summary.startswith("2 speeches")
    for record in read_manifest():
        samples, rate = soundfile.read(f"out/{record['file']}")
        assert rate == 24000
        assert len(samples) / rate == pytest.approx(record["duration"], abs=1e-6)
        assert np.abs(samples).max() > 0.1, "somebody speaks"
    # It is gone with the command: the address it named refuses.
    host, port = first.split("//")[1].split(" ")[0].split(":")
    with pytest.raises(ConnectionRefusedError), socket.create_connection((host, int(port)), timeout=30):
        pass


@pytest.mark.parametrize("format", ["wav", "pcm", "mp3", "opus"])
def test_formats(tone: Emulator, run: Run, format: str) -> None:
    assert run("synth", write_lines("你好，世界", "and English"), "-o", "out", "--format", format).code == 0
    for record in read_manifest():
        assert record["file"].endswith(f".{format}")
        raw = {"format": "RAW", "samplerate": 24000, "channels": 1, "subtype": "PCM_16"} if format == "pcm" else {}
        samples, rate = soundfile.read(f"out/{record['file']}", **raw)
        assert len(samples) / rate == pytest.approx(record["duration"], abs=0.1 if format == "mp3" else 1e-3)


def test_every_speech_is_joined_in_order_to_the_sample(tone: Emulator, run: Run) -> None:
    source = write_lines(*(f"第{number}句" * number for number in range(1, 9)))
    ended = run("synth", source, "-o", "out", "--join", "deep/all.wav", "--gap", "0.25", "--max-batch", 2, "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["joined"] == "deep/all.wav"
    silence = np.zeros(6000, "int16")
    pieces = [soundfile.read(f"out/{number:05d}.wav", dtype="int16")[0] for number in range(1, 9)]
    expected = np.concatenate([part for piece in pieces for part in (silence, piece)][1:])
    joined, rate = soundfile.read("deep/all.wav", dtype="int16")
    assert rate == 24000
    assert len(joined) == sum(map(len, pieces)) + 7 * 6000
    assert np.array_equal(joined, expected)


def test_joining_takes_pcm_and_what_an_earlier_run_made(tone: Emulator, run: Run) -> None:
    source = write_lines("one", "two", "three")
    command = ("synth", source, "-o", "out", "--format", "pcm", "--sample-rate", 8000, "--gap", 0)
    assert run(*command).code == 0
    assert run(*command, "--join", "all.wav", "--resume").code == 0
    joined, rate = soundfile.read("all.wav", dtype="int16")
    whole = b"".join(Path(f"out/0000{number}.pcm").read_bytes() for number in (1, 2, 3))
    assert (rate, joined.tobytes()) == (8000, whole)


def test_a_failed_text_is_left_out_of_the_joined_file_though_an_older_file_exists(echo: Emulator, run: Run) -> None:
    assert run("synth", write_lines("one", "two", "three"), "-o", "out").code == 0
    command = ("synth", write_lines("one", "two" * 2000, "three"), "-o", "out", "--join", "all.wav", "--gap", 0)
    ended = run(*command, "--overwrite")
    assert ended.code == 1
    parts = [soundfile.read(f"out/0000{number}.wav", dtype="int16")[0] for number in (1, 3)]
    assert np.array_equal(soundfile.read("all.wav", dtype="int16")[0], np.concatenate(parts))


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ({"text": "b", "sample_rate": 8000}, "8000 Hz"),
        ({"text": "b", "format": "mp3"}, "mp3 holds no plain samples"),
    ],
)
def test_a_failed_join_loses_no_speech(tone: Emulator, run: Run, second: dict[str, Any], says: str) -> None:
    ended = run("synth", write_objects({"text": "a"}, second), "-o", "out", "--join", "all.wav", "--json")
    assert ended.code == 1
    assert "--join all.wav: " in ended.err
    assert says in ended.err
    summary = json.loads(ended.out)
    assert (summary["succeeded"], summary["failed"], summary["joined"]) == (2, 0, None)
    assert not Path("all.wav").exists()


def test_the_summary_as_json(echo: Emulator, run: Run) -> None:
    ended = run(
        "synth", write_lines("one", "two", "x" * 4097, "four"), "-o", "out", "--json", "--quiet", "--max-batch", 1
    )
    assert ended.code == 1
    summary = json.loads(ended.out)
    assert summary.pop("elapsed_seconds") > 0
    assert summary == {
        "texts": 4,
        "succeeded": 3,
        "failed": 1,
        "skipped": 0,
        "not_sent": 0,
        "audio_seconds": 0.3,
        "requests": 3,
        "manifest": "out/manifest.jsonl",
        "joined": None,
        "interrupted": False,
        "stopped": None,
        "emulator": False,
    }
    assert ended.err == "line 3: BadUtterance: text: 4097 code points, at most 4096 are accepted; split it\n"


def test_an_empty_input_is_no_failure(echo: Emulator, run: Run) -> None:
    for options, unmade in (([], ""), (["--join", "all.wav"], "; all.wav is not written")):
        ended = run("synth", write_lines("", "  "), "-o", "out", *options)
        message = f"cosyclient synth: nothing to speak: the input has no text{unmade}"
        assert (ended.code, ended.err.splitlines()[1:]) == (0, [message])
        assert read_manifest() == []


def test_for_an_empty_input_no_emulator_is_started(run: Run) -> None:
    ended = run("synth", write_lines("", "  "), "-o", "out")
    assert (ended.code, "started the embedded emulator" in ended.err) == (0, False)


def test_an_empty_pipe_is_no_failure(echo: Emulator) -> None:
    ended = spawn("synth", "-", "-o", "out", "--join", "all.wav", input="")
    assert ended.code == 0
    assert "nothing to speak: the input has no text; all.wav is not written\n" in ended.err


def test_a_setting_that_no_text_can_have_is_refused_before_the_first(run: Run) -> None:
    url = f"http://127.0.0.1:{quiet_port()}"
    command = ("synth", write_lines("one", "two"), "-o", "out", "--url", url)
    ended = run(*command, "--protocol", "model-studio-http", "--speed", 3, "--voice", "a", "--model", "b")
    assert ended.code == 2
    assert ended.err.startswith("cosyclient synth: --speed: protocol model-studio-http serves from 0.5 to 2, not 3")
    assert len(ended.err.splitlines()) == 1
    assert read_manifest() == []
    ended = run(*command, "--protocol", "openai", "--voice", "a")
    assert ended.err.startswith("cosyclient synth: --model: protocol openai needs one; give --model")
    routed = (*command[:-1], f"{url}/v2/models/cosyvoice2/infer", "--protocol", "triton")
    assert run(*routed, "--wait-for-service", 0).code == 3, "the address names the model"
    source = write_objects({"text": "x", "model": "b", "voice": "a"})
    ended = run("synth", source, *command[2:], "--protocol", "openai", "--wait-for-service", 0)
    assert ended.code == 3, "a line of JSONL may name what the command does not"


# Errors of one line


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{nonsense", "BadUtterance: malformed JSON: Expecting property name enclosed in double quotes"),
        ("[" * 100_000, "BadUtterance: malformed JSON"),
        ('"text"', 'BadUtterance: must be an object with a string "text"'),
        ({"id": "x"}, 'BadUtterance: must be an object with a string "text"'),
        ({"text": 5}, 'BadUtterance: must be an object with a string "text"'),
        ({"text": "  \t"}, "BadUtterance: text: must not be empty or blank"),
        ({"text": "x" * 4097}, "BadUtterance: text: 4097 code points, at most 4096 are accepted"),
        ('{"text": "\\ud800"}', "BadUtterance: text: lone surrogate U+D800"),
        ({"text": "a\x07"}, "BadUtterance: text: control character U+0007"),
        ({"text": "x", "id": True}, "BadUtterance: id: must be a string or a number, not true or false"),
        ({"text": "x", "id": ["a"]}, "BadUtterance: id: must be a string or a number, not a list"),
        ({"text": "x", "id": {"a": [1]}}, "BadUtterance: id: must be a string or a number, not an object"),
        ({"text": "x", "format": "flac"}, "BadUtterance: format: 'flac' is not one of wav, pcm, mp3, opus"),
        ({"text": "x", "format": ["wav"]}, "BadUtterance: format: must be a plain value, not a list"),
        ({"text": "x", "voice": {}}, "BadUtterance: voice: must be a plain value, not an object"),
        ({"text": "x", "speed": "fast"}, "BadUtterance: speed: must be a number from 0.25 to 4.0"),
        ('{"text": "x", "speed": NaN}', "BadUtterance: speed: must be a number from 0.25 to 4.0"),
        ({"text": "x", "seed": -1}, "BadUtterance: seed: must be an integer from 0 to 65535"),
        ({"text": "x", "sample_rate": 11025}, "BadUtterance: sample_rate: 11025 is not one of 8000"),
    ],
)
def test_a_bad_line_fails_no_other_line(echo: Emulator, run: Run, line: Any, says: str) -> None:
    ended = run("synth", write_objects({"id": "first", "text": "one"}, line, {"text": "three"}), "-o", "out")
    assert ended.code == 1
    assert spoken_texts() == {"00003.wav": "three", "first.wav": "one"}
    (message,) = [record["error"] for record in read_manifest() if record["error"] is not None]
    assert message.startswith(says)
    told = ended.err.splitlines()[0]
    assert told.startswith("line 2: BadUtterance: ")
    assert sorted(path.name for path in Path().iterdir()) == ["in.jsonl", "out"]


def test_bytes_that_are_not_utf_8_fail_one_line(echo: Emulator, run: Run) -> None:
    Path("in.txt").write_bytes("一\n".encode() + b"\xff\xfe\x00\n" + "三\n".encode())
    assert run("synth", "in.txt", "-o", "out").code == 1
    assert spoken_texts() == {"00001.wav": "一", "00003.wav": "三"}
    assert errors() == {"00002": "BadUtterance: not UTF-8 at byte 0"}


def test_the_first_failures_are_printed_and_the_rest_is_counted(echo: Emulator, run: Run) -> None:
    ended = run("synth", write_objects(*(["nonsense"] * 9)), "-o", "out")
    assert [line.partition(":")[0] for line in ended.err.splitlines()[:5]] == [f"line {n}" for n in range(1, 6)]
    assert ended.err.splitlines()[5] == "… and 4 more failed; see out/manifest.jsonl"
    assert len(errors()) == 9


def test_a_refused_text_and_a_retried_one_are_in_the_manifest(echo: Emulator, run: Run) -> None:
    # One text at a time: the first fails and is tried again, the second is refused.
    echo.inject("error", status=500)
    echo.inject("drip", bytes=1 << 20, interval=0)
    echo.inject("failed_items", indices=[0], code="unsafe_text", retryable=False)
    source = write_lines("one", "two", "three")
    assert run("synth", source, "-o", "out", "--max-batch", 1, "--concurrency", 1).code == 1
    first, second, third = sorted(read_manifest(), key=lambda record: str(record["id"]))
    assert (first["attempts"], third["attempts"]) == (2, 1)
    assert second["file"] is second["duration"] is None
    assert second["fingerprint"] == Utterance("two", VoiceSettings()).fingerprint
    assert "unsafe_text" in second["error"]
    assert spoken_texts() == {"00001.wav": "one", "00003.wav": "three"}


def test_a_refused_text_was_tried_once(echo: Emulator, run: Run) -> None:
    echo.inject("failed_items", indices=[0], code="unsafe_text", retryable=False)
    assert run("synth", write_lines("one"), "-o", "out").code == 1
    assert read_manifest()[0]["attempts"] == 1


def test_a_file_that_cannot_be_written_fails_its_text_alone(echo: Emulator, run: Run) -> None:
    Path("out/00002.wav").mkdir(parents=True)
    assert run("synth", write_lines("one", "two", "three"), "-o", "out").code == 1
    assert errors() == {"00002": "cannot write the audio: Is a directory"}
    Path("out/00002.wav").rmdir()
    assert spoken_texts() == {"00001.wav": "one", "00003.wav": "three"}


# Errors of the whole run


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.txt", "-o", "out"], "INPUT: missing.txt: No such file or directory"),
        ([".", "-o", "out"], "INPUT: .: Is a directory"),
        (["in.txt", "-o", "in.txt"], "--output: in.txt: Not a directory"),
        (["in.txt", "-o", "in.txt/out"], "--output: in.txt/out: Not a directory"),
        (["in.txt", "-o", "/proc"], "--output: cannot write /proc/manifest.jsonl: No such file or directory"),
        (["in.txt", "-o", "out", "--join", "out"], "--join: out: Is a directory"),
        (["in.txt", "-o", "out", "--join", "in.txt/all.wav"], "--join: in.txt: Not a directory"),
        (["in.txt", "-o", "out", "--join", "a.wav", "--format", "mp3"], "--join: needs --format wav or pcm, not mp3"),
        (["in.txt", "-o", "out", "--gap", "-1"], "--gap: must be zero or more seconds, got -1"),
        (["in.txt", "-o", "out", "--gap", "nan"], "--gap: must be zero or more seconds, got nan"),
        (["in.txt", "-o", "out", "--rate", "0"], "--rate: must be a number above 0, got 0.0"),
        (["in.txt", "-o", "out", "--connections", "0"], "--connections: must be a whole number of at least 1, got 0"),
        (["in.txt", "-o", "out", "--concurrency", "-2"], "--concurrency: must be a whole number of at least 1, got -2"),
        (["in.txt", "-o", "out", "--max-batch", "0"], "--max-batch: must be a whole number of at least 1, got 0"),
        (["in.txt", "-o", "out", "--retries", "-1"], "--retries: must be a whole number of at least 0, got -1"),
        (["in.txt", "-o", "out", "--timeout", "0"], "--timeout: must be a number above 0, got 0.0"),
        (["in.txt", "-o", "out", "--speed", "5"], "--speed: must be a number from 0.25 to 4.0, got 5.0"),
        (["in.txt", "-o", "out", "--seed", "70000"], "--seed: must be an integer from 0 to 65535, got 70000"),
        (["in.txt", "-o", "out", "--instruct", " "], "--instruct: must be a non-blank str, got ' '"),
        (["in.txt", "-o", "out", "--url", "ftp://x"], "--url: must look like https://host[:port][/path], got ftp://…"),
        (
            ["in.txt", "-o", "out", "--url", "http://u:p@x"],
            "--url: must not carry credentials; pass api_key, or an Authorization header, instead",
        ),
    ],
)
def test_usage_errors_name_the_option_and_the_rule(echo: Emulator, run: Run, arguments: list[str], says: str) -> None:
    write_lines("hello")
    Path("out").mkdir()
    assert run("synth", *arguments) == CommandResult(2, "", f"cosyclient synth: {says}\n")
    assert echo.counters().requests == 0
    assert list(Path("out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["sing"], "invalid choice: 'sing'"),
        (["synth"], "the following arguments are required: INPUT, -o/--output"),
        (["synth", "in.txt", "-o", "out", "--format", "flac"], "argument --format: invalid choice: 'flac'"),
        (["synth", "in.txt", "-o", "out", "--sample-rate", "11025"], "argument --sample-rate: invalid choice: 11025"),
        (["synth", "in.txt", "-o", "out", "--rate", "many"], "argument --rate: invalid float value: 'many'"),
        (["synth", "in.txt", "-o", "out", "--voise", "x"], "unrecognized arguments: --voise x; did you mean --voice?"),
        (["synth", "in.txt", "-o", "out", "--voise=x"], "unrecognized arguments: --voise=x; did you mean --voice?"),
        (["synth", "in.txt", "-o", "out", "--zzz"], "cosyclient synth: error: unrecognized arguments: --zzz\n"),
        (["synth", "in.txt", "-o", "out", "--zzz"], "usage: cosyclient synth "),
    ],
)
def test_what_the_parser_refuses(run: Run, arguments: list[str], says: str) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err


def test_a_manifest_that_cannot_be_written(echo: Emulator, run: Run) -> None:
    Path("out/manifest.jsonl").mkdir(parents=True)
    ended = run("synth", write_lines("hello"), "-o", "out")
    assert ended == CommandResult(
        2, "", "cosyclient synth: --output: cannot write out/manifest.jsonl: Is a directory\n"
    )


def test_without_the_emulators_packages_a_url_is_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "_NEEDED", ("no_such_package",))
    ended = run("synth", write_lines("hello"), "-o", "out")
    assert ended.code == 2
    assert "--url: none given, and the embedded emulator did not start" in ended.err
    assert "pip install '.[emulator]'" in ended.err
    assert "pip install '.[emulator]'" in run("emulator").err


def test_without_tqdm_there_is_no_bar_and_no_difference(
    echo: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    ended = run("synth", write_lines("one", "x" * 5000), "-o", "out")
    assert ended.code == 1
    assert ended.err.splitlines()[0].startswith("line 2: BadUtterance: ")
    assert spoken_texts() == {"00001.wav": "one"}


def test_an_address_where_nothing_listens(run: Run) -> None:
    url = f"http://127.0.0.1:{quiet_port()}"
    source = write_objects("nonsense", *({"text": f"text {number}"} for number in range(400)))
    ended = run("synth", source, "-o", "out", "--url", url, "--max-batch", 4, "--retries", 1, "--wait-for-service", 0)
    assert ended.code == 3
    assert f"cosyclient synth: no service at {url}: ConnectFailed: " in ended.err
    assert ended.err.endswith("stopped; the same command with --resume goes on from here\n")
    assert len(ended.err.splitlines()) == 4, "one bad line, the summary, the reason, what to do"
    assert [record["line"] for record in read_manifest()] == [1], "what nobody received has not failed"


def test_a_wrong_api_key_stops_the_job(
    services: Callable[..., Emulator], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = services(engine="echo", api_key="right")
    command = ("synth", write_lines("one", "two"), "-o", "out", "--url", service.url)
    for key in ("", "wrong"):
        monkeypatch.setenv("COSYCLIENT_API_KEY", key)
        ended = run(*command, "--overwrite")
        assert ended.code == 3
        assert f"cosyclient synth: {service.url} refuses every text: Unauthorized: HTTP 401" in ended.err
        assert "COSYCLIENT_API_KEY" in ended.err
    monkeypatch.setenv("COSYCLIENT_API_KEY", "right")
    assert run(*command, "--resume").code == 0
    assert spoken_texts() == {"00001.wav": "one", "00002.wav": "two"}


def test_an_unknown_voice_fails_its_texts(echo: Emulator, run: Run) -> None:
    ended = run("synth", write_objects({"text": "one"}, {"text": "two", "voice": "nobody"}), "-o", "out")
    assert ended.code == 1
    assert spoken_texts() == {"00001.wav": "one"}
    assert ended.err.startswith("line 2: NotFound: HTTP 404 unknown_voice")


def test_a_service_that_fails_does_not_fail_the_rest_of_the_input(echo: Emulator, run: Run) -> None:
    source = write_lines(*(f"text {number}" for number in range(1000)))
    limits = ("--retries", 0, "--max-batch", 5, "--concurrency", 2, "--wait-for-service", 0)
    command = ("synth", source, "-o", "out", "--json", *limits)
    # Four good requests first, so that there was a service; the breaker opens over what follows.
    echo.inject("drip", count=4, bytes=1 << 20, interval=0)
    echo.inject("error", count=500, status=500)
    ended = run(*command)
    assert ended.code == 3
    assert f"no service at {echo.url}: ServiceFault: HTTP 500" in ended.err
    assert ended.err.endswith("stopped; the same command with --resume goes on from here\n")
    summary = json.loads(ended.out)
    assert 0 < summary["succeeded"] <= 20
    assert summary["texts"] < 200, "what was never read is not failed"

    echo.reset()
    assert run(*command, "--resume").code == 0
    assert spoken_texts() == {f"{number + 1:05d}.wav": f"text {number}" for number in range(1000)}
    assert len(read_manifest()) == 1000
    assert echo.counters().texts == 1000 - summary["succeeded"]


# Going on


def test_resume_makes_only_what_is_missing_or_different(echo: Emulator, run: Run) -> None:
    first = write_lines("one", "two", "three", "x" * 4097)
    assert run("synth", first, "-o", "out").code == 1
    Path("out/00003.wav").unlink()
    with Path("out/manifest.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "00009", "fi')  # as a killed run leaves it
    echo.reset()
    second = write_lines("one", "zwei", "three", "four", "five")
    ended = run("synth", second, "-o", "out", "--resume", "--json")
    assert ended.code == 0
    summary = json.loads(ended.out)
    assert (summary["texts"], summary["succeeded"], summary["skipped"]) == (5, 4, 1)
    assert echo.counters().texts == 4
    expected = {"00001.wav": "one", "00002.wav": "zwei", "00003.wav": "three", "00004.wav": "four", "00005.wav": "five"}
    assert spoken_texts() == expected
    assert sorted(record["id"] for record in read_manifest()) == ["00001", "00002", "00003", "00004", "00005"]
    assert errors() == {}

    echo.reset()
    assert run("synth", second, "-o", "out", "--resume").code == 0
    assert echo.counters().requests == 0
    assert run("synth", second, "-o", "out", "--resume", "--sample-rate", 8000).code == 0
    assert echo.counters().texts == 5, "another rate is another speech"
    assert {soundfile.info(f"out/{name}").samplerate for name in expected} == {8000}


# The other commands


def test_sizing_shows_a_row_for_every_rate_and_latency(run: Run) -> None:
    ended = run("sizing", "--rate", 100, 50, "--latency", 0.2, 1)
    assert (ended.code, ended.err) == (0, "")
    assert [line.split() for line in ended.out.splitlines()[1:]] == [
        ["100", "0.2", "20", "40", "40", "40", "5120", "6400"],
        ["100", "1", "100", "50", "50", "50", "6400", "3200"],
        ["50", "0.2", "10", "20", "20", "20", "2560", "3200"],
        ["50", "1", "50", "50", "50", "50", "6400", "3200"],
    ]
    assert len({len(line) for line in ended.out.splitlines()}) == 1, "the columns stand in line"
    assert ended.out.splitlines()[0].split()[:2] == ["requests/s", "latency"]


def test_sizing_as_json(run: Run) -> None:
    ended = run("sizing", "--rate", 10, "--latency", 0.5, "--headroom", 1, "--max-batch", 8, "--json")
    assert ended.code == 0
    assert json.loads(ended.out) == [
        {
            "rate": 10,
            "latency": 0.5,
            "in_flight": 5,
            "permits": 5,
            "threads": 5,
            "connections": 5,
            "queue": 80,
            "bound": 80,
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rate", "0"], "--rate: must be a positive number, got 0.0"),
        (["--latency", "nan"], "--latency: must be a positive number, got nan"),
        (["--headroom", "-1"], "--headroom: must be a positive number, got -1.0"),
        (["--connections", "0"], "--connections: must be a whole number of at least 1, got 0"),
        (["--max-batch", "0"], "--max-batch: must be a whole number of at least 1, got 0"),
    ],
)
def test_sizing_refuses_what_makes_no_sense(run: Run, arguments: list[str], says: str) -> None:
    assert run("sizing", *arguments) == CommandResult(2, "", f"cosyclient sizing: {says}\n")


def test_a_closed_output_pipe_gives_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        done = subprocess.run(
            [*COMMAND, "sizing"], check=False, stdout=gone, stderr=subprocess.PIPE, timeout=60, env=environment
        )
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("module", ["cosyclient", "cosyclient.cli"])
def test_version(run: Run, module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--version"], check=True, capture_output=True, timeout=60)
    assert done.stdout.decode() == f"cosyclient {__version__}\n"
    assert run("--version") == CommandResult(0, f"cosyclient {__version__}\n", "")


def test_every_option_has_a_help_text(run: Run) -> None:
    for command in ("synth", "emulator", "sizing"):
        ended = run(command, "--help")
        assert ended.code == 0
        options = [line for line in ended.out.splitlines() if line.startswith("  -")]
        texts = ended.out.splitlines()
        for line in options:
            following = texts[texts.index(line) + 1 : texts.index(line) + 2]
            explained = len(line.strip().split("  ")) > 1 or (following and following[0].startswith(" " * 20))
            assert explained, f"{command}: {line.strip()} has no help"


def test_the_emulator_serves_until_ctrl_c(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [*COMMAND, "emulator", "--engine", "echo", "--api-key", "k"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
        try:
            assert service.stderr is not None
            said = service.stderr.readline()
            assert said.startswith("cosyvoice emulator (echo) on http://127.0.0.1:")
            url = said.split()[4]
            monkeypatch.setenv("COSYCLIENT_API_KEY", "k")
            assert run("synth", write_lines("hello"), "-o", "out", "--url", url).code == 0
            assert spoken_texts() == {"00001.wav": "hello"}
            port = url.rpartition(":")[2]
            assert run("emulator", "--port", port).code == 2
        finally:
            service.send_signal(signal.SIGINT)
        assert service.wait(60) == 0
        assert service.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "70000"], "port must be at most 65535, not 70000"),
        (["--rtt", "-1"], "rtt must be at least 0, not -1.0"),
        (["--fault", "flood=0.5"], "fault must name one of "),
        (["--fault", "hang=2"], "fault hang must be a share between 0 and 1"),
        (["--host", "256.0.0.1"], "cannot listen on 256.0.0.1:0: "),
    ],
)
def test_the_emulator_refuses_invalid_options(run: Run, arguments: list[str], says: str) -> None:
    ended = run("emulator", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"cosyclient emulator: {says}")
