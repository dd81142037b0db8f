"""The HTTP transport: over the library's own pool, or any httpx transport.

It turns a `WireRequest` into bytes, translates the exceptions of the wire, and yields replies decompressed and bounded.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

import httpx

from cosyclient.errors import ClientClosed, ConnectFailed, CosyError, DeadlineExceeded
from cosyclient.transports.base import PoolStats, user_agent
from cosyclient.transports.errors import WIRE_ERRORS, translate
from cosyclient.transports.http.content_coding import ContentDecoder
from cosyclient.transports.http.head import RawRequest, field_lines, request_line, text_lines
from cosyclient.transports.http.request_coding import RequestCompression
from cosyclient.transports.http.urllib3_transport import Urllib3Transport, origin_of
from cosyclient.transports.network import Network, resolve_network
from cosyclient.transports.sockets import StepTimeouts
from cosyclient.util.redaction import RedactedBytes
from cosyclient.wire import join_url, replace_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from cosyclient.clock import Cancellation, Clock, Deadline
    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.wire import WireRequest

_CACHED_PATHS: Final = 64
_EMPTY_STREAM: Final = httpx.ByteStream(b"")


class HttpTransport:
    """Carry requests to one service.

    *transport* may be any ``httpx.BaseTransport``; without one, a `Urllib3Transport` sized by *settings* is made. As
    with ``httpx.Client(transport=…)``, closing this one closes the given one too. Only `Urllib3Transport` bounds every
    wait by the deadline. Another gets what is left of it as the timeout of each operation, and the deadline is checked
    between pieces of the reply. A `Urllib3Transport` is called directly, which halves the cost of a request; any other
    is driven by an ``httpx.Client``.
    """

    def __init__(
        self,
        settings: ResolvedConfig,
        *,
        clock: Clock,
        network: Network | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        wire, pool = settings.config.wire, settings.config.pool
        if transport is None:
            network = network or resolve_network(settings)
            transport = Urllib3Transport(
                connections=settings.sizing.connections,
                verify=network.tls or settings.verify,
                proxy=network.proxy,
                idle_limit=pool.idle_limit,
                max_age=pool.max_age,
                clock=clock,
            )
        self._transport = transport
        # A subclass may override handle_request, so it gets its requests there.
        self._direct = transport if type(transport) is Urllib3Transport else None
        self._client = _CookielessClient(transport=transport, trust_env=False, follow_redirects=False)
        self._base_url = settings.base_url.rstrip("/")
        self._origin = origin_of(httpx.URL(self._base_url))
        self._connect = settings.config.timeouts.connect
        self.max_reply_bytes = wire.max_reply_bytes
        self._compression = RequestCompression(wire)
        self._headers: list[tuple[str, str]] = [("User-Agent", user_agent()), ("Accept-Encoding", "gzip")]
        if settings.api_key is not None:
            self._headers.append(("Authorization", settings.api_key.bearer()))
        self._names = frozenset(name.lower() for name, _ in self._headers)
        # Not bound methods: they would make a reference cycle, and a forked child could not drop the transport at once.
        self._url = lru_cache(maxsize=_CACHED_PATHS)(partial(_join, self._base_url))
        self._request_start = lru_cache(maxsize=_CACHED_PATHS)(
            partial(_request_start, self._url, _encoded(self._headers))
        )
        self._closed = False

    def send(
        self,
        request: WireRequest,
        *,
        deadline: Deadline,
        read_timeout: float,
        cancellation: Cancellation | None = None,
    ) -> HttpReply:
        """Send *request* and return its reply as soon as status and headers have come.

        Raises `BulkheadFull`, `ConnectFailed`, `AttemptTimeout`, `TransportError`, `DeadlineExceeded` or
        `ClientClosed`. Every status, redirects included, is a reply. When the service refuses a gzipped body, the
        request is sent again without gzip.
        """
        encoded = self._compression.encode(request)
        reply = self._send(encoded, deadline, read_timeout, cancellation)
        if self._compression.refused(reply.status, reply.headers, compressed=encoded is not request):
            reply.close()
            reply = self._send(request, deadline, read_timeout, cancellation)
        return reply

    def _send(
        self, request: WireRequest, deadline: Deadline, read_timeout: float, cancellation: Cancellation | None
    ) -> HttpReply:
        if self._closed:
            raise ClientClosed("the transport is closed")
        if deadline.expired:
            raise DeadlineExceeded("the deadline passed before the request was sent")
        try:
            if self._direct is not None:
                return self._send_directly(self._direct, request, read_timeout, deadline, cancellation)
            return self._through_httpx(request, read_timeout, deadline, cancellation)
        except CosyError:
            # Among them DeadlineExceeded, which is a TimeoutError and so an OSError too.
            raise
        except WIRE_ERRORS as error:
            raise self.translate(error, deadline) from error
        except RuntimeError as error:
            # httpx raises it when another thread closed the client after the check above.
            if self._closed:
                raise ClientClosed("the transport is closed") from error
            raise

    def stats(self) -> PoolStats:
        """Return a snapshot of the connections; all zero for a transport other than `Urllib3Transport`."""
        return self._transport.stats() if isinstance(self._transport, Urllib3Transport) else PoolStats()

    def close(self) -> None:
        """Close every connection and wake the threads that read from one; a second call does nothing."""
        self._closed = True
        self._client.close()

    def _send_directly(
        self,
        transport: Urllib3Transport,
        request: WireRequest,
        read_timeout: float,
        deadline: Deadline,
        cancellation: Cancellation | None,
    ) -> HttpReply:
        headers = request.headers
        try:
            if self._names.isdisjoint([name.lower() for name, _ in headers]):
                start = self._request_start(request.method, request.path)
            else:
                start = _request_start(self._url, (), request.method, request.path)
                headers = replace_headers(self._headers, headers)
            head = RedactedBytes(b"%b%bContent-Length: %d\r\n\r\n" % (start, text_lines(headers), len(request.body)))
        except ValueError as error:
            raise httpx.LocalProtocolError(str(error)) from error
        stream = transport.exchange(
            self._origin,
            RawRequest(request.method, head, request.body),
            StepTimeouts(
                deadline.clock, {"connect": self._connect, "read": read_timeout, "write": read_timeout}, deadline
            ),
            cancellation,
        )
        reply = stream.reply
        return HttpReply(self, reply.status, reply.header_map, stream, stream.close, deadline, bounded=True)

    def _through_httpx(
        self,
        request: WireRequest,
        read_timeout: float,
        deadline: Deadline,
        cancellation: Cancellation | None,
    ) -> HttpReply:
        url = self._url(request.path)
        left = deadline.remaining
        read = min(read_timeout, left)
        timeout = {"connect": min(self._connect, left), "read": read, "write": read, "pool": left}
        length = (b"Content-Length", b"%d" % len(request.body))
        built = httpx.Request(
            request.method,
            url,
            headers=[(b"Host", url.netloc), *_encoded(replace_headers(self._headers, request.headers)), length],
            stream=httpx.ByteStream(request.body),
            extensions={"deadline": deadline, "timeout": timeout, "cancellation": cancellation},
        )
        # Mocks look at .content, which httpx fills only on read().
        built.read()
        response = self._client.send(built, stream=True)
        stream = response.stream
        if not isinstance(stream, httpx.SyncByteStream):
            raise TypeError("the transport answered with an asynchronous stream")
        return HttpReply(
            self,
            response.status_code,
            response.headers,
            stream,
            partial(_close_response, response),
            deadline,
            bounded=False,
        )

    def translate(self, error: Exception, deadline: Deadline) -> CosyError:
        """Return what *error*, one of `WIRE_ERRORS`, means to a caller whose call ends at *deadline*."""
        if self._closed:
            return ClientClosed("the transport was closed meanwhile")
        translated = translate(error, deadline)
        if isinstance(translated, ConnectFailed):
            translated.args = (f"{self._base_url}: {translated}",)
        return translated

    def __repr__(self) -> str:
        return f"<HttpTransport {self._base_url}, {'closed' if self._closed else repr(self._transport)}>"


class HttpReply:
    """Read one reply while it arrives."""

    __slots__ = ("_bounded", "_close", "_deadline", "_stream", "_transport", "headers", "status")

    def __init__(
        self,
        transport: HttpTransport,
        status: int,
        headers: Mapping[str, str],
        stream: Iterable[bytes],
        close: Callable[[], None],
        deadline: Deadline,
        *,
        bounded: bool,
    ) -> None:
        """Prepare reading of *stream*, whose pieces are *bounded* in size and time or not."""
        self._transport = transport
        self._bounded = bounded
        self._stream = stream
        self._close = close
        self._deadline = deadline
        self.status = status
        self.headers = headers

    def chunks(self) -> Iterator[bytes]:
        """Yield the content as it arrives, decompressed, up to ``wire.max_reply_bytes``.

        Raises `AttemptTimeout`, `TransportError`, `DeadlineExceeded`, `ClientClosed` or `DecodeError`; after any of
        them, as at the end, the reply is closed.
        """
        try:
            decoder = ContentDecoder(
                self.headers.get("content-encoding", ""),
                self._transport.max_reply_bytes,
                split=not self._bounded,
            )
            decoder.check_length(self.headers.get("content-length", ""))
            for piece in self._stream:
                for content in decoder.decode(piece):
                    # A piece of `Urllib3Transport` came before the deadline, and is taken though that has passed by
                    # now. Another transport does not look at it, and one piece may be a hundred megabytes once
                    # decompressed.
                    if (content is not piece or not self._bounded) and self._deadline.expired:
                        raise DeadlineExceeded("the deadline passed while the reply was read", sent=True)
                    if content:
                        yield content
            decoder.finish()
        except CosyError:
            raise
        except WIRE_ERRORS as error:
            raise self._transport.translate(error, self._deadline) from error
        finally:
            self.close()

    def close(self) -> None:
        """Release the connection: to the pool if the reply was read to its end, otherwise it is closed."""
        try:
            self._close()
        except WIRE_ERRORS as error:
            raise self._transport.translate(error, self._deadline) from error

    def __repr__(self) -> str:
        return f"<HttpReply {self.status}>"


class _NoCookies(httpx.Cookies):
    """Keep no cookies: a shared jar would send one caller's cookies for the next, and costs a lock per reply."""

    def extract_cookies(self, response: httpx.Response) -> None:
        pass


class _CookielessClient(httpx.Client):
    """Be an httpx.Client without its cookie jar."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._cookies = _NoCookies()


def _join(base_url: str, path: str) -> httpx.URL:
    return httpx.URL(join_url(base_url, path))


def _request_start(
    url: Callable[[str], httpx.URL], headers: Sequence[tuple[bytes, bytes]], method: str, path: str
) -> bytes:
    """Return the request line, the Host field and *headers* of every request by *method* for *path*."""
    target = url(path)
    return RedactedBytes(request_line(method, target.raw_path) + field_lines([(b"Host", target.netloc), *headers]))


def _encoded(fields: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), RedactedBytes(value.encode("latin-1"))) for name, value in fields]


def _close_response(response: httpx.Response) -> None:
    response.close()
    # httpx's stream and response refer to each other: without this, each request would leave a cycle to the collector.
    response.stream = _EMPTY_STREAM
