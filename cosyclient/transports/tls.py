"""Make what verifies a service's certificate: an `ssl.SSLContext`, or root certificates as PEM for gRPC.

Used when a client is made, so that a missing or unreadable file is a `ConfigurationError` then.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import httpx

from cosyclient.errors import ConfigurationError

Verify: TypeAlias = "bool | str | os.PathLike[str] | ssl.SSLContext"

_CA_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""The variables that name certificate authorities: OpenSSL's in httpx's order, then those of requests and curl."""
_HASHED_NAME: Final = re.compile(r"[0-9a-f]{8}\.[0-9]+")
_PEM_SUFFIXES: Final = (".pem", ".crt", ".cer")
_BEGIN_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"

# A context costs some 25 ms and may be shared, so clients with the same authorities have one. It is dropped with the
# last of them. The key holds the file's time and size, so a file that was written since gets a context of its own.
_shared: Final[weakref.WeakValueDictionary[object, ssl.SSLContext]] = weakref.WeakValueDictionary()


@dataclass(frozen=True, slots=True)
class Authorities:
    """Hold the file or directory of the authorities to trust, and the argument or variable that named it."""

    name: str
    path: Path

    @property
    def key(self) -> object:
        """Return a value that changes when the file or directory does."""
        stat = self.path.stat()
        return str(self.path), stat.st_mtime_ns, stat.st_size, stat.st_ino

    def is_hashed_directory(self) -> bool:
        """Return whether it is a directory that OpenSSL can search, as ``openssl rehash`` makes them."""
        return self.path.is_dir() and any(_HASHED_NAME.fullmatch(entry) for entry in os.listdir(self.path))

    def files(self) -> list[Path]:
        """Return the files that hold certificates."""
        if not self.path.is_dir():
            return [self.path]
        entries = sorted(self.path.iterdir())
        found = [entry for entry in entries if entry.suffix.lower() in _PEM_SUFFIXES]
        found = found or [entry for entry in entries if _HASHED_NAME.fullmatch(entry.name)]
        if not found:
            raise ConfigurationError(f"{self.name}: the directory {str(self.path)!r} holds no certificate")
        return found

    def unreadable(self, file: Path, error: OSError) -> ConfigurationError:
        """Return the error for a *file* that could not be read because of *error*."""
        if isinstance(error, ssl.SSLError):
            return ConfigurationError(f"{self.name}: {str(file)!r} holds no certificate in PEM form")
        return ConfigurationError(f"{self.name}: {str(file)!r} cannot be read: {error.strerror or error}")


def find_authorities(verify: Verify, *, name: str, trust_env: bool) -> Authorities | None:
    """Return the authorities that *verify* names, or the environment if that is True; None means the default ones.

    Raises `ConfigurationError` for a path that does not exist.
    """
    named = None
    if isinstance(verify, (str, os.PathLike)):
        named = Authorities(name, Path(verify))
    elif verify is True and trust_env:
        variable = next(filter(os.environ.get, _CA_VARIABLES), None)
        named = Authorities(variable, Path(os.environ[variable])) if variable else None
    if named is not None and not named.path.exists():
        raise ConfigurationError(f"{named.name}: there is no CA file or directory {str(named.path)!r}")
    return named


def tls_context(verify: Verify, *, name: str = "verify", trust_env: bool = False) -> ssl.SSLContext:
    """Return the context for *verify*: True, False, the path of a CA file or directory, or a context of the caller's.

    Raises `ConfigurationError` that begins with *name*, or with the variable that named the authorities.
    """
    if isinstance(verify, ssl.SSLContext):
        return verify
    named = find_authorities(verify, name=name, trust_env=trust_env)
    key = bool(verify) if named is None else named.key
    context = _shared.get(key)
    if context is None:
        context = _shared[key] = _build_context(bool(verify), named)
    return context


def _build_context(verify: bool, named: Authorities | None) -> ssl.SSLContext:
    if named is None:
        context = httpx.create_ssl_context(verify=verify, trust_env=False)
    elif named.is_hashed_directory():
        context = ssl.create_default_context(capath=named.path)
    else:
        first, *others = named.files()
        file = first
        try:
            context = ssl.create_default_context(cafile=first)
            for file in others:
                context.load_verify_locations(cafile=file)
        except OSError as error:
            raise named.unreadable(file, error) from error
    context.set_alpn_protocols(["http/1.1"])
    # Python has OpenSSL report a truncated TLS connection as closed. Content without a length would then look complete
    # wherever an attacker cuts it (RFC 9112, 9.8).
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


def root_certificates(verify: Verify, *, name: str = "verify", trust_env: bool = False) -> bytes | None:
    """Return the certificates to trust as PEM, for gRPC; ``None`` means those that grpcio ships.

    gRPC always verifies, so ``verify=False`` is refused. Raises `ConfigurationError` like `tls_context`.
    """
    if verify is False or (isinstance(verify, ssl.SSLContext) and verify.verify_mode == ssl.CERT_NONE):
        raise ConfigurationError(f"{name}: gRPC over TLS is always verified; name the service's CA file instead")
    if isinstance(verify, ssl.SSLContext):
        return b"".join(map(_pem, verify.get_ca_certs(binary_form=True))) or None
    named = find_authorities(verify, name=name, trust_env=trust_env)
    if named is None:
        return None
    found = []
    for file in named.files():
        try:
            found.append(file.read_bytes())
        except OSError as error:
            raise named.unreadable(file, error) from error
        if _BEGIN_CERTIFICATE not in found[-1]:
            raise named.unreadable(file, ssl.SSLError())
    return b"\n".join(found)


def _pem(certificate: bytes) -> bytes:
    return _BEGIN_CERTIFICATE + b"\n" + base64.encodebytes(certificate) + b"-----END CERTIFICATE-----\n"
