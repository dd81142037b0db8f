"""Rates, connections and GPUs: what is admitted, refused and queued."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cosyclient.emulator.core.gpu import GpuQueue
from cosyclient.emulator.core.limits import ConnectionCounter, TokenBuckets
from tests.emulator.apis.batch.test_request import assert_problem
from tests.emulator.wire import FRAMES, call, connect, exchange, open_socket, parse_frames, post, raw_request, read_all

if TYPE_CHECKING:
    import http.client

    from cosyclient.emulator import Emulator

BATCH = {"texts": ["a"]}
BODY = b'{"texts":["a"]}'
JSON = {"Content-Type": "application/json"}


def test_the_bucket_refills_at_its_rate() -> None:
    """A burst at once, then one token each time the rate allows."""
    buckets = TokenBuckets(rate=10.0, burst=2)
    first, second, third = (buckets.acquire("a", 100.0) for _ in range(3))
    assert first
    assert second
    assert third
    assert [first.granted, second.granted, third.granted] == [True, True, False]
    assert third.wait == pytest.approx(0.1)
    later = buckets.acquire("a", 100.1001)
    assert later
    assert later.granted
    other = buckets.acquire("b", 100.1)
    assert other
    assert other.granted, "each address has its own bucket"
    assert dict(first.headers)[b"ratelimit-policy"] == b'"ip";q=10;w=1'
    assert dict(first.headers)[b"ratelimit"] == b'"ip";r=1;t=1'
    assert repr(buckets) == "<TokenBuckets 10/s burst=2 addresses=2>"


def test_no_window_grants_more_than_rate_and_burst() -> None:
    """A client that always sends gets the burst and then the rate."""
    buckets = TokenBuckets(rate=5.0, burst=3)
    grants = [grant.granted for step in range(2001) if (grant := buckets.acquire("a", 50 + step / 100))]
    assert sum(grants) == 3 + 5 * 20


def test_a_slow_rate_has_a_long_window() -> None:
    """Quota headers hold whole numbers."""
    grant = TokenBuckets(rate=0.1, burst=1).acquire("a", 0.0)
    assert grant
    assert dict(grant.headers) == {b"ratelimit-policy": b'"ip";q=1;w=10', b"ratelimit": b'"ip";r=0;t=10'}


def test_weights_take_more_than_one_token() -> None:
    """A heavy request leaves less for the next."""
    buckets = TokenBuckets(rate=1.0, burst=10)
    heavy, next_one = buckets.acquire("a", 0.0, weight=9.5), buckets.acquire("a", 0.0)
    assert heavy
    assert next_one
    assert (heavy.granted, next_one.granted, next_one.wait) == (True, False, 0.5)


def test_over_the_rate_is_429(start: Any) -> None:
    """The burst is admitted with quota headers, what follows is refused with Retry-After."""
    emulator = start(rate=0.01, burst=2)
    first, second, third = (post(emulator.url, BATCH) for _ in range(3))
    assert (first.status, second.status) == (200, 200)
    assert first.headers["ratelimit-policy"] == '"ip";q=1;w=100'
    assert first.headers["ratelimit"].startswith('"ip";r=1;t=')
    assert second.headers["ratelimit"].startswith('"ip";r=0;t=')
    problem = assert_problem(third, 429, "rate_limited")
    assert 0 < problem["retry_after_ms"] <= 100_000
    assert 0 < int(third.headers["retry-after"]) <= 100
    assert third.headers["ratelimit"].startswith('"ip";r=0;t=')
    emulator.reset()
    assert post(emulator.url, BATCH).status == 200


def test_quota_headers_can_be_left_out(start: Any) -> None:
    """An option leaves them out."""
    answer = post(start(rate=100.0, quota_headers=False).url, BATCH)
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("ratelimit")]


def test_without_a_rate_there_are_no_quota_headers(emulator: Emulator) -> None:
    """There is no quota to announce."""
    assert not [name for name in post(emulator.url, BATCH).headers if name.startswith("ratelimit")]


def test_a_connection_beyond_the_limit_gets_429(start: Any) -> None:
    """The third of two is answered 429 and closed; once one closes, another is admitted."""
    emulator = start(connections=2)
    kept = [connect(emulator.url) for _ in range(2)]
    try:
        assert [exchange(each, "POST", "/batch", BODY, JSON).status for each in kept] == [200, 200]
        with open_socket(emulator.url) as third:
            third.sendall(raw_request(BATCH))
            received, was_reset = read_all(third)
        assert received.startswith(b"HTTP/1.1 429 ")
        assert b"connection: close" in received.lower()
        assert b"too_many_connections" in received
        assert not was_reset
        counters = emulator.counters()
        assert (counters.connections_seen, counters.connections_open) == (3, 2)
        assert (counters.connections_peak, counters.connections_refused) == (2, 1)
        kept.pop().close()
        while emulator.counters().connections_open == 2:
            pass
        assert post(emulator.url, BATCH).status == 200
    finally:
        for each in kept:
            each.close()


def test_a_connection_beyond_the_limit_can_be_reset(start: Any) -> None:
    """With a TCP reset."""
    emulator = start(connections=1, connection_refusal="reset")
    first = connect(emulator.url)
    try:
        assert exchange(first, "POST", "/batch", BODY, JSON).status == 200
        with pytest.raises(ConnectionError):
            post(emulator.url, BATCH)
        assert emulator.counters().connections_refused == 1
    finally:
        first.close()


def test_the_connection_counter_shows_its_state() -> None:
    """Open, refused and the limit."""
    connections = ConnectionCounter(limit=1)
    assert connections.admit("a")
    assert not connections.admit("a")
    assert connections.admit("b")
    assert repr(connections) == "<ConnectionCounter open=2 peak=2 refused=1 limit=1>"
    connections.release("a")
    assert connections.admit("a")
    connections.reset()
    assert (connections.seen, connections.open, connections.peak, connections.refused) == (0, 2, 2, 0)


def test_idle_connections_are_closed(start: Any) -> None:
    """After the keep-alive time."""
    emulator = start(keep_alive=0.1)
    with open_socket(emulator.url) as connection:
        connection.sendall(raw_request(BATCH))
        received, was_reset = read_all(connection)
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" not in received.lower()
    assert not was_reset


def test_gpus_serve_in_order_and_saturate() -> None:
    """Two GPUs at a tenth of real time: the third text waits for the first to finish."""
    farm = GpuQueue(gpus=2, rtf=0.1)
    assert farm.schedule([4.0, 4.0, 4.0, 2.0], now=100.0) == pytest.approx([100.4, 100.4, 100.8, 100.6])
    assert farm.backlog(100.0) == pytest.approx(0.6)
    assert farm.schedule([1.0], now=100.0) == pytest.approx([100.7])
    assert farm.schedule([1.0], now=200.0) == pytest.approx([200.1])
    assert repr(farm) == "<GpuQueue gpus=2 rtf=0.1>"


def test_no_gpus_never_wait() -> None:
    """Zero turns the model off."""
    farm = GpuQueue(gpus=0, rtf=0.1)
    assert farm.schedule([4.0], now=1.0) == []
    assert farm.backlog(1.0) == 0.0


def test_queued_texts_keep_their_times_when_gpus_change() -> None:
    """An added GPU is free at once, a removed one finishes its queue."""
    farm = GpuQueue(gpus=2, rtf=0.1)
    assert farm.schedule([20.0, 40.0], now=100.0) == pytest.approx([102.0, 104.0])
    farm.resize(1, 0.1, now=100.0)
    assert farm.schedule([10.0], now=100.0) == pytest.approx([105.0])
    farm.resize(2, 0.2, now=101.0)
    assert farm.work(10.0) == pytest.approx(2.0)
    assert farm.schedule([10.0], now=101.0) == pytest.approx([103.0])
    farm.resize(0, 0.2, now=102.0)
    assert (farm.work(10.0), farm.schedule([10.0], now=102.0)) == (0.0, [])
    assert repr(farm) == "<GpuQueue gpus=0 rtf=0.2>"


def test_gpus_change_while_the_service_runs(start: Any) -> None:
    """Work is counted at the present rate; a reset restores the GPUs of the start."""
    emulator = start(gpus=1, rtf=0.001)
    assert post(emulator.url, {"texts": ["字" * 20]}).status == 200
    assert emulator.counters().gpu_seconds == pytest.approx(0.004)
    emulator.set_gpus(gpus=3, rtf=0.002)
    assert post(emulator.url, {"texts": ["字" * 20]}).status == 200
    assert emulator.counters().gpu_seconds == pytest.approx(0.012)
    emulator.set_gpus(rtf=0.0)
    assert post(emulator.url, {"texts": ["字" * 20]}).status == 200
    assert emulator.counters().gpu_seconds == pytest.approx(0.012)
    emulator.reset()
    assert post(emulator.url, {"texts": ["字" * 20]}).status == 200
    assert emulator.counters().gpu_seconds == pytest.approx(0.004)


@pytest.mark.parametrize("wrong", [b"", b"[]", b'{"gpus": -1}', b'{"gpus": "two"}', b'{"engine": "echo"}'])
def test_invalid_gpus_are_refused(emulator: Emulator, wrong: bytes) -> None:
    """The error names the rule, and nothing changes."""
    assert call(emulator.url, "POST", "/_emulator/gpus", wrong).status == 422
    with pytest.raises(ValueError, match="rtf must be at least 0"):
        emulator.set_gpus(rtf=-1.0)


@pytest.mark.parametrize("accept", [FRAMES, "application/json"])
def test_work_for_a_disconnected_client_is_counted(start: Any, accept: str) -> None:
    """Its texts keep the GPUs busy: what they render after it left is wasted, what it got is not."""
    emulator = start(gpus=1, rtf=0.25)
    with open_socket(emulator.url) as impatient:
        impatient.sendall(raw_request({"texts": ["字", "字" * 40]}, accept=accept))
        while not emulator.counters().gpu_seconds:
            pass
        if accept == FRAMES:
            received = b""
            while b'"index":0' not in received:
                received += impatient.recv(1000)
    while not (counters := emulator.counters()).gpu_seconds_wasted:
        pass
    sent = 0.075 if accept == FRAMES else 0.0
    assert counters.gpu_seconds == pytest.approx(2.075)
    assert counters.gpu_seconds_wasted == pytest.approx(2.075 - sent)


def test_a_long_queue_is_refused_as_overload(start: Any) -> None:
    """With a limit on waiting, a request that would wait longer gets a Retry-After."""
    emulator = start(gpus=1, rtf=100.0, max_wait=10.0)
    with open_socket(emulator.url) as first:
        first.sendall(raw_request(BATCH, accept=FRAMES))
        assert first.recv(15) == b"HTTP/1.1 200 OK"  # it has joined the queue, for 30 s
        answer = post(emulator.url, BATCH)
    problem = assert_problem(answer, 503, "overloaded")
    assert 10_000 < problem["retry_after_ms"] <= 30_000


def test_gpus_deliver_items_as_they_finish(start: Any) -> None:
    """On two GPUs a short text overtakes the long one before it."""
    emulator = start(gpus=2, rtf=0.01)
    frames = parse_frames(post(emulator.url, {"texts": ["字" * 20, "字"]}, accept=FRAMES).body)
    assert frames.order == [1, 0]
    assert frames.end["succeeded"] == 2


def test_connections_are_counted(emulator: Emulator) -> None:
    """Seen, open and peak are the client's; the requests of the `Emulator` object do not count."""
    connections = [connect(emulator.url) for _ in range(3)]
    for each in connections:
        assert exchange(each, "POST", "/batch", BODY, JSON).status == 200
    assert_open(emulator, 3)
    for each in connections:
        each.close()
    while emulator.counters().connections_open:
        pass
    counters = emulator.counters()
    assert (counters.connections_seen, counters.connections_peak, counters.connections_refused) == (3, 3, 0)


def assert_open(emulator: Emulator, count: int) -> None:
    """Compare the open connections with a number."""
    counters = emulator.counters()
    assert (counters.connections_seen, counters.connections_open) == (count, count)


def test_a_kept_connection_serves_many_requests(emulator: Emulator) -> None:
    """Refusals and replies alike leave it open."""
    connection: http.client.HTTPConnection = connect(emulator.url)
    try:
        for body, status in ((BODY, 200), (b"{", 400), (b" " * (1 << 21), 413), (BODY, 200)):
            assert exchange(connection, "POST", "/batch", body, JSON).status == status
    finally:
        connection.close()
    assert emulator.counters().connections_seen == 1
