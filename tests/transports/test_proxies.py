"""Proxies on the way: every medium goes through them, within its deadline, and no password of theirs is shown."""

from __future__ import annotations

import logging
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from benchmarks.harness.gateway import GatewaySpec, gateway
from cosyclient import ConfigurationError, ConnectFailed, CosyClient, CosyError, DeadlineExceeded
from cosyclient.cli import main
from cosyclient.config.proxy import Proxy
from cosyclient.emulator import echo_text
from cosyclient.transports.network import proxy_from_environment
from tests.support.hostile import (
    Behaviour,
    ServedConnection,
    answers,
    drips_head,
    echoes,
    hangs_after,
    hostile,
    never_answers,
    reply,
)
from tests.support.ports import quiet_port
from tests.support.proxying import DENIED, ESTABLISHED, leads_to, socks
from tests.transports.wire import ask, made, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cosyclient.emulator import Emulator

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy", "grpc_proxy", "no_proxy")
PASSWORD = "pa:ss/w@rd"
LOGIN = "us%20er:pa%3Ass%2Fw%40rd"
BASIC = "Basic dXMgZXI6cGE6c3Mvd0ByZA=="
STUDIO = {"protocol": "model-studio", "voice": "longanyang", "model": "cosyvoice-v3-flash"}
MEDIA: dict[str, dict[str, Any]] = {"http": {}, "ws": STUDIO, "grpc": {"protocol": "grpc", "voice": "中文女"}}
"""By the scheme of a service that nobody but the proxy can find."""
media = pytest.mark.parametrize("scheme", MEDIA)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this machine says."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def emulator(start: Callable[..., Emulator]) -> Emulator:
    return start(engine="echo", grpc=True)


def port_of(emulator: Emulator, scheme: str) -> int:
    return int((emulator.grpc_url if scheme == "grpc" else emulator.url).rpartition(":")[2])


def client(scheme: str, **options: Any) -> CosyClient:
    return CosyClient(f"{scheme}://tts.test:8080", **{"max_retries": 0, **MEDIA[scheme], **options})


# The way through


