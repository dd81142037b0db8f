"""The environment: every argument has its variable, and a mistyped one is an error."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest

from cosyclient import ConfigurationError, CosyClient, Speech
from cosyclient.cli import main
from cosyclient.config.environment import VARIABLES, read_environment
from cosyclient.config.resolve import resolve
from cosyclient.testing import FakeClock, scripted_client
from tests.support.service import answer

# Objects, which no variable can hold.
OBJECTS = {"self", "config", "transport", "listeners"}
# A value for each, as it is written and as it is read.
WRITTEN: dict[str, tuple[str, Any]] = {
    "base_url": ("https://env.test/tts/", "https://env.test/tts"),
    "api_key": ("env-key", "env-key"),
    "protocol": ("openai", "openai"),
    "model": ("m", "m"),
    "voice": ("v", "v"),
    "format": ("mp3", "mp3"),
    "sample_rate": ("16000", 16000),
    "speed": ("1.5", 1.5),
    "on_silent": ("silence", "silence"),
    "headers": ('{"X-Tenant": "a"}', {"X-Tenant": "a"}),
    "extra": ('{"volume": 80}', {"volume": 80}),
    "requests_per_second": ("2.5", 2.5),
    "max_connections": ("7", 7),
    "concurrency": ("3", 3),
    "max_batch": ("8", 8),
    "timeout": ("9.5", 9.5),
    "max_retries": ("0", 0),
    "verify": ("False", False),
    "proxy": ("proxy.test:3128", "http://proxy.test:3128 (COSYCLIENT_PROXY)"),
    "trust_env": ("off", False),
}


def test_every_argument_has_its_variable() -> None:
    """A new argument needs a row in the table, and a value here."""
    arguments = set(inspect.signature(CosyClient.__init__).parameters) - OBJECTS
    assert {variable.argument for variable in VARIABLES} == arguments == set(WRITTEN)
    assert len({variable.name for variable in VARIABLES}) == len(VARIABLES)


@pytest.mark.parametrize("argument", sorted(WRITTEN))
def test_the_client_uses_the_value_of_each_variable(argument: str) -> None:
    """An explicit argument wins, even with the default's value."""
    raw, meant = WRITTEN[argument]
    environ = {f"COSYCLIENT_{argument.upper()}": f" {raw} "}
    found = resolve(base_url=None if argument == "base_url" else "http://x", environ=environ)
    seen = {
        **{
            name: getattr(found.voice, name)
            for name in ("model", "voice", "format", "sample_rate", "speed", "on_silent")
        },
        **{
            name: getattr(found, name)
            for name in ("base_url", "protocol", "timeout", "max_batch", "max_retries", "verify", "trust_env")
        },
        **{name: dict(getattr(found.voice, name) or {}) for name in ("headers", "extra")},
        "api_key": found.api_key.reveal() if found.api_key else None,
        "requests_per_second": found.requests_per_second,
        "max_connections": found.max_connections,
        "concurrency": found.sizing.permits,
        "proxy": str(found.proxy),
    }
    assert seen[argument] == meant


def test_an_explicit_default_wins_too() -> None:
    """An argument counts although it equals the default."""
    environ = {
        "COSYCLIENT_FORMAT": "mp3",
        "COSYCLIENT_MAX_CONNECTIONS": "7",
        "COSYCLIENT_REQUESTS_PER_SECOND": "5",
        "COSYCLIENT_MAX_RETRIES": "9",
    }
    found = resolve(
        base_url="http://x",
        voice={"format": "wav"},
        max_connections=50,
        requests_per_second=100.0,
        max_retries=3,
        environ=environ,
    )
    assert (found.voice.format, found.max_connections, found.requests_per_second, found.max_retries) == (
        "wav",
        50,
        100.0,
        3,
    )


