"""The doctor reports what answers, how fast, what to configure, and what is wrong."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from cosyclient.cli import main
from cosyclient.cli.detect import detect
from cosyclient.emulator import running
from cosyclient.testing import FakeClock, ScriptedReply, ScriptedTransport
from cosyclient.transports.resolver import Resolver
from tests.support.hostile import answers, hostile, reply
from tests.support.ports import quiet_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosyclient.emulator.server.launcher import Emulator
    from cosyclient.wire import WireRequest


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


def test_a_healthy_service_is_examined(service: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    """Protocol, latency by phase, the rate of the audio, the quota announced, and the pool that fits it."""
    code, report = examine(capsys, "--url", service.url)
    assert code == 0
    assert (report["protocol"], report["because"]) == ("batch", "POST /batch answered 422")
    assert set(report["phases"]) == {"DNS", "connect", "first request", "first byte", "whole reply"}
    assert 0 < report["phases"]["first byte"] <= report["phases"]["whole reply"] <= report["phases"]["first request"]
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
    """Notes about a version that no reply of the server reveals."""
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
    code, report = examine(capsys, "--url", f"http://127.0.0.1:{quiet_port()}")
    assert code == 2
    assert "refused" in report["error"]
    with running(engine="tone", fault={"html": 1.0}) as emulator:
        code, report = examine(capsys, "--url", f"{emulator.url}/elsewhere")
    assert code == 1
    assert "name it with --protocol" in report["error"]


@pytest.mark.parametrize(
    ("has", "protocol", "because"),
    [
        ({"POST /batch": (200, {}, {"results": []})}, "batch", "POST /batch answered 200"),
        ({"POST /batch": (200, {}, [])}, "batch", "POST /batch answered 200"),
        ({"GET /batch": (405, {"Allow": "POST, OPTIONS"}, None)}, "batch", "GET /batch answered 405"),
        ({"GET /v1/audio/speech": (405, {"Allow": "post"}, None)}, "openai", "GET /v1/audio/speech answered 405"),
        ({"GET /openapi.json": (200, {}, {"paths": {"/batch": {}}})}, "batch", "GET /openapi.json answered 200"),
        ({"POST /batch": (200, {}, {"texts": []}), "GET /batch": (405, {"Allow": "PUT"}, None)}, None, None),
        ({"POST /batch": (500, {}, None)}, None, None),
    ],
)
def test_a_server_of_ones_own_is_found_by_its_one_route(
    has: dict[str, tuple[int, dict[str, str], Any]], protocol: str | None, because: str | None
) -> None:
    """It has no list of models, no description and no words of its own for an empty batch."""

    def answer(request: WireRequest) -> ScriptedReply:
        status, headers, document = has.get(f"{request.method} {request.path}", (404, {}, None))
        return ScriptedReply(status, headers, [json.dumps(document).encode()])

    assert detect(ScriptedTransport(answer), FakeClock()) == (None if protocol is None else (protocol, because))


def test_what_is_not_known_has_no_empty_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A table lists the results."""
    with running(engine="tone", fault={"html": 1.0}) as emulator:
        assert main(["doctor", "--url", f"{emulator.url}/elsewhere"]) == 1
    shown = capsys.readouterr()
    assert "protocol" not in shown.out
    assert "a server of your own" in shown.err


