"""The WebSocket transport: conversations over a bounded pool of sockets, each wait within the call's deadline."""

from __future__ import annotations

import queue
import random
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from cosyclient.clock import Cancellation
from cosyclient.errors import (
    BulkheadFull,
    ClientClosed,
    ConfigurationError,
    CosyError,
    DeadlineExceeded,
)
from cosyclient.transports.base import user_agent
from cosyclient.transports.dialer import Dialer
from cosyclient.transports.errors import translate
from cosyclient.transports.http.pool import Place, Places, lifetimes
from cosyclient.transports.network import Network, resolve_network
from cosyclient.transports.resolver import Resolver
from cosyclient.transports.sockets import Aborted, StepTimeouts
from cosyclient.wire import replace_headers

try:
    from websockets.uri import parse_uri

    from cosyclient.transports.websocket.connection import WebSocket
    from cosyclient.transports.websocket.messages import Refused
    from cosyclient.transports.websocket.reply import Conversation, Refusal
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


class WebSocketTransport:
    """Hold conversations with one service, each on a socket of its own while it lasts.

    At most ``sizing.connections`` sockets. One is used again only if its conversation ended as it should and says so,
    for the same path, within the time the service keeps it; never after an error or a cancellation, for closing it is
    the one way to end a conversation at once. Safe to use from many threads; a forked child needs one of its own.
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
        self.max_bytes = wire.max_reply_bytes
        self._network = network or resolve_network(settings)
        self._clock = clock
        self._resolver = Resolver(clock)
        self._idle_limit = pool.idle_limit
        self._lifetime = lifetimes(pool.max_age, uniform)
        self._headers: list[tuple[str, str]] = [("User-Agent", user_agent())]
        if settings.api_key is not None:
            self._headers.append(("Authorization", settings.api_key.bearer()))
        self._places: Places[WebSocket] = Places(settings.sizing.connections, clock, pool.idle_limit)
        self.closed = False

    def send(
        self,
        request: WireRequest,
        *,
        deadline: Deadline,
        read_timeout: float,
        cancellation: Cancellation | None = None,
    ) -> WireReply:
        """Begin the conversation *request* holds and return it; a service that declines has an HTTP reply for it.

        Raises `BulkheadFull`, `ConnectFailed`, `AttemptTimeout`, `TransportError`, `DeadlineExceeded` or
        `ClientClosed`.
        """
        if self.closed:
            raise ClientClosed("the transport is closed")
        if request.new_session is None:
            raise TypeError("a request without a session cannot be sent over a WebSocket")
        left = deadline.remaining
        if not left:
            raise DeadlineExceeded("the deadline passed before the request was sent")
        steps = {"connect": self._connect, "read": read_timeout, "write": read_timeout, "pool": left}
        timeouts = StepTimeouts(self._clock, steps, deadline)
        cancellation = cancellation or Cancellation()
        place: Place[WebSocket] = Place()
        try:
            socket = self._borrow(place, request, timeouts)
            cancellation.on_cancel(socket.abort)
            if socket.is_closed:
                self._open(socket, request, timeouts, deadline)
            session = request.new_session()
            reply = Conversation(self, place, session, cancellation, deadline)
            reply.put(session.open)
            reply.flush()
            return reply
        except BaseException as error:
            try:
                self.release(place, cancellation, reusable=False)
            except BaseException:
                self.release(place, cancellation, reusable=False)
                raise
            if not isinstance(error, Refused):
                raise
            response = error.response
            return Refusal(response.status_code, list(response.headers.raw_items()), bytes(response.body))

    def stats(self) -> PoolStats:
        """Return a snapshot of the sockets."""
        return self._places.stats()

    def close(self) -> None:
        """Close every socket; whoever waits for one, or listens to one, gets `ClientClosed`."""
        self.closed = True
        idle, lent = self._places.shut()
        for connection in idle:
            connection.close()
        for connection in lent:
            connection.abort()

    def _borrow(self, place: Place[WebSocket], request: WireRequest, timeouts: StepTimeouts) -> WebSocket:
        """Take *place*: with an open socket fit for *request*, or with one still to be opened."""
        try:
            self._places.take(place, timeouts.within_deadline(timeouts.pool))
        except (queue.Empty, TimeoutError) as error:
            if self.closed:
                raise ClientClosed("the transport was closed meanwhile") from error
            raise BulkheadFull("no socket came free in time") from error
        socket = place.connection
        try:
            uri, purpose = self._target(request)
            if socket is not None:
                worn = socket.worn(self._clock.now(), self._idle_limit)
                if worn or socket.purpose != purpose or not socket.is_idle():
                    socket.close()
            if socket is None or socket.is_closed:
                opened = 0 if socket is None else socket.opened
                socket = self._make(uri)
                socket.opened, socket.purpose = opened, purpose
            socket.timeouts = timeouts
            self._places.fill(place, socket)
        except Aborted as error:
            raise ClientClosed("the transport was closed meanwhile") from error
        return socket

    def _open(self, socket: WebSocket, request: WireRequest, timeouts: StepTimeouts, deadline: Deadline) -> None:
        try:
            socket.open(replace_headers(self._headers, request.headers), timeouts)
        except CosyError:
            raise
        except TimeoutError as error:
            raise self.translated(httpx.ConnectTimeout(f"no connection in time: {error}"), deadline) from error
        except (OSError, UnicodeError) as error:
            shown = httpx.ConnectError(str(error)[:200] or type(error).__name__)
            shown.__cause__ = error
            raise self.translated(shown, deadline) from error
        socket.worn_at = self._clock.now() + self._lifetime()

    def translated(self, error: Exception, deadline: Deadline) -> CosyError:
        """Return what the wire's *error* means to a caller whose call ends at *deadline*."""
        if self.closed:
            return ClientClosed("the transport was closed meanwhile")
        translated = translate(error, deadline)
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            translated.args = (f"{self._base_url}: {translated}",)
        return translated

    def release(self, place: Place[WebSocket], cancellation: Cancellation, *, reusable: bool) -> None:
        """Take *place* back from a conversation, its socket open if it is *reusable*; again does nothing."""
        cancellation.on_cancel(None)
        if (socket := place.connection) is not None:
            socket.idle_since = self._clock.now()
        self._places.give_back(place, reusable=reusable)

    def forget(self, place: Place[WebSocket]) -> None:
        """Take *place* back from a finalizer, which must not wait for a lock."""
        self._places.orphans.append(place)

    def _target(self, request: WireRequest) -> tuple[str, object]:
        path = request.path.lstrip("/")
        # Services print their whole address, path included, where others name the host.
        told = urlsplit(self._base_url).path.strip("/")
        uri = self._base_url if told and (told == path or told.endswith("/" + path)) else f"{self._base_url}/{path}"
        return uri, (uri, request.headers)

    def _make(self, uri: str) -> WebSocket:
        parsed = parse_uri(uri)
        dialer = Dialer(
            parsed.host, parsed.port, tls=self._network.tls, proxy=self._network.proxy, resolver=self._resolver
        )
        return WebSocket(parsed, dialer=dialer, clock=self._clock, max_bytes=self.max_bytes)

    def __repr__(self) -> str:
        stats = self.stats()
        state = "closed" if self.closed else f"{stats.in_use} in use, {stats.idle} idle of {stats.limit}"
        return f"<WebSocketTransport {self._base_url} {state}, {stats.opened} opened>"
