"""Foreign exceptions of the wire as ours: one table, cause kept by whoever raises."""

from __future__ import annotations

import http.client
import ssl
from typing import TYPE_CHECKING, Final, TypeVar

import httpx
import urllib3

from cosyclient.errors import (
    AttemptTimeout,
    BulkheadFull,
    ClientClosed,
    ConnectFailed,
    CosyError,
    DeadlineExceeded,
    TransportError,
)
from cosyclient.transports.http.urllib3_transport import TransportClosed
from cosyclient.transports.tunnels import ProxyRefused
from cosyclient.util.quoting import plain

if TYPE_CHECKING:
    from cosyclient.clock import Deadline

E = TypeVar("E", bound=BaseException)

# What a transport may raise because of the wire. Anything else is a mistake in code, and passes as it is.
FOREIGN: Final = (
    httpx.TransportError,
    httpx.InvalidURL,
    urllib3.exceptions.HTTPError,
    OSError,
    http.client.HTTPException,
)

# The first row that matches decides; ``sent`` says whether bytes of the request may have left.
_TABLE: Final[tuple[tuple[tuple[type[Exception], ...], type[CosyError], bool], ...]] = (
    ((TransportClosed,), ClientClosed, False),
    ((httpx.PoolTimeout, urllib3.exceptions.EmptyPoolError), BulkheadFull, False),
    ((httpx.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError), ConnectFailed, False),
    ((httpx.ConnectError, httpx.ProxyError, urllib3.exceptions.NewConnectionError), ConnectFailed, False),
    ((httpx.TimeoutException, urllib3.exceptions.TimeoutError, TimeoutError), AttemptTimeout, True),
    ((httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL), TransportError, False),
    (FOREIGN, TransportError, True),
)
_MOST_CHARACTERS: Final = 300
_TIMEOUTS: Final = (httpx.TimeoutException, urllib3.exceptions.TimeoutError, TimeoutError)
_OURS: Final = (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL)
# A timer may ring this early; so little is no time.
_ROUNDING: Final = 0.002


def ours(error: Exception, deadline: Deadline) -> CosyError:
    """Return what *error*, one of `FOREIGN`, means to a caller whose call ends at *deadline*."""
    kind, sent = next((kind, sent) for rows, kind, sent in _TABLE if isinstance(error, rows))
    said = plain(str(error), _MOST_CHARACTERS)
    message = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if kind is BulkheadFull or kind is ClientClosed:
        return kind(message)
    if isinstance(error, _TIMEOUTS) and deadline.remaining <= _ROUNDING:
        return DeadlineExceeded(f"the deadline passed; {message}", sent=sent)
    if isinstance(error, _OURS):
        return TransportError(
            f"the request cannot be sent; {message}", sent=False, retryable=False, endpoint_fault=False
        )
    if (refused := _cause(error, ProxyRefused)) is not None and not refused.passing:
        # Neither the service's fault, nor better the next time.
        return ConnectFailed(message, retryable=False, endpoint_fault=False)
    if (refusal := _cause(error, ssl.SSLCertVerificationError)) is not None:
        why = getattr(refusal, "verify_message", str(refusal))
        return ConnectFailed(
            f"the service's TLS certificate was not accepted ({plain(why, 100)}); "
            "if its authority is a private one, name the CA file: verify='ca.pem'",
            retryable=False,
        )
    return kind(message, sent=sent)


def _cause(error: BaseException, kind: type[E]) -> E | None:
    """Return the first error of this *kind* among *error* and its causes."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None or isinstance(seen, kind):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
