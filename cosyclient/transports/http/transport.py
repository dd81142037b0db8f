"""The HTTP transport: our pool, or any httpx transport; its errors as ours, its replies as a bounded stream."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

import httpx

from cosyclient.errors import ClientClosed, ConnectFailed, CosyError, DeadlineExceeded
from cosyclient.transports.base import PoolStats, user_agent
from cosyclient.transports.errors import WIRE_ERRORS, translate
from cosyclient.transports.http.content_coding import ContentDecoder
from cosyclient.transports.http.head import Outgoing, lines, start
from cosyclient.transports.http.request_coding import Packing
from cosyclient.transports.http.urllib3_transport import Urllib3Transport, origin_of
from cosyclient.transports.network import Network, resolve_network
from cosyclient.util.redaction import RedactedBytes
from cosyclient.wire import join_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cosyclient.clock import Cancellation, Clock, Deadline
    from cosyclient.config.resolve import ResolvedConfig
    from cosyclient.wire import WireRequest

_KNOWN: Final = 64
_DRAINED: Final = httpx.ByteStream(b"")


class HttpTransport:
    """Carry requests to one service.

    *transport* may be any ``httpx.BaseTransport``; without one, a `Urllib3Transport` sized by *settings* is made. As
    with ``httpx.Client(transport=…)``, closing this closes the one given too. Only our own bounds every wait by the
    deadline; another is granted what is left of it per operation, and is checked between pieces of the reply. Any but
    ours is driven by an ``httpx.Client``; ours is spoken to directly, which halves the cost of a request.
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
        # A subclass may do more in handle_request than ours, so it gets its requests there.
        self._ours = transport if type(transport) is Urllib3Transport else None
        self._client = _Front(transport=transport, trust_env=False, follow_redirects=False)
        self._base_url = settings.base_url.rstrip("/")
        self._origin = origin_of(httpx.URL(self._base_url))
        self._connect = settings.config.timeouts.connect
        self._max_reply_bytes = wire.max_reply_bytes
        self._packing = Packing(wire)
        self._headers: list[tuple[str, str]] = [("User-Agent", user_agent()), ("Accept-Encoding", "gzip")]
        if settings.api_key is not None:
            self._headers.append(("Authorization", settings.api_key.bearer()))
        self._names = frozenset(name.lower() for name, _ in self._headers)
        # Not methods of ours: that would be a reference cycle, and a forked child could not drop us at once.
        self._url = lru_cache(maxsize=_KNOWN)(partial(_join, self._base_url))
        self._opening = lru_cache(maxsize=_KNOWN)(partial(_opening, self._url, _encoded(self._headers)))
        self._closed = False

    def send(
        self,
        request: WireRequest,
        *,
        deadline: Deadline,
        read_timeout: float,
        cancellation: Cancellation | None = None,
    ) -> HttpReply:
        """Send *request* and return its reply as soon as status and headers are there.

        Raises `BulkheadFull`, `ConnectFailed`, `AttemptTimeout`, `TransportError`, `DeadlineExceeded` or
        `ClientClosed`. A refusal of the service, redirects included, is a reply; but for one of a gzipped body, which
        is sent again plain.
        """
        packed = self._packing.packed(request)
        reply = self._send(packed, deadline, read_timeout, cancellation)
        if self._packing.refused(reply.status, reply.headers, packed=packed is not request):
            reply.close()
            reply = self._send(request, deadline, read_timeout, cancellation)
        return reply

    def _send(
        self, request: WireRequest, deadline: Deadline, read_timeout: float, cancellation: Cancellation | None
    ) -> HttpReply:
        if self._closed:
            raise ClientClosed("the transport is closed")
        left = deadline.remaining
        if not left:
            raise DeadlineExceeded("the deadline passed before the request was sent")
        read = min(read_timeout, left)
        timeout = {"connect": min(self._connect, left), "read": read, "write": read, "pool": left}
        try:
            if self._ours is not None:
                return self._directly(self._ours, request, timeout, deadline, cancellation)
            return self._through_httpx(request, timeout, deadline, cancellation)
        except CosyError:
            # Among them DeadlineExceeded, which is a TimeoutError and so an OSError too.
            raise
        except WIRE_ERRORS as error:
            raise self._translated(error, deadline) from error
        except RuntimeError as error:
            # httpx says so when another thread closed the client between our look at it and now.
            if self._closed:
                raise ClientClosed("the transport is closed") from error
            raise

    def stats(self) -> PoolStats:
        """Return a snapshot of the connections; all zero when the transport is not ours."""
        return self._transport.stats() if isinstance(self._transport, Urllib3Transport) else PoolStats()

    def close(self) -> None:
        """Close every connection, waking whoever reads from one; a second call does nothing."""
        self._closed = True
        self._client.close()

    def _directly(
        self,
        transport: Urllib3Transport,
        request: WireRequest,
        timeout: Mapping[str, float],
        deadline: Deadline,
        cancellation: Cancellation | None,
    ) -> HttpReply:
        try:
            fields = [*_encoded(request.headers), (b"Content-Length", b"%d" % len(request.body))]
            if self._names.isdisjoint(name.lower() for name, _ in request.headers):
                opening = self._opening(request.method, request.path)
            else:
                opening = _opening(self._url, _encoded(self._beside(request)), request.method, request.path)
            head = RedactedBytes(opening + lines(fields) + b"\r\n")
        except ValueError as error:
            raise httpx.LocalProtocolError(str(error)) from error
        content = transport.exchange(
            self._origin,
            Outgoing(request.method, head, request.body),
            timeout=timeout,
            deadline=deadline,
            cancellation=cancellation,
        )
        return HttpReply(self, content.reply.status, Fields(content.reply.fields), content, content.close, deadline)

    def _through_httpx(
        self,
        request: WireRequest,
        timeout: Mapping[str, float],
        deadline: Deadline,
        cancellation: Cancellation | None,
    ) -> HttpReply:
        url = self._url(request.path)
        length = (b"Content-Length", b"%d" % len(request.body))
        built = httpx.Request(
            request.method,
            url,
            headers=[(b"Host", url.netloc), *_encoded(self._beside(request)), *_encoded(request.headers), length],
            stream=httpx.ByteStream(request.body),
            extensions={"deadline": deadline, "timeout": timeout, "cancellation": cancellation},
        )
        # Mocks look at .content, which httpx fills only when asked.
        built.read()
        response = self._client.send(built, stream=True)
        stream = response.stream
        if not isinstance(stream, httpx.SyncByteStream):
            raise TypeError("the transport answered with an asynchronous stream")
        return HttpReply(self, response.status_code, response.headers, stream, partial(_let_go, response), deadline)

    def _beside(self, request: WireRequest) -> list[tuple[str, str]]:
        """Return our own header fields but for those that *request* says otherwise."""
        names = {name.lower() for name, _ in request.headers}
        return [field for field in self._headers if field[0].lower() not in names]

    def _translated(self, error: Exception, deadline: Deadline) -> Exception:
        if self._closed:
            return ClientClosed("the transport was closed meanwhile")
        translated = translate(error, deadline)
        if isinstance(translated, ConnectFailed):
            translated.args = (f"{self._base_url}: {translated}",)
        return translated

    def __repr__(self) -> str:
        return f"<HttpTransport {self._base_url}, {'closed' if self._closed else repr(self._transport)}>"


