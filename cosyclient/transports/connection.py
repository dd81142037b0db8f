"""One connection of a pool, and the TLS context that connections share."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from urllib3.connection import HTTPConnection

from cosyclient.transports.guard import GuardedSocket, Severed, Spans, dial
from cosyclient.transports.reply_reader import Inbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.clock import Clock


class Connection(HTTPConnection):
    """Connect through `dial`, keep to the spans of the request at hand, and know one's own age."""

    def __init__(
        self, *args: Any, tls: ssl.SSLContext | None, clock: Clock, lifetime: Callable[[], float], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.spans: Spans
        self.inbox: Inbox
        self.guard: GuardedSocket | None = None
        self.severed = False
        self.opened = 0
        self.idle_since = 0.0
        self._tls = tls
        self._clock = clock
        self._lifetime = lifetime
        self._worn_at = 0.0

    def connect(self) -> None:
        """Open a guarded socket, TLS handshake included."""
        self.opened += 1
        guard = dial(self._dns_host, self.port, self.spans, tls=self._tls, opened=self._watch)
        self._worn_at = self._clock.now() + self._lifetime()
        self.inbox = Inbox(guard.recv)
        self.sock = guard

    def begin(self, spans: Spans) -> None:
        """Put the next request under *spans*."""
        self.spans = spans
        if self.guard is not None:
            self.guard.spans = spans
            self.guard.received = 0

    @property
    def untouched(self) -> bool:
        """Return whether no byte of the reply has come."""
        return self.guard is None or not self.guard.received

    @property
    def is_connected(self) -> bool:
        """Return whether the connection is open and nothing unasked for has arrived on it."""
        return self.sock is not None and self.inbox.empty and self.guard is not None and self.guard.quiet()

    def worn(self, now: float, idle_limit: float) -> bool:
        """Return whether this connection idled or lived too long to be used again."""
        return now - self.idle_since > idle_limit or now >= self._worn_at

    def sever(self) -> None:
        """Shut down whatever socket is in use, now or in a moment, so that its thread wakes."""
        self.severed = True
        if self.guard is not None:
            self.guard.sever()

    def _watch(self, guard: GuardedSocket) -> None:
        # First publish the socket, then look at the flag: sever() does it the other way round, so one of us acts.
        self.guard = guard
        if self.severed:
            raise Severed("shut down from our side")


def tls_context(verify: bool | str | ssl.SSLContext) -> ssl.SSLContext:
    """Return the context that *verify* asks for: True, False, the path of a CA file or directory, or itself."""
    if isinstance(verify, ssl.SSLContext):
        return verify
    if isinstance(verify, str):
        directory = Path(verify).is_dir()
        context = ssl.create_default_context(cafile=None if directory else verify, capath=verify if directory else None)
    else:
        context = httpx.create_ssl_context(verify=verify, trust_env=False)
    context.set_alpn_protocols(["http/1.1"])
    # Python tells OpenSSL to take a connection that was cut for one that was closed. Content without a length would
    # then end wherever somebody cuts it (RFC 9112, 9.8).
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context
