"""What a gRPC status means: one table, by code and by the words of those servers whose code says too little.

Codes from grpc.github.io/grpc/core/md_doc_statuscodes.html; the words are those of grpcio's server, on which the
official runtime runs, and of Triton (protocol reference, 3.2 and 3.3).
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

_MOST_CHARACTERS: Final = 300
# A timer may ring this early; so little is no time.
_ROUNDING: Final = 0.01


class Row(NamedTuple):
    """Say what a code, with certain words in its details if any are named, becomes; ``None`` keeps the class's own."""

    code: str
    words: str
    kind: type[CosyError]
    status: int | None = None
    """The HTTP status that means the same, as gRPC's gateways translate them."""
    retryable: bool | None = None
    endpoint_fault: bool | None = None
    sent: bool | None = None


# The first row that matches decides.
TABLE: Final[tuple[Row, ...]] = (
    Row("CANCELLED", "", TransportError),
    Row("DEADLINE_EXCEEDED", "", AttemptTimeout),
    # grpcio's server beyond maximum_concurrent_rpcs: an overload, and nothing was done.
    Row("RESOURCE_EXHAUSTED", "Concurrent RPC limit", Throttled, 429),
    # A reply beyond our own limit, wire.max_reply_bytes. Without these words it is the service's, and the request: ours
    # are never compressed, so what was too large when decompressed is a reply.
    Row("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max", DecodeError),
    Row("RESOURCE_EXHAUSTED", "Decompressed message larger than max", DecodeError),
    # A reply beyond the service's limit: the same text gives the same again, and says nothing of its health.
    Row("RESOURCE_EXHAUSTED", "Sent message larger than max", ServiceFault, 500, retryable=False, endpoint_fault=False),
    Row("RESOURCE_EXHAUSTED", "larger than max", TooLarge, 413),
    Row("RESOURCE_EXHAUSTED", "", Throttled, 429),
    # A proxy that will not lead there: not the service's fault, nor better the next time.
    Row("UNAVAILABLE", "HTTP proxy returned response code 4", ConnectFailed, retryable=False, endpoint_fault=False),
    # A connection that could not be made; the others broke, or a proxy says that it found nobody.
    Row("UNAVAILABLE", "failed to connect", ConnectFailed),
    Row("UNAVAILABLE", "DNS resolution failed", ConnectFailed),
    Row("UNAVAILABLE", "errors resolving", ConnectFailed),
    Row("UNAVAILABLE", "empty address list", ConnectFailed),
    # Triton's queue of a model is full.
    Row("UNAVAILABLE", "maximum queue size", Throttled, 429),
    Row("UNAVAILABLE", "", TransportError),
    # The model's own exception: of the machine, which may recover, or of what was asked, which gives the same again.
    Row("UNKNOWN", "CUDA", ServiceFault, 500),
    Row("UNKNOWN", "out of memory", ServiceFault, 500),
    Row("UNKNOWN", "Exception iterating responses", ServiceFault, 500, retryable=False, endpoint_fault=False),
    Row("UNKNOWN", "Exception calling application", ServiceFault, 500, retryable=False, endpoint_fault=False),
    # What lies between answered without speaking gRPC (a gateway's 502 and its like).
    Row("UNKNOWN", "Received http2 header with status", TransportError),
    Row("UNKNOWN", "Stream removed", TransportError),
    Row("UNKNOWN", "", ServiceFault, 500),
    Row("INVALID_ARGUMENT", "", BadRequest, 400),
    Row("FAILED_PRECONDITION", "", BadRequest, 400),
    Row("OUT_OF_RANGE", "", BadRequest, 400),
    Row("ALREADY_EXISTS", "", ServiceError, 409),
    Row("ABORTED", "", ServiceFault, 409),
    Row("NOT_FOUND", "", NotFound, 404),
    # Triton, asked in one message for what comes in several.
    Row("UNIMPLEMENTED", "decoupled", ServiceFault, 501, retryable=False, endpoint_fault=False),
    Row("UNIMPLEMENTED", "", NotFound, 501),
    Row("UNAUTHENTICATED", "", Unauthorized, 401),
    Row("PERMISSION_DENIED", "", Forbidden, 403),
    Row("DATA_LOSS", "", ServiceFault, 500),
    # Refused by grpcio here, before anything was sent.
    Row("INTERNAL", "Invalid metadata", TransportError, retryable=False, endpoint_fault=False, sent=False),
    Row("INTERNAL", "", ServiceFault, 500),
)
_OTHER: Final = Row("", "", ServiceFault, 500)


def translate(code: str, details: str, deadline: Deadline) -> CosyError:
    """Return what a call that ended with *code* means to a caller whose call ends at *deadline*."""
    row = next((row for row in TABLE if row.code == code and row.words in details), _OTHER)
    message = f"gRPC {code}: {single_line(details, _MOST_CHARACTERS)}" if details else f"gRPC {code}"
    if code == "DEADLINE_EXCEEDED" and deadline.remaining <= _ROUNDING:
        return DeadlineExceeded(f"the deadline passed; {message}", sent=True)
    if issubclass(row.kind, ServiceError):
        return row.kind(
            message, status=row.status, code=code, retryable=row.retryable, endpoint_fault=row.endpoint_fault
        )
    if row.kind is ConnectFailed and "CERTIFICATE_VERIFY_FAILED" in details:
        return ConnectFailed(
            "the service's TLS certificate was not accepted; if its authority is a private one, name the CA file: "
            "verify='ca.pem'",
            retryable=False,
        )
    return row.kind(message, sent=row.sent, retryable=row.retryable, endpoint_fault=row.endpoint_fault)