def test_a_service_that_will_not_speak(service: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    """What it answers instead is the diagnosis."""
    code, report = examine(capsys, "--url", service.url, "--voice", "nobody")
    assert code == 1
    assert report["error"].startswith("NotFound: ")
    with running(engine="tone", api_key="secret") as closed:
        code, report = examine(capsys, "--url", closed.url, "--protocol", "batch")
    assert code == 2
    assert report["error"].startswith("Unauthorized: ")
    assert report["error"].endswith("; it needs an API key and none is set: put it into COSYCLIENT_API_KEY")


def test_no_output_shows_the_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
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
            assert main(["doctor", "--url", service.url, "--protocol", "batch", *more]) == 2
            shown = "".join(capsys.readouterr())
            assert "no such key: ****" in shown
            assert key not in shown


def test_options_are_checked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is connected."""
    monkeypatch.delenv("COSYCLIENT_BASE_URL", raising=False)
    assert main(["doctor"]) == 2
    assert "--url: name the service" in capsys.readouterr().err
    assert main(["doctor", "--url", "http://127.0.0.1:9", "--protocol", "telepathy"]) in (1, 2)


def test_it_tries_every_address_and_no_longer_than_it_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name may have an address where nothing listens; a resolver may hang."""
    nobody = quiet_port()
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


def test_a_key_that_is_missing_or_refused_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the protocol is given or has to be detected."""
    with running(engine="tone", api_key="secret", serve="openai", dialect="openai") as closed:
        for options in ((), ("--protocol", "openai", "--voice", "alloy", "--model", "tts-1")):
            monkeypatch.delenv("COSYCLIENT_API_KEY", raising=False)
            code, report = examine(capsys, "--url", closed.url, *options)
            assert code == 2
            assert report["error"].startswith("Unauthorized: ")
            assert report["error"].endswith("none is set: put it into COSYCLIENT_API_KEY")
            monkeypatch.setenv("COSYCLIENT_API_KEY", "wrong")
            code, report = examine(capsys, "--url", closed.url, *options)
            assert code == 2
            assert report["error"].endswith("; the key of COSYCLIENT_API_KEY is not one it knows")
            assert "wrong" not in report["error"]


def test_a_voice_and_a_model_that_are_wanted_are_the_first_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the service lists them; where it does not, the option is named."""
    with running(engine="tone", serve="openai", dialect="vox-box") as emulator:
        code, report = examine(capsys, "--url", emulator.url)
        assert (code, report["voice"], report["model"]) == (0, "Chinese Female", "cosyvoice2-0.5b")
    with running(engine="tone", serve="openai", dialect="siliconflow") as emulator:
        code, report = examine(capsys, "--url", emulator.url)
        assert code == 1
        assert report["error"].endswith("needs one; give --voice")


def test_nothing_is_advised_that_nobody_has_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A quota of 100 and 50 connections are one service's documentation, not every GPU's."""
    with running(engine="tone") as emulator:
        _, report = examine(capsys, "--url", emulator.url)
        assert report["advice"] == {
            "max_batch": 64,
            "unknown": "quota and concurrency; see its documentation, or --load 20s",
        }
        _, report = examine(capsys, "--url", emulator.url, "--no-quota")
        assert "permits" not in report["advice"]
        assert report["advice"]["requests_per_second"] is None
        assert main(["doctor", "--url", emulator.url, "--no-quota"]) == 0
        assert "requests_per_second  none\n" in capsys.readouterr().out
        _, report = examine(capsys, "--url", emulator.url, "--rate", "80")
        assert report["advice"]["requests_per_second"] == 80
        assert report["advice"]["permits"] >= 1


def test_load_finds_what_a_gpu_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Two thirds of a text's time are network: a third text at once is the last that brings anything."""
    with running(engine="tone", gpus=1, rtf=0.05, rtt=0.18) as emulator:
        code, report = examine(capsys, "--url", emulator.url, "--load", "10s")
        assert emulator.counters().texts < 200
    assert code == 0
    advice, load = report["advice"], report["load"]
    assert advice["concurrency"] in (2, 3, 4)
    assert 5 < max(step["per_second"] for step in load["steps"]) < 12
    assert advice.keys() == {"max_batch", "concurrency", "unknown"}
    assert advice["unknown"].startswith("quota: it announces none, and none was reached")
    assert [step["at_once"] for step in load["steps"]][:3] == [1, 2, 3]
    assert load["steps"][-1]["at_once"] <= 24, "it was not asked for much more than it can"
    assert load["stopped"]


def test_load_stops_when_the_service_suffers(capsys: pytest.CaptureFixture[str]) -> None:
    """At refusals that are no chance, and at the second failure."""
    with running(engine="tone", rate=30.0, burst=10, quota_headers=False) as emulator:
        code, report = examine(capsys, "--url", emulator.url, "--load", "20s")
        assert emulator.counters().faults == {}
    assert code == 0
    assert " at once it refused " in report["load"]["stopped"]
    assert report["load"]["steps"][-1]["failed"] >= 3
    with running(engine="tone", rtt=0.05) as emulator:
        emulator.inject("drip", count=30, bytes=1 << 20, interval=0)
        emulator.inject("error", count=1000, status=500)
        code, report = examine(capsys, "--url", emulator.url, "--load", "20s")
        assert emulator.counters().requests < 50
    assert "ServiceFault" in report["load"]["stopped"]


def test_an_announced_quota_wins_over_a_refusal_by_chance(capsys: pytest.CaptureFixture[str]) -> None:
    with running(engine="tone", rtt=0.02, rate=100.0) as emulator:
        emulator.inject("drip", count=13, bytes=1 << 20, interval=0)
        emulator.inject("throttle", count=1, retry_after=1)
        code, report = examine(capsys, "--url", emulator.url, "--load", "3s", "--connections", "6")
        assert emulator.counters().faults == {"drip": 13, "throttle": 1}
    assert code == 0
    assert report["advice"].keys() == {"max_batch", "concurrency", "requests_per_second"}
    assert report["advice"]["requests_per_second"] == 100
    assert report["load"]["steps"][-1]["at_once"] > 1


def test_load_reads_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A row a step, and why it stopped."""
    with running(engine="tone", rtt=0.05) as emulator:
        assert main(["doctor", "--url", emulator.url, "--load", "2", "--connections", "3"]) == 0
    shown = capsys.readouterr().out
    assert "at once    texts/s  median ms     p95 ms     failed" in shown
    assert "one text a request; stopped: 3 at once is the limit (--connections)" in shown


@pytest.mark.parametrize("span", ["0", "-1s", "2d", "soon", "nan", "inf", "2h"])
def test_a_span_has_bounds(span: str, capsys: pytest.CaptureFixture[str]) -> None:
    """From a second to an hour."""
    assert main(["doctor", "--url", "http://127.0.0.1:9", f"--load={span}"]) == 2
    assert "--load: must be a span from 1s to 1h" in capsys.readouterr().err
