"""A service behind an httpx transport, for many threads: answers the batch protocol, at once or when it is released."""

from __future__ import annotations

import gzip
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from cosyclient import ClientConfig, CosyClient, PacingConfig
from tests.support.service import item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 60.0
"""Seconds after which a wait fails the test; no test is expected to get near it."""
FAST = ClientConfig(pacing=PacingConfig(burst=100_000))


def texts_of(request: httpx.Request) -> list[str]:
    """Return the texts of *request*."""
    packed = request.headers.get("content-encoding") == "gzip"
    document = json.loads(gzip.decompress(request.content) if packed else request.content)
    return list(document["texts"])


def spoken(request: httpx.Request, *, keep: Callable[[dict[str, Any]], bool] = lambda _: True) -> httpx.Response:
    """Return a reply with the speech of every text of *request*, without the items that *keep* refuses."""
    items = [made for index, text in enumerate(texts_of(request)) if keep(made := item(index, text))]
    return httpx.Response(200, json={"results": items})


@contextmanager
def client(handler: Callable[[httpx.Request], httpx.Response], **arguments: Any) -> Iterator[CosyClient]:
    """Return a client of the service *handler*, without pacing, closed without draining."""
    arguments.setdefault("config", FAST)
    arguments.setdefault("requests_per_second", 1e6)
    made = CosyClient("http://mock.test", transport=httpx.MockTransport(handler), **arguments)
    try:
        yield made
    finally:
        made.close(drain=False)


class HeldService:
    """A service that answers once `free` is set; it sets `busy` at the first request and keeps the texts of each."""

    def __init__(self) -> None:
        self.busy, self.free = threading.Event(), threading.Event()
        self.requests: list[list[str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(texts_of(request))
        self.busy.set()
        assert self.free.wait(PATIENCE)
        return spoken(request)
