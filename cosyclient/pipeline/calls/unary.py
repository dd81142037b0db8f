"""Ask a service for something that is no speech, within the same policies: which voices it has, to keep another."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final, TypeVar

from cosyclient.endpoints.endpoint import Permit
from cosyclient.errors import Attempt, CosyError
from cosyclient.pipeline.calls.retrying import persist

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.clock import Deadline
    from cosyclient.pipeline.calls.batch_call import CallContext
    from cosyclient.wire import WireReply, WireRequest

T = TypeVar("T")

_PROTOCOLS: Final = frozenset({"accept", "content-type"})
"""Header fields that are no caller's, and no secret."""


def call_unary(
    context: CallContext,
    request: WireRequest,
    decode: Callable[[WireReply], T],
    deadline: Deadline,
    *,
    repeatable: bool,
) -> T:
    """Return what *decode* makes of the reply to *request*.

    Tried again as policy allows; one that is not *repeatable* only if the service has certainly not heard it.
    """
    clock = context.clock
    attempts: list[Attempt] = []
    found: list[T] = []

    def attempt() -> CosyError | None:
        permit = Permit(context.endpoint)
        error: CosyError | None = None
        with permit, permit:
            context.endpoint.acquire(permit, deadline, context.closing)
            started = clock.now()
            try:
                permit.start(started, retry=bool(attempts), audio=0.0, time_limit=deadline.remaining)
                reply = permit.endpoint.transport.send(
                    request, deadline=deadline, read_timeout=context.timeouts.of_reads(0.0)
                )
                try:
                    found.append(decode(reply))
                finally:
                    reply.close()
            except CosyError as refused:
                told = [field for field in request.headers if field[0].lower() not in _PROTOCOLS]
                permit.endpoint.redact(refused, told)
                context.advice.add(refused, request)
                error = refused
            now = clock.now()
            permit.finish(error, now)
        attempts.append(Attempt(len(attempts) + 1, context.endpoint.name, started, now - started, error))
        if error is not None and error.sent and not (repeatable or error.throttled):
            error.retryable = False
        return error

    persist(context, attempt, attempts, deadline=deadline, name=uuid.uuid4().hex)
    return found[0]
