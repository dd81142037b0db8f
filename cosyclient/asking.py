"""Ask a service something that is no speech, within the same policies: which voices it has."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from cosyclient.errors import Attempt, CosyError
from cosyclient.persisting import persist

if TYPE_CHECKING:
    from cosyclient.call import Caller
    from cosyclient.clock import Deadline
    from cosyclient.protocols.base import ListingProtocol


def voices(caller: Caller, protocol: ListingProtocol, deadline: Deadline) -> list[str]:
    """Return the names of the service's voices."""
    clock, request = caller.clock, protocol.encode_voices()
    attempts: list[Attempt] = []
    found: list[str] = []

    def attempt() -> CosyError | None:
        grant = caller.endpoint.grant(deadline, caller.closing)
        error: CosyError | None = None
        started = clock.now()
        try:
            grant.start(started, retry=bool(attempts), seconds=0.0)
            reply = grant.endpoint.transport.send(
                request, deadline=deadline, read_timeout=caller.timeouts.of_reads(0.0)
            )
            try:
                found[:] = protocol.decode_voices(reply, wall=clock.wall())
            finally:
                reply.close()
        except CosyError as refused:
            error = refused
        except BaseException:
            grant.cancel()
            raise
        now = clock.now()
        grant.settle(error, now)
        attempts.append(Attempt(len(attempts) + 1, caller.endpoint.name, started, now - started, error))
        return error

    persist(caller, attempt, attempts, deadline=deadline, name=uuid.uuid4().hex)
    return found
