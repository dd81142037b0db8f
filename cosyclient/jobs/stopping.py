"""When a job stops early: the service is gone or refuses everything alike, or the output cannot be written."""

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
    RetryBudgetSpent,
    ServiceError,
    Throttled,
    TransportError,
    Unauthorized,
)

if TYPE_CHECKING:
    from pathlib import Path

_ALL_THE_SAME: Final = 20
"""Texts that fail alike, and no other result before: what is wrong is not the texts."""
_DENIED_AMID: Final = 5
"""Texts in a row that are denied after others were spoken."""
_CAUSES: Final = 600

# What the errors themselves do not say.
_NEXT: Final = {
    Forbidden: "its key may not do this, or nothing is left to spend; ask whoever runs it",
    Throttled: "nothing is left to spend there; ask whoever runs it",
    NotFound: "for its voices see `cosyclient voices`, for the rest `cosyclient doctor`",
    BadRequest: "it may be another kind of service than it was taken for; see `cosyclient doctor`, and --protocol",
}


_ROOM: Final = {
    errno.ENOSPC: "; make room there",
    errno.EDQUOT: "; make room there",
    errno.EROFS: "; make it writable",
}


@dataclass(frozen=True, slots=True)
class Stop:
    """Say why a job stops, and what to do."""

    reason: Literal["service down", "refused", "output"]
    words: str

    @property
    def output(self) -> bool:
        """Return whether nothing can be written any more, so that nothing more is bought."""
        return self.reason == "output"

    @classmethod
    def of_outage(cls, error: CosyError) -> Stop:
        """Return the stop after a wait for the service that was in vain."""
        return cls("service down", f"no service at {{url}}: {_named(error)}")

    @classmethod
    def of_refusal(cls, error: CosyError) -> Stop:
        """Return the stop of a job all of whose texts meet *error*."""
        words = next((f"; {words}" for kind, words in _NEXT.items() if isinstance(error, kind)), "")
        return cls("refused", f"{{url}} refuses every text: {_named(error)}{words}")

    @classmethod
    def of_output(cls, path: Path, problem: OSError) -> Stop:
        """Return the stop of a job whose results have nowhere to go."""
        advice = _ROOM.get(problem.errno or 0, "")
        return cls("output", f"cannot write to {path}: {problem.strerror}; nothing more was sent{advice}")

    def told(self, url: str) -> str:
        """Return what to tell of it."""
        return self.words.replace("{url}", url)


class Verdicts:
    """Look for what is wrong with all texts of a job alike: nothing is gained by asking hundreds of times."""

    def __init__(self) -> None:
        self._any_spoken = False
        self._alike: tuple[object, ...] = ()
        self._count = 0

    def spoken(self) -> None:
        """Note that a text was spoken."""
        self._any_spoken = True
        self._count = 0

    def failed(self, error: CosyError) -> Stop | None:
        """Note that a text failed with *error*; return why to stop, if that is a reason."""
        denied = isinstance(error, (Unauthorized, Forbidden)) or (isinstance(error, Throttled) and not error.retryable)
        if not (isinstance(error, (ServiceError, DecodeError)) and (denied or not error.retryable)):
            return None
        alike = (type(error), getattr(error, "status", None), getattr(error, "code", None), str(error))
        self._count = self._count + 1 if alike == self._alike else 1
        self._alike = alike
        if self._any_spoken:
            return Stop.of_refusal(error) if denied and self._count >= _DENIED_AMID else None
        return Stop.of_refusal(error) if denied or self._count >= _ALL_THE_SAME else None


def is_outage(error: CosyError, *, waited: bool) -> bool:
    """Return whether *error* says that the service is down, if the client has *waited* for it as long as it was to."""
    if isinstance(error, CircuitOpen):
        return True
    return waited and (error.endpoint_fault or error.throttled or isinstance(error, RetryBudgetSpent))


def is_nobody(error: CosyError) -> bool:
    """Return whether nobody could be reached: nothing of the text was sent."""
    return isinstance(error, TransportError) and not error.sent


def trouble_in(error: CosyError) -> CosyError | None:
    """Return what *error* says was wrong with the service; an open breaker says no more than that something was."""
    causes = [error, error.__cause__, *(attempt.error for attempt in reversed(error.attempts))]
    known = (cause for cause in causes if isinstance(cause, CosyError))
    return next((cause for cause in known if cause.endpoint_fault or cause.throttled), None)


def _named(error: BaseException) -> str:
    said = f"{type(error).__name__}: {error}"
    return said if len(said) <= _CAUSES else f"{said[: _CAUSES - 1]}…"
