"""An httpx transport over urllib3 pools: its cost does not grow with its size, and the deadline bounds every wait.

`HttpTransport` uses it without httpx; it also serves as the transport of any ``httpx.Client``.
"""

from __future__ import annotations

import queue
import random
import threading
from http.client import HTTPException
from typing import TYPE_CHECKING, Final, TypeAlias

import httpx

from cosyclient.clock import Cancellation, SystemClock
from cosyclient.transports.base import PoolStats
from cosyclient.transports.dialer import Dialer
from cosyclient.transports.errors import TransportClosed
from cosyclient.transports.http.head import RawRequest, encode_request
from cosyclient.transports.http.pool import Pool
from cosyclient.transports.http.response import READ_ERRORS, RawReply
from cosyclient.transports.pooled_connection import lifetime_sampler
from cosyclient.transports.resolver import Resolver
from cosyclient.transports.slots import Slot
from cosyclient.transports.sockets import StepTimeouts
from cosyclient.transports.tls import Verify, tls_context
from cosyclient.transports.tunnels import ProxyRefused, refused_by_status

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from cosyclient.clock import Clock
    from cosyclient.config.proxy import Proxy
    from cosyclient.transports.http.connection import Connection
    from cosyclient.transports.slots import ConnectionSlots

# A read takes what has come, up to this. Each gives up the interpreter and competes with every other thread to get it
# back, so a busy client needs few: 64 KiB cost 1,500 calling threads a fifth of their speed.
_PIECE_BYTES: Final = 256 << 10
# Content of a known length up to this is read in one piece, which the decoder can decode at once, if it comes within so
# many seconds: early results of a slow line are not held back. The pieces under way at once take so many bytes at most,
# but for short ones, which hardly matter.
_AT_ONCE_BYTES: Final = 4 << 20
_AT_ONCE_SECONDS: Final = 0.05
_AT_ONCE_TOTAL_BYTES: Final = 64 << 20
_SHORT_BYTES: Final = 64 << 10
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PROXY_AUTHENTICATION_REQUIRED: Final = 407

Origin: TypeAlias = "tuple[str, bytes, int | None]"
"""Scheme, host, and a port that is not the scheme's own."""


