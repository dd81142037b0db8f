"""Which certificates a client trusts, and the errors about them when the client is made."""

from __future__ import annotations

import gc
import os
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme

from cosyclient import ClientConfig, ConfigurationError, ConnectFailed, CosyClient, CosyError, WireConfig
from cosyclient.transports.tls import root_certificates, tls_context
from tests.support.hostile import answers, hostile
from tests.transports.grpc_wire import ask as ask_grpc
from tests.transports.grpc_wire import made as made_grpc
from tests.transports.grpc_wire import serving
from tests.transports.websocket_wire import Peer, websocket_service
from tests.transports.wire import ask, made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this machine says."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def folder(authority: trustme.CA, tmp_path: Path) -> Path:
    """Return a directory with the authority's file, and others beside it."""
    there = tmp_path / "trusted"
    there.mkdir()
    authority.cert_pem.write_to_path(str(there / "ca.pem"))
    (there / "README").write_text("none of these")
    return there


def hashed(folder: Path) -> Path:
    """Return a directory as OpenSSL wants it."""
    there = folder.parent / "hashed"
    there.mkdir()
    pem = (folder / "ca.pem").read_bytes()
    digest = subprocess.run(["openssl", "x509", "-hash", "-noout"], input=pem, capture_output=True, check=True).stdout
    (there / f"{digest.decode().strip()}.0").write_bytes(pem)
    return there


def context(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=folder / "ca.pem")


WAYS: dict[str, Callable[[Path], Any]] = {
    "file": lambda folder: str(folder / "ca.pem"),
    "path": lambda folder: folder / "ca.pem",
    "directory": lambda folder: folder,
    "hashed": hashed,
    "context": context,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("where", ["client", "config"])
def test_a_configured_authority_is_trusted(
    way: str, where: str, folder: Path, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file, a directory or a context; it alone decides, whatever the environment names."""
    verify = WAYS[way](folder)
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    options = {"verify": verify} if where == "client" else {"config": ClientConfig(wire=WireConfig(verify=verify))}
    with hostile(answers(), tls=server_tls) as service, CosyClient(service.url, **options) as client:
        transport = client._shared.pipeline()._endpoint.transport
        assert ask(transport) == (200, b"ok")  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["file", "directory", "hashed"])
def test_grpc_trusts_the_configured_authority(way: str, folder: Path, authority: trustme.CA) -> None:
    """As PEM, which grpcio takes."""
    issued = authority.issue_cert("127.0.0.1")
    chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
    with serving(grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)])) as (url, _):
        transport = made_grpc(url, config=ClientConfig(wire=WireConfig(verify=WAYS[way](folder))))
        assert ask_grpc(transport, "Echo") == [b"hello"]
        transport.close()


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_environment_names_authorities(
    variable: str, folder: Path, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the variables of OpenSSL, requests and curl, unless ``trust_env`` is False."""
    monkeypatch.setenv(variable, str(hashed(folder) if variable.endswith("_DIR") else folder / "ca.pem"))
    with hostile(answers(), tls=server_tls) as service:
        transport = made(service.url)
        assert ask(transport) == (200, b"ok")
        transport.close()
        with (
            CosyClient(service.url, trust_env=False, max_retries=0) as blind,
            pytest.raises(ConnectFailed, match="not accepted"),
        ):
            blind.synthesize("hello")
    assert root_certificates(True, trust_env=True) == (folder / "ca.pem").read_bytes()
    assert root_certificates(True, trust_env=False) is None


def test_websockets_trust_the_authority_of_the_environment(
    folder: Path, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request reaches the service."""
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))

    def behave(peer: Peer) -> None:
        peer.receive()

    with hostile(websocket_service(behave), tls=server_tls) as service:
        url = service.url.replace("https", "wss", 1)
        with CosyClient(url, protocol="model-studio", voice="v", model="cosyvoice-v2", max_retries=0) as client:
            with pytest.raises(CosyError):
                client.synthesize("hello")
            assert service.requests


def broken(tmp_path: Path) -> Iterator[tuple[Any, str]]:
    """Yield unusable authorities, and what the error says of each."""
    (tmp_path / "bad.pem").write_text("no certificate")
    (tmp_path / "empty").mkdir()
    yield tmp_path / "bad.pem", "PEM"
    yield str(tmp_path / "empty"), "holds no certificate"
    yield str(tmp_path / "nope.pem"), "no CA file"
    yield "", "no CA file"
    yield 0, "True, False"
    yield b"/ca.pem", "True, False"
    yield object(), "True, False"
    yield ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "server's context"


@pytest.mark.parametrize("url", ["https://tts.test", "wss://tts.test", "grpcs://tts.test"])
@pytest.mark.parametrize("case", range(8))
def test_an_unusable_authority_is_an_error_when_the_client_is_made(url: str, case: int, tmp_path: Path) -> None:
    """The error names the argument and the rule."""
    verify, rule = list(broken(tmp_path))[case]
    protocol = {"wss": "model-studio", "grpcs": "grpc"}.get(url.partition(":")[0])
    with pytest.raises(ConfigurationError, match=f"^verify: .*{rule}"):
        CosyClient(url, protocol=protocol, verify=verify)
    with pytest.raises(ConfigurationError, match=f"^wire.verify: .*{rule}"):
        CosyClient(url, protocol=protocol, config=ClientConfig(wire=WireConfig(verify=verify)))


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("case", range(3))
def test_an_unusable_variable_is_an_error_that_names_it(
    variable: str, case: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS only."""
    verify, rule = list(broken(tmp_path))[case]
    monkeypatch.setenv(variable, str(verify))
    with pytest.raises(ConfigurationError, match=f"^{variable}: .*{rule}"):
        CosyClient("https://tts.test")
    CosyClient("http://tts.test").close()


def test_clients_with_the_same_authorities_share_a_context(folder: Path) -> None:
    """A file that is written anew is read anew."""
    assert tls_context(True) is tls_context(True)
    assert tls_context(True) is not tls_context(False)
    one = tls_context(folder / "ca.pem")
    assert tls_context(str(folder / "ca.pem")) is one
    trustme.CA().cert_pem.write_to_path(str(folder / "ca.pem"), append=True)
    two = tls_context(folder / "ca.pem")
    assert len(two.get_ca_certs()) == 2
    own = ssl.create_default_context()
    assert tls_context(own) is own


def test_no_context_is_made_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is an unused one kept."""
    gc.collect()
    monkeypatch.setattr(ssl.SSLContext, "__new__", lambda *_, **__: pytest.fail("a context was made"))
    with hostile(answers()) as service, CosyClient(service.url, timeout=5, max_retries=0) as client:
        with pytest.raises(CosyError):
            client.synthesize("hello")
        assert service.requests
