"""The table of gRPC's statuses: the error of each, whether it is retryable, and whether it is the endpoint's fault."""

from __future__ import annotations

import grpc
import pytest

from cosyclient.clock import Deadline
from cosyclient.errors import (
    AttemptTimeout,
    BadRequest,
    ConnectFailed,
    CosyError,
    DeadlineExceeded,
    DecodeError,
    Forbidden,
    NotFound,
    ServiceError,
    ServiceFault,
    Throttled,
    TooLarge,
    TransportError,
    Unauthorized,
)
from cosyclient.testing import FakeClock
from cosyclient.transports.grpc.errors import TABLE, translate


def error_of(code: str, details: str = "", seconds: float = 60.0) -> CosyError:
    """Return the error of a status with *seconds* left before the deadline."""
    return translate(code, details, Deadline.after(FakeClock(), seconds))


@pytest.mark.parametrize(
    ("code", "details", "kind", "retryable", "endpoint_fault"),
    [
        ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!", Throttled, True, False),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (5 vs. 4)", TooLarge, False, False),
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (5 vs. 4)", DecodeError, False, True),
        ("RESOURCE_EXHAUSTED", "Decompressed message larger than max", DecodeError, False, True),
        ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (5 vs. 4)", TooLarge, False, False),
        ("RESOURCE_EXHAUSTED", "SERVER: Sent message larger than max (5 vs. 4)", ServiceFault, False, False),
        ("RESOURCE_EXHAUSTED", "quota", Throttled, True, False),
        ("UNAVAILABLE", "failed to connect to all addresses; last error: refused", ConnectFailed, True, True),
        ("UNAVAILABLE", "DNS resolution failed for cosy.test", ConnectFailed, True, True),
        ("UNAVAILABLE", "errors resolving cosy.test:1: [field:hostname lookup error:...", ConnectFailed, True, True),
        ("UNAVAILABLE", "last error: UNKNOWN: HTTP proxy returned response code 407", ConnectFailed, False, False),
        ("UNAVAILABLE", "failed to connect; HTTP proxy returned response code 403", ConnectFailed, False, False),
        ("UNAVAILABLE", "failed to connect; HTTP proxy returned response code 503", ConnectFailed, True, True),
        ("UNAVAILABLE", "Socket closed", TransportError, True, True),
        ("UNAVAILABLE", "[request id: 1] Exceeds maximum queue size", Throttled, True, False),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", AttemptTimeout, True, True),
        ("CANCELLED", "Locally cancelled by application!", TransportError, True, True),
        ("UNKNOWN", "Exception iterating responses: '中文女'", ServiceFault, False, False),
        ("UNKNOWN", "Exception iterating responses: CUDA error: illegal access", ServiceFault, True, True),
        ("UNKNOWN", "Received http2 header with status: 502", TransportError, True, True),
        ("UNKNOWN", "", ServiceFault, True, True),
        ("UNIMPLEMENTED", "Method not found!", NotFound, False, False),
        ("UNIMPLEMENTED", "ModelInfer RPC doesn't support models with decoupled", ServiceFault, False, False),
        ("UNAUTHENTICATED", "", Unauthorized, False, False),
        ("PERMISSION_DENIED", "", Forbidden, False, False),
        ("INVALID_ARGUMENT", "", BadRequest, False, False),
        ("NOT_FOUND", "", NotFound, False, False),
        ("INTERNAL", "", ServiceFault, True, True),
        ("DATA_LOSS", "", ServiceFault, True, True),
        ("BRAND_NEW", "", ServiceFault, True, True),
    ],
)
def test_each_status_becomes_an_error(
    code: str, details: str, kind: type[CosyError], retryable: bool, endpoint_fault: bool
) -> None:
    """By its code, and by its words where the code says too little."""
    error = error_of(code, details)
    assert type(error) is kind
    assert (error.retryable, error.endpoint_fault) == (retryable, endpoint_fault)
    assert error.sent is not issubclass(kind, ConnectFailed)
    assert error.throttled is issubclass(kind, Throttled)
    if isinstance(error, ServiceError):
        assert error.code == code
        assert error.status is not None


def test_every_code_has_a_rule_of_its_own() -> None:
    """None falls through to the rule for unknown codes."""
    every = {code.name for code in grpc.StatusCode} - {"OK"}
    assert {rule.code for rule in TABLE if not rule.words} == every
    assert {rule.code for rule in TABLE} == every


def test_an_exceeded_deadline_is_the_calls_only_if_that_has_passed() -> None:
    """Otherwise the service, or a proxy before it, has a shorter one."""
    exceeded = error_of("DEADLINE_EXCEEDED", "Deadline Exceeded", 0.0)
    assert type(exceeded) is DeadlineExceeded
    assert str(exceeded) == "the deadline passed before the reply was complete"
    assert type(error_of("DEADLINE_EXCEEDED", "", 1.0)) is AttemptTimeout


def test_details_are_bounded_and_plain() -> None:
    """A service cannot write lines into the user's log."""
    shown = str(error_of("INTERNAL", "one\r\ntwo\x1b" + "x" * 5000))
    assert shown.startswith("gRPC INTERNAL: one two x")
    assert len(shown) < 340
    assert shown.isprintable()


def test_the_error_of_an_untrusted_certificate_names_the_setting() -> None:
    """A retry would fail alike."""
    error = error_of(
        "UNAVAILABLE", "failed to connect to all addresses; last error: CERTIFICATE_VERIFY_FAILED: self-signed"
    )
    assert "verify='ca.pem'" in str(error)
    assert not error.retryable
