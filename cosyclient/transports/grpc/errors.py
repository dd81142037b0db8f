"""Translate gRPC statuses into the library's errors, by one table of codes and of words in their details.

The codes are those of grpc.github.io/grpc/core/md_doc_statuscodes.html. The words are those of grpcio's server, on
which the official runtime runs, and of Triton (protocol reference, 3.2 and 3.3), whose codes alone say too little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

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
from cosyclient.util.redaction import single_line

if TYPE_CHECKING:
    from cosyclient.clock import Deadline

_MAX_CHARACTERS: Final = 300
# A timer may fire this many seconds early: with so little left the deadline counts as passed.
_ROUNDING: Final = 0.01


class StatusRule(NamedTuple):
    """Map a code, with certain words in its details if any are given, to an error; ``None`` keeps the class's default.

    ``status`` is the HTTP status that gRPC's gateways translate the code into.
    """

    code: str
    words: str
    kind: type[CosyError]
    status: int | None = None
    retryable: bool | None = None
    endpoint_fault: bool | None = None
    sent: bool | None = None


# The first row that matches decides.
TABLE: Final[tuple[StatusRule, ...]] = (
    StatusRule("CANCELLED", "", TransportError),
    StatusRule("DEADLINE_EXCEEDED", "", AttemptTimeout),
    # grpcio's server beyond maximum_concurrent_rpcs: an overload, and the call was not processed.
    StatusRule("RESOURCE_EXHAUSTED", "Concurrent RPC limit", Throttled, 429),
    # A reply beyond the client's limit, wire.max_reply_bytes. Requests are never compressed, so a message that is too
    # large once decompressed is a reply. Any other "larger than max" is the service's, about the request.
    StatusRule("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max", DecodeError),
    StatusRule("RESOURCE_EXHAUSTED", "Decompressed message larger than max", DecodeError),
    # A reply beyond the service's limit: a retry fails alike, and the service is healthy.
    StatusRule(
        "RESOURCE_EXHAUSTED", "Sent message larger than max", ServiceFault, 500, retryable=False, endpoint_fault=False
    ),
    StatusRule("RESOURCE_EXHAUSTED", "larger than max", TooLarge, 413),
    StatusRule("RESOURCE_EXHAUSTED", "", Throttled, 429),
    # A proxy that refuses: not the service's fault, and a retry fails alike.
    StatusRule(
        "UNAVAILABLE", "HTTP proxy returned response code 4", ConnectFailed, retryable=False, endpoint_fault=False
    ),
    # The connection could not be made. Other UNAVAILABLE: it broke, or a proxy could not reach the service.
    StatusRule("UNAVAILABLE", "failed to connect", ConnectFailed),
    StatusRule("UNAVAILABLE", "DNS resolution failed", ConnectFailed),
    StatusRule("UNAVAILABLE", "errors resolving", ConnectFailed),
    StatusRule("UNAVAILABLE", "empty address list", ConnectFailed),
    # Triton's queue of a model is full.
    StatusRule("UNAVAILABLE", "maximum queue size", Throttled, 429),
    StatusRule("UNAVAILABLE", "", TransportError),
    # The model's own exception: of the machine, which may recover, or of the request, for which a retry fails alike.
    StatusRule("UNKNOWN", "CUDA", ServiceFault, 500),
    StatusRule("UNKNOWN", "out of memory", ServiceFault, 500),
    StatusRule("UNKNOWN", "Exception iterating responses", ServiceFault, 500, retryable=False, endpoint_fault=False),
    StatusRule("UNKNOWN", "Exception calling application", ServiceFault, 500, retryable=False, endpoint_fault=False),
    # A gateway answered without gRPC, with a 502 for example.
    StatusRule("UNKNOWN", "Received http2 header with status", TransportError),
    StatusRule("UNKNOWN", "Stream removed", TransportError),
    StatusRule("UNKNOWN", "", ServiceFault, 500),
    StatusRule("INVALID_ARGUMENT", "", BadRequest, 400),
    StatusRule("FAILED_PRECONDITION", "", BadRequest, 400),
    StatusRule("OUT_OF_RANGE", "", BadRequest, 400),
    StatusRule("ALREADY_EXISTS", "", ServiceError, 409),
    StatusRule("ABORTED", "", ServiceFault, 409),
    StatusRule("NOT_FOUND", "", NotFound, 404),
    # Triton, called for one message by a model that sends several.
    StatusRule("UNIMPLEMENTED", "decoupled", ServiceFault, 501, retryable=False, endpoint_fault=False),
    StatusRule("UNIMPLEMENTED", "", NotFound, 501),
    StatusRule("UNAUTHENTICATED", "", Unauthorized, 401),
    StatusRule("PERMISSION_DENIED", "", Forbidden, 403),
    StatusRule("DATA_LOSS", "", ServiceFault, 500),
    # Refused by this client's grpcio, before anything was sent.
    StatusRule("INTERNAL", "Invalid metadata", TransportError, retryable=False, endpoint_fault=False, sent=False),
    StatusRule("INTERNAL", "", ServiceFault, 500),
)
_DEFAULT: Final = StatusRule("", "", ServiceFault, 500)


def translate(code: str, details: str, deadline: Deadline) -> CosyError:
    """Return the error of a call that ended with *code* and *details*, for a caller whose call ends at *deadline*."""
    rule = next((rule for rule in TABLE if rule.code == code and rule.words in details), _DEFAULT)
    message = f"gRPC {code}: {single_line(details, _MAX_CHARACTERS)}" if details else f"gRPC {code}"
    if code == "DEADLINE_EXCEEDED" and deadline.remaining <= _ROUNDING:
        return DeadlineExceeded("the deadline passed before the reply was complete", sent=True)
    if issubclass(rule.kind, ServiceError):
        return rule.kind(
            message, status=rule.status, code=code, retryable=rule.retryable, endpoint_fault=rule.endpoint_fault
        )
    if rule.kind is ConnectFailed and "CERTIFICATE_VERIFY_FAILED" in details:
        return ConnectFailed(
            "the service's TLS certificate was not accepted; if its authority is a private one, name the CA file: "
            "verify='ca.pem'",
            retryable=False,
        )
    return rule.kind(message, sent=rule.sent, retryable=rule.retryable, endpoint_fault=rule.endpoint_fault)
