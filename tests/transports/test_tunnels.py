"""Tunnels and forwarding proxies: every medium uses them, within its deadline, and no password is shown."""

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
from cosyclient.emulator import echo_text
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
from tests.support.proxying import BASIC, DENIED, ESTABLISHED, LOGIN, PASSWORD, VARIABLES, forwards_to, socks
from tests.transports.wire import ask, made, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cosyclient.emulator import Emulator

MODEL_STUDIO = {"protocol": "model-studio", "voice": "longanyang", "model": "cosyvoice-v3-flash"}
MEDIA: dict[str, dict[str, Any]] = {"http": {}, "ws": MODEL_STUDIO, "grpc": {"protocol": "grpc", "voice": "中文女"}}
"""Options by the scheme of a service whose name only the proxy knows."""
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


@media
@pytest.mark.parametrize("named", ["proxy", "COSYCLIENT_PROXY", "HTTPS_PROXY", "all_proxy"])
def test_every_medium_goes_through_a_proxy(
    scheme: str, named: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named by argument or environment; only the proxy looks the service's name up."""
    if (scheme, named) == ("http", "HTTPS_PROXY"):
        named = "http_proxy"
    with hostile(forwards_to(port_of(emulator, scheme))) as proxy:
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
def test_envoy_as_proxy_works(scheme: str, emulator: Emulator) -> None:
    """A proxy in wide use, with its own handling of tunnels and absolute targets."""
    upstream = f"http://127.0.0.1:{port_of(emulator, scheme)}"
    with (
        gateway(GatewaySpec(upstream=upstream, buffer=False, proxy=True)) as proxy,
        client(scheme, proxy=proxy.url) as cosy,
    ):
        texts = [f"text {number}" for number in range(5)]
        assert [echo_text(cosy.synthesize(text).audio) for text in texts] == texts
        assert proxy.counters().requests == (5 if scheme == "http" else 1)


def test_tls_goes_through_a_tunnel(tmp_path: Path) -> None:
    """The proxy sees none of it; the certificate is the service's."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("tts.test").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with hostile(echoes(), tls=context) as service, hostile(forwards_to(service.port)) as proxy:
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
    """With their special characters; the service does not get them."""
    with hostile(forwards_to(port_of(emulator, scheme), authorization=BASIC)) as proxy:
        with client(scheme, proxy=proxy.url.replace("//", f"//{LOGIN}@")) as cosy:
            assert echo_text(cosy.synthesize("hello").audio) == "hello"
        assert proxy.requests[0].headers["proxy-authorization"] == BASIC


@media
@pytest.mark.parametrize("login", ["", f"{LOGIN}@"])
def test_the_error_of_a_proxy_that_requires_credentials_hides_the_password(
    scheme: str, login: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not the service's fault, and a retry would fail alike."""
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
        shown_text = (
            f"{error!r} {error.__cause__!r} {cosy!r} {cosy._shared.settings!r} {vars(cosy._shared)!r}" + caplog.text
        )
        assert not [form for form in (PASSWORD, LOGIN, BASIC, BASIC.split()[1]) if form in shown_text]


@media
def test_the_error_of_an_unreachable_proxy_names_it(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the variable that names it, which the user may not have thought of."""
    port = quiet_port()
    monkeypatch.setenv("ALL_PROXY", f"http://u:{PASSWORD.replace('/', '%2F')}@127.0.0.1:{port}")
    with client(scheme) as cosy, pytest.raises(ConnectFailed, match=f"127.0.0.1:{port}") as caught:
        cosy.synthesize("hello")
    assert "refused" in str(caught.value)
    assert f"the proxy http://u:****@127.0.0.1:{port} (ALL_PROXY)" in str(caught.value)


@pytest.mark.parametrize(
    ("behaviour", "reason", "retryable"),
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
def test_an_answer_that_opens_no_tunnel_is_a_connect_failure(behaviour: Any, reason: str, retryable: bool) -> None:
    """The error names the proxy; none of its answer passes for the service's."""
    with hostile(behaviour) as proxy, client("ws", proxy=proxy.url) as cosy:
        with pytest.raises(ConnectFailed, match=f"the proxy {proxy.url} .*{reason}") as caught:
            cosy.synthesize("hello", timeout=20)
        assert (caught.value.retryable, caught.value.endpoint_fault) == (retryable, retryable)
        assert caught.value.sent is False


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize(
    "behaviour", [drips_head(), hangs_after(b"HTTP/1.1 200"), never_answers()], ids=["drip", "half", "silent"]
)
def test_deadlines_hold_through_a_proxy(scheme: str, behaviour: Any) -> None:
    """However slowly it answers."""
    with hostile(behaviour) as proxy, client(scheme, proxy=proxy.url) as cosy:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            cosy.synthesize("hello", timeout=0.3)
        assert time.monotonic() - began < 15
        cosy.close()


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_closing_wakes_the_thread_that_waits_for_a_proxy(scheme: str) -> None:
    with hostile(never_answers()) as proxy, client(scheme, proxy=proxy.url) as cosy:
        future = cosy.submit("hello", timeout=60)
        assert proxy.wait_for(lambda seen: bool(seen.seen))
        began = time.monotonic()
        cosy.close(drain=False)
        with pytest.raises(CosyError):
            future.result(30)
        assert time.monotonic() - began < 30


def sends(data: bytes) -> Behaviour:
    """Answer the first bytes with *data*, then close."""

    def behave(connection: ServedConnection) -> None:
        connection.sock.recv(100)
        connection.send(data)

    return behave


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("login", [None, ("us er", PASSWORD)])
def test_socks_proxies_work(scheme: str, login: tuple[str, str] | None, emulator: Emulator) -> None:
    """Every connection is a tunnel, and the proxy looks the service's name up."""
    with hostile(socks(port_of(emulator, scheme), login=login)) as proxy:
        with client(scheme, proxy=f"socks5://{LOGIN + '@' if login else ''}127.0.0.1:{proxy.port}") as cosy:
            texts = [f"text {number}" for number in range(5)]
            assert [echo_text(cosy.synthesize(text).audio) for text in texts] == texts
        assert [each.line for each in proxy.requests] == ["SOCKS tts.test 8080"]


@pytest.mark.parametrize(("url", "line"), [("http://10.0.0.1", "10.0.0.1 80"), ("http://[fd00::1]:81", "fd00::1 81")])
def test_socks_proxies_get_addresses_as_bytes(url: str, line: str) -> None:
    """IPv4 and IPv6."""
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
        (sends(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "", "not SOCKS", True),
        (sends(b"\5"), "", "without an answer", True),
    ],
)
def test_the_error_of_a_socks_proxy_gives_its_reason(behaviour: Any, login: str, reason: str, retryable: bool) -> None:
    """Without the password."""
    with hostile(behaviour) as proxy, client("ws", proxy=f"socks5://{login}127.0.0.1:{proxy.port}") as cosy:
        with pytest.raises(ConnectFailed, match=reason) as caught:
            cosy.synthesize("hello", timeout=20)
        assert (caught.value.retryable, caught.value.endpoint_fault) == (retryable, retryable)
        assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize("behaviour", [socks(1, drip=0.2), never_answers()], ids=["drip", "silent"])
def test_deadlines_hold_through_a_socks_proxy(behaviour: Any) -> None:
    """Each byte is within its timeout, all of them are not."""
    with (
        hostile(behaviour) as proxy,
        client("http", proxy=f"socks5://127.0.0.1:{proxy.port}") as cosy,
        pytest.raises(DeadlineExceeded),
    ):
        cosy.synthesize("hello", timeout=0.3)


def test_grpc_goes_through_http_proxies_only() -> None:
    """Another is an error when the client is made."""
    with pytest.raises(ConfigurationError, match="^proxy: gRPC goes through HTTP proxies only"):
        client("grpc", proxy="socks5://proxy.test")


def test_plain_requests_carry_the_absolute_address() -> None:
    """Port and path included; an IPv6 address is in brackets."""
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


def test_the_command_line_goes_through_a_proxy(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its errors name the option."""
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    with hostile(forwards_to(port_of(emulator, "http"))) as proxy:
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
