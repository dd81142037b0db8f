"""Refuse as the batch protocol does: problem+json with a code, and whether a retry can help."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

CODES: dict[str, tuple[int, str, bool]] = {
    "malformed_json": (400, "The body is not JSON", False),
    "unauthorized": (401, "No valid API key", False),
    "forbidden": (403, "Not allowed", False),
    "not_found": (404, "No such resource", False),
    "unknown_model": (404, "No such model", False),
    "unknown_voice": (404, "No such voice", False),
    "method_not_allowed": (405, "Method not allowed", False),
    "not_acceptable": (406, "No reply format is acceptable", False),
    "idempotency_in_progress": (409, "The first request with this key is still running", True),
    "body_too_large": (413, "The body is too large", False),
    "unsupported_media_type": (415, "The body is not of a supported type", False),
    "validation_failed": (422, "The request breaks a rule", False),
    "too_many_texts": (422, "Too many texts", False),
    "idempotency_mismatch": (422, "The key belongs to another body", False),
    "rate_limited": (429, "Too many requests", True),
    "too_many_connections": (429, "Too many connections", True),
    "internal": (500, "Internal error", True),
    "bad_upstream": (502, "Bad answer from a model server", True),
    "overloaded": (503, "Overloaded", True),
    "loading": (503, "The model is loading", True),
    "draining": (503, "The service is shutting down", True),
    "upstream_timeout": (504, "A model server took too long", True),
}
"""Status, title and whether a retry can help, for every code."""


def code_of(status: int) -> str:
    """Return the usual code of a status."""
    if status == 503:
        return "overloaded"
    for code, (its_status, _, _) in CODES.items():
        if its_status == status:
            return code
    return "internal" if status >= 500 else "validation_failed"


class Problem(Exception):
    """Refuse the request with a problem document.

    *retry_after* is in float seconds and fills both the header (whole seconds) and ``retry_after_ms``;
    *header* replaces the header's value, *errors* are (JSON pointer, detail) pairs, *announced* quota headers.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        header: str | None = None,
        errors: Sequence[tuple[str, str]] = (),
        announced: Sequence[tuple[bytes, bytes]] = (),
        close: bool = False,
    ) -> None:
        super().__init__(detail)
        default_status, self.title, self.retryable = CODES.get(code, (500, "Failure", True))
        self.code = code
        self.detail = detail
        self.status = default_status if status is None else status
        self.retry_after = retry_after
        self.errors = errors
        self.announced = announced
        self.close = close
        if header is None and retry_after is not None:
            header = str(max(1, math.ceil(retry_after)))
        self.header = header

    def document(self, instance: str) -> bytes:
        """Return the problem document of this occurrence."""
        body: dict[str, Any] = {
            "type": f"urn:cosyvoice:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "retryable": self.retryable,
        }
        if self.retry_after is not None:
            body["retry_after_ms"] = math.ceil(self.retry_after * 1000)
        if self.errors:
            body["errors"] = [{"pointer": pointer, "detail": detail} for pointer, detail in self.errors]
        return json.dumps(body, ensure_ascii=False).encode()

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that go with the document, its type and length aside."""
        headers = list(self.announced)
        if self.header is not None:
            headers.append((b"retry-after", self.header.encode()))
        if self.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if self.close:
            headers.append((b"connection", b"close"))
        return headers


def too_large(most_bytes: int) -> Problem:
    """Return the refusal of a body over the limit."""
    return Problem("body_too_large", f"the body must not exceed {most_bytes} bytes")
