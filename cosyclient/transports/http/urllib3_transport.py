"""An httpx transport over urllib3 pools: flat cost at any size, every wait bounded by the call's deadline."""

from __future__ import annotations

import queue
import random
import threading
from dataclasses import replace
from http.client import HTTPException
from typing import TYPE_CHECKING, Final, TypeAlias

import httpx

from cosyclient.clock import Cancellation, SystemClock
from cosyclient.transports.base import PoolStats
from cosyclient.transports.dialer import Dialer
from cosyclient.transports.http.head import Outgoing, outgoing
from cosyclient.transports.http.pool import Place, Pool, lifetimes
from cosyclient.transports.http.response import BROKEN, Reply
from cosyclient.transports.resolver import Resolver
from cosyclient.transports.sockets import StepTimeouts
from cosyclient.transports.tls import Verify, tls_context
from cosyclient.transports.tunnels import ProxyRefused, refused_by_status

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    from cosyclient.clock import Clock, Deadline
    from cosyclient.config.proxy import Proxy
    from cosyclient.transports.http.connection import Connection

# A read takes what is there, up to this. Each one gives up the interpreter and has to win it back from every other
# thread, so a busy client wants few: 64 KiB cost 1,500 calling threads a fifth of their speed.
_PIECE_BYTES: Final = 256 << 10
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PROXY_REFUSES: Final = 407

Origin: TypeAlias = "tuple[str, bytes, int | None]"
"""Scheme, host, and a port that is not the scheme's own."""


class TransportClosed(httpx.TransportError):
    """Tell that the transport was closed before, or while, the request was under way."""


