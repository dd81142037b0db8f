"""Settings: what takes precedence, what is refused with which message, and Little's Law in numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyclient import (
    AdaptiveConfig,
    BreakerConfig,
    ClientConfig,
    ConfigurationError,
    CosyClient,
    PacingConfig,
    PoolConfig,
    QueueConfig,
    RetryConfig,
    TimeoutConfig,
    WireConfig,
    littles_law,
)
from cosyclient.config.resolve import ResolvedConfig, Secret, resolve
from cosyclient.config.sizing import field_report
from cosyclient.wire import join_url

PLAIN: dict[str, Any] = {
    "base_url": "http://tts.test",
    "api_key": None,
    "protocol": "batch",
    "voice": {},
    "requests_per_second": 100.0,
    "max_connections": 50,
    "concurrency": None,
    "max_batch": 64,
    "timeout": None,
    "max_retries": 3,
    "config": None,
    "environ": {},
}


def resolved(**changes: Any) -> ResolvedConfig:
    return resolve(**{**PLAIN, **changes})


def test_an_argument_wins_over_the_environment_and_that_over_the_default() -> None:
    """For each setting that has a variable."""
    environ = {
        "COSYCLIENT_BASE_URL": "https://env.test",
        "COSYCLIENT_API_KEY": "env-key",
        "COSYCLIENT_MODEL": "env-model",
        "COSYCLIENT_VOICE": "env-voice",
        "COSYCLIENT_CONCURRENCY": "7",
        "COSYCLIENT_TIMEOUT": "9.5",
    }
    found = resolved(base_url=None, environ=environ)
    assert (found.base_url, found.timeout, found.sizing.permits) == ("https://env.test", 9.5, 7)
    assert (found.voice.model, found.voice.voice) == ("env-model", "env-voice")
    assert found.api_key is not None
    assert found.api_key.reveal() == "env-key"
    given = resolved(api_key="mine", concurrency=3, timeout=1.0, voice={"voice": "v", "model": "m"}, environ=environ)
    assert (given.base_url, given.timeout, given.sizing.permits) == ("http://tts.test", 1.0, 3)
    assert (given.voice.model, given.voice.voice) == ("m", "v")
    assert given.api_key is not None
    assert given.api_key.reveal() == "mine"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"base_url": "ftp://x"}, "base_url"),
        ({"base_url": "tts.example"}, "base_url"),
        ({"base_url": "http://user:pw@x"}, "credentials"),
        ({"base_url": "http://x/?a=1"}, "query"),
        ({"base_url": "http://x:99999"}, "base_url"),
        ({"base_url": "127.0.0.1:8190"}, r"base_url: .* such as http://127.0.0.1:8190 or https://127.0.0.1:8190"),
        ({"base_url": "localhost:8190/v1"}, "such as http://localhost:8190/v1"),
        ({"base_url": "user:secret@host"}, "base_url: must begin with a scheme and ://$"),
        ({"base_url": "http:/127.0.0.1"}, "base_url: must begin with a scheme and ://$"),
        ({"base_url": "http:127.0.0.1"}, "base_url: must begin with a scheme"),
        ({"base_url": "//h:1/x"}, "such as http://h:1/x or https://h:1/x"),
        ({"base_url": "http://x?"}, "query"),
        ({"base_url": "http://x/#"}, "query"),
        ({"base_url": "h" * 4000}, "such as http://hhh"),
        ({"base_url": "htps://x"}, "did you mean https?"),
        ({"base_url": "http://"}, "got http://…$"),
        ({"base_url": "http://a b/"}, r"base_url: holds ' '"),
        ({"base_url": "http://a\r\nHost: b/"}, r"base_url: holds '\\r'"),
        ({"base_url": "http://a/\0"}, r"base_url: holds '\\x00'"),
        ({"base_url": "http://a/\ud800"}, "base_url: holds"),
        ({"base_url": "http://x/" + "a" * 100_000}, "base_url: 100009 characters, at most 4096"),
        ({"base_url": b"http://x"}, "base_url: must be a str, got bytes"),
        ({"base_url": 8190}, "base_url: must be a str, got int"),
        ({"base_url": "http://user@x"}, "credentials"),
        ({"base_url": " \t\n"}, "base_url: no service given"),
        ({"api_key": "two\nlines"}, "api_key"),
        ({"api_key": "two words"}, "api_key"),
        ({"api_key": b"key"}, "api_key: must be a str, got bytes"),
        ({"api_key": "k\0"}, "api_key"),
        ({"api_key": "ké"}, "api_key"),
        ({"api_key": "k" * 100_000}, "api_key: 100000 characters"),
        ({"protocol": 3}, "protocol: must be a name"),
        ({"requests_per_second": -1}, "requests_per_second"),
        ({"requests_per_second": float("nan")}, "requests_per_second"),
        ({"requests_per_second": True}, "requests_per_second"),
        ({"max_connections": 0}, "max_connections"),
        ({"max_batch": 1.5}, "max_batch"),
        ({"concurrency": 0}, "concurrency"),
        ({"timeout": 0}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"voice": {"format": "flac"}}, "format"),
        ({"voice": {"sample_rate": 1}}, "sample_rate"),
        ({"config": {}}, "config"),
        ({"environ": {"COSYCLIENT_TIMEOUT": "soon"}}, "COSYCLIENT_TIMEOUT"),
        ({"environ": {"COSYCLIENT_CONCURRENCY": "many"}}, "COSYCLIENT_CONCURRENCY"),
    ],
)
def test_an_error_names_the_argument_that_is_wrong(changes: dict[str, Any], named: str) -> None:
    """It is a ValueError too; a secret's value is not shown."""
    with pytest.raises(ConfigurationError, match=named) as caught:
        resolved(**changes)
    assert isinstance(caught.value, ValueError)
    assert "two" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://tts.test", " http://tts.test ", "http://tts.test\r\n", '"http://tts.test"', "'http://tts.test/' ", "\thttp://tts.test//"],
)  # fmt: skip
def test_what_a_file_or_a_shell_leaves_around_an_address_is_removed(url: str) -> None:
    """A line end of Windows, blanks, quotes of an .env file."""
    assert resolved(base_url=url).base_url == "http://tts.test"
    assert resolved(base_url=None, environ={"COSYCLIENT_BASE_URL": url}).base_url == "http://tts.test"


