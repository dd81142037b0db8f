"""The proxy that a client uses, and the environment that names it."""

from __future__ import annotations

import pytest

from cosyclient import ConfigurationError, ConnectFailed, CosyClient
from cosyclient.transports.network import proxy_from_environment
from tests.support.hostile import (
    answers,
    hostile,
)
from tests.support.proxying import VARIABLES


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this machine says."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "environ", "found"),
    [
        ("http://tts.test", {"HTTP_PROXY": "http://a:1"}, "HTTP_PROXY"),
        ("http://tts.test", {"http_proxy": "a:1", "ALL_PROXY": "http://b:1"}, "HTTP_PROXY"),
        ("http://tts.test", {"HTTPS_PROXY": "http://a:1"}, None),
        ("https://tts.test", {"HTTPS_PROXY": "http://a:1", "HTTP_PROXY": "http://b:1"}, "HTTPS_PROXY"),
        ("https://tts.test", {"ALL_PROXY": "http://a:1"}, "ALL_PROXY"),
        ("https://tts.test", {"HTTP_PROXY": "http://a:1"}, None),
        ("ws://tts.test", {"HTTP_PROXY": "http://a:1"}, "HTTP_PROXY"),
        ("ws://tts.test", {"HTTP_PROXY": "http://a:1", "HTTPS_PROXY": "http://a:1"}, "HTTPS_PROXY"),
        ("wss://tts.test", {"HTTPS_PROXY": "http://a:1"}, "HTTPS_PROXY"),
        ("wss://tts.test", {"HTTPS_PROXY": "http://a:1", "WSS_PROXY": "http://a:1"}, "WSS_PROXY"),
        ("grpc://tts.test", {"GRPC_PROXY": "http://a:1", "HTTPS_PROXY": "http://a:1"}, "GRPC_PROXY"),
        ("grpcs://tts.test", {"HTTPS_PROXY": "http://a:1"}, "HTTPS_PROXY"),
        ("http://tts.test", {"HTTP_PROXY": ""}, None),
        # A CGI script's HTTP_PROXY is what a request's header says.
        ("http://tts.test", {"HTTP_PROXY": "http://a:1", "REQUEST_METHOD": "GET"}, None),
        ("http://tts.test", {"ALL_PROXY": "http://a:1", "NO_PROXY": "*"}, None),
        ("http://tts.test", {"ALL_PROXY": "http://a:1", "no_proxy": "other.test, .test"}, None),
        ("http://tts.test:81", {"ALL_PROXY": "http://a:1", "no_proxy": "tts.test:80"}, "ALL_PROXY"),
        ("http://tts.test:80", {"ALL_PROXY": "http://a:1", "no_proxy": "tts.test:80"}, None),
        ("http://10.1.2.3", {"ALL_PROXY": "http://a:1", "no_proxy": "10.0.0.0/8"}, None),
        ("http://11.1.2.3", {"ALL_PROXY": "http://a:1", "no_proxy": "10.0.0.0/8,nonsense/x"}, "ALL_PROXY"),
        ("http://[fd00::1]:80", {"ALL_PROXY": "http://a:1", "no_proxy": "fd00::/8"}, None),
        ("http://localhost:8000", {"ALL_PROXY": "http://a:1"}, None),
        ("http://tts.localhost", {"ALL_PROXY": "http://a:1"}, None),
        ("http://127.0.0.1:8000", {"ALL_PROXY": "http://a:1"}, None),
        ("ws://[::1]:8000", {"ALL_PROXY": "http://a:1"}, None),
    ],
)
def test_the_environment_names_proxies(
    url: str, environ: dict[str, str], found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each scheme has its own variable, then the one for all; exceptions and loopback addresses get none."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_from_environment(url)
    assert (proxy and proxy.source) == found


def test_the_environment_can_be_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the service's name is looked up directly."""
    with hostile(answers()) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        with (
            CosyClient("http://tts.test:8080", max_retries=0, trust_env=False, timeout=20) as cosy,
            pytest.raises(ConnectFailed),
        ):
            cosy.synthesize("hello")
        assert not proxy.seen


def test_a_proxy_beside_a_transport_of_the_users_is_an_error() -> None:
    """It would be ignored otherwise."""
    import httpx

    given = httpx.MockTransport(lambda _: httpx.Response(404))
    with pytest.raises(ConfigurationError, match="^proxy: a transport of your own"):
        CosyClient("http://tts.test", proxy="http://proxy.test", transport=given)
