"""What the transport suites share: settings for a URL, requests, deadlines, whole bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from cosyclient.clock import Deadline, SystemClock
from cosyclient.config.resolve import ResolvedConfig, resolve
from cosyclient.transports.http.transport import HttpTransport
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from cosyclient.config import ClientConfig
    from cosyclient.wire import WireReply

CLOCK = SystemClock()


def settings(
    url: str, *, connections: int = 8, config: ClientConfig | None = None, api_key: str | None = "s3cret-key"
) -> ResolvedConfig:
    return resolve(
        base_url=url,
        api_key=api_key,
        protocol="batch",
        voice={},
        requests_per_second=100.0,
        max_connections=connections,
        concurrency=connections,
        max_batch=64,
        timeout=None,
        max_retries=3,
        config=config,
        environ={},
    )


def made(url: str, transport: httpx.BaseTransport | None = None, **options: Any) -> HttpTransport:
    return HttpTransport(settings(url, **options), clock=CLOCK, transport=transport)


def soon(seconds: float = 60.0) -> Deadline:
    return Deadline.after(CLOCK, seconds)


def request(body: bytes = b"{}", path: str = "/v1/speech", *, method: str = "POST", **headers: str) -> WireRequest:
    fields = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return WireRequest(method=method, path=path, headers=(("Content-Type", "application/json"), *fields), body=body)


def ask(transport: HttpTransport, wanted: WireRequest | None = None, **options: Any) -> tuple[int, bytes]:
    reply = sent(transport, wanted, **options)
    return reply.status, whole(reply)


def sent(
    transport: HttpTransport,
    wanted: WireRequest | None = None,
    *,
    deadline: float = 60.0,
    read_timeout: float = 30.0,
) -> WireReply:
    return transport.send(wanted or request(), deadline=soon(deadline), read_timeout=read_timeout)


def whole(reply: WireReply) -> bytes:
    try:
        return b"".join(reply.chunks())
    finally:
        reply.close()


def httpx_client(transport: httpx.BaseTransport, **timeout: float | None) -> httpx.Client:
    return httpx.Client(transport=transport, timeout=httpx.Timeout(30.0, **timeout), trust_env=False)
