"""The HTTP transport: one httpx.Client over our pool, its errors as ours, its replies as a bounded stream."""

from __future__ import annotations

from functools import lru_cache, partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

import httpx

from cosyclient.errors import ClientClosed, ConnectFailed, CosyError, DeadlineExceeded
from cosyclient.transports.base import PoolStats
from cosyclient.transports.decoding import ContentDecoder
from cosyclient.transports.faults import FOREIGN, ours
from cosyclient.transports.urllib3_pool import Urllib3Transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cosyclient.clock import Cancellation, Clock, Deadline
    from cosyclient.models import WireRequest
    from cosyclient.settings import ResolvedConfig

_KNOWN_PATHS: Final = 64
_DRAINED: Final = httpx.ByteStream(b"")


class HttpTransport:
    """Carry requests to one service through httpx.

    *transport* may be any ``httpx.BaseTransport``; without one, a `Urllib3Transport` sized by *settings* is made. As
    with ``httpx.Client(transport=…)``, closing this closes the one given too. Only our own bounds every wait by the
    deadline; another is granted what is left of it per operation, and is checked between pieces of the reply.
    """

    def __init__(self, settings: ResolvedConfig, *, clock: Clock, transport: httpx.BaseTransport | None = None) -> None:
        wire, pool = settings.rest.wire, settings.rest.pool
        if transport is None:
            transport = Urllib3Transport(
                connections=settings.sizing.connections,
                verify=wire.verify,
                idle_limit=pool.idle_limit,
                max_age=pool.max_age,
                clock=clock,
            )
        self._transport = transport
        self._client = _Front(transport=transport, trust_env=False, follow_redirects=False)
        self._base_url = settings.base_url.rstrip("/")
        self._connect = settings.rest.timeouts.connect
        self._max_reply_bytes = wire.max_reply_bytes
        self._headers: list[tuple[bytes, bytes]] = [
            (b"User-Agent", f"cosyclient/{_version()}".encode()),
            (b"Accept-Encoding", b"gzip"),
        ]
        if settings.api_key is not None:
            self._headers.append((b"Authorization", b"Bearer " + settings.api_key.reveal().encode("ascii")))
        # Not a method of ours: that would be a reference cycle, and a forked child could not drop us at once.
        self._url = lru_cache(maxsize=_KNOWN_PATHS)(partial(_join, self._base_url))
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
        `ClientClosed`. A refusal of the service, redirects included, is a reply.
        """
        if self._closed:
            raise ClientClosed("the transport is closed")
        left = deadline.remaining
        if not left:
            raise DeadlineExceeded("the deadline passed before the request was sent")
        try:
            built = self._request(request, deadline, left, read_timeout)
            built.extensions["cancellation"] = cancellation
            response = self._client.send(built, stream=True)
        except CosyError:
            # Among them DeadlineExceeded, which is a TimeoutError and so an OSError too.
            raise
        except FOREIGN as error:
            raise self._ours(error, deadline) from error
        except RuntimeError as error:
            # httpx says so when another thread closed the client between our look at it and now.
            if self._closed:
                raise ClientClosed("the transport is closed") from error
            raise
        return HttpReply(self, response, deadline)

    def stats(self) -> PoolStats:
        """Return a snapshot of the connections; all zero when the transport is not ours."""
        return self._transport.stats() if isinstance(self._transport, Urllib3Transport) else PoolStats()

    def close(self) -> None:
        """Close every connection, waking whoever reads from one; a second call does nothing."""
        self._closed = True
        self._client.close()

    def _request(self, request: WireRequest, deadline: Deadline, left: float, read_timeout: float) -> httpx.Request:
        url = self._url(request.path)
        read = min(read_timeout, left)
        headers = [
            (b"Host", url.netloc),
            *self._headers,
            *((name.encode("ascii"), value.encode("latin-1")) for name, value in request.headers),
            (b"Content-Length", b"%d" % len(request.body)),
        ]
        built = httpx.Request(
            request.method,
            url,
            headers=headers,
            stream=httpx.ByteStream(request.body),
            extensions={
                "deadline": deadline,
                "timeout": {"connect": min(self._connect, left), "read": read, "write": read, "pool": left},
            },
        )
        # Mocks look at .content, which httpx fills only when asked.
        built.read()
        return built

    def _ours(self, error: Exception, deadline: Deadline) -> Exception:
        if self._closed:
            return ClientClosed("the transport was closed meanwhile")
        translated = ours(error, deadline)
        if isinstance(translated, ConnectFailed):
            translated.args = (f"{self._base_url}: {translated}",)
        return translated

    def __repr__(self) -> str:
        return f"<HttpTransport {self._base_url}, {'closed' if self._closed else repr(self._transport)}>"


class HttpReply:
    """Offer one reply while it arrives."""

    __slots__ = ("_deadline", "_response", "_transport", "headers", "status")

    def __init__(self, transport: HttpTransport, response: httpx.Response, deadline: Deadline) -> None:
        self._transport = transport
        self._response = response
        self._deadline = deadline
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers

    def chunks(self) -> Iterator[bytes]:
        """Yield the content as it arrives, gzip and deflate undone, up to ``wire.max_reply_bytes``.

        Raises `AttemptTimeout`, `TransportError`, `DeadlineExceeded`, `ClientClosed` or `DecodeError`; after any of
        them, as at the end, the reply is closed.
        """
        try:
            decoder = ContentDecoder(self.headers.get("content-encoding", ""), self._transport._max_reply_bytes)
            decoder.announce(self.headers.get("content-length", ""))
            for piece in self._pieces():
                yield from decoder.decode(piece)
            decoder.finish()
        finally:
            self.close()

    def _pieces(self) -> Iterator[bytes]:
        stream = self._response.stream
        if not isinstance(stream, httpx.SyncByteStream):
            raise TypeError("the transport answered with an asynchronous stream")
        try:
            for piece in stream:
                if self._deadline.expired:
                    raise DeadlineExceeded("the deadline passed while the reply was read", sent=True)
                yield piece
        except CosyError:
            raise
        except FOREIGN as error:
            raise self._transport._ours(error, self._deadline) from error

    def close(self) -> None:
        """Let go of the connection: back to the pool if it was read whole, closed otherwise."""
        try:
            self._response.close()
        except FOREIGN as error:
            raise self._transport._ours(error, self._deadline) from error
        # httpx's stream and response name each other: a cycle a request, left to the collector otherwise.
        self._response.stream = _DRAINED

    def __repr__(self) -> str:
        return f"<HttpReply {self.status}>"


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
    return httpx.URL(f"{base_url}/{path.lstrip('/')}")


def _version() -> str:
    try:
        return metadata.version("cosyclient")
    except metadata.PackageNotFoundError:
        return "0"
