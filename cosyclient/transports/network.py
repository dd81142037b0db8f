"""How a client gets to its service: whom it trusts on the way."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from cosyclient.transports.tls import roots, tls_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from cosyclient.settings import ResolvedConfig

_TLS: Final = ("https", "wss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Hold what is found out once, when a client is made; there is no context where no TLS is spoken."""

    tls: ssl.SSLContext | None = None
    roots: bytes | None = None
    """The authorities to trust over gRPC, as PEM; ``None`` is those that grpcio brings."""


def network_of(settings: ResolvedConfig, environ: Mapping[str, str] = os.environ) -> Network:
    """Return the way to the service that *settings* and the environment describe; raises `ConfigurationError`."""
    scheme = urlsplit(settings.base_url).scheme
    verify, name, trust_env = settings.verify, settings.verify_name, settings.trust_env
    return Network(
        tls=tls_context(verify, name=name, trust_env=trust_env, environ=environ) if scheme in _TLS else None,
        roots=roots(verify, name=name, trust_env=trust_env, environ=environ) if scheme == "grpcs" else None,
    )