class HttpReply:
    """Offer one reply while it arrives."""

    __slots__ = ("_close", "_deadline", "_stream", "_transport", "headers", "status")

    def __init__(
        self,
        transport: HttpTransport,
        status: int,
        headers: Mapping[str, str],
        stream: Iterable[bytes],
        close: Callable[[], None],
        deadline: Deadline,
    ) -> None:
        self._transport = transport
        self._stream = stream
        self._close = close
        self._deadline = deadline
        self.status = status
        self.headers = headers

    def chunks(self) -> Iterator[bytes]:
        """Yield the content as it arrives, gzip and deflate undone, up to ``wire.max_reply_bytes``.

        Raises `AttemptTimeout`, `TransportError`, `DeadlineExceeded`, `ClientClosed` or `DecodeError`; after any of
        them, as at the end, the reply is closed.
        """
        try:
            decoder = ContentDecoder(self.headers.get("content-encoding", ""), self._transport._max_reply_bytes)
            decoder.announce(self.headers.get("content-length", ""))
            for piece in self._pieces():
                for content in decoder.decode(piece):
                    # Between the pieces the sockets look at the time; a piece may be a hundred megabytes once inflated.
                    if self._deadline.expired:
                        raise DeadlineExceeded("the deadline passed while the reply was read", sent=True)
                    if content:
                        yield content
            decoder.finish()
        finally:
            self.close()

    def _pieces(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except CosyError:
            raise
        except WIRE_ERRORS as error:
            raise self._transport._translated(error, self._deadline) from error

    def close(self) -> None:
        """Let go of the connection: back to the pool if it was read whole, closed otherwise."""
        try:
            self._close()
        except WIRE_ERRORS as error:
            raise self._transport._translated(error, self._deadline) from error

    def __repr__(self) -> str:
        return f"<HttpReply {self.status}>"


class Fields(Mapping[str, str]):
    """Look a reply's fields up without regard to case; what came more than once is joined with commas."""

    __slots__ = ("_values",)

    def __init__(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, str] = {}
        for raw, value in fields:
            name = raw.decode("latin-1").lower()
            said = value.decode("latin-1")
            self._values[name] = f"{self._values[name]}, {said}" if name in self._values else said

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the field *name*, or *default*."""
        return self._values.get(name.lower(), default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Fields {', '.join(self._values)}>"


class _NoCookies(httpx.Cookies):
    """Keep nothing: a shared jar would carry one caller's cookies to the next, and costs a lock per reply."""

    def extract_cookies(self, response: httpx.Response) -> None:
        pass


class _Front(httpx.Client):
    """httpx.Client without its cookie jar."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._cookies = _NoCookies()


def _join(base_url: str, path: str) -> httpx.URL:
    return httpx.URL(join_url(base_url, path))


def _opening(url: Callable[[str], httpx.URL], headers: Sequence[tuple[bytes, bytes]], method: str, path: str) -> bytes:
    """Return how every request by *method* for *path* begins."""
    to = url(path)
    return RedactedBytes(start(method, to.raw_path) + lines([(b"Host", to.netloc), *headers]))


def _encoded(fields: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), RedactedBytes(value.encode("latin-1"))) for name, value in fields]


def _let_go(response: httpx.Response) -> None:
    response.close()
    # httpx's stream and response name each other: a cycle a request, left to the collector otherwise.
    response.stream = _DRAINED
