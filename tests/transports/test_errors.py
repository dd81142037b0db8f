"""The translation of foreign exceptions into the library's own."""

from __future__ import annotations

import http.client
import ssl

import httpx
import pytest
import urllib3

from cosyclient.clock import Deadline
from cosyclient.errors import (
    AttemptTimeout,
    BulkheadFull,
    ClientClosed,
    ConnectFailed,
    CosyError,
    DeadlineExceeded,
    TransportError,
)
from cosyclient.testing import FakeClock
from cosyclient.transports.errors import TransportClosed, translate
from tests.transports.wire import ask, made

URL = "http://cosy.test/api"


@pytest.mark.parametrize(
    ("foreign", "expected", "sent_", "retryable", "fault"),
    [
        (httpx.ConnectError("refused"), ConnectFailed, False, True, True),
        (httpx.ConnectTimeout("late"), ConnectFailed, False, True, True),
        (httpx.ProxyError("no"), ConnectFailed, False, True, True),
        (httpx.ReadTimeout("late"), AttemptTimeout, True, True, True),
        (httpx.WriteTimeout("late"), AttemptTimeout, True, True, True),
        (TimeoutError("late"), AttemptTimeout, True, True, True),
        (urllib3.exceptions.ReadTimeoutError(None, "", "late"), AttemptTimeout, True, True, True),  # type: ignore[arg-type]
        (httpx.PoolTimeout("full"), BulkheadFull, False, False, False),
        (httpx.ReadError("reset"), TransportError, True, True, True),
        (httpx.WriteError("reset"), TransportError, True, True, True),
        (httpx.CloseError("odd"), TransportError, True, True, True),
        (httpx.RemoteProtocolError("cut"), TransportError, True, True, True),
        (urllib3.exceptions.ProtocolError("cut"), TransportError, True, True, True),
        (http.client.IncompleteRead(b""), TransportError, True, True, True),
        (ConnectionResetError(104, "reset"), TransportError, True, True, True),
        (ssl.SSLError(1, "bad record"), TransportError, True, True, True),
        (httpx.LocalProtocolError("bad header"), TransportError, False, False, False),
        (httpx.UnsupportedProtocol("ftp"), TransportError, False, False, False),
        (httpx.InvalidURL("bad"), TransportError, False, False, False),
        (TransportClosed("closed"), ClientClosed, False, False, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_foreign_exception_is_translated(
    foreign: Exception, expected: type[CosyError], sent_: bool, retryable: bool, fault: bool
) -> None:
    """One table answers the three questions; the cause is kept."""

    def handler(_: httpx.Request) -> httpx.Response:
        raise foreign

    with pytest.raises(CosyError) as caught:
        ask(made(URL, httpx.MockTransport(handler)))
    assert type(caught.value) is expected
    assert (caught.value.sent, caught.value.retryable, caught.value.endpoint_fault) == (sent_, retryable, fault)
    assert caught.value.__cause__ is foreign


@pytest.mark.parametrize(
    ("foreign", "sent_"),
    [(httpx.ConnectTimeout("late"), False), (httpx.ReadTimeout("late"), True), (httpx.WriteTimeout("late"), True)],
)
def test_a_timeout_at_the_deadline_is_a_deadline_exceeded(foreign: Exception, sent_: bool) -> None:
    """No time is left for a retry."""
    clock = FakeClock()
    error = translate(foreign, Deadline.after(clock, 0.0))
    assert type(error) is DeadlineExceeded
    step = "the reply was complete" if sent_ else "a connection was made: late"
    assert str(error) == f"the deadline passed before {step}"
    assert error.sent is sent_
    assert not isinstance(translate(foreign, Deadline.after(clock, 1.0)), DeadlineExceeded)
    assert type(translate(httpx.PoolTimeout("full"), Deadline.after(clock, 0.0))) is BulkheadFull


def test_the_error_of_an_untrusted_certificate_names_the_setting() -> None:
    """It is not retryable."""
    refusal = ssl.SSLCertVerificationError(1, "certificate verify failed")
    wrapped = httpx.ConnectError("TLS")
    wrapped.__cause__ = refusal
    error = translate(wrapped, Deadline.after(FakeClock(), 1.0))
    assert type(error) is ConnectFailed
    assert (error.sent, error.retryable) == (False, False)
    assert "verify='ca.pem'" in str(error)
