"""Between two attempts of one call: whether there is another, after which wait, and what the retry budget gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosyclient.errors import ClientClosed, RetryBudgetSpent
from cosyclient.events import RetryScheduled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cosyclient.clock import Deadline
    from cosyclient.errors import Attempt, CosyError
    from cosyclient.pipeline.calls.context import CallContext


class RetryLoop:
    """Decide and wait between the attempts of one call; events call it by *name*.

    A batch, whose texts have deadlines of their own, calls `next_wait`, `sleep` and `succeeded` itself; `run` does so
    for a call of one text or none.
    """

    __slots__ = ("_budget_spent", "_context", "_name", "_schedule", "_spent")

    def __init__(self, context: CallContext, name: str) -> None:
        self._context = context
        self._name = name
        self._schedule = context.retry.schedule()
        self._spent = 0
        self._budget_spent = False

    def next_wait(self, error: CosyError, *, remaining: float) -> float | None:
        """Return the seconds until the next attempt after *error*, with *remaining* until the deadline; None: no other.

        Withdraws from the retry budget. What ends without another attempt ends with what `final` makes of its error.
        """
        wait = self._schedule.next_wait(error, remaining=remaining)
        if wait is None:
            return None
        cost = self._context.budget.withdraw(throttled=error.throttled)
        self._spent += cost
        self._budget_spent = not cost
        return wait if cost else None

    def final(self, error: CosyError) -> CosyError:
        """Return what *error* becomes now that no attempt follows: it says so if only the budget forbade it."""
        if not self._budget_spent:
            return error
        spent = RetryBudgetSpent(
            f"not tried again, the retry budget is spent: {error}", sent=error.sent, retry_after=error.retry_after
        )
        spent.__cause__ = error
        return spent

    def sleep(self, seconds: float, error: CosyError, attempts: Sequence[Attempt], *, texts: int = 1) -> bool:
        """Wait *seconds* before *texts* are sent again after *error*; return whether the client closed meanwhile."""
        context = self._context
        context.events.emit(
            RetryScheduled(
                endpoint=attempts[-1].endpoint if attempts else context.endpoint.name,
                batch=self._name,
                number=len(attempts) + 1,
                texts=texts,
                wait=seconds,
                error=error,
            )
        )
        return context.clock.sleep(seconds, context.closing)

    def succeeded(self) -> None:
        """Give the retry budget what it earns by an attempt that succeeded."""
        self._context.budget.deposit(self._spent)

    def run(self, attempt: Callable[[], CosyError | None], attempts: Sequence[Attempt], *, deadline: Deadline) -> None:
        """Call *attempt* until it returns None for success; it adds its record to *attempts*.

        Raises the error of the last attempt, with all *attempts*, when there is no other.
        """
        while (error := attempt()) is not None:
            wait = self.next_wait(error, remaining=deadline.remaining)
            if self._context.closing.is_set() and error.retryable:
                # Whether it was the last attempt or not: a request aborted by closing the client looks like a broken
                # connection.
                raise self.closed(error).for_caller(attempts)
            if wait is None:
                raise self.final(error).for_caller(attempts)
            if self.sleep(wait, error, attempts):
                raise self.closed(error).for_caller(attempts)
        self.succeeded()

    @staticmethod
    def closed(error: CosyError) -> ClientClosed:
        """Return the error of a call whose client was closed after *error* and before the next attempt."""
        closed = ClientClosed("the client was closed before the next attempt")
        closed.__cause__ = error
        return closed
