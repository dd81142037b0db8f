"""What all calls of one client share."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosyclient.audio.rate_check import SampleRateCheck
    from cosyclient.clock import Clock, Flag
    from cosyclient.config import TimeoutConfig
    from cosyclient.endpoints.endpoint import Endpoint
    from cosyclient.events import Events
    from cosyclient.pipeline.calls.hints import ErrorHints
    from cosyclient.policies.budget import RetryBudget
    from cosyclient.policies.retry import RetryPolicy
    from cosyclient.protocols.base import WireProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """Hold what batches, streams and unary calls have in common, so that each holds only what is its own.

    ``closing`` is set when a client that closes has drained, or at once if it does not: it ends the waits for permits
    and retries. `Admission.closed` is set before, and refuses what is new. ``rates`` checks sample rates where the
    service names none.
    """

    protocol: WireProtocol
    endpoint: Endpoint
    retry: RetryPolicy
    budget: RetryBudget
    timeouts: TimeoutConfig
    clock: Clock
    closing: Flag
    events: Events
    hints: ErrorHints
    rates: SampleRateCheck | None
    random: random.Random = field(default_factory=random.Random)

    def new_key(self) -> str:
        """Return 32 hexadecimal digits that no other call has, to know it by and as its idempotency key.

        Takes a third of the time of a ``uuid4``, and makes no system call, which would give up the interpreter. The
        instant tells apart processes that go on from one memory image, and would draw the same numbers.
        """
        return f"{self.random.getrandbits(64):016x}{int(self.clock.wall() * 1e9) % 2**64:016x}"
