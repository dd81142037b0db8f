"""The tree of errors: what each answers, copies for callers, and what pickling keeps."""

from __future__ import annotations

import copy
import pickle

import pytest

from cosyclient import errors
from cosyclient.errors import (
    Attempt,
    BadUtterance,
    ConfigurationError,
    CosyError,
    DeadlineExceeded,
    DecodeError,
    PartialFailure,
    ServiceError,
    ServiceFault,
    Throttled,
    TransportError,
    did_you_mean,
)
from cosyclient.models import Outcome

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CosyError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_can_be_copied_and_pickled_with_all_it_carries(kind: type[CosyError]) -> None:
    error = kind("no", outcomes=[]) if kind is PartialFailure else kind("no")
    error.retry_after = 1.5
    error.attempts = (Attempt(1, "http://a", 0.0, 0.1, None),)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is kind
        assert str(twin) == "no"
        assert vars(twin) == vars(error)


@pytest.mark.parametrize(
    ("kind", "sent", "retryable", "endpoint_fault"),
    [
        (ConfigurationError, False, False, False),
        (BadUtterance, False, False, False),
        (DeadlineExceeded, False, False, False),
        (TransportError, True, True, True),
        (errors.ConnectFailed, False, True, True),
        (errors.AttemptTimeout, True, True, True),
        (ServiceError, True, False, False),
        (Throttled, True, True, False),
        (ServiceFault, True, True, True),
        (DecodeError, True, False, True),
    ],
)
def test_each_kind_answers_the_three_questions(
    kind: type[CosyError], sent: bool, retryable: bool, endpoint_fault: bool
) -> None:
    error = kind("no")
    assert (error.sent, error.retryable, error.endpoint_fault) == (sent, retryable, endpoint_fault)


def test_an_answer_given_to_the_constructor_replaces_that_of_the_kind() -> None:
    error = ServiceError("no", status=500, retryable=True, endpoint_fault=True, retry_after=2.0)
    assert (error.retryable, error.endpoint_fault, error.retry_after, error.status) == (True, True, 2.0, 500)
    assert not CosyError("no", sent=False).sent


def test_each_caller_has_an_error_object_with_its_own_attempts() -> None:
    shared = TransportError("reset")
    shared.__cause__ = OSError("reset")
    attempts = (Attempt(1, "http://a", 0.0, 0.1, shared),)
    one, other = shared.for_caller(attempts), shared.for_caller()
    assert one is not other
    assert (one.attempts, other.attempts, shared.attempts) == (attempts, (), ())
    assert one.__cause__ is shared.__cause__
    assert one.for_caller().attempts == attempts


def test_a_partial_failure_sorts_its_outcomes_by_position() -> None:
    failure = BadUtterance("text: no")
    partial = PartialFailure("1 of 1", outcomes=[Outcome(3, "", error=failure)])
    assert (partial.errors, partial.speeches) == ({3: failure}, {})


@pytest.mark.parametrize(
    ("name", "suggestion"), [("speeed", "; did you mean speed?"), ("SPEED", "; did you mean speed?"), ("xyz", "")]
)
def test_a_misspelled_name_gets_a_suggestion(name: str, suggestion: str) -> None:
    assert did_you_mean(name, ["speed", "seed"]) == suggestion
