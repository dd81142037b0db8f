"""The WebSocket transport: sessions over a bounded pool of WebSockets, each wait within the call's deadline.

For protocols that send a `cosyclient.wire.MessageSession`. It needs the websockets package.
"""

from __future__ import annotations

import queue
import random
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx

from cosyclient.clock import Cancellation
from cosyclient.errors import (
    BulkheadFull,
    ClientClosed,
    ConfigurationError,
    CosyError,
    DeadlineExceeded,
    DecodeError,
)
from cosyclient.transports.base import user_agent
from cosyclient.transports.dialer import Dialer
from cosyclient.transports.errors import translate
from cosyclient.transports.network import Network, resolve_network
from cosyclient.transports.pooled_connection import lifetime_sampler
from cosyclient.transports.resolver import Resolver
from cosyclient.transports.slots import ConnectionSlots, Slot
from cosyclient.transports.sockets import Aborted, StepTimeouts
from cosyclient.wire import replace_headers

try:
    from websockets.uri import parse_uri

    from cosyclient.transports.websocket.connection import WebSocket
    from cosyclient.transports.websocket.messages import HandshakeRefused
    from cosyclient.transports.websocket.reply import HandshakeReply, SessionReply
except ImportError as error:
    raise ConfigurationError(
        "this protocol is spoken over a WebSocket, which needs a package: pip install '.[model-studio]' in the checkout"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.clock import Clock, Deadline
    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.transports.base import PoolStats
    from cosyclient.wire import WireReply, WireRequest

_REDIRECTS: Final = 300
"""The first status of a reply that refuses a handshake by HTTP's own rules."""


class WebSocketTransport:
    """Run sessions with one service, each on a WebSocket of its own while it lasts.

    There are at most ``sizing.connections``. One is used again only if its session ended in good order and allows it,
    for the same path and headers, within the session's ``idle_limit``. After an error or a cancellation it is closed,
    which is the only way to end a session at once. Safe to use from many threads; a forked child needs its own.
    """

    def __init__(
        self,
        settings: ResolvedConfig,
        *,
        clock: Clock,
        network: Network | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        wire, pool = settings.config.wire, settings.config.pool
        self._base_url = settings.base_url
        self._connect = settings.config.timeouts.connect
        self.max_reply_bytes = wire.max_reply_bytes
        self._network = network or resolve_network(settings)
        self._clock = clock
        self._resolver = Resolver(clock)
        self._idle_limit = pool.idle_limit
        self._lifetime = lifetime_sampler(pool.max_age, uniform)
        self._headers: list[tuple[str, str]] = [("User-Agent", user_agent())]
        if settings.api_key is not None:
            self._headers.append(("Authorization", settings.api_key.bearer()))
        self.slots: ConnectionSlots[WebSocket] = ConnectionSlots(settings.sizing.connections, clock, pool.idle_limit)
        self.closed = False

    def send(
        self,
        request: WireRequest,
        *,
        deadline: Deadline,
        read_timeout: float,
        cancellation: Cancellation | None = None,
    ) -> WireReply:
        """Start the session of *request* and return its reply; a service that refuses has an HTTP reply instead.

        Raises `BulkheadFull`, `ConnectFailed`, `AttemptTimeout`, `TransportError`, `DeadlineExceeded`, `ClientClosed`,
        or `DecodeError` for a success over HTTP, which is no session.
        """
        if self.closed:
            raise ClientClosed("the transport is closed")
        if request.new_session is None:
            raise TypeError("a request without a session cannot be sent over a WebSocket")
        remaining = deadline.remaining
        if not remaining:
            raise DeadlineExceeded("the deadline passed before the request was sent")
        steps = {"connect": self._connect, "read": read_timeout, "write": read_timeout, "pool": remaining}
        timeouts = StepTimeouts(self._clock, steps, deadline)
        cancellation = cancellation or Cancellation()
        slot: Slot[WebSocket] = Slot()
        try:
            websocket = self._acquire(slot, request, timeouts)
            cancellation.on_cancel(websocket.abort)
            if websocket.is_closed:
                self._open(websocket, request, timeouts, deadline)
            session = request.new_session()
            reply = SessionReply(self, slot, session, cancellation, deadline)
            reply.enqueue(session.open)
            reply.flush()
            return reply
        except BaseException as error:
            try:
                self.release(slot, cancellation, reusable=False)
            except BaseException:
                self.release(slot, cancellation, reusable=False)
                raise
            if not isinstance(error, HandshakeRefused):
                raise
            status = error.response.status_code
            if status < _REDIRECTS:
                # Not an error reply, and not a session either: decoded, its body would pass for audio.
                raise DecodeError(
                    f"HTTP {status}: the handshake was answered without a WebSocket", retryable=True
                ) from error
            return HandshakeReply(error.response)

    def stats(self) -> PoolStats:
        """Return a snapshot of the connections."""
        return self.slots.stats()

    def close(self) -> None:
        """Close every connection; a thread that waits for one, or reads from one, gets `ClientClosed`."""
        self.closed = True
        self.slots.close()

    def _acquire(self, slot: Slot[WebSocket], request: WireRequest, timeouts: StepTimeouts) -> WebSocket:
        """Fill *slot*, and return its WebSocket: open and fit for *request*, or still to be opened."""
        try:
            self.slots.acquire(slot, timeouts.within_deadline(timeouts.pool))
        except (queue.Empty, TimeoutError) as error:
            if self.closed:
                raise ClientClosed("the transport was closed meanwhile") from error
            raise BulkheadFull("no connection came free in time") from error
        websocket = slot.connection
        try:
            uri = self._uri(request.path)
            reuse_key = (uri, request.headers)
            if websocket is not None:
                expired = websocket.expired(self._clock.now(), self._idle_limit)
                if expired or websocket.reuse_key != reuse_key or not websocket.is_idle():
                    websocket.close()
            if websocket is None or websocket.is_closed:
                opened = 0 if websocket is None else websocket.opened
                websocket = self._make(uri)
                websocket.opened, websocket.reuse_key = opened, reuse_key
            websocket.timeouts = timeouts
            self.slots.mark_in_use(slot, websocket)
        except Aborted as error:
            raise ClientClosed("the transport was closed meanwhile") from error
        return websocket

    def _open(self, websocket: WebSocket, request: WireRequest, timeouts: StepTimeouts, deadline: Deadline) -> None:
        try:
            websocket.open(replace_headers(self._headers, request.headers), timeouts)
        except CosyError:
            raise
        except TimeoutError as error:
            raise self.translate(httpx.ConnectTimeout(f"no connection in time: {error}"), deadline) from error
        except (OSError, UnicodeError) as error:
            failure = httpx.ConnectError(str(error)[:200] or type(error).__name__)
            failure.__cause__ = error
            raise self.translate(failure, deadline) from error

    def translate(self, error: Exception, deadline: Deadline) -> CosyError:
        """Return what *error*, one of `WIRE_ERRORS`, means to a caller whose call ends at *deadline*."""
        if self.closed:
            return ClientClosed("the transport was closed meanwhile")
        translated = translate(error, deadline)
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            translated.args = (f"{self._base_url}: {translated}",)
        return translated

    def release(self, slot: Slot[WebSocket], cancellation: Cancellation, *, reusable: bool) -> None:
        """Release *slot*, its WebSocket open if it is *reusable*; a second call does nothing."""
        cancellation.on_cancel(None)
        self.slots.release(slot, reusable=reusable)

    def _uri(self, path: str) -> str:
        path = path.lstrip("/")
        # Some services document their whole address, path included, where others document the host.
        base_path = urlsplit(self._base_url).path.strip("/")
        if base_path and (base_path == path or base_path.endswith("/" + path)):
            return self._base_url
        return f"{self._base_url}/{path}"

    def _make(self, uri: str) -> WebSocket:
        parsed = parse_uri(uri)
        dialer = Dialer(
            parsed.host, parsed.port, tls=self._network.tls, proxy=self._network.proxy, resolver=self._resolver
        )
        return WebSocket(
            parsed,
            dialer=dialer,
            clock=self._clock,
            lifetime=self._lifetime,
            max_reply_bytes=self.max_reply_bytes,
        )

    def __repr__(self) -> str:
        stats = self.stats()
        state = "closed" if self.closed else f"{stats.in_use} in use, {stats.idle} idle of {stats.limit}"
        return f"<WebSocketTransport {self._base_url} {state}, {stats.opened} opened>"