@pytest.mark.parametrize(
    ("name", "raw", "says"),
    [
        ("TIMEOUT", "soon", "COSYCLIENT_TIMEOUT: must be a number of seconds, got 'soon'"),
        ("TIMEOUT", "-1", "COSYCLIENT_TIMEOUT: must be a number above 0, got -1.0"),
        ("TIMEOUT", "nan", "COSYCLIENT_TIMEOUT: must be a number above 0, got nan"),
        ("CONCURRENCY", "many", "COSYCLIENT_CONCURRENCY: must be a whole number, got 'many'"),
        ("MAX_CONNECTIONS", "0", "COSYCLIENT_MAX_CONNECTIONS: must be a whole number of at least 1, got 0"),
        ("MAX_BATCH", "1.5", "COSYCLIENT_MAX_BATCH: must be a whole number, got '1.5'"),
        (
            "REQUESTS_PER_SECOND",
            "all",
            "COSYCLIENT_REQUESTS_PER_SECOND: must be a number, or none for no quota, got 'all'",
        ),
        ("REQUESTS_PER_SECOND", "0", "COSYCLIENT_REQUESTS_PER_SECOND: must be a number above 0, got 0.0"),
        (
            "HEADERS",
            "X-Tenant: two lines",
            r"COSYCLIENT_HEADERS: must be a JSON object of names and values \(value not shown\)$",
        ),
        ("HEADERS", '{"Host": "x"}', "COSYCLIENT_HEADERS: Host delimits the request"),
        ("EXTRA", "[1]", r"COSYCLIENT_EXTRA: must be a JSON object, got '\[1\]'"),
        ("FORMAT", "flacc", "COSYCLIENT_FORMAT: 'flacc' is not one of"),
        ("SPEED", "9", "COSYCLIENT_SPEED: must be a number from 0.25 to 4.0, got 9.0"),
        ("SAMPLE_RATE", "1" * 5000, "COSYCLIENT_SAMPLE_RATE: must be a whole number, got '1111"),
        ("API_KEY", "two lines\nof it", "COSYCLIENT_API_KEY: .*value not shown"),
        ("BASE_URL", "tts.example", "COSYCLIENT_BASE_URL: must begin with a scheme"),
        ("BASE_ULR", "http://x", "COSYCLIENT_BASE_ULR: no such variable; did you mean COSYCLIENT_BASE_URL?"),
        ("URL", "http://x", "COSYCLIENT_URL: no such variable; did you mean COSYCLIENT_BASE_URL?"),
        ("KEY", "k", "COSYCLIENT_KEY: no such variable; did you mean COSYCLIENT_API_KEY?"),
        ("RATE", "5", "COSYCLIENT_RATE: no such variable; did you mean COSYCLIENT_REQUESTS_PER_SECOND?"),
        ("RETRIES", "5", "COSYCLIENT_RETRIES: no such variable; did you mean COSYCLIENT_MAX_RETRIES?"),
        ("AAAAAAAA", "k", "COSYCLIENT_AAAAAAAA: no such variable"),
    ],
)
def test_a_senseless_value_is_refused_with_the_name_of_its_variable(name: str, raw: str, says: str) -> None:
    """The value of a key is never shown."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        resolve(base_url=None if "URL" in name else "http://x", environ={f"COSYCLIENT_{name}": raw})
    assert "two lines" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_variables_of_other_programs_are_ignored() -> None:
    """An empty variable, another program's, and those that Kubernetes sets for its services."""
    assert (
        read_environment(
            {
                "COSYCLIENT_TIMEOUT": "",
                "COSY_VOICE": "x",
                "COSYCLIENT_SERVICE_HOST": "10.0.0.1",
                "COSYCLIENT_SERVICE_PORT_HTTP": "80",
                "COSYCLIENT_PORT": "tcp://10.0.0.1:80",
                "COSYCLIENT_PORT_80_TCP_ADDR": "10.0.0.1",
            }
        )
        == {}
    )


def test_the_command_line_reads_them_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    """A mistyped one is a usage error of every command."""
    (tmp_path / "in.txt").write_text("hello")
    monkeypatch.setenv("COSYCLIENT_BASEURL", "http://tts.test")
    assert main(["synth", str(tmp_path / "in.txt"), "-o", str(tmp_path / "out")]) == 2
    assert "did you mean COSYCLIENT_BASE_URL?" in capsys.readouterr().err


@pytest.mark.parametrize("quota", [None, math.inf, "none"])
def test_no_quota_paces_nothing(quota: Any) -> None:
    """A thousand lone texts are sent without any wait; the pool is as large as the connections allow."""
    clock = FakeClock()
    environ = {"COSYCLIENT_REQUESTS_PER_SECOND": quota} if quota == "none" else {}
    told = {} if environ else {"requests_per_second": quota}
    found = resolve(base_url="http://x", environ=environ, **told)
    assert (found.requests_per_second, found.sizing.permits, found.sizing.connections) == (math.inf, 50, 50)
    assert resolve(base_url="http://x", concurrency=4, environ=environ, **told).sizing.permits == 4
    assert resolve(base_url="http://x", max_connections=9, environ=environ, **told).sizing.permits == 9
    client, transport = scripted_client(answer, clock=clock, requests_per_second=None)
    began = clock.now()
    for number in range(1000):
        assert isinstance(client.synthesize(f"text {number}"), Speech)
    assert (clock.now() - began, len(transport.requests)) == (0.0, 1000)
    client.close()


def test_with_the_documented_quota_a_thousand_take_ten_seconds() -> None:
    """`requests_per_second=None` avoids that for a server without a quota."""
    clock = FakeClock()
    client, _ = scripted_client(answer, clock=clock)
    began = clock.now()
    for number in range(1000):
        client.synthesize(f"text {number}")
    assert 9.5 < clock.now() - began < 10.5
    client.close()
