"""Ways to read the audio of one batch's reply: each is opened with a URL and reads replies, eight at once.

A reader returns what it makes of one reply: a list of audio, or, where it only reads, the bytes as they came.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx

from benchmarks.harness.prepared import BATCH
from benchmarks.harness.texts import texts
from benchmarks.suites.bodies.decoders import json_decoder, msgspec_decoder, orjson_decoder
from cosyclient import ClientConfig, CosyClient, PacingConfig
from cosyclient.protocols.codecs import strict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IN_FLIGHT: Final = 8
_BODY: Final = json.dumps({"texts": list(texts(BATCH)), "format": "wav"}, ensure_ascii=False).encode()
_HEADERS: Final = {"Content-Type": "application/json", "Accept": "*/*"}
_base64: Final = partial(base64.b64decode, validate=True)
_decode: Final = json_decoder(json.loads, _base64)


class Reader(NamedTuple):
    """Name one way of reading, the form of reply it is given, and whether it makes audio of it or reads bytes only."""

    form: str
    label: str
    open: str
    audio: bool = True
    ours: bool = False
    keep: bool = False
    """Whether malloc is configured to keep freed memory, instead of returning it and getting it again page by page."""


READERS: Final = {
    "frames-bytes": Reader("frames", "http.client .read()", "_http_client", audio=False),
    "frames-into": Reader("frames", "http.client .readinto()", "_http_client_into", audio=False),
    "frames-httpx": Reader("frames", "httpx .content", "_httpx_bytes", audio=False),
    "frames-hand": Reader("frames", "http.client, frames by hand", "_http_client_frames"),
    "frames-ours": Reader("frames", "cosyclient", "_cosyclient", ours=True),
    "frames-bytes-keep": Reader("frames", "http.client .read(), kept", "_http_client", audio=False, keep=True),
    "frames-hand-keep": Reader("frames", "frames by hand, kept", "_http_client_frames", keep=True),
    "frames-ours-keep": Reader("frames", "cosyclient, kept", "_cosyclient", ours=True, keep=True),
    "json-bytes": Reader("json", "http.client .read()", "_http_client", audio=False),
    "json-httpx": Reader("json", "httpx, json, base64", "_httpx_json"),
    "json-httpx-fast": Reader("json", "httpx, orjson, pybase64", "_httpx_orjson"),
    "json-httpx-msgspec": Reader("json", "httpx, msgspec", "_httpx_msgspec"),
    "json-requests": Reader("json", "requests, json, base64", "_requests"),
    "json-aiohttp": Reader("json", "aiohttp, json, base64", "_aiohttp"),
    "json-ours": Reader("json", "cosyclient", "_cosyclient_plain", ours=True),
    "json-ours-fast": Reader("json", "cosyclient, fast", "_cosyclient", ours=True),
}


@contextmanager
def opened(name: str, url: str) -> Iterator[Callable[[], list[Any]]]:
    """Yield a function that reads `IN_FLIGHT` replies at once and returns what it has of them, all held together."""
    with globals()[READERS[name].open](url) as round_of:
        yield round_of


@contextmanager
def _threaded(read: Callable[[], Any]) -> Iterator[Callable[[], list[Any]]]:
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        yield lambda: [each.result() for each in [pool.submit(read) for _ in range(IN_FLIGHT)]]


@contextmanager
def _standard(url: str, take: Callable[[HTTPResponse], Any]) -> Iterator[Callable[[], list[Any]]]:
    """Read with the standard library, over connections that are kept."""
    connections = [HTTPConnection(urlsplit(url).netloc) for _ in range(IN_FLIGHT)]
    idle: SimpleQueue[HTTPConnection] = SimpleQueue()
    for each in connections:
        idle.put(each)

    def read() -> Any:
        connection = idle.get()
        try:
            connection.request("POST", "/batch", _BODY, _HEADERS)
            return take(connection.getresponse())
        finally:
            idle.put(connection)

    try:
        with _threaded(read) as round_of:
            yield round_of
    finally:
        for each in connections:
            each.close()


def _http_client(url: str) -> Any:
    return _standard(url, lambda reply: reply.read())


def _http_client_into(url: str) -> Any:
    local = threading.local()

    def take(reply: HTTPResponse) -> bytearray:
        if not hasattr(local, "buffer"):
            local.buffer = bytearray(reply.length or 0)
        buffer: bytearray = local.buffer
        with memoryview(buffer) as view:
            got = 0
            while size := reply.readinto(view[got:]):
                got += size
        return buffer

    return _standard(url, take)


def _http_client_frames(url: str) -> Any:
    """Read each frame's parts into objects of their own and check nothing: the least that gives audio."""

    def take(reply: HTTPResponse) -> list[bytes]:
        found = []
        while prefix := reply.read(8):
            header_bytes, payload_bytes = struct.unpack(">II", prefix)
            header = json.loads(reply.read(header_bytes))
            payload = reply.read(payload_bytes)
            if header["kind"] == "item":
                found.append(payload)
        return found

    return _standard(url, take)


@contextmanager
def _httpx(url: str, decode: Callable[[bytes], Any]) -> Iterator[Callable[[], list[Any]]]:
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    with httpx.Client(base_url=url, limits=limits, timeout=30, trust_env=False) as client:

        def read() -> Any:
            return decode(client.post("/batch", content=_BODY, headers=_HEADERS).raise_for_status().content)

        with _threaded(read) as round_of:
            yield round_of


def _httpx_bytes(url: str) -> Any:
    return _httpx(url, lambda content: content)


def _httpx_json(url: str) -> Any:
    return _httpx(url, _decode)


def _httpx_orjson(url: str) -> Any:
    return _httpx(url, orjson_decoder())


def _httpx_msgspec(url: str) -> Any:
    return _httpx(url, msgspec_decoder())


@contextmanager
def _requests(url: str) -> Iterator[Callable[[], list[Any]]]:
    import requests
    from requests.adapters import HTTPAdapter

    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=IN_FLIGHT))

        def read() -> list[bytes]:
            reply = session.post(f"{url}/batch", data=_BODY, headers=_HEADERS, timeout=30)
            reply.raise_for_status()
            return [_base64(result["audio_data"]) for result in reply.json()["results"]]

        with _threaded(read) as round_of:
            yield round_of


@contextmanager
def _aiohttp(url: str) -> Iterator[Callable[[], list[Any]]]:
    import aiohttp

    async def opened() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT))

    async def read(session: aiohttp.ClientSession) -> list[bytes]:
        async with session.post(f"{url}/batch", data=_BODY, headers=_HEADERS) as reply:
            return _decode(await reply.read())

    async def together(session: aiohttp.ClientSession) -> list[Any]:
        return list(await asyncio.gather(*(read(session) for _ in range(IN_FLIGHT))))

    with asyncio.Runner() as runner:
        session = runner.run(opened())
        try:
            yield lambda: runner.run(together(session))
        finally:
            runner.run(session.close())


@contextmanager
def _cosyclient(url: str) -> Iterator[Callable[[], list[Any]]]:
    wanted = list(texts(IN_FLIGHT * BATCH))
    config = ClientConfig(pacing=PacingConfig(burst=1_000_000))
    with CosyClient(url, concurrency=IN_FLIGHT, requests_per_second=1e6, config=config) as client:
        yield lambda: [client.batch_synth(wanted)]


@contextmanager
def _cosyclient_plain(url: str) -> Iterator[Callable[[], list[Any]]]:
    strict._fast_decoder = lambda: None  # type: ignore[assignment]
    with _cosyclient(url) as round_of:
        yield round_of
