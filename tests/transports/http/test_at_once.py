"""Content of a known, moderate length is read in one piece; what came before a fault, or comes slowly, is not held."""

from __future__ import annotations

import gc
import gzip
import json
import ssl
import subprocess
import sys
import threading
from typing import Any

import httpx
import pytest
import trustme

from cosyclient import AdaptiveConfig, ClientConfig, CosyClient, TimeoutConfig
from cosyclient.clock import Cancellation
from cosyclient.errors import AttemptTimeout, DeadlineExceeded, TransportError
from cosyclient.transports.http import urllib3_transport
from cosyclient.transports.http.urllib3_transport import ResponseStream, Urllib3Transport
from tests.support.hostile import ServedConnection, answers, chunked, drips_body, hangs_after, hostile, reply
from tests.support.service import item
from tests.transports.wire import made, request, sent, soon

# No reading is given longer because much is to be spoken.
BRIEF_READS = ClientConfig(
    timeouts=TimeoutConfig(first_byte=0.3, allowance=0.0), adaptive=AdaptiveConfig(enabled=False)
)
LARGE = bytes(range(256)) * 4096


def pieces_of(url: str, transport: Urllib3Transport, **timeout: float) -> list[bytes]:
    response = transport.handle_request(httpx.Request("GET", url, extensions={"timeout": {"read": 30.0, **timeout}}))
    assert isinstance(response.stream, ResponseStream)
    return list(response.stream)


