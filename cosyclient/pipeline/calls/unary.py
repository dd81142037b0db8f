"""Unary calls: one request that carries no text, such as the list of voices, within the same policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from cosyclient.errors import Attempt, CosyError
from cosyclient.pipeline.calls.execution import Execution
from cosyclient.pipeline.calls.retrying import RetryLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.clock import Deadline
    from cosyclient.pipeline.calls.context import CallContext
    from cosyclient.util.extra_fields import Headers
    from cosyclient.wire import WireReply, WireRequest

T = TypeVar("T")


def call_unary(
    context: CallContext,
    request: WireRequest,
    decode: Callable[[WireReply], T],
    deadline: Deadline,
    *,
    repeatable: bool,
    headers: Headers | None = None,
) -> T:
    """Return what *decode* makes of the reply to *request*, which is sent with the caller's own *headers*.

    Tried again as policy allows; a request that is not *repeatable* only if the service certainly did not receive it.
    """
    request = request.with_headers(headers)
    name = context.new_key()
    attempts: list[Attempt] = []
    found: list[T] = []

    def attempt() -> CosyError | None:
        permit = context.endpoint.permit()
        error: CosyError | None = None
        # Twice: the second finishes a release that an interrupt has stopped.
        with permit, permit:
            context.endpoint.acquire(permit, deadline, context.closing)
            execution = Execution(context, permit, request, name=name, number=len(attempts) + 1, headers=headers)
            try:
                reply = execution.open(deadline=deadline)
                try:
                    found.append(decode(reply))
                finally:
                    reply.close()
            except CosyError as failure:
                execution.explain(failure)
                error = failure
            attempts.append(execution.finish(error))
        if error is not None and error.sent and not (repeatable or error.throttled):
            error.retryable = False
        return error

    RetryLoop(context, name).run(attempt, attempts, deadline=deadline)
    return found[0]
