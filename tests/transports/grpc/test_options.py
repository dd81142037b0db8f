"""Where a gRPC channel goes to, and whom it trusts there."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import grpc
import pytest
import trustme

from cosyclient.config import ClientConfig, WireConfig
from cosyclient.errors import ConfigurationError, ConnectFailed
from cosyclient.transports.grpc.options import target_of
from tests.transports.grpc_wire import ask, made, serving

if TYPE_CHECKING:
    from pathlib import Path


def test_tls_is_verified_by_default(tmp_path: Path) -> None:
    """A private authority is passed as a file, a directory or a context; verification cannot be turned off."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    credentials = grpc.ssl_server_credentials(
        [(issued.private_key_pem.bytes(), b"".join(part.bytes() for part in issued.cert_chain_pems))]
    )
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with serving(credentials) as (url, _):
        for verify in (str(file), tmp_path, context):
            trusting = made(url, config=ClientConfig(wire=WireConfig(verify=verify)))
            assert ask(trusting, "Echo") == [b"hello"]
            trusting.close()
        strict = made(url)
        with pytest.raises(ConnectFailed, match="certificate was not accepted") as caught:
            ask(strict, "Echo")
        assert not caught.value.retryable
        strict.close()
    naive = ssl.create_default_context()
    naive.check_hostname, naive.verify_mode = False, ssl.CERT_NONE
    for refused in (False, naive):
        with pytest.raises(ConfigurationError, match=r"wire\.verify"):
            made("grpcs://127.0.0.1:1", config=ClientConfig(wire=WireConfig(verify=refused)))


@pytest.mark.parametrize(
    ("url", "target", "secure"),
    [
        ("grpc://cosy.test", "cosy.test:50000", False),
        ("grpc://cosy.test:8001/", "cosy.test:8001", False),
        ("grpcs://cosy.test", "cosy.test:443", True),
        ("grpc://[::1]:50000", "[::1]:50000", False),
    ],
)
def test_addresses_have_a_host_and_a_port(url: str, target: str, secure: bool) -> None:
    """The default port is the official runtime's, or with TLS that of TLS."""
    assert target_of(url) == (target, secure)


def test_a_path_is_refused() -> None:
    """A gRPC path is the method, which the protocol names."""
    with pytest.raises(ConfigurationError, match="no path"):
        made("grpc://cosy.test/api")
