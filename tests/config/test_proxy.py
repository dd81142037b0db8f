"""A proxy's address: how it is written, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from cosyclient import ConfigurationError, CosyClient
from cosyclient.config.proxy import Proxy
from tests.support.proxying import BASIC, LOGIN, PASSWORD, VARIABLES


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this machine says."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("socks5h://proxy.test", "proxy.test", 1080),
        ("socks://[::1]:7890", "::1", 7890),
        ("http://proxy.test:3128", "proxy.test", 3128),
        ("proxy.test:3128/", "proxy.test", 3128),
        (" http://proxy.test ", "proxy.test", 80),
        ("http://[::1]:3128", "::1", 3128),
    ],
)
def test_a_proxy_has_a_host_and_a_port(url: str, host: str, port: int) -> None:
    """The default port is 80 or 1080, as in httpx."""
    proxy = Proxy.parse("proxy", url)
    assert (proxy.host, proxy.port, proxy.authorization) == (host, port, None)
    scheme = "socks5" if "socks" in url else "http"
    assert proxy.url == f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def test_credentials_are_sent_and_not_shown() -> None:
    """Neither by the proxy nor by what holds it."""
    proxy = Proxy.parse("proxy", f"http://{LOGIN}@proxy.test:3128")
    assert proxy.authorization == BASIC.encode()
    assert str(proxy) == "http://us%20er:****@proxy.test:3128 (proxy)"
    assert repr(proxy) == f"<Proxy {proxy}>"
    assert Proxy.parse("again", proxy.url).password == PASSWORD


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ("socks4://u:s3cret@proxy.test:1080", "only version 5"),
        ("socks5://u:s3cret@", "must look like"),
        (f"socks5://u:s3cret{'x' * 256}@proxy.test", "255 bytes"),
        ("https://u:s3cret@proxy.test", "plain HTTP"),
        ("ftp://u:s3cret@proxy.test", "must look like"),
        ("http://u:s3#cret@proxy.test", "percent-encoded"),
        ("http://u:s3cret@proxy.test/path", "must look like"),
        ("http://u:s3cret@proxy.test:port", "must look like"),
        ("http://u:s3cret\r\nX: y@proxy.test", "must look like"),
        ("http://", "must look like"),
        ("", "must look like"),
        (3128, "got int"),
    ],
)
def test_an_invalid_proxy_is_an_error_when_the_client_is_made(
    given: Any, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names its source and hides the password; for a variable it names the way to ignore it."""
    with pytest.raises(ConfigurationError, match=f"^proxy: .*{rule}") as caught:
        CosyClient("https://tts.test", proxy=given)
    assert "cret" not in str(caught.value)
    if isinstance(given, str) and given.strip():
        monkeypatch.setenv("HTTPS_PROXY", given)
        with pytest.raises(ConfigurationError, match=f"^HTTPS_PROXY: .*{rule}.*trust_env=False") as caught:
            CosyClient("https://tts.test")
        assert "cret" not in str(caught.value)
        CosyClient("https://tts.test", trust_env=False).close()