def patiently(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine not pass for a slow line."""
    monkeypatch.setattr(urllib3_transport, "_AT_ONCE_SECONDS", 30.0)


def test_content_of_a_known_length_is_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many packets it comes in; the next reply on the connection is not touched."""
    patiently(monkeypatch)

    def behave(connection: ServedConnection) -> None:
        while connection.request() is not None:
            data = reply(LARGE)
            for start in range(0, len(data), 100_000):
                connection.send(data[start : start + 100_000])
                connection.pause(0.001)

    with hostile(behave) as service, Urllib3Transport() as transport:
        for _ in range(3):
            assert pieces_of(service.url, transport) == [LARGE]
        assert service.seen == 1
        assert not transport.bytes_at_once


def test_content_over_tls_is_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it comes in records, of which a part says that something has come and gives nothing to read."""
    patiently(monkeypatch)
    authority = trustme.CA()
    served, trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(trusted)
    with hostile(answers(reply(LARGE)), tls=served) as service, Urllib3Transport(verify=trusted) as transport:
        for _ in range(3):
            assert pieces_of(service.url, transport) == [LARGE]
        assert service.seen == 1


@pytest.mark.parametrize(
    "data",
    [
        reply(bytes((4 << 20) + 1)),
        chunked(LARGE),
        reply(gzip.compress(bytes(1000)) + bytes(1 << 20), headers=("Content-Encoding: gzip",)),
    ],
    ids=["beyond the limit", "no length", "compressed"],
)
def test_other_content_is_read_in_pieces(data: bytes) -> None:
    """Memory stays bounded: each piece is decoded before the next is read."""
    with hostile(answers(data)) as service, Urllib3Transport() as transport:
        assert max(map(len, pieces_of(service.url, transport))) <= 256 << 10


def test_content_beyond_the_budget_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget is one for all replies of a transport, and is there again when a reply is finished or dropped."""
    patiently(monkeypatch)
    monkeypatch.setattr(urllib3_transport, "_AT_ONCE_TOTAL_BYTES", 2 * len(LARGE))
    with hostile(answers(reply(LARGE))) as service, Urllib3Transport(connections=4) as transport:

        def begin() -> tuple[Any, bytes]:
            stream = transport.handle_request(httpx.Request("GET", service.url)).stream
            assert isinstance(stream, ResponseStream)
            pieces = iter(stream)
            return pieces, next(pieces)

        one, two, three = begin(), begin(), begin()
        assert [len(piece) == len(LARGE) for _, piece in (one, two, three)] == [True, True, False]
        assert list(one[0]) == []
        assert len(begin()[1]) == len(LARGE)
        del two, three
        gc.collect()
        assert not transport.bytes_at_once
        assert transport.stats().in_use == 0


def test_short_content_needs_no_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Head and content in separate packets, as many servers send them, are two reads and one piece."""
    patiently(monkeypatch)
    monkeypatch.setattr(urllib3_transport, "_AT_ONCE_TOTAL_BYTES", 0)

    def behave(connection: ServedConnection) -> None:
        connection.request()
        for part in (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"hello", b"world"):
            connection.send(part)
            connection.pause(0.01)

    with hostile(behave) as service, Urllib3Transport() as transport:
        assert pieces_of(service.url, transport) == [b"helloworld"]


def test_a_slow_line_holds_nothing_back() -> None:
    """What came is passed on, and the rest comes in pieces."""
    with hostile(drips_body(0.1, 4)) as service, Urllib3Transport() as transport:
        pieces = pieces_of(service.url, transport)
        assert (b"".join(pieces), len(pieces) > 2) == (b"x" * 4, True)


def test_results_on_a_slow_line_are_there_while_others_are_rendered() -> None:
    """Though the reply has a length."""
    released = threading.Event()

    def behave(connection: ServedConnection) -> None:
        first, second = halves(connection)
        connection.send(first)
        released.wait(30)
        connection.send(second)
        connection.until_closed()

    with hostile(behave) as service, CosyClient(service.url, requests_per_second=1e6, concurrency=1) as client:
        for count, outcome in enumerate(client.synthesize_many([f"text {n}" for n in range(64)]), start=1):
            assert outcome.error is None
            if count == 40:
                released.set()
        assert (count, len(service.requests)) == (64, 1)


def halves(connection: ServedConnection) -> tuple[bytes, bytes]:
    """Read a request, and return its reply, cut within the 41st result, if it has one, or at its end."""
    received = connection.request()
    assert received is not None
    texts = json.loads(received.body)["texts"]
    body = json.dumps(
        {"total": len(texts), "results": [item(index, text) for index, text in enumerate(texts)]}
    ).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    cut = body.find(b'"index": 40') if len(texts) > 40 else len(body)
    return head + body[:cut], body[cut:]


@pytest.mark.parametrize("ends", ["reset", "close", "silence"])
def test_what_was_complete_before_a_fault_is_delivered(ends: str) -> None:
    """Only the rest is sent again."""

    def behave(connection: ServedConnection) -> None:
        first, _ = halves(connection)
        connection.send(first)
        if connection.service.seen > 1 or ends == "silence":
            connection.until_closed()
        elif ends == "reset":
            connection.pause(0.02)
            connection.reset()

    texts = [f"text {n}" for n in range(64)]
    with (
        hostile(behave) as service,
        CosyClient(service.url, requests_per_second=1e6, concurrency=1, config=BRIEF_READS) as client,
    ):
        outcomes = list(client.synthesize_many(texts))
        assert [outcome.error for outcome in outcomes] == [None] * 64
        asked = [json.loads(received.body)["texts"] for received in service.requests]
        assert asked == [texts, texts[40:]]


@pytest.mark.parametrize(
    ("patience", "deadline", "read_timeout", "expected"),
    [(30.0, 0.5, 30.0, DeadlineExceeded), (0.05, 30.0, 0.3, AttemptTimeout)],
)
def test_an_end_of_the_time_comes_after_the_content_that_was_in_time(
    monkeypatch: pytest.MonkeyPatch,
    patience: float,
    deadline: float,
    read_timeout: float,
    expected: type[Exception],
) -> None:
    """The deadline cuts short what the content is waited for, and a silence is one after it."""
    monkeypatch.setattr(urllib3_transport, "_AT_ONCE_SECONDS", patience)
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 400
    with hostile(hangs_after(data)) as service:
        transport = made(service.url)
        chunks = sent(transport, deadline=deadline, read_timeout=read_timeout).chunks()
        assert next(chunks) == b"x" * 400
        with pytest.raises(expected):
            next(chunks)
        assert transport.stats().in_use == 0
        transport.close()


def test_a_cancellation_comes_after_the_content_that_had_come() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 400
    with hostile(hangs_after(data)) as service:
        transport, cancellation = made(service.url), Cancellation()
        chunks = transport.send(request(), deadline=soon(), read_timeout=30.0, cancellation=cancellation).chunks()
        threading.Timer(0.01, cancellation.cancel).start()
        assert next(chunks) == b"x" * 400
        cancellation.cancel()
        with pytest.raises(TransportError):
            next(chunks)
        transport.close()


def test_an_interrupt_leaves_no_budget_taken(monkeypatch: pytest.MonkeyPatch) -> None:

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with hostile(answers(reply(LARGE))) as service, Urllib3Transport() as transport:
        response = transport.handle_request(httpx.Request("GET", service.url))
        monkeypatch.setattr(response.stream.reply, "read_at_once", interrupt)  # type: ignore[union-attr]
        with pytest.raises(KeyboardInterrupt):
            response.read()
        assert not transport.bytes_at_once
        assert transport.stats().in_use == 0


def test_the_allocator_keeps_the_memory_of_one_reply_for_the_next() -> None:
    """Counted in pages that the system had to clear; each text of 19 KB took five without."""
    program = """
import resource, sys, threading
from cosyclient.transports.http.urllib3_transport import Urllib3Transport

def replies(count):
    for _ in range(count):
        [bytes([1]) * 19_000 for _ in range(256)]

def measure():
    replies(5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    replies(20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

with Urllib3Transport():
    thread = threading.Thread(target=measure)
    thread.start()
    thread.join()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20 * 256
