"""The errors that a client raises, as one tree.

```python
from cosyclient import CosyClient, CosyError, DeadlineExceeded, Rejected

with CosyClient("https://tts.example.com") as cosy:
    try:
        cosy.synthesize(" ")
    except Rejected as error:  # by the client itself, here a BadUtterance
        print(error)  # text: must not be empty or blank
    except DeadlineExceeded as error:
        print(error.sent, len(error.attempts))
    except CosyError as error:
        print(error.retry_after)
```

    CosyError
    ├── ConfigurationError            also ValueError
    ├── PartialFailure                some texts of a bulk call failed; every finished speech is inside
    ├── Rejected                      the client refused; ``sent`` tells whether something was sent before
    │   ├── BadUtterance              also ValueError
    │   ├── QueueFull
    │   ├── BulkheadFull
    │   ├── RateLimited               by the client's own pacing, not the service's 429
    │   ├── CircuitOpen
    │   ├── RetryBudgetSpent
    │   └── ClientClosed
    ├── DeadlineExceeded              also TimeoutError
    ├── TransportError                connect, TLS, read, write, reset, premature end
    │   ├── ConnectFailed             nothing of the request was sent
    │   └── AttemptTimeout            a step of one attempt took longer than its timeout
    ├── ServiceError                  the service answered with an error
    │   ├── BadRequest · Unauthorized · Forbidden · NotFound · TooLarge
    │   ├── Throttled                 429 and what means the same
    │   └── ServiceFault              5xx and what means the same
    └── DecodeError                   not audio, wrong count, truncated

Each error answers three questions separately: ``sent`` (may the service have billed it?), ``retryable`` (may the retry
policy try again?), ``endpoint_fault`` (does the breaker count it as a failure?).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cosyclient.models import Outcome, Speech


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a call: when it began (monotonic seconds), how long it took (seconds) and how it failed."""

    number: int
    endpoint: str
    started: float
    latency: float
    error: CosyError | None


class CosyError(Exception):
    """The root of every error that this library raises: a text did not become speech."""

    sent: bool = False
    retryable: bool = False
    endpoint_fault: bool = False
    throttled: bool = False

    def __init__(
        self,
        message: str = "",
        *,
        sent: bool | None = None,
        retryable: bool | None = None,
        endpoint_fault: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.attempts: tuple[Attempt, ...] = ()
        self.partial: Speech | None = None
        """The audio that a stream had received before it failed."""
        if sent is not None:
            self.sent = sent
        if retryable is not None:
            self.retryable = retryable
        if endpoint_fault is not None:
            self.endpoint_fault = endpoint_fault

    def for_caller(self, attempts: Sequence[Attempt] = ()) -> Self:
        """Return a copy for one caller, with *attempts*, oldest first.

        Callers of one batch share a failure but not an exception object: one object raised in many threads would
        collect all their frames in one traceback.
        """
        copied = copy.copy(self)
        copied.attempts = tuple(attempts) or self.attempts
        copied.__cause__ = self.__cause__
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        # By default copy and pickle call the constructor with `args`, which keyword-only parameters do not accept.
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(kind: type[CosyError], args: tuple[Any, ...], state: dict[str, Any]) -> CosyError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return ``; did you mean …?`` with the name of *known* most similar to *name*, or "" if none is similar."""
    folded = {each.casefold(): each for each in sorted(known)}
    close = get_close_matches(name.casefold(), folded, n=1, cutoff=cutoff)
    return f"; did you mean {folded[close[0]]}?" if close else ""


class ConfigurationError(CosyError, ValueError):
    """A setting cannot be used; the message names it and what to set instead."""


class PartialFailure(CosyError):
    """Some texts of a bulk call failed; every finished speech is in ``outcomes``.

    ``outcomes`` holds one `Outcome` per text in the order of the texts.
    """

    def __init__(self, message: str, *, outcomes: Sequence[Outcome]) -> None:
        super().__init__(message)
        self.outcomes = tuple(outcomes)

    @property
    def speeches(self) -> dict[int, Speech]:
        """Return the finished speeches by the position of their text."""
        return {outcome.index: outcome.speech for outcome in self.outcomes if outcome.speech is not None}

    @property
    def errors(self) -> dict[int, CosyError]:
        """Return the failures by the position of their text."""
        return {outcome.index: outcome.error for outcome in self.outcomes if outcome.error is not None}


class Rejected(CosyError):
    """The client itself refused the call: nothing was sent or billed unless ``sent`` is true."""


class BadUtterance(Rejected, ValueError):
    """A field of an utterance breaks a rule, so no service would accept it; the message names both."""


class QueueFull(Rejected):
    """The client's queue was full until the deadline."""


class BulkheadFull(Rejected):
    """No permit to be in flight became free before the deadline."""


class RateLimited(Rejected):
    """The client's own pacing allowed no request before the deadline."""


class CircuitOpen(Rejected):
    """The endpoint's breaker is open; the message names the failure that opened it.

    ``retry_after`` is the time in seconds until it lets a probe through.
    """


class RetryBudgetSpent(Rejected):
    """An attempt failed and the shared retry budget allows no other."""


class ClientClosed(Rejected):
    """The client was closed before this text was sent, or while it was in flight."""


class DeadlineExceeded(CosyError, TimeoutError):
    """The call's deadline passed before its speech was complete."""


class TransportError(CosyError):
    """The connection failed: connect, TLS, read, write, reset or a premature end."""

    sent = True
    retryable = True
    endpoint_fault = True


class ConnectFailed(TransportError):
    """No connection could be made, so nothing was sent."""

    sent = False


class AttemptTimeout(TransportError):
    """Connecting, the first byte or the gap between two reads took longer than its timeout."""


class ServiceError(CosyError):
    """The service answered with an error: its ``status``, ``code`` and ``request_id`` where it names them."""

    sent = True

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retryable: bool | None = None,
        endpoint_fault: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, retryable=retryable, endpoint_fault=endpoint_fault, retry_after=retry_after)
        self.status = status
        self.code = code
        self.request_id = request_id


class BadRequest(ServiceError):
    """The service found the request itself wrong; sending it again cannot succeed."""


class Unauthorized(ServiceError):
    """The API key is missing or wrong."""


class Forbidden(ServiceError):
    """The API key has no permission for this."""


class NotFound(ServiceError):
    """The path, model or voice does not exist at this service."""


class TooLarge(ServiceError):
    """The request body exceeds the service's limit."""


class Throttled(ServiceError):
    """The service asked for fewer requests; ``retry_after`` is the wait in seconds that it named, if any."""

    retryable = True
    throttled = True


class ServiceFault(ServiceError):
    """The service failed for a reason of its own."""

    retryable = True
    endpoint_fault = True


class DecodeError(CosyError):
    """A reply is not what was asked for: not audio, the wrong number of results, truncated."""

    sent = True
    endpoint_fault = True
