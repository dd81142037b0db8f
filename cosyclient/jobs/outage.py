"""Whether the service is down: since when, why, and how long a job has waited for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from cosyclient.jobs.stopping import describe_error, service_failure_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.errors import CosyError

REPEAT_INTERVAL: Final = 30.0
"""Seconds after which an announcement of a wait is repeated."""
_LATE_REPLY: Final = 2.0
"""Seconds after an outage began within which a speech may still be the reply to a request sent before it."""


class OutageState:
    """The state of one service, from a client's events and the results of texts; announces outages through *announce*.

    *max_wait* is how many seconds a job waits for the service. `begin` and `end` are called on the client's threads.
    """

    def __init__(self, max_wait: float, announce: Callable[[str], None]) -> None:
        self.max_wait = max_wait
        self.cause: CosyError | None = None
        """The last error that tells what is wrong with the service; an open breaker does not tell."""
        self._announce = announce
        self._down_since: float | None = None
        self._announced_at = 0.0

    @property
    def is_down(self) -> bool:
        """Return whether the service is down."""
        return self._down_since is not None

    @property
    def waited_long_enough(self) -> bool:
        """Return whether the service has been down for as long as the job waits."""
        # A text that fails on its own makes the client wait too, but for a few seconds only.
        down_since = self._down_since
        return down_since is not None and time.monotonic() - down_since >= 0.9 * self.max_wait

    def observe(self, error: CosyError) -> None:
        """Keep what *error*, of an attempt or a text, tells about the service."""
        self.cause = service_failure_in(error) or self.cause

    def begin(self, error: CosyError) -> None:
        """Record that the service is down because of *error*."""
        self._down_since = self._announced_at = time.monotonic()
        self.observe(error)

    def announce_wait(self, error: CosyError) -> None:
        """Announce that the job waits for the service, if it does; *error* is the reason where none is known."""
        if self.max_wait:
            reason = describe_error(self.cause or error)
            self._announce(f"waiting for the service, {self.max_wait:g} s at most (--wait-for-service): {reason}")

    def announce_again(self) -> None:
        """Announce a wait that goes on, if the last announcement is `REPEAT_INTERVAL` seconds old."""
        down_since, now = self._down_since, time.monotonic()
        if down_since is not None and now - self._announced_at > REPEAT_INTERVAL - 1.0:
            self._announced_at = now
            self._announce(f"still waiting for the service, {now - down_since:.0f} s by now")

    def end(self) -> None:
        """Record and announce that the service answers again."""
        down_since, self._down_since = self._down_since, None
        if down_since is not None:
            self._announce(f"the service answers again, after {time.monotonic() - down_since:.0f} s")

    def end_by_speech(self) -> None:
        """End the outage because a speech came, unless it may be a reply to a request sent before the outage."""
        down_since = self._down_since
        if down_since is not None and time.monotonic() - down_since > _LATE_REPLY:
            self.end()
