"""When a job stops early: equal failures, denials, outages."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cosyclient.errors import (
    Attempt,
    BadRequest,
    BadUtterance,
    CircuitOpen,
    ConnectFailed,
    CosyError,
    NotFound,
    RetryBudgetSpent,
    ServiceFault,
    Throttled,
    TransportError,
    Unauthorized,
)
from cosyclient.jobs.stopping import (
    RepeatedFailures,
    StopReason,
    is_outage,
    is_unreachable,
    service_failure_in,
)


def _stops_after(error: CosyError, *, success_first: bool) -> int | None:
    failures = RepeatedFailures()
    if success_first:
        failures.record_success()
    return next((count for count in range(1, 50) if failures.record_failure(error) is not None), None)


@pytest.mark.parametrize(
    ("error", "first", "after_success"),
    [
        (Unauthorized("key"), 1, 5),
        (Throttled("balance", retryable=False), 1, 5),
        (BadRequest("model"), 20, None),
        (ServiceFault("busy"), None, None),
        (ConnectFailed("refused"), None, None),
    ],
)
def test_a_job_stops_after_so_many_equal_failures(
    error: CosyError, first: int | None, after_success: int | None
) -> None:
    assert _stops_after(error, success_first=False) == first
    assert _stops_after(error, success_first=True) == after_success


def test_failures_that_differ_do_not_stop_a_job() -> None:
    failures = RepeatedFailures()
    assert not any(failures.record_failure(BadRequest(f"text {number}")) for number in range(100))


@pytest.mark.parametrize(
    ("errors", "refused"),
    [
        ([], False),
        ([BadRequest("unsafe text")], False),
        ([NotFound("voice")], True),
        ([BadRequest("model"), BadRequest("model")], True),
        ([BadRequest("model"), BadUtterance("blank"), BadRequest("model")], True),
        ([BadRequest("model"), ServiceFault("busy"), BadRequest("model")], False),
        ([BadRequest("one"), BadRequest("two")], False),
        ([ServiceFault("busy"), ServiceFault("busy")], False),
    ],
)
def test_at_the_end_every_text_was_refused_alike(errors: list[CosyError], refused: bool) -> None:
    failures = RepeatedFailures()
    assert not any(failures.record_failure(error) for error in errors)
    assert (failures.refusal_of_every_text() is not None) == refused
    failures.record_success()
    assert failures.refusal_of_every_text() is None


def test_a_success_between_denials_starts_the_count_anew() -> None:
    failures = RepeatedFailures()
    for _ in range(10):
        failures.record_success()
        assert not any(failures.record_failure(Unauthorized("key")) for _ in range(4))


@pytest.mark.parametrize(
    ("error", "at_once", "after_wait"),
    [
        (CircuitOpen("open"), True, True),
        (ServiceFault("busy"), False, True),
        (Throttled("slow"), False, True),
        (RetryBudgetSpent("spent"), False, True),
        (BadRequest("text"), False, False),
    ],
)
def test_an_error_means_an_outage(error: CosyError, at_once: bool, after_wait: bool) -> None:
    assert (is_outage(error, waited=False), is_outage(error, waited=True)) == (at_once, after_wait)


def test_only_a_failed_connection_is_unreachable() -> None:
    assert is_unreachable(ConnectFailed("refused"))
    assert not is_unreachable(TransportError("reset"))
    assert not is_unreachable(CircuitOpen("open"))


def test_the_failure_behind_an_open_breaker_is_found() -> None:
    failure = ServiceFault("busy")
    caused, attempted = CircuitOpen("open"), CircuitOpen("open")
    caused.__cause__ = failure
    attempted.attempts = (Attempt(1, "a", 0.0, 0.1, failure), Attempt(2, "a", 0.0, 0.1, BadRequest("no")))
    assert service_failure_in(caused) is service_failure_in(attempted) is service_failure_in(failure) is failure
    assert service_failure_in(CircuitOpen("open")) is None


def test_a_reason_names_the_service_and_what_to_do() -> None:
    refused = StopReason.refused(BadRequest("x" * 2000))
    assert refused.message("http://a").startswith("http://a refuses every text: BadRequest: xxx")
    assert "…; it may be another kind of service" in refused.message("http://a")
    assert len(refused.message("http://a")) < 800
    full = StopReason.output_failed(Path("out"), OSError(errno.ENOSPC, "No space left on device"))
    assert full.is_output
    assert full.message("http://a").endswith("nothing more was sent; make room there")
    assert StopReason.service_down(ConnectFailed("refused")).message("http://a") == (
        "no service at http://a: ConnectFailed: refused"
    )
