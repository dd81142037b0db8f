"""Try again as policy allows, for what is not a batch: the opening of a stream, a question to the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosyclient.errors import ClientClosed
from cosyclient.events import RetryScheduled
from cosyclient.pipeline.calls.batch_call import budget_spent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cosyclient.clock import Deadline
    from cosyclient.errors import Attempt, CosyError
    from cosyclient.pipeline.calls.batch_call import CallContext


def persist(
    context: CallContext,
    attempt: Callable[[], CosyError | None],
    attempts: Sequence[Attempt],
    *,
    deadline: Deadline,
    name: str,
) -> None:
    """Call *attempt*, which returns its error or None and adds itself to *attempts*, until it succeeds.

    Raises the error of the last one, carrying all of them, when no more are granted. Events call it by *name*.
    """
    schedule, spent = context.retry.schedule(), 0
    while (error := attempt()) is not None:
        wait = schedule.next_wait(error, remaining=deadline.remaining)
        if context.closing.is_set() and error.retryable:
            # Whether it was the last try or not: what the client's end breaks off looks like a wire that broke.
            raise _closed(error).for_caller(attempts)
        if wait is None:
            raise error.for_caller(attempts)
        cost = context.budget.withdraw(throttled=error.throttled)
        if not cost:
            raise budget_spent(error).for_caller(attempts)
        spent += cost
        context.events.emit(
            RetryScheduled(
                endpoint=context.endpoint.name,
                batch=name,
                number=len(attempts) + 1,
                texts=1,
                wait=wait,
                error=error,
            )
        )
        if context.clock.sleep(wait, context.closing):
            raise _closed(error).for_caller(attempts)
    context.budget.deposit(spent)


def _closed(error: CosyError) -> ClientClosed:
    closed = ClientClosed("the client was closed before the next attempt")
    closed.__cause__ = error
    return closed