@media
@pytest.mark.parametrize("named", ["proxy", "COSYCLIENT_PROXY", "HTTPS_PROXY", "all_proxy"])
def test_every_medium_goes_through_a_proxy(
    scheme: str, named: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named by argument or environment; the service's name is looked up by the proxy alone."""
    if (scheme, named) == ("http", "HTTPS_PROXY"):
        named = "http_proxy"
    with hostile(leads_to(port_of(emulator, scheme))) as proxy:
        options = {"proxy": proxy.url} if named == "proxy" else {}
        if not options:
            monkeypatch.setenv(named, proxy.url)
        with client(scheme, **options) as cosy:
            texts = [f"text {number}" for number in range(5)]
            assert [echo_text(cosy.synthesize(text).audio) for text in texts] == texts
            assert [echo_text(audio) for audio in cosy.batch_synth(texts)] == texts
        first = proxy.requests[0]
        target = "http://tts.test:8080/" if scheme == "http" else "tts.test:8080"
        assert first.path.startswith(target)
        assert first.headers["host"] == "tts.test:8080"
        # A connection through a proxy is used again like any other.
        assert proxy.seen <= len(texts)


@media
def test_a_proxy_as_it_is_found_in_the_field_will_do(scheme: str, emulator: Emulator) -> None:
    """Envoy, with its own idea of tunnels and of requests that name a whole address."""
    upstream = f"http://127.0.0.1:{port_of(emulator, scheme)}"
    with (
        gateway(GatewaySpec(upstream=upstream, buffer=False, proxy=True)) as proxy,
        client(scheme, proxy=proxy.url) as cosy,
    ):
        texts = [f"text {number}" for number in range(5)]
        assert [echo_text(cosy.synthesize(text).audio) for text in texts] == texts
        assert proxy.counters().requests == (5 if scheme == "http" else 1)


def test_tls_goes_through_a_tunnel(tmp_path: Path) -> None:
    """Of which the proxy sees nothing; the certificate is the service's."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("tts.test").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with hostile(echoes(), tls=context) as service, hostile(leads_to(service.port)) as proxy:
        with CosyClient("https://tts.test", proxy=proxy.url, verify=tmp_path / "ca.pem", api_key="s3cret") as cosy:
            transport: Any = cosy._shared.pipeline()._endpoint.transport
            for number in range(3):
                assert ask(transport, request(X_Tag=str(number))) == (200, f"{number}|{{}}".encode())
        assert [each.line for each in proxy.requests] == ["CONNECT tts.test:443 HTTP/1.1"]
        assert "authorization" not in proxy.requests[0].headers
        with (
            CosyClient("https://other.test", proxy=proxy.url, verify=tmp_path / "ca.pem", max_retries=0) as cosy,
            pytest.raises(ConnectFailed, match="Hostname mismatch"),
        ):
            cosy.synthesize("hello")


@media
def test_a_proxy_that_wants_credentials_gets_them(scheme: str, emulator: Emulator) -> None:
    """With their special characters, and nobody else does."""
    with hostile(leads_to(port_of(emulator, scheme), authorization=BASIC)) as proxy:
        with client(scheme, proxy=proxy.url.replace("//", f"//{LOGIN}@")) as cosy:
            assert echo_text(cosy.synthesize("hello").audio) == "hello"
        assert proxy.requests[0].headers["proxy-authorization"] == BASIC


# What goes wrong


@media
@pytest.mark.parametrize("login", ["", f"{LOGIN}@"])
def test_a_proxy_that_knows_nobody_is_named_without_its_password(
    scheme: str, login: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not the service's fault, and not better the next time."""
    with (
        caplog.at_level(logging.DEBUG),
        hostile(answers(DENIED)) as proxy,
        client(scheme, proxy=proxy.url.replace("//", f"//{login}"), max_retries=3) as cosy,
    ):
        with pytest.raises(ConnectFailed, match="407") as caught:
            cosy.synthesize("hello")
        error = caught.value
        assert (error.sent, error.retryable, error.endpoint_fault) == (False, False, False)
        assert len(error.attempts) == 1
        shown = f"http://us%20er:****@127.0.0.1:{proxy.port}" if login else proxy.url
        assert f"the proxy {shown} (proxy)" in str(error)
        said = f"{error!r} {error.__cause__!r} {cosy!r} {cosy._shared.settings!r} {vars(cosy._shared)!r}" + caplog.text
        assert not [form for form in (PASSWORD, LOGIN, BASIC, BASIC.split()[1]) if form in said]


@media
def test_a_proxy_that_is_not_there_is_named(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what names it, which whoever reads the error may not have thought of."""
    port = quiet_port()
    monkeypatch.setenv("ALL_PROXY", f"http://u:{PASSWORD.replace('/', '%2F')}@127.0.0.1:{port}")
    with client(scheme) as cosy, pytest.raises(ConnectFailed, match=f"127.0.0.1:{port}") as caught:
        cosy.synthesize("hello")
    assert "refused" in str(caught.value)
    assert f"the proxy http://u:****@127.0.0.1:{port} (ALL_PROXY)" in str(caught.value)


@pytest.mark.parametrize(
    ("behaviour", "says", "retryable"),
    [
        (answers(reply(b"", status="403 Forbidden")), "refused: 403 Forbidden", False),
        (answers(reply(b"", status="503 Service Unavailable")), "refused: 503 Service Unavailable", True),
        (answers(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), "not HTTP", True),
        (answers(b"HTTP/1.1 200 \x1b[31mred\r\n\r\n"), "not HTTP", True),
        (answers(ESTABLISHED + b"x"), "sent more", True),
        (answers(b"", times=1), "without an answer", True),
        (answers(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 50_000), "no end", True),
    ],
)
def test_what_is_no_tunnel_is_told(behaviour: Any, says: str, retryable: bool) -> None:
    """In the proxy's name; none of it passes for the service's."""
    with hostile(behaviour) as proxy, client("ws", proxy=proxy.url) as cosy:
        with pytest.raises(ConnectFailed, match=f"the proxy {proxy.url} .*{says}") as caught:
            cosy.synthesize("hello", timeout=20)
        assert (caught.value.retryable, caught.value.endpoint_fault) == (retryable, retryable)
        assert caught.value.sent is False


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize(
    "behaviour", [drips_head(), hangs_after(b"HTTP/1.1 200"), never_answers()], ids=["drip", "half", "silent"]
)
def test_deadlines_hold_through_a_proxy(scheme: str, behaviour: Any) -> None:
    """However it answers, or does not."""
    with hostile(behaviour) as proxy, client(scheme, proxy=proxy.url) as cosy:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            cosy.synthesize("hello", timeout=0.3)
        assert time.monotonic() - began < 15
        cosy.close()


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_closing_wakes_whoever_waits_for_a_proxy(scheme: str) -> None:
    """As everybody else."""
    with hostile(never_answers()) as proxy, client(scheme, proxy=proxy.url) as cosy:
        future = cosy.submit("hello", timeout=60)
        assert proxy.wait_for(lambda seen: bool(seen.seen))
        began = time.monotonic()
        cosy.close(drain=False)
        with pytest.raises(CosyError):
            future.result(30)
        assert time.monotonic() - began < 30


# SOCKS


def says(data: bytes) -> Behaviour:
    """Answer with *data* whatever is said, and leave."""

    def behave(connection: ServedConnection) -> None:
        connection.sock.recv(100)
        connection.send(data)

    return behave


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("login", [None, ("us er", PASSWORD)])
def test_socks_proxies_will_do(scheme: str, login: tuple[str, str] | None, emulator: Emulator) -> None:
    """Every connection is a tunnel, and the service's name is looked up by the proxy."""
    with hostile(socks(port_of(emulator, scheme), login=login)) as proxy:
        with client(scheme, proxy=f"socks5://{LOGIN + '@' if login else ''}127.0.0.1:{proxy.port}") as cosy:
            texts = [f"text {number}" for number in range(5)]
            assert [echo_text(cosy.synthesize(text).audio) for text in texts] == texts
        assert [each.line for each in proxy.requests] == ["SOCKS tts.test 8080"]


@pytest.mark.parametrize(("url", "line"), [("http://10.0.0.1", "10.0.0.1 80"), ("http://[fd00::1]:81", "fd00::1 81")])
def test_socks_proxies_are_told_addresses(url: str, line: str) -> None:
    """As addresses, of either length."""
    with hostile(answers()) as service, hostile(socks(service.port)) as proxy:
        with CosyClient(url, proxy=f"socks5h://127.0.0.1:{proxy.port}") as cosy:
            transport: Any = cosy._shared.pipeline()._endpoint.transport
            assert ask(transport) == (200, b"ok")
        assert [each.line for each in proxy.requests] == [f"SOCKS {line}"]


@pytest.mark.parametrize(
    ("behaviour", "login", "reason", "retryable"),
    [
        (socks(1, code=1), "", "refused: it failed", True),
        (socks(1, code=2), "", "refused: not allowed", False),
        (socks(1, code=5), "", "refused: connection refused", True),
        (socks(1, code=99), "", "refused: code 99", True),
        (socks(1, login=("u", "other")), "", "refused: it wants credentials", False),
        (socks(1, login=("u", "other")), f"{LOGIN}@", "refused: it does not know these credentials", False),
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "", "not SOCKS", True),
        (says(b"\5"), "", "without an answer", True),
    ],
)
def test_a_socks_proxy_that_refuses_is_told(behaviour: Any, login: str, reason: str, retryable: bool) -> None:
    """With its reason, without the password."""
    with hostile(behaviour) as proxy, client("ws", proxy=f"socks5://{login}127.0.0.1:{proxy.port}") as cosy:
        with pytest.raises(ConnectFailed, match=reason) as caught:
            cosy.synthesize("hello", timeout=20)
        assert (caught.value.retryable, caught.value.endpoint_fault) == (retryable, retryable)
        assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize("behaviour", [socks(1, drip=0.2), never_answers()], ids=["drip", "silent"])
def test_deadlines_hold_through_a_socks_proxy(behaviour: Any) -> None:
    """Each byte is in time, all of them are not."""
    with (
        hostile(behaviour) as proxy,
        client("http", proxy=f"socks5://127.0.0.1:{proxy.port}") as cosy,
        pytest.raises(DeadlineExceeded),
    ):
        cosy.synthesize("hello", timeout=0.3)


def test_grpc_goes_through_http_proxies_only() -> None:
    """Which is told when the client is made."""
    with pytest.raises(ConfigurationError, match="^proxy: gRPC goes through HTTP proxies only"):
        client("grpc", proxy="socks5://proxy.test")


# What names it


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
    """For each scheme its own, then that for all, and none for what is excepted."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_from_environment(url)
    assert (proxy and proxy.source) == found


def test_the_environment_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a service that cannot be found is not found."""
    with hostile(answers()) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        with client("http", trust_env=False, timeout=20) as cosy, pytest.raises(ConnectFailed):
            cosy.synthesize("hello")
        assert not proxy.seen


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
    """80 or 1080 where none is named, as httpx has it."""
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
def test_what_is_no_proxy_is_told_when_the_client_is_made(
    given: Any, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what named it, without its password, and with the way out where it was not meant for us."""
    with pytest.raises(ConfigurationError, match=f"^proxy: .*{rule}") as caught:
        CosyClient("https://tts.test", proxy=given)
    assert "cret" not in str(caught.value)
    if isinstance(given, str) and given.strip():
        monkeypatch.setenv("HTTPS_PROXY", given)
        with pytest.raises(ConfigurationError, match=f"^HTTPS_PROXY: .*{rule}.*trust_env=False") as caught:
            CosyClient("https://tts.test")
        assert "cret" not in str(caught.value)
        CosyClient("https://tts.test", trust_env=False).close()


def test_a_transport_of_ones_own_finds_its_own_way() -> None:
    """Rather than have its proxy passed over without a word."""
    import httpx

    given = httpx.MockTransport(lambda _: httpx.Response(404))
    with pytest.raises(ConfigurationError, match="^proxy: a transport of your own"):
        CosyClient("http://tts.test", proxy="http://proxy.test", transport=given)


def test_plain_requests_name_the_whole_address() -> None:
    """Port and path included, and an address of six is in brackets."""
    with hostile(answers()) as proxy:
        for url, target in (
            ("http://tts.test", "http://tts.test/v1/speech"),
            ("http://tts.test:81/api", "http://tts.test:81/api/v1/speech"),
            ("http://[fd00::1]:81", "http://[fd00::1]:81/v1/speech"),
        ):
            with CosyClient(url, proxy=proxy.url) as cosy:
                transport: Any = cosy._shared.pipeline()._endpoint.transport
                assert ask(transport, request(b"hello")) == (200, b"ok")
            assert proxy.requests[-1].line == f"POST {target} HTTP/1.1"
            assert proxy.requests[-1].body == b"hello"
    direct = made("http://127.0.0.1:1")
    direct.close()


# The command line


def test_the_command_line_goes_through_a_proxy(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says by its option's name what is wrong with it."""
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    with hostile(leads_to(port_of(emulator, "http"))) as proxy:
        arguments = ["synth", str(tmp_path / "lines.txt"), "-o", str(tmp_path / "out"), "--url", "http://tts.test"]
        assert main([*arguments, "--proxy", proxy.url]) == 0
        assert proxy.requests
        monkeypatch.setenv("http_proxy", proxy.url)
        assert main(["doctor", "--url", "http://tts.test", "--json"]) == 0
        assert f'"proxy": "{proxy.url} (HTTP_PROXY)"' in capsys.readouterr().out
    assert main([*arguments, "--proxy", "socks4://x"]) == 2
    assert "--proxy: of SOCKS only version 5" in capsys.readouterr().err
    assert main([*arguments[:4], "--proxy", "http://x"]) == 2
    assert "no service is named, but --proxy is given" in capsys.readouterr().err
    assert main([*arguments, "--ca-file", str(tmp_path / "nope.pem")]) == 2
    assert "--ca-file: there is no CA file" in capsys.readouterr().err