class Urllib3Transport(httpx.BaseTransport):
    """Send httpx requests through a urllib3 pool per origin of at most *connections* each.

    Understands the extensions ``timeout`` (httpx's own), ``deadline`` (a `cosyclient.clock.Deadline`) and
    ``cancellation`` (a `cosyclient.clock.Cancellation`): no wait outlasts any of them, not even for a header or a body
    that comes byte by byte. A reply not read to its end closes its connection. Connections idle for more than
    *idle_limit* seconds or older than *max_age* (±20 %) are not used again. A request on a connection that turns out to
    have been closed is sent once more on a new one, if no byte of a reply came. *verify* is True, False, the path of a
    CA file or directory, or a context of the caller's. All requests go through *proxy*. Safe to use from many threads;
    a forked child needs a transport of its own.
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
        # An HTTP proxy forwards plain requests; everything else goes through tunnels.
        self._forward_proxy = proxy if proxy is not None and proxy.scheme == "http" else None
        self._idle_limit = idle_limit
        self._lifetime = lifetime_sampler(max_age, uniform)
        # Guards the making of the context, which reads the CA file (30 ms); nothing else waits for it.
        self._tls_lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        # Guards the two fields below.
        self._lock = threading.Lock()
        self._pools: dict[Origin, Pool] = {}
        self._closed = False
        # By the id of the stream that reads them. Without a lock, which a finalizer must not wait for: two threads that
        # look at the sum at the same time may exceed it by a piece.
        self.bytes_at_once: dict[int, int] = {}
        _keep_freed_memory()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request* and return its response once status and headers have come; raises httpx's exceptions."""
        extensions = request.extensions
        stream = self.exchange(
            origin_of(request.url),
            encode_request(request),
            StepTimeouts(self._clock, extensions.get("timeout") or {}, extensions.get("deadline")),
            extensions.get("cancellation"),
        )
        # If httpx raises from here on, the stream's finalizer releases the slot.
        return httpx.Response(
            stream.reply.status,
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in stream.reply.fields],
            stream=stream,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": stream.reply.reason.encode("latin-1")},
        )

    def exchange(
        self,
        origin: Origin,
        request: RawRequest,
        timeouts: StepTimeouts,
        cancellation: Cancellation | None,
    ) -> ResponseStream:
        """Send *request* to *origin* and return its reply's content once status and headers have come.

        It does what `handle_request` does, without httpx's requests, responses and headers, and raises the same.
        """
        forward_proxy = None if origin[0] != "http" else self._forward_proxy
        if forward_proxy is not None:
            request = in_absolute_form(request, origin, forward_proxy)
        pool = self._pool(origin)
        cancellation = cancellation or Cancellation()
        slot: Slot[Connection] = Slot()
        try:
            try:
                connection = pool.acquire(slot, timeouts)
            except (queue.Empty, OSError) as error:
                raise self.error_or_closed(httpx.PoolTimeout("no connection came free in time")) from error
            cancellation.on_cancel(connection.abort)
            reply = self._exchange(connection, request)
            if forward_proxy is not None and reply.status == _PROXY_AUTHENTICATION_REQUIRED:
                raise self.error_or_closed(proxy_error(refused_by_status(forward_proxy, reply.status, reply.reason)))
            stream = ResponseStream(self, pool.slots, slot, reply, cancellation)
            if reply.done:
                stream.close()
            return stream
        except BaseException:
            try:
                _abandon(pool.slots, slot, cancellation)
            except BaseException:
                _abandon(pool.slots, slot, cancellation)
                raise
            raise

    def may_read_at_once(self, stream: ResponseStream, size_bytes: int | None) -> bool:
        """Return whether *stream* may read the content that remains as one piece; it is counted in `bytes_at_once`."""
        if size_bytes is None or size_bytes > _AT_ONCE_BYTES:
            return False
        if size_bytes <= _SHORT_BYTES:
            return True
        if sum(tuple(self.bytes_at_once.values())) + size_bytes > _AT_ONCE_TOTAL_BYTES:
            return False
        self.bytes_at_once[id(stream)] = size_bytes
        return True

    def stats(self) -> PoolStats:
        """Return a snapshot over all origins; ``limit`` holds for each of them."""
        with self._lock:
            pools = [pool.slots.stats() for pool in self._pools.values()]
        return PoolStats(
            in_use=sum(stats.in_use for stats in pools),
            idle=sum(stats.idle for stats in pools),
            opened=sum(stats.opened for stats in pools),
            limit=self._connections,
        )

    def close(self) -> None:
        """Close every connection; a thread that waits for one, or reads from one, gets `TransportClosed`."""
        with self._lock:
            self._closed = True
            pools = list(self._pools.values())
        for pool in pools:
            pool.slots.close()

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
                    tls=self._tls_context() if scheme == "https" else None,
                    proxy=self._proxy,
                    tunnel=scheme == "https" or self._forward_proxy is None,
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

    def _tls_context(self) -> ssl.SSLContext:
        with self._tls_lock:
            if self._tls is None:
                self._tls = tls_context(self._verify)
            return self._tls

    def _exchange(self, connection: Connection, request: RawRequest) -> RawReply:
        fresh = connection.is_closed
        try:
            return self._send(connection, request)
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            # The server closed the idle connection just before this request and cannot have answered it: the request is
            # sent once more, on a new connection and within the same deadline.
            if fresh or not (isinstance(request.content, bytes) and connection.nothing_received) or self._closed:
                raise
        connection.close()
        return self._send(connection, request)

    def _send(self, connection: Connection, request: RawRequest) -> RawReply:
        if connection.is_closed:
            try:
                connection.connect()
            except ProxyRefused as error:
                raise self.error_or_closed(proxy_error(error)) from error
            except TimeoutError as error:
                raise self.error_or_closed(httpx.ConnectTimeout(f"no connection in time: {error}")) from error
            except (OSError, UnicodeError) as error:
                raise self.error_or_closed(httpx.ConnectError(str(error) or type(error).__name__)) from error
        unsent: OSError | None = None
        try:
            connection.write_request(request)
        except TimeoutError as error:
            raise self.error_or_closed(httpx.WriteTimeout(f"the request was not taken in time: {error}")) from error
        except OSError as error:
            # A server may refuse a request before it has read all of it; its reply can then still be read.
            unsent = error
        try:
            reply = connection.read_reply(request.method)
        except READ_ERRORS as error:
            if unsent is not None:
                raise self.error_or_closed(httpx.WriteError(str(unsent))) from unsent
            raise self.read_error(error) from error
        reply.reusable = reply.reusable and unsent is None
        return reply

    def read_error(self, error: Exception) -> httpx.TransportError:
        """Return the httpx exception for *error*, one of `READ_ERRORS`."""
        if isinstance(error, TimeoutError):
            return self.error_or_closed(httpx.ReadTimeout(f"nothing came in time: {error}"))
        if isinstance(error, OSError) and not isinstance(error, HTTPException):
            return self.error_or_closed(httpx.ReadError(str(error) or type(error).__name__))
        return self.error_or_closed(httpx.RemoteProtocolError(f"{type(error).__name__}: {str(error)[:200]}"))

    def error_or_closed(self, error: httpx.TransportError) -> httpx.TransportError:
        """Return *error*, or `TransportClosed` once the transport is closed: closing is then the cause of any error."""
        return TransportClosed("the transport was closed meanwhile") if self._closed else error

    def __repr__(self) -> str:
        stats = self.stats()
        state = "closed" if self._closed else f"{stats.in_use} in use, {stats.idle} idle of {stats.limit}"
        return f"<Urllib3Transport {state}, {stats.opened} opened>"