@given(
    st.sampled_from(
        ["", "http://", "https://", "HTTP://h/", "ws://h", "grpc://h:", "http://h/", "http://[", "http://xn--"]
    ),
    st.text(st.characters() | st.sampled_from("/:@?#[]%.\\ \r\n\0\ud800\"'"), max_size=12),
)
def test_every_bad_address_is_a_configuration_error(opening: str, rest: str) -> None:
    """It is refused by name when the client is made, or a request can be addressed with it."""
    refused = None
    try:
        client = CosyClient(opening + rest)
    except ConfigurationError as error:
        refused = str(error)
    if refused is not None:
        assert "base_url" in refused
        return
    url = client._shared.settings.base_url
    if url.startswith("http"):
        asked = httpx.URL(join_url(url, "/batch"))
        assert asked.host
        assert asked.raw_path.endswith(b"/batch")
    client.close()


@pytest.mark.parametrize(
    "key", ["sk-1", " sk-1\r\n", '"sk-1"', "'sk-1'", "Bearer sk-1", "bearer  sk-1", '"Bearer sk-1"', "\tsk-1"]
)
def test_what_is_copied_along_with_a_key_is_removed(key: str) -> None:
    """The key itself is sent, once."""
    found = resolved(api_key=key).api_key
    assert found is not None
    assert found.reveal() == "sk-1"
    assert resolved(api_key=" ").api_key is None


