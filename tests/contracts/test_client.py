"""Whatever the reply, a call returns a whole speech or raises an error of the library, and later calls work."""

from __future__ import annotations

import json
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient import (
    BreakerConfig,
    ClientConfig,
    CosyClient,
    CosyError,
    DeadlineExceeded,
    DecodeError,
    PacingConfig,
    ServiceError,
    TransportError,
    WireConfig,
)
from cosyclient.emulator import Emulator, echo_text, running
from cosyclient.emulator.faults.plan import FAULTS
from tests.support.hostile import Behaviour, ServedConnection, chunked, gzipped, hostile, noise, reply
from tests.support.service import audio_of, item, text_in
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JSON = "Content-Type: application/json"
FRAMES = "Content-Type: application/vnd.cosyvoice.batch-frames;v=1"
CONFIG = ClientConfig(
    breaker=BreakerConfig(minimum_failures=1_000_000_000),
    pacing=PacingConfig(burst=100_000),
    wire=WireConfig(max_reply_bytes=32 << 20),
)


def client(url: str, **arguments: Any) -> CosyClient:
    """Return a client of two permits that tries once and whose breaker never opens."""
    return CosyClient(
        url, concurrency=2, requests_per_second=1e6, **{"max_retries": 0, "timeout": 60, "config": CONFIG, **arguments}
    )


def assert_usable(cosy: CosyClient, read: Callable[[bytes], str]) -> None:
    """Check that nothing is held, and that both permits return the right audio."""
    eventually(lambda: not (cosy.stats().pending or cosy.stats().in_flight), "everything is released")
    assert cosy.stats().pool.in_use == 0
    texts = [f"after {n}" for n in range(8)]
    with ThreadPoolExecutor(8) as threads:
        assert [read(speech.audio) for speech in threads.map(cosy.synthesize, texts)] == texts


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """Run a service whose samples carry the text."""
    with running(engine="echo") as service:
        yield service


# Every fault the emulator knows


ENDLESS = {"hang", "hang_body", "drip_headers"}
"""Nothing but the deadline ends these."""
WHOLE = {"drip", "joined_audio", "unsized_audio", "mislabelled_audio"}
"""Replies that are slow or odd, but whole: they are speeches."""
OF_OTHER_APIS = {
    *("error_event", "odd_pieces", "short_audio", "reject_handshake", "task_failed"),
    *("model_error", "too_large"),
}
"""Faults of other APIs, which their own contract tests."""
PARAMS: dict[str, dict[str, Any]] = {"drip": {"bytes": 64, "interval": 0.001}, "failed_items": {"indices": [0]}}


@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in OF_OTHER_APIS])
@pytest.mark.parametrize("frames", [True, False], ids=["frames", "json"])
def test_each_fault_is_an_error_and_the_next_call_works(emulator: Emulator, fault: str, frames: bool) -> None:
    """No fault is taken for audio, and none affects the next call."""
    emulator.reset()
    wire = WireConfig(frames=frames, max_reply_bytes=32 << 20)
    config = ClientConfig(breaker=CONFIG.breaker, pacing=CONFIG.pacing, wire=wire)
    with client(emulator.url, config=config) as cosy:
        emulator.inject(fault, **PARAMS.get(fault, {}))
        if fault in WHOLE:
            assert echo_text(cosy.synthesize("the faulty one", timeout=60).audio) == "the faulty one"
        else:
            expected = DeadlineExceeded if fault in ENDLESS else (TransportError, ServiceError, DecodeError)
            with pytest.raises(expected, match="."):
                cosy.synthesize("the faulty one", timeout=0.3 if fault in ENDLESS else 60)
        assert emulator.counters().faults == {fault: 1}
        emulator.reset()
        assert_usable(cosy, echo_text)


def test_all_faults_at_once_leave_a_busy_client_usable(emulator: Emulator) -> None:
    """All faults among 400 calls: each returns its own audio or raises, with retries where they may help."""
    emulator.reset()
    with client(emulator.url, max_retries=2, max_batch=4) as cosy, ThreadPoolExecutor(16) as threads:
        for fault in sorted(set(FAULTS) - {"bomb"}):
            emulator.inject(fault)

        def call(number: int) -> bool:
            text = f"number {number}"
            try:
                return echo_text(cosy.synthesize(text, timeout=1).audio) == text
            except CosyError:
                return True

        assert all(threads.map(call, range(400)))
        eventually(lambda: emulator.counters().in_flight == 0, "the last fault is over")
        emulator.reset()
        assert_usable(cosy, echo_text)


# Replies that no correct service sends


def body(*texts: str) -> bytes:
    """Return a correct JSON body."""
    return json.dumps({"results": [item(n, text) for n, text in enumerate(texts)]}).encode()


def framed(*frames: tuple[dict[str, Any], bytes]) -> bytes:
    """Return frames as the batch protocol has them."""
    heads = [(json.dumps(header).encode(), payload) for header, payload in frames]
    return b"".join(struct.pack(">II", len(head), len(payload)) + head + payload for head, payload in heads)


HEAD: tuple[dict[str, Any], bytes] = (
    {"kind": "batch", "id": "b", "model": "m", "format": "wav", "sample_rate": 24000, "total": 1},
    b"",
)
ITEM = {"kind": "item", "index": 0, "status": "success", "media_type": "audio/wav", "duration_ms": 1}
END: tuple[dict[str, Any], bytes] = ({"kind": "end", "succeeded": 1, "failed": 0}, b"")
WAV = audio_of("text")
TWO_GIGABYTES = 1 << 31

