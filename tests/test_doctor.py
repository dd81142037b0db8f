"""The doctor tells what answers, how fast, and what to configure, and is clear about what ails it."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from cosyclient.cli import main
from cosyclient.emulator import running
from cosyclient.transports.resolving import Resolver
from tests.hostile import answers, hostile, reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosyclient.emulator.running import Emulator


@pytest.fixture
def service() -> Iterator[Emulator]:
    """Run a service with a quota."""
    with running(engine="tone", rate=50.0, burst=50) as emulator:
        yield emulator


def examine(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the report."""
    code = main(["doctor", "--json", *arguments])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, report


def test_a_healthy_service_is_found_out(service: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    """Protocol, latency by phase, the rate of the audio, the quota announced, and the pool that fits it."""
    code, report = examine(capsys, "--url", service.url)
    assert code == 0
    assert (report["protocol"], report["because"]) == ("batch", "POST /batch answered 422")
    assert set(report["phases"]) == {"name", "connect", "first request", "first byte", "whole"}
    assert 0 < report["phases"]["first byte"] <= report["phases"]["whole"] <= report["phases"]["first request"]
    assert report["audio"]["sample_rate"] == 24000
    assert report["audio"]["seconds"] > 1
    assert report["announced"]["limit"] == 50
    assert report["advice"]["requests_per_second"] == 50
    assert report["advice"]["max_batch"] == 64
    assert report["advice"]["permits"] >= 1
    assert service.counters().texts == 3


@pytest.mark.parametrize(
    ("switches", "path", "options", "protocol"),
    [
        ({"serve": "runtime"}, "", ("--voice", "中文女"), "runtime"),
        ({"serve": "lighttts"}, "/lighttts", (), "lighttts"),
        ({"serve": "triton"}, "", ("--model", "cosyvoice2"), "triton"),
        ({"serve": "pai-eas"}, "", (), "pai-eas"),
        (
            {"serve": "model-studio"},
            "",
            ("--voice", "longanyang", "--model", "cosyvoice-v3-flash"),
            "model-studio-http",
        ),
        ({"serve": "openai", "dialect": "openai"}, "", ("--voice", "alloy", "--model", "tts-1"), "openai"),
        ({"serve": "openai", "dialect": "vllm-omni"}, "", (), "openai:vllm-omni"),
        ({"serve": "openai", "dialect": "sglang-omni"}, "", (), "openai:sglang-omni"),
        ({"serve": "openai", "dialect": "xinference"}, "", (), "openai:xinference"),
        ({"serve": "openai", "dialect": "vox-box"}, "", (), "openai:vox-box"),
        ({"serve": "openai", "dialect": "triton-bridge"}, "", (), "openai:triton-bridge"),
        ({"serve": "openai", "dialect": "siliconflow"}, "", (), "openai:siliconflow"),
    ],
    ids=str,
)
def test_every_server_is_told_from_the_others(
    capsys: pytest.CaptureFixture[str], switches: dict[str, str], path: str, options: tuple[str, ...], protocol: str
) -> None:
    """By what costs nothing; those that a text and a voice will do for speak as well."""
    with running(engine="tone", **switches) as emulator:
        code, report = examine(capsys, "--url", emulator.url + path, *options)
    assert report["protocol"] == protocol
    assert (code == 0) == ("audio" in report) == ("error" not in report)
    if options:
        assert code == 0
        assert report["audio"]["sample_rate"] in (22050, 24000)
        assert protocol == "triton" or report["stream"]["pieces"] > 0


@pytest.mark.parametrize(
    ("switches", "options", "version", "notes"),
    [
        ({"dialect": "vllm-omni"}, (), "vLLM 0.30.0", set()),
        ({"dialect": "vllm-omni", "dialect_old": True}, (), "vLLM 0.22.0", {"0.30", "0.28", "0.26"}),
        ({"dialect": "vllm-omni", "dialect_old": True}, ("--protocol", "vllm-omni-ws"), "vLLM 0.22.0",
         {"0.30", "0.28", "0.26"}),
        ({"dialect": "xinference", "dialect_old": True}, (), "Xinference 3.2.1", {"4.0"}),
        ({"dialect": "xinference"}, (), "Xinference 4.1.0", set()),
        ({"dialect": "vox-box"}, (), None, set()),
    ],
)  # fmt: skip
def test_the_version_is_named_and_what_it_does_in_silence(
    capsys: pytest.CaptureFixture[str],
    switches: dict[str, Any],
    options: tuple[str, ...],
    version: str | None,
    notes: set[str],
) -> None:
    """No reply shows it, so it is said here."""
    with running(engine="tone", serve="openai", **switches) as emulator:
        url = emulator.url.replace("http", "ws") if "vllm-omni-ws" in options else emulator.url
        _, report = examine(capsys, "--url", url, *options)
    server = report.get("server", {})
    assert server.pop("version", None) == version
    assert server.keys() == {f"before {each}" for each in notes}


def test_it_reads_as_a_table(service: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    """For people."""
    assert main(["doctor", "--url", service.url]) == 0
    shown = capsys.readouterr().out
    for part in ("protocol", "batch", "first byte", " ms", "sample_rate", "24000", "requests_per_second"):
        assert part in shown


def test_nobody_there_and_nobody_known(capsys: pytest.CaptureFixture[str]) -> None:
    """Two exit codes: nothing answers, and nothing known does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    code, report = examine(capsys, "--url", f"http://127.0.0.1:{port}")
    assert code == 2
    assert "refused" in report["error"]
    with running(engine="tone", fault={"html": 1.0}) as emulator:
        code, report = examine(capsys, "--url", f"{emulator.url}/elsewhere")
    assert code == 1
    assert "name it with --protocol" in report["error"]


def test_a_service_that_will_not_speak(service: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    """What it answers instead is the diagnosis."""
    code, report = examine(capsys, "--url", service.url, "--voice", "nobody")
    assert code == 1
    assert report["error"].startswith("NotFound: ")
    with running(engine="tone", api_key="secret") as closed:
        code, report = examine(capsys, "--url", closed.url, "--protocol", "batch")
    assert code == 1
    assert report["error"].startswith("Unauthorized: ")


def test_no_answer_is_told_with_the_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Some services quote what they refuse, in words of their own."""
    key = "sk-Alpha0123456789Omega"
    refusal = reply(
        b'{"detail":"no such key: %b"}' % key.encode(),
        status="401 Unauthorized",
        headers=("Content-Type: application/json",),
    )
    with hostile(answers(refusal)) as service:
        monkeypatch.setenv("COSYCLIENT_API_KEY", key)
        for more in ([], ["--json"]):
            assert main(["doctor", "--url", service.url, "--protocol", "batch", *more]) == 1
            shown = "".join(capsys.readouterr())
            assert "no such key: ****" in shown
            assert key not in shown


def test_options_are_checked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is connected."""
    monkeypatch.delenv("COSYCLIENT_BASE_URL", raising=False)
    assert main(["doctor"]) == 2
    assert "--url: say which service" in capsys.readouterr().err
    assert main(["doctor", "--url", "http://127.0.0.1:9", "--protocol", "telepathy"]) in (1, 2)


def test_it_tries_every_address_and_no_longer_than_it_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name may have an address that nobody listens at; a resolver may hang."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = listener.getsockname()[1]
    with hostile(answers()) as service:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (nobody, service.port)]
        monkeypatch.setattr(Resolver, "addresses", lambda *_, **__: found)
        main(["doctor", "--url", "http://tts.test", "--protocol", "batch", "--json"])
        assert json.loads(capsys.readouterr().out)["phases"]["connect"] >= 0

    def hangs(*_: object, **__: object) -> NoReturn:
        raise TimeoutError("the name tts.test was not resolved in time")

    monkeypatch.setattr(Resolver, "addresses", hangs)
    assert main(["doctor", "--url", "http://tts.test", "--protocol", "batch"]) == 2
    assert "tts.test was not resolved in time" in capsys.readouterr().err


def test_it_asks_under_the_headers_that_a_client_would_send(capsys: pytest.CaptureFixture[str]) -> None:
    """A gateway lets its questions through, and its texts."""
    with running(engine="tone", api_key="secret") as closed:
        code, report = examine(capsys, "--url", closed.url, "--header", "Authorization: Bearer secret")
    assert (code, report["protocol"]) == (0, "batch")