class Urllib3Transport(httpx.BaseTransport):
    """Send httpx requests through a urllib3 pool per origin of at most *connections* each.

    Understands the extensions ``timeout`` (httpx's own), ``deadline`` (a `cosyclient.clock.Deadline`) and
    ``cancellation`` (a `cosyclient.clock.Cancellation`): no wait outlasts any of them, not even for a header or a body
    that drips byte by byte. A reply not read to its end closes its connection. Connections idle for more than
    *idle_limit* seconds or older than *max_age* (±20 %) are not used again; one that turns out to have been closed
    meanwhile is replaced once, unseen, if no byte of a reply came. *verify* is True, False, the path of a CA file or
    directory, or a context of your own; *proxy* is what all requests go through. Safe to use from many threads; a
    forked child needs a transport of its own.
    """

    def __init__(
        self,
        *,
        connections: int = 50,
        verify: Verify = True,
        proxy: Proxy | None = None,
        idle_limit: float = 4.0,
        max_age: float = 300.0,
        uniform: Callable[[float, float], float] = random.uniform,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._connections = connections
        self._resolver = Resolver(self._clock)
        self._verify = verify
        self._proxy = proxy
        # An HTTP proxy passes plain requests on; all else goes through tunnels.
        self._forwarder = proxy if proxy is not None and proxy.scheme == "http" else None
        self._idle_limit = idle_limit
        self._lifetime = lifetimes(max_age, uniform)
        # Guards the making of the context, which reads the CA file once (30 ms); nothing else waits for it.
        self._tls_lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        # Guards the two fields below.
        self._lock = threading.Lock()
        self._pools: dict[Origin, Pool] = {}
        self._closed = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request* and return its response once status and headers are there; raises httpx's exceptions."""
        extensions = request.extensions
        content = self.exchange(
            origin_of(request.url),
            outgoing(request),
            timeout=extensions.get("timeout") or {},
            deadline=extensions.get("deadline"),
            cancellation=extensions.get("cancellation"),
        )
        # Should anything go wrong from here on, in httpx for example, dropping the content frees its place.
        return httpx.Response(
            content.reply.status,
            headers=content.reply.fields,
            stream=content,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": content.reply.reason.encode("latin-1")},
        )

    def exchange(
        self,
        origin: Origin,
        request: Outgoing,
        *,
        timeout: Mapping[str, float | None],
        deadline: Deadline | None,
        cancellation: Cancellation | None,
    ) -> Content:
        """Send *request* to *origin* and return the content of its reply once status and headers are there.

        What `handle_request` does, without httpx's requests, responses and headers; raises the same exceptions.
        """
        forwarder = None if origin[0] != "http" else self._forwarder
        if forwarder is not None:
            request = through_proxy(request, origin, forwarder)
        timeouts = StepTimeouts(self._clock, timeout, deadline)
        pool = self._pool(origin)
        cancellation = cancellation or Cancellation()
        place: Place[Connection] = Place()
        try:
            try:
                connection = pool.borrow(place, timeouts)
            except (queue.Empty, OSError) as error:
                raise self._failure(httpx.PoolTimeout("no connection came free in time")) from error
            cancellation.on_cancel(connection.abort)
            reply = self._exchange(connection, request)
            if forwarder is not None and reply.status == _PROXY_REFUSES:
                raise self._failure(proxy_error(refused_by_status(forwarder, reply.status, reply.reason)))
            content = Content(self, pool, place, reply, cancellation)
            if reply.done:
                content.close()
            return content
        except BaseException:
            try:
                _break_off(pool, place, cancellation)
            except BaseException:
                _break_off(pool, place, cancellation)
                raise
            raise

    def stats(self) -> PoolStats:
        """Return a snapshot over all origins; ``limit`` holds for each of them."""
        with self._lock:
            each = [pool.pool.stats() for pool in self._pools.values()]
        return PoolStats(
            in_use=sum(stats.in_use for stats in each),
            idle=sum(stats.idle for stats in each),
            opened=sum(stats.opened for stats in each),
            limit=self._connections,
        )

    def close(self) -> None:
        """Close every connection; whoever waits for one, or reads from one, gets `TransportClosed`."""
        with self._lock:
            self._closed = True
            pools = list(self._pools.values())
        for pool in pools:
            pool.shut()

    def _pool(self, origin: Origin) -> Pool:
        pool = self._pools.get(origin)
        if pool is None:
            scheme, host, port = origin
            if scheme not in _DEFAULT_PORTS:
                raise httpx.UnsupportedProtocol(f"the URL must start with http:// or https://, not {scheme!r}")
            fresh = Pool(
                Dialer(
                    host.decode("ascii"),
                    port or _DEFAULT_PORTS[scheme],
                    tls=self._context() if scheme == "https" else None,
                    proxy=self._proxy,
                    tunnel=scheme == "https" or self._forwarder is None,
                    resolver=self._resolver,
                ),
                connections=self._connections,
                idle_limit=self._idle_limit,
                lifetime=self._lifetime,
                clock=self._clock,
            )
            with self._lock:
                pool = self._pools.setdefault(origin, fresh)
        if self._closed:
            raise TransportClosed("the transport is closed")
        return pool

    def _context(self) -> ssl.SSLContext:
        with self._tls_lock:
            if self._tls is None:
                self._tls = tls_context(self._verify)
            return self._tls

    def _exchange(self, connection: Connection, request: Outgoing) -> Reply:
        fresh = connection.is_closed
        try:
            return self._send(connection, request)
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            # The server closed the idle connection just before we used it and cannot have answered: once, within the
            # same deadline, a fresh one is tried.
            if fresh or not (isinstance(request.content, bytes) and connection.untouched) or self._closed:
                raise
        connection.close()
        return self._send(connection, request)

    def _send(self, connection: Connection, request: Outgoing) -> Reply:
        if connection.is_closed:
            try:
                connection.connect()
            except ProxyRefused as error:
                raise self._failure(proxy_error(error)) from error
            except TimeoutError as error:
                raise self._failure(httpx.ConnectTimeout(f"no connection in time: {error}")) from error
            except (OSError, UnicodeError) as error:
                raise self._failure(httpx.ConnectError(str(error) or type(error).__name__)) from error
        unsent: OSError | None = None
        try:
            connection.dispatch(request)
        except TimeoutError as error:
            raise self._failure(httpx.WriteTimeout(f"the request was not taken in time: {error}")) from error
        except OSError as error:
            # A server may refuse a request before it has read it all; its answer is then still to be had.
            unsent = error
        try:
            reply = connection.answer(request.method)
        except BROKEN as error:
            if unsent is not None:
                raise self._failure(httpx.WriteError(str(unsent))) from unsent
            raise self._read_failure(error) from error
        reply.reusable = reply.reusable and unsent is None
        return reply

    def _read_failure(self, error: Exception) -> httpx.TransportError:
        if isinstance(error, TimeoutError):
            return self._failure(httpx.ReadTimeout(f"nothing came in time: {error}"))
        if isinstance(error, OSError) and not isinstance(error, HTTPException):
            return self._failure(httpx.ReadError(str(error) or type(error).__name__))
        return self._failure(httpx.RemoteProtocolError(f"{type(error).__name__}: {str(error)[:200]}"))

    def _failure(self, error: httpx.TransportError) -> httpx.TransportError:
        # Whatever goes wrong once we are closed went wrong because of it.
        return TransportClosed("the transport was closed meanwhile") if self._closed else error

    def __repr__(self) -> str:
        stats = self.stats()
        state = "closed" if self._closed else f"{stats.in_use} in use, {stats.idle} idle of {stats.limit}"
        return f"<Urllib3Transport {state}, {stats.opened} opened>"


def proxy_error(error: ProxyRefused) -> httpx.ProxyError:
    """Return what httpx calls this *error*, which is its cause."""
    shown = httpx.ProxyError(str(error))
    shown.__cause__ = error
    return shown


def through_proxy(request: Outgoing, origin: Origin, proxy: Proxy) -> Outgoing:
    """Return *request* as a *proxy* wants it: with the whole address for a target (RFC 9112, 3.2.2)."""
    scheme, host, port = origin
    where = b"[%b]" % host if b":" in host else host
    where = where if port is None else b"%b:%d" % (where, port)
    method, target, rest = request.head.split(b" ", 2)
    line, fields = rest.split(b"\r\n", 1)
    if proxy.authorization is not None:
        fields = b"Proxy-Authorization: %b\r\n%b" % (proxy.authorization, fields)
    head = b"%b %b://%b%b %b\r\n%b" % (method, scheme.encode("ascii"), where, target, line, fields)
    return replace(request, head=head)


def _break_off(pool: Pool, place: Place[Connection], cancellation: Cancellation) -> None:
    cancellation.on_cancel(None)
    pool.give_back(place, reusable=False)


def origin_of(url: httpx.URL) -> Origin:
    """Return what decides which connections *url* may use."""
    return url.scheme, url.raw_host, url.port


class Content(httpx.SyncByteStream):
    """Hand out a reply's content as it arrives, and the connection back when its end is known."""

    def __init__(
        self,
        transport: Urllib3Transport,
        pool: Pool,
        place: Place[Connection],
        reply: Reply,
        cancellation: Cancellation,
    ) -> None:
        # First, for the finalizer.
        self._pool = pool
        self._place = place
        self._transport = transport
        self.reply = reply
        self._cancellation = cancellation
        self._reader: int | None = None
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        while not self.reply.done:
            # First publish the reader, then look at the flag; after the read, unpublish it and look again. `close` sets
            # the flag before it looks for a reader. So one of the two threads gives the connection back, never neither.
            self._reader = threading.get_ident()
            try:
                if self._closed:
                    # An end that we made ourselves must not pass for the end of the content.
                    raise self._transport._failure(httpx.ReadError("the response was closed before its end"))
                piece = self.reply.read1(_PIECE_BYTES)
            except BROKEN as error:
                self.close()
                raise self._transport._read_failure(error) from error
            except BaseException:
                self.close()
                raise
            finally:
                self._reader = None
            if self._closed or self.reply.isclosed():
                # The place is free with the last byte; the reader of the response may take its time.
                self.close()
            if piece:
                yield piece

    def close(self) -> None:
        """Give the connection back: open if its reply was read whole, closed otherwise.

        While another thread reads from it the connection is only shut down; that thread wakes and gives it back.
        """
        place = self._place
        if not place.held:
            return
        self._closed = True
        if self._reader not in (None, threading.get_ident()):
            if (connection := place.connection) is not None:
                connection.abort()
            return
        self._cancellation.on_cancel(None)
        self._pool.give_back(place, reusable=self.reply.done and self.reply.reusable)

    def __del__(self) -> None:
        # One whose making was interrupted has none.
        if (place := getattr(self, "_place", None)) is not None and place.held:
            self._pool.pool.orphans.append(place)