MALFORMED: dict[str, bytes] = {
    "a length too short": b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n%s\r\n\r\n" % JSON.encode() + body("text"),
    "a length too long": b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n%s\r\n\r\n" % JSON.encode() + body("text"),
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n%s\r\n\r\n" % JSON.encode() + body("text"),
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n%s\r\n\r\nhello!" % JSON.encode(),
    "a chunk of no size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s\r\n\r\nzz\r\n" % JSON.encode(),
    "a negative chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s\r\n\r\n-5\r\nhello\r\n" % JSON.encode(),
    "no last chunk": chunked(body("text"), headers=(JSON,))[:-5],
    "gzip cut short": gzipped(body("text" * 50))[:-12],
    "not JSON": reply(b"{'results': ", headers=(JSON,)),
    "a deep JSON": reply(b"[" * 200_000, headers=(JSON,)),
    "no results": reply(b"{}", headers=(JSON,)),
    "too many results": reply(body("text", "text"), headers=(JSON,)),
    "an index out of range": reply(json.dumps({"results": [item(7, "text")]}).encode(), headers=(JSON,)),
    "an index that is no number": reply(
        json.dumps({"results": [{**item(0, "text"), "index": "0; drop"}]}).encode(), headers=(JSON,)
    ),
    "the same index twice": reply(json.dumps({"results": [item(0, "a"), item(0, "b")]}).encode(), headers=(JSON,)),
    "not base64": reply(
        json.dumps({"results": [{"index": 0, "status": "success", "audio_data": "***"}]}).encode(), headers=(JSON,)
    ),
    "audio cut short": reply(framed(HEAD, (ITEM, WAV[:-2]), END), headers=(FRAMES,)),
    "audio that is none": reply(framed(HEAD, (ITEM, b"\0" * 50), END), headers=(FRAMES,)),
    "no head frame": reply(framed((ITEM, WAV), END), headers=(FRAMES,)),
    "a frame of two gigabytes": reply(struct.pack(">II", 2, TWO_GIGABYTES) + b"{}" + b"x" * 1000, headers=(FRAMES,)),
    "a head of two gigabytes": reply(struct.pack(">II", TWO_GIGABYTES, 0) + b"x" * 1000, headers=(FRAMES,)),
    "a page": reply(b"<html>welcome</html>", headers=("Content-Type: text/html",)),
    "nothing": reply(b"", headers=(JSON,)),
    "no status": b"HTTP/1.1\r\n\r\n",
    "an endless field": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    "thousands of fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
}  # fmt: skip

# The item is whole, what follows is not: items are delivered as they come, so this one is.
MALFORMED_AFTER_ITEM: dict[str, bytes] = {
    "frames cut short": reply(framed(HEAD, (ITEM, WAV), END)[:-3], headers=(FRAMES,)),
    "no end frame": reply(framed(HEAD, (ITEM, WAV)), headers=(FRAMES,)),
    "more after the end": reply(framed(HEAD, (ITEM, WAV), END) + b"x" * 9, headers=(FRAMES,)),
}


def malformed_once(data: bytes) -> Behaviour:
    """Answer the first request with *data* and close; answer every later one correctly."""
    left: list[bytes] = [data]

    def behave(connection: ServedConnection) -> None:
        while (received := connection.request()) is not None:
            if left:
                connection.send(left.pop())
                return
            connection.send(reply(body(*json.loads(received.body)["texts"]), headers=(JSON,)))

    return behave


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_reply_is_an_error_and_the_next_call_works(kind: str) -> None:
    """Wrong lengths, counts, indices, framings: each is an error of the library, never the audio of another text."""
    with hostile(malformed_once(MALFORMED[kind])) as service, client(service.url) as cosy:
        with pytest.raises((TransportError, DecodeError, ServiceError)):
            cosy.synthesize("mine")
        assert_usable(cosy, text_in)


@pytest.mark.parametrize("kind", MALFORMED_AFTER_ITEM)
def test_an_item_before_a_malformed_end_is_delivered(kind: str) -> None:
    """Its caller has it already, and the connection is not used again."""
    with hostile(malformed_once(MALFORMED_AFTER_ITEM[kind])) as service, client(service.url) as cosy:
        assert text_in(cosy.synthesize("text")) == "text"
        assert_usable(cosy, text_in)
        assert service.seen >= 2


def test_ten_megabytes_of_noise_are_an_error_and_the_next_call_works() -> None:
    """The noise is not read to its end."""
    correct = malformed_once(b"")
    first = iter([noise()])

    def behave(connection: ServedConnection) -> None:
        next(first, correct)(connection)

    with hostile(behave) as service, client(service.url) as cosy:
        with pytest.raises(TransportError):
            cosy.synthesize("mine")
        with pytest.raises(TransportError):
            cosy.synthesize("cut")
        assert_usable(cosy, text_in)


WHOLE_REPLY = reply(framed(HEAD, (ITEM, audio_of("mine " * 40)), END), headers=(FRAMES,))
ITEM_ENDS = len(WHOLE_REPLY) - len(framed(END))


@pytest.mark.parametrize("cut", sorted({*range(0, len(WHOLE_REPLY), 40), ITEM_ENDS - 1, ITEM_ENDS}))
def test_a_reply_cut_anywhere_never_becomes_half_a_speech(cut: int) -> None:
    """Up to the last byte of the item it is an error; after that it is the speech."""
    with hostile(malformed_once(WHOLE_REPLY[:cut])) as service, client(service.url) as cosy:
        if cut < ITEM_ENDS:
            with pytest.raises((TransportError, DecodeError)):
                cosy.synthesize("mine " * 40)
        else:
            assert text_in(cosy.synthesize("mine " * 40)) == "mine " * 40
        assert_usable(cosy, text_in)
