"""When a job stops early: the service is down or refuses every text, or the output cannot be written."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cosyclient.errors import (
    BadRequest,
    CircuitOpen,
    CosyError,
    DecodeError,
    Forbidden,
    NotFound,
    Rejected,
    RetryBudgetSpent,
    ServiceError,
    Throttled,
    TransportError,
    Unauthorized,
)

if TYPE_CHECKING:
    from pathlib import Path

_EQUAL_FAILURES: Final = 20
"""Equal failures, before any success, after which the texts are not the cause."""
_DENIALS_IN_A_ROW: Final = 5
"""Denied texts in a row, after a success, that stop a job."""
_MAX_REASON_LENGTH: Final = 600

# What to do about a refusal, where the error itself does not name it.
_REFUSAL_ADVICE: Final = {
    Forbidden: "its key may not do this, or nothing is left to spend; ask its operator",
    Throttled: "nothing is left to spend there; ask its operator",
    NotFound: "for its voices see `cosyclient voices`, for the rest `cosyclient doctor`",
    BadRequest: "it may be another kind of service than it was taken for; see `cosyclient doctor`, and --protocol",
}
_OUTPUT_ADVICE: Final = {
    errno.ENOSPC: "; make room there",
    errno.EDQUOT: "; make room there",
    errno.EROFS: "; make it writable",
}


@dataclass(frozen=True, slots=True)
class StopReason:
    """Why a job stops early; ``kind`` stands in its summary."""

    kind: Literal["service down", "refused", "output"]
    template: str

    @property
    def is_output(self) -> bool:
        """Return whether the output cannot be written, so that further speeches would be paid for in vain."""
        return self.kind == "output"

    @classmethod
    def service_down(cls, error: CosyError) -> StopReason:
        """Return the reason after the wait for a service that failed with *error*."""
        return cls("service down", f"no service at {{url}}: {_shortened(error)}")

    @classmethod
    def refused(cls, error: CosyError) -> StopReason:
        """Return the reason where every text fails with *error*."""
        advice = next((f"; {advice}" for kind, advice in _REFUSAL_ADVICE.items() if isinstance(error, kind)), "")
        return cls("refused", f"{{url}} refuses every text: {_shortened(error)}{advice}")

    @classmethod
    def output_failed(cls, path: Path, error: OSError) -> StopReason:
        """Return the reason where *path* cannot be written because of *error*."""
        advice = _OUTPUT_ADVICE.get(error.errno or 0, "")
        return cls("output", f"cannot write to {path}: {error.strerror}; nothing more was sent{advice}")

    def message(self, url: str) -> str:
        """Return what to print of it; *url* is the service's."""
        return self.template.replace("{url}", url)


class RepeatedFailures:
    """Detects failures that do not depend on the text: sending hundreds of texts more would gain nothing."""

    def __init__(self) -> None:
        self._any_success = False
        self._last_failure: tuple[object, ...] = ()
        self._last_error: CosyError | None = None
        self._count = 0
        self._all = 0

    def record_success(self) -> None:
        """Count a text that was synthesized."""
        self._any_success = True
        self._count = 0

    def record_failure(self, error: CosyError) -> StopReason | None:
        """Count a text that failed with *error*; return the reason to stop if there is one."""
        if not isinstance(error, Rejected):
            self._all += 1
        denied = isinstance(error, (Unauthorized, Forbidden)) or (isinstance(error, Throttled) and not error.retryable)
        if not (isinstance(error, (ServiceError, DecodeError)) and (denied or not error.retryable)):
            return None
        failure = (type(error), getattr(error, "status", None), getattr(error, "code", None), str(error))
        self._count = self._count + 1 if failure == self._last_failure else 1
        self._last_failure, self._last_error = failure, error
        if self._any_success:
            return StopReason.refused(error) if denied and self._count >= _DENIALS_IN_A_ROW else None
        return StopReason.refused(error) if denied or self._count >= _EQUAL_FAILURES else None

    def refusal_of_every_text(self) -> StopReason | None:
        """Return the reason if every text that was sent was refused alike, at the end of a short input.

        A single refusal may be the text's own, except one that names something that does not exist.
        """
        error = self._last_error
        if error is None or self._any_success or self._count < self._all:
            return None
        return StopReason.refused(error) if self._count > 1 or isinstance(error, NotFound) else None


def is_outage(error: CosyError, *, waited: bool) -> bool:
    """Return whether *error* means that the service is down; *waited*: the job has waited for it in full."""
    if isinstance(error, CircuitOpen):
        return True
    return waited and (error.endpoint_fault or error.throttled or isinstance(error, RetryBudgetSpent))


def is_unreachable(error: CosyError) -> bool:
    """Return whether no connection could be made: nothing of the text was sent."""
    return isinstance(error, TransportError) and not error.sent


def service_failure_in(error: CosyError) -> CosyError | None:
    """Return the failure of the service that *error* is or that caused it, or None: an open breaker names none."""
    causes = [error, error.__cause__, *(attempt.error for attempt in reversed(error.attempts))]
    known = (cause for cause in causes if isinstance(cause, CosyError))
    return next((cause for cause in known if cause.endpoint_fault or cause.throttled), None)


def describe_error(error: BaseException) -> str:
    """Return the type and the message of *error*."""
    return f"{type(error).__name__}: {error}"


def _shortened(error: BaseException) -> str:
    described = describe_error(error)
    return described if len(described) <= _MAX_REASON_LENGTH else f"{described[: _MAX_REASON_LENGTH - 1]}…"
