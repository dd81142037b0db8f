"""Gzip in requests: only where it is configured or accepted, and never again where it was refused."""

from __future__ import annotations

import gzip
import json
import threading
from typing import TYPE_CHECKING

import pytest

from cosyclient import ClientConfig, CosyClient, WireConfig
from cosyclient.transports.http.request_coding import RequestCompression
from cosyclient.wire import WireRequest
from tests.support.hostile import hostile, reply
from tests.support.service import item
from tests.transports.wire import ask, made, request

if TYPE_CHECKING:
    from tests.support.hostile import Behaviour, Received, ServedConnection

BODY = json.dumps({"texts": ["hello, world"] * 200}).encode()
ALWAYS = ClientConfig(wire=WireConfig(gzip_requests=True))
NEVER = ClientConfig(wire=WireConfig(gzip_requests=False))


class Service:
    """Answer with *statuses* in turn, the last for ever, and remember what came; *headers* go with each."""

    def __init__(self, *statuses: int, headers: tuple[str, ...] = (), puzzled: int = 200) -> None:
        self._statuses, self._headers, self._puzzled = list(statuses), headers, puzzled
        self._lock = threading.Lock()
        self.got: list[str] = []

    def __call__(self, connection: ServedConnection) -> None:
        while (received := connection.request()) is not None:
            connection.send(self._answer(received))

    def _answer(self, received: Received) -> bytes:
        compressed = received.headers.get("content-encoding") == "gzip"
        with self._lock:
            self.got.append("gzip" if compressed else "plain")
            status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        if compressed and self._puzzled != 200:
            return reply(b"{}", status=f"{self._puzzled} No", headers=self._headers)
        body = gzip.decompress(received.body) if compressed else received.body
        count = len(json.loads(body)["texts"])
        results = [item(index, "x") for index in range(count)]
        return reply(
            json.dumps({"results": results}).encode(),
            status=f"{status} Word",
            headers=("Content-Type: application/json", *self._headers),
        )


def asked(service: Behaviour, config: ClientConfig | None = None, *, times: int = 3) -> list[int]:
    with hostile(service) as running:
        transport = made(running.url, config=config)
        found = [ask(transport, request(BODY, "/batch"))[0] for _ in range(times)]
        transport.close()
        return found


@pytest.mark.parametrize(
    "announced", ["", "Accept-Encoding: identity", "Accept-Encoding: gzip;q=0", "Accept-Encoding: br"]
)
def test_nothing_is_gzipped_unless_it_is_configured_or_accepted(announced: str) -> None:
    """The simplest server cannot read it."""
    service = Service(200, headers=(announced,) if announced else ())
    assert asked(service) == [200, 200, 200]
    assert service.got == ["plain"] * 3


@pytest.mark.parametrize("announced", ["gzip", "br, GZIP;q=0.5", "deflate,x-gzip ; q=1.0"])
def test_a_service_that_accepts_gzip_is_sent_gzip(announced: str) -> None:
    """From the next request on; small bodies, audio, and what would not get smaller stay as they are."""
    service = Service(200, headers=(f"Accept-Encoding: {announced}",))
    assert asked(service) == [200, 200, 200]
    assert service.got == ["plain", "gzip", "gzip"]
    compression = RequestCompression(WireConfig(gzip_requests=True))
    small = request(b'{"texts":["a"]}')
    assert compression.encode(small) is small
    audio = WireRequest(method="POST", path="/", headers=(("content-type", "audio/wav"),), body=bytes(5000))
    assert compression.encode(audio) is audio
    noise = WireRequest(method="POST", path="/", headers=(("Content-Type", "application/json"),), body=BODY[:1025])
    assert len(compression.encode(noise).body) < 1025
    assert compression.encode(noise) == compression.encode(noise)


def test_gzip_can_be_turned_on_and_off() -> None:
    """Whatever the service announces."""
    service = Service(200)
    assert asked(service, ALWAYS) == [200, 200, 200]
    assert service.got == ["gzip"] * 3
    service = Service(200, headers=("Accept-Encoding: gzip",))
    assert asked(service, NEVER) == [200, 200, 200]
    assert service.got == ["plain"] * 3


@pytest.mark.parametrize("puzzled", [400, 415, 422, 500])
def test_a_refused_gzip_request_is_sent_again_without_gzip(puzzled: int) -> None:
    """Once, and all later requests too; the caller does not notice."""
    service = Service(200, puzzled=puzzled, headers=("Accept-Encoding: gzip",))
    assert asked(service, ALWAYS) == [200, 200, 200]
    assert service.got == ["gzip", "plain", "plain", "plain"]


@pytest.mark.parametrize("status", [400, 500])
def test_an_error_of_a_service_that_has_accepted_gzip_is_not_about_gzip(status: int) -> None:
    """Only 415 would mean the coding then."""
    service = Service(200, status)
    assert asked(service, ALWAYS, times=2) == [200, status]
    assert service.got == ["gzip", "gzip"]


def test_a_request_sent_again_without_gzip_counts_as_one_attempt() -> None:
    """Neither retries nor the breaker count it."""
    service = Service(200, puzzled=500)
    with hostile(service) as running, CosyClient(running.url, config=ALWAYS, max_retries=0, concurrency=2) as cosy:
        assert len(cosy.batch_synth([f"text {number:03d}: hello, world" for number in range(400)])) == 400
        stats = cosy.stats()
    assert (stats.retries, stats.failed, set(stats.breakers.values())) == (0, 0, {"closed"})


def test_the_error_of_the_request_without_gzip_is_raised() -> None:
    """It says what is wrong with the request itself."""
    service = Service(400, puzzled=400)
    assert asked(service, ALWAYS, times=1) == [400]
    assert service.got == ["gzip", "plain"]