def test_an_unknown_protocol_is_named_when_the_client_is_made() -> None:
    """It is no error of the first call, hours later."""
    with pytest.raises(ConfigurationError, match="protocol.*batch"):
        CosyClient("http://tts.test", protocol="telepathy")


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        (TimeoutConfig, "base", 0),
        (TimeoutConfig, "allowance", -1),
        (RetryConfig, "initial", 0),
        (RetryConfig, "cap", 0.1),
        (RetryConfig, "transient_cost", 501),
        (BreakerConfig, "failure_rate", 1.1),
        (BreakerConfig, "probes", 0),
        (BreakerConfig, "jitter", -0.1),
        (PacingConfig, "burst", 0),
        (PacingConfig, "slow_down", 0),
        (PoolConfig, "headroom", 0.9),
        (PoolConfig, "max_age", 0),
        (PoolConfig, "per_route", 0),
        (QueueConfig, "overflow", "drop"),
        (QueueConfig, "max_pending", 0),
        (QueueConfig, "linger", 5),
        (WireConfig, "gzip_requests", 1),
        (WireConfig, "max_reply_bytes", 0),
        (WireConfig, "max_batch_seconds", 0),
        (AdaptiveConfig, "enabled", 1),
        (AdaptiveConfig, "step", 0),
        (AdaptiveConfig, "backoff", 1.0),
        (AdaptiveConfig, "tolerance", 0),
    ],
)
def test_each_field_is_checked_when_its_record_is_made(record: type[Any], field: str, value: Any) -> None:
    """The message names record and field."""
    with pytest.raises(ConfigurationError, match=field):
        record(**{field: value})


def test_records_are_frozen_and_complete() -> None:
    """The settings of a running client cannot change, and every field is documented."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        ClientConfig().retry = RetryConfig()  # type: ignore[misc]
    with pytest.raises(ConfigurationError, match="config.retry"):
        ClientConfig(retry=3)  # type: ignore[arg-type]


def test_secrets_stay_out_of_every_repr() -> None:
    """Of the secret, the settings and the client."""
    secret = "sk-1234567890"
    assert secret not in repr(Secret(secret)) + str(Secret(secret)) + repr(resolved(api_key=secret))
    assert secret not in repr(CosyClient("http://tts.test", api_key=secret))


def test_the_documented_quota_needs_twenty_connections_and_gets_headroom() -> None:
    """100 requests/s × 0.2 s = 20 in flight; twice that with headroom, under the limit of 50."""
    sizing = resolved().sizing
    assert (sizing.permits, sizing.threads, sizing.connections, sizing.bound) == (40, 40, 40, 6400.0)
    assert littles_law(rate=100, latency=0.2, headroom=1.0).permits == 20
    assert littles_law(rate=100, latency=2.0).permits == 50
    assert littles_law(rate=100, latency=2.0).bound == 50 / 2.0 * 64


def test_the_field_reports_pool_is_a_preset() -> None:
    """2 × cores × concurrency, 200 per route at most, idle for 5 s at most, under the service's own limit."""
    assert field_report(cores=8, concurrency=10) == 160
    assert field_report(cores=8, concurrency=100) == 200
    preset = ClientConfig.field_report()
    assert (preset.pool.per_route, preset.pool.total, preset.pool.idle_limit) == (200, 800, 5.0)
    assert resolved(config=preset).sizing.connections == 50
    assert resolved(config=preset, max_connections=1000, concurrency=500).sizing.connections == 200


@given(rate=st.floats(0.01, 1e4), latency=st.floats(0.001, 100), limit=st.integers(1, 500), headroom=st.floats(1, 10))
def test_no_size_exceeds_the_limit_or_falls_to_nothing(
    rate: float, latency: float, limit: int, headroom: float
) -> None:
    """At least one permit, never more than the service's connections, whatever the numbers."""
    sizing = littles_law(rate=rate, latency=latency, headroom=headroom, connection_limit=limit)
    assert 1 <= sizing.permits <= limit
    # To a millionth: 100 × 0.2 × 2 is 40, in spite of binary fractions.
    assert sizing.permits == limit or sizing.permits >= rate * latency - 1e-6
    assert sizing.connections == sizing.threads == sizing.permits