def _keep_freed_memory() -> None:
    """Have glibc keep up to 16 MiB of freed memory for the next replies, in each of its arenas.

    It keeps twice the size of the largest block that was freed as a mapping of its own (mallopt(3), M_TRIM_THRESHOLD):
    here one that is never touched, so it costs no memory. With 3 MB, after replies of 1.6 MB, it hands the audio of
    each back to the system, which clears every page for the next: synthesize_many took 37 µs a text in place of 27.
    Other allocators have rules of their own, and nothing changes.
    """
    bytes(8 << 20)


def proxy_error(error: ProxyRefused) -> httpx.ProxyError:
    """Return the httpx exception for *error*, which becomes its cause."""
    translated = httpx.ProxyError(str(error))
    translated.__cause__ = error
    return translated


def in_absolute_form(request: RawRequest, origin: Origin, proxy: Proxy) -> RawRequest:
    """Return *request* for a forwarding *proxy*: its target is the whole address (RFC 9112, 3.2.2)."""
    scheme, host, port = origin
    authority = b"[%b]" % host if b":" in host else host
    authority = authority if port is None else b"%b:%d" % (authority, port)
    method, target, rest = request.head.split(b" ", 2)
    line, fields = rest.split(b"\r\n", 1)
    if proxy.authorization is not None:
        fields = b"Proxy-Authorization: %b\r\n%b" % (proxy.authorization, fields)
    head = b"%b %b://%b%b %b\r\n%b" % (method, scheme.encode("ascii"), authority, target, line, fields)
    return request._replace(head=head)


def _abandon(slots: ConnectionSlots[Connection], slot: Slot[Connection], cancellation: Cancellation) -> None:
    cancellation.on_cancel(None)
    slots.release(slot, reusable=False)


def origin_of(url: httpx.URL) -> Origin:
    """Return the origin of *url*: requests to one origin share connections."""
    return url.scheme, url.raw_host, url.port


class ResponseStream(httpx.SyncByteStream):
    """Yield a reply's content as it arrives, and release its connection when the end is known."""

    def __init__(
        self,
        transport: Urllib3Transport,
        slots: ConnectionSlots[Connection],
        slot: Slot[Connection],
        reply: RawReply,
        cancellation: Cancellation,
    ) -> None:
        # First, for the finalizer.
        self._slots = slots
        self._slot = slot
        self._transport = transport
        self.reply = reply
        self._cancellation = cancellation
        self._reader: int | None = None
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            at_once = self._transport.may_read_at_once(self, self.reply.plain_bytes)
            while not self.reply.done:
                if piece := self._read(at_once=at_once):
                    yield piece
                at_once = False
        finally:
            self._transport.bytes_at_once.pop(id(self), None)

    def _read(self, *, at_once: bool) -> bytes:
        # First publish the reader, then look at the flag; after the read, unpublish it and look again. `close` sets
        # the flag before it looks for a reader. So one of the two threads releases the connection, never neither.
        self._reader = threading.get_ident()
        try:
            if self._closed:
                # The reader must not take this for the content's end.
                raise self._transport.error_or_closed(httpx.ReadError("the response was closed before its end"))
            piece = self.reply.read_at_once(_AT_ONCE_SECONDS) if at_once else self.reply.read1(_PIECE_BYTES)
        except READ_ERRORS as error:
            self.close()
            raise self._transport.read_error(error) from error
        except BaseException:
            self.close()
            raise
        finally:
            self._reader = None
        if self._closed or self.reply.isclosed():
            # The slot is free with the last byte, however long the caller takes with the response.
            self.close()
        return piece

    def close(self) -> None:
        """Release the connection: open if its reply was read to its end, closed otherwise.

        While another thread reads from it, the connection is only aborted; that thread wakes and releases it.
        """
        slot = self._slot
        if not slot.held:
            return
        self._closed = True
        if self._reader not in (None, threading.get_ident()):
            if (connection := slot.connection) is not None:
                connection.abort()
            return
        self._cancellation.on_cancel(None)
        self._slots.release(slot, reusable=self.reply.done and self.reply.reusable)

    def __del__(self) -> None:
        # An interrupt in __init__ leaves it without a slot.
        if (slot := getattr(self, "_slot", None)) is not None and slot.held:
            self._slots.dropped.append(slot)
