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
    ├── Rejected                      we said no; where something had left by then, ``sent`` says so
    │   ├── BadUtterance              also ValueError
    │   ├── QueueFull
    │   ├── BulkheadFull
    │   ├── RateLimited               our own pacing, not the service's 429
    │   ├── CircuitOpen
    │   ├── RetryBudgetSpent
    │   └── ClientClosed
    ├── DeadlineExceeded              also TimeoutError
    ├── TransportError                connect, TLS, read, write, reset, premature end
    │   ├── ConnectFailed             nothing of the request left
    │   └── AttemptTimeout            a step of one attempt took longer than granted
    ├── ServiceError                  the service answered, and it was a refusal
    │   ├── BadRequest · Unauthorized · Forbidden · NotFound · TooLarge
    │   ├── Throttled                 429 and its kin
    │   └── ServiceFault              5xx and its kin
    └── DecodeError                   not audio, wrong count, truncated

Three questions are answered separately, because they have different readers: ``sent`` (may the service have billed
it?), ``retryable`` (may the retry policy try again?), ``endpoint_fault`` (should the breaker count it?).
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
    """Record one try of a call: when it began (monotonic seconds), how long it took and how it failed."""

    number: int
    endpoint: str
    started: float
    latency: float
    error: CosyError | None


class CosyError(Exception):
    """Report that a text did not become speech; the root of everything this library raises."""

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
        """What a stream had received before it broke off."""
        if sent is not None:
            self.sent = sent
        if retryable is not None:
            self.retryable = retryable
        if endpoint_fault is not None:
            self.endpoint_fault = endpoint_fault

    def for_caller(self, attempts: Sequence[Attempt] = ()) -> Self:
        """Return a copy of its own for one caller, carrying *attempts*, oldest first.

        Callers of one batch share a failure but not an exception object: raising one object in many threads would
        grow one traceback from all of them.
        """
        twin = copy.copy(self)
        twin.attempts = tuple(attempts) or self.attempts
        twin.__cause__ = self.__cause__
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only constructors of subclasses must not stand in the way of copy and pickle.
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(kind: type[CosyError], args: tuple[Any, ...], state: dict[str, Any]) -> CosyError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return ``; did you mean …?`` for the one of *known* that is nearest to *name*, or nothing if none is near."""
    folded = {each.casefold(): each for each in sorted(known)}
    close = get_close_matches(name.casefold(), folded, n=1, cutoff=cutoff)
    return f"; did you mean {folded[close[0]]}?" if close else ""


class ConfigurationError(CosyError, ValueError):
    """Say which setting cannot be used, and what to set instead."""


class PartialFailure(CosyError):
    """Report that some texts of a bulk call failed, and carry every speech that was finished.

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
    """Report that the client itself said no: nothing was sent and billed, unless ``sent`` says otherwise."""


class BadUtterance(Rejected, ValueError):
    """Name the field of an utterance that no service would accept, and the rule it breaks."""


class QueueFull(Rejected):
    """Report that the client's queue had no free place before the deadline."""


class BulkheadFull(Rejected):
    """Report that no permit to be in flight came free before the deadline."""


class RateLimited(Rejected):
    """Report that our own pacing could not grant a send before the deadline."""


class CircuitOpen(Rejected):
    """Report that the endpoint's breaker is open; ``retry_after`` says when it will try again."""


class RetryBudgetSpent(Rejected):
    """Report that an attempt failed and the shared retry budget had nothing left for another."""


class ClientClosed(Rejected):
    """Report that the client was closed before this text could be sent, or while it was in flight."""


class DeadlineExceeded(CosyError, TimeoutError):
    """Report that the call's deadline passed before its speech was there."""


class TransportError(CosyError):
    """Report that the wire failed: connect, TLS, read, write, reset or a premature end."""

    sent = True
    retryable = True
    endpoint_fault = True


class ConnectFailed(TransportError):
    """Report that no connection could be made, so nothing was sent."""

    sent = False


class AttemptTimeout(TransportError):
    """Report that connecting, the first byte or the gap between two reads took longer than granted."""


class ServiceError(CosyError):
    """Report that the service answered with a refusal, with its status, code and request id."""

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
    """Report that the service found the request itself wrong; sending it again cannot help."""


class Unauthorized(ServiceError):
    """Report that the API key is missing or wrong."""


class Forbidden(ServiceError):
    """Report that the API key may not do this."""


class NotFound(ServiceError):
    """Report that the path, model or voice does not exist at this service."""


class TooLarge(ServiceError):
    """Report that the request body exceeds what the service takes."""


class Throttled(ServiceError):
    """Report that the service asked for fewer requests; ``retry_after`` carries its wait when it named one."""

    retryable = True
    throttled = True


class ServiceFault(ServiceError):
    """Report that the service failed on its side."""

    retryable = True
    endpoint_fault = True


class DecodeError(CosyError):
    """Report a reply that is not what was asked for: not audio, the wrong count, truncated."""

    sent = True
    endpoint_fault = True
