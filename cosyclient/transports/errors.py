"""Translate the exceptions of httpx, urllib3, http.client and sockets into the library's own, by one table.

Used by the HTTP and WebSocket transports, which keep the original as the cause. gRPC has statuses instead of exceptions
and a table of its own, in `cosyclient.transports.grpc.errors`.
"""

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
from cosyclient.transports.tunnels import ProxyRefused
from cosyclient.util.redaction import single_line

if TYPE_CHECKING:
    from cosyclient.clock import Deadline

E = TypeVar("E", bound=BaseException)


class TransportClosed(httpx.TransportError):
    """Report that the transport was closed before the request was sent, or while it was under way."""


# What may be raised because of the wire. Anything else is a mistake in code, and passes as it is.
WIRE_ERRORS: Final = (
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
    (WIRE_ERRORS, TransportError, True),
)
_MAX_CHARACTERS: Final = 300
_TIMEOUTS: Final = (httpx.TimeoutException, urllib3.exceptions.TimeoutError, TimeoutError)
_NOT_SENDABLE: Final = (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL)
# A timer may fire this many seconds early: with so little left the deadline counts as passed.
_ROUNDING: Final = 0.002


def translate(error: Exception, deadline: Deadline) -> CosyError:
    """Return what *error*, one of `WIRE_ERRORS`, means to a caller whose call ends at *deadline*."""
    kind, sent = next((kind, sent) for rows, kind, sent in _TABLE if isinstance(error, rows))
    text = single_line(str(error), _MAX_CHARACTERS)
    message = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if kind is BulkheadFull or kind is ClientClosed:
        return kind(message)
    if isinstance(error, _TIMEOUTS) and deadline.remaining <= _ROUNDING:
        # The cause tells the rest: a wait that ended with the deadline says nothing of the service.
        if kind is ConnectFailed:
            # Which name, proxy or host was waited for is in the text.
            return DeadlineExceeded(f"the deadline passed before a connection was made: {text}", sent=sent)
        return DeadlineExceeded("the deadline passed before the reply was complete", sent=sent)
    if isinstance(error, _NOT_SENDABLE):
        return TransportError(
            f"the request cannot be sent; {message}", sent=False, retryable=False, endpoint_fault=False
        )
    if (refused := _cause(error, ProxyRefused)) is not None and not refused.temporary:
        # Not the service's fault, and a retry would get the same answer.
        return ConnectFailed(message, retryable=False, endpoint_fault=False)
    if (unverified := _cause(error, ssl.SSLCertVerificationError)) is not None:
        reason = getattr(unverified, "verify_message", str(unverified))
        return ConnectFailed(
            f"the service's TLS certificate was not accepted ({single_line(reason, 100)}); "
            "if its authority is a private one, name the CA file: verify='ca.pem'",
            retryable=False,
        )
    return kind(message, sent=sent)


def _cause(error: BaseException, kind: type[E]) -> E | None:
    """Return the first error of this *kind* among *error* and its causes."""
    current: BaseException | None = error
    for _ in range(8):
        if current is None or isinstance(current, kind):
            return current
        current = current.__cause__ or current.__context__
    return None
