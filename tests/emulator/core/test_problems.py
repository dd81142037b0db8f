"""The problem documents: each code's status, and the forms of Retry-After."""

from __future__ import annotations

import json

import pytest

from cosyclient.emulator.core.problems import CODES, Problem, code_of, too_large


@pytest.mark.parametrize("code", CODES)
def test_a_problem_has_the_status_of_its_code(code: str) -> None:
    """And says whether a retry can help."""
    status, title, retryable = CODES[code]
    document = json.loads(Problem(code, "why").document("urn:x"))
    assert (document["code"], document["detail"], document["instance"]) == (code, "why", "urn:x")
    assert (document["status"], document["title"], document["retryable"]) == (status, title, retryable)


@pytest.mark.parametrize(
    ("status", "code"), [(429, "rate_limited"), (503, "overloaded"), (599, "internal"), (418, "validation_failed")]
)
def test_a_status_has_a_usual_code(status: int, code: str) -> None:
    """Even one that no code has."""
    assert code_of(status) == code


def test_retry_after_is_whole_seconds_in_the_header_and_milliseconds_in_the_body() -> None:
    """Rounded up, and at least one second."""
    problem = Problem("overloaded", "busy", retry_after=0.0101)
    assert problem.headers() == [(b"retry-after", b"1")]
    assert json.loads(problem.document(""))["retry_after_ms"] == 11
    assert Problem("overloaded", "busy", retry_after=1.0, header="a date").headers() == [(b"retry-after", b"a date")]


def test_headers_go_with_the_status() -> None:
    """401 names the scheme; a connection that is closed says so; quota headers are kept."""
    assert Problem("unauthorized", "").headers() == [(b"www-authenticate", b"Bearer")]
    assert Problem("too_many_connections", "", close=True).headers() == [(b"connection", b"close")]
    assert Problem("rate_limited", "", announced=[(b"ratelimit", b"x")]).headers() == [(b"ratelimit", b"x")]


def test_a_body_over_the_limit_is_413() -> None:
    """The detail names the limit."""
    assert (too_large(7).status, too_large(7).detail) == (413, "the body must not exceed 7 bytes")
