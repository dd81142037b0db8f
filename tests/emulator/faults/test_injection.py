"""Each fault, as a client's socket sees it."""

from __future__ import annotations

import http.client
import zlib
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulator.apis.batch.test_request import assert_problem
from tests.emulator.wire import FRAMES, open_socket, parse_frames, post, raw_request, read_all

if TYPE_CHECKING:
    from cosyclient.emulator import Emulator

BATCH = {"texts": ["一", "二", "三"]}


def seen(emulator: Emulator, **headers: str) -> tuple[bytes, bool]:
    """Send a batch and return all bytes up to the end of the connection, and whether that was a reset."""
    with open_socket(emulator.url) as connection:
        connection.sendall(raw_request(BATCH, **headers))
        return read_all(connection)


def head_and_body(received: bytes) -> tuple[bytes, bytes]:
    """Split a reply."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    return head.lower(), body


def promised(head: bytes) -> int:
    """Return the announced length."""
    return int(head.split(b"content-length: ")[1].split(b"\r\n")[0])


def test_throttle_sends_retry_after(emulator: Emulator) -> None:
    """429 with whole seconds in the header and milliseconds in the body."""
    emulator.inject("throttle", retry_after=2, ms=1500)
    answer = post(emulator.url, BATCH)
    problem = assert_problem(answer, 429, "rate_limited")
    assert answer.headers["retry-after"] == "2"
    assert (problem["retryable"], problem["retry_after_ms"]) == (True, 1500)
    assert post(emulator.url, BATCH).status == 200


def test_throttle_can_send_a_date(emulator: Emulator) -> None:
    """The other form of Retry-After."""
    emulator.inject("throttle", retry_after="date", ms=5000)
    answer = post(emulator.url, BATCH)
    wait = parsedate_to_datetime(answer.headers["retry-after"]) - parsedate_to_datetime(answer.headers["date"])
    assert 3 <= wait.total_seconds() <= 6


def test_throttle_bare_sends_no_retry_after(emulator: Emulator) -> None:
    """429 without any hint."""
    emulator.inject("throttle_bare")
    answer = post(emulator.url, BATCH)
    problem = assert_problem(answer, 429, "rate_limited")
    assert "retry-after" not in answer.headers
    assert "retry_after_ms" not in problem


@pytest.mark.parametrize(
    ("params", "status", "code", "retry_after"),
    [
        ({}, 500, "internal", None),
        ({"status": 502}, 502, "bad_upstream", None),
        ({"status": 503}, 503, "overloaded", "1"),
        ({"status": 503, "code": "draining", "retry_after": 2.5}, 503, "draining", "3"),
        ({"status": 504, "after": 0.01}, 504, "upstream_timeout", None),
        ({"status": 403}, 403, "forbidden", None),
    ],
)
def test_an_error_has_its_status_and_code(
    emulator: Emulator, params: dict[str, Any], status: int, code: str, retry_after: str | None
) -> None:
    """Any status on demand."""
    emulator.inject("error", **params)
    answer = post(emulator.url, BATCH)
    assert_problem(answer, status, code)
    assert answer.headers.get("retry-after") == retry_after


def test_reset_before_the_reply(emulator: Emulator) -> None:
    """Not a byte, then RST, as often as injected."""
    emulator.inject("reset", count=2)
    assert seen(emulator) == (b"", True)
    assert seen(emulator) == (b"", True)
    assert post(emulator.url, BATCH).status == 200


def test_reset_inside_the_body(emulator: Emulator) -> None:
    """Some of the body, then RST."""
    emulator.inject("reset", at=100)
    received, was_reset = seen(emulator)
    head, body = head_and_body(received)
    assert was_reset
    assert len(body) == 100
    assert promised(head) > 100


@pytest.mark.parametrize("accept", ["application/json", FRAMES])
def test_cut_ends_a_counted_body_early(emulator: Emulator, accept: str) -> None:
    """Half of the announced bytes, then FIN."""
    emulator.inject("cut")
    received, was_reset = seen(emulator, accept=accept)
    head, body = head_and_body(received)
    assert not was_reset
    assert len(body) == promised(head) // 2


def test_cut_ends_a_chunked_body_early(emulator: Emulator) -> None:
    """Chunks, but not the last one."""
    emulator.inject("cut", chunked=True, share=0.7)
    received, was_reset = seen(emulator, accept=FRAMES)
    head, body = head_and_body(received)
    assert not was_reset
    assert b"transfer-encoding: chunked" in head
    assert not body.endswith(b"0\r\n\r\n")
    frames = parse_frames(body.partition(b"\r\n")[2])
    assert len(frames.audio) == 2
    assert not frames.end
    emulator.inject("cut", chunked=True)
    with pytest.raises(http.client.IncompleteRead):
        post(emulator.url, BATCH)


def test_drip_sends_a_whole_reply_in_small_pieces(emulator: Emulator) -> None:
    """Slowly, and completely."""
    emulator.inject("drip", bytes=5000, interval=0.001)
    answer = post(emulator.url, BATCH)
    assert answer.json()["succeeded"] == 3


def test_drip_headers_sends_the_head_byte_by_byte(emulator: Emulator) -> None:
    """The status line, too."""
    emulator.inject("drip_headers", interval=0.001)
    assert post(emulator.url, BATCH).json()["succeeded"] == 3
    emulator.inject("drip_headers", interval=60.0)
    with open_socket(emulator.url) as connection:
        connection.sendall(raw_request(BATCH))
        assert connection.recv(100) == b"H"


def test_a_drip_ends_when_the_client_disconnects(emulator: Emulator) -> None:
    """No request writes into a closed connection for ever."""
    emulator.inject("drip", bytes=1, interval=0.02)
    with open_socket(emulator.url) as connection:
        connection.sendall(raw_request(BATCH))
        connection.recv(100)
    wait_until_idle(emulator)


def wait_until_idle(emulator: Emulator) -> None:
    """Ask until nothing is in flight; the test's own time limit bounds the wait."""
    while emulator.counters().in_flight:
        pass


def test_hang_sends_nothing_until_the_client_disconnects(emulator: Emulator) -> None:
    """No byte comes, and the request ends with its connection."""
    emulator.inject("hang")
    with open_socket(emulator.url) as connection:
        connection.sendall(raw_request(BATCH))
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert emulator.counters().in_flight == 1
    wait_until_idle(emulator)


def test_hang_can_end(emulator: Emulator) -> None:
    """After the given seconds the reply is sent."""
    emulator.inject("hang", seconds=0.05)
    assert post(emulator.url, BATCH).status == 200


def test_hang_body_hangs_after_the_headers(emulator: Emulator) -> None:
    """Headers and a few bytes, then nothing."""
    emulator.inject("hang_body", at=10)
    with open_socket(emulator.url) as connection:
        connection.sendall(raw_request(BATCH))
        received = b""
        while len(received.partition(b"\r\n\r\n")[2]) < 10:
            received += connection.recv(100)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    emulator.inject("hang_body", seconds=0.05)
    assert post(emulator.url, BATCH).json()["succeeded"] == 3


def test_garbage_is_not_json(emulator: Emulator) -> None:
    """200 with the right media type and random bytes."""
    emulator.inject("garbage", bytes=300)
    answer = post(emulator.url, BATCH)
    assert (answer.status, answer.media_type, len(answer.body)) == (200, "application/json", 300)
    with pytest.raises(ValueError, match="."):
        answer.json()


def test_html_sends_a_page(emulator: Emulator) -> None:
    """Of HTML, with status 200."""
    emulator.inject("html")
    answer = post(emulator.url, BATCH)
    assert (answer.status, answer.media_type) == (200, "text/html")


def test_noise_has_the_media_type_of_frames(emulator: Emulator) -> None:
    """Ten megabytes of random bytes."""
    emulator.inject("noise")
    answer = post(emulator.url, BATCH, accept=FRAMES)
    assert answer.headers["content-type"] == FRAMES
    assert len(answer.body) == 10_000_000


def test_empty_has_no_body(emulator: Emulator) -> None:
    """Only status 200."""
    emulator.inject("empty")
    answer = post(emulator.url, BATCH)
    assert (answer.status, answer.media_type, answer.body) == (200, "application/json", b"")


@pytest.mark.parametrize("size", [1, 1 << 20, (3 << 20) + 5, 64 << 20])
def test_bomb_expands_to_the_given_size(emulator: Emulator, size: int) -> None:
    """A small gzip body, valid to its checksum, that grows a thousandfold."""
    emulator.inject("bomb", bytes=size)
    answer = post(emulator.url, BATCH)
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.body) < size // 500 + 4096
    decoder = zlib.decompressobj(wbits=31)
    grown = decoder.decompress(answer.body)
    assert decoder.eof
    assert len(grown) == size
    assert not grown.strip()


def test_faults_apply_in_the_order_they_were_injected(emulator: Emulator) -> None:
    """Invalid requests use none up; a reset drops the rest."""
    emulator.inject("error", status=502)
    emulator.inject("throttle", count=5)
    assert post(emulator.url, {"texts": []}).status == 422
    assert [post(emulator.url, BATCH).status for _ in range(2)] == [502, 429]
    assert emulator.counters().faults == {"error": 1, "throttle": 1}
    emulator.reset()
    assert post(emulator.url, BATCH).status == 200


def test_faults_apply_at_random(start: Any) -> None:
    """A seed makes them repeatable, and their shares are about those of the settings."""
    options = {"fault": {"throttle": 0.3, "error": 0.2}, "seed": 7}
    emulator = start(**options)
    statuses = [post(emulator.url, BATCH).status for _ in range(100)]
    assert 15 <= statuses.count(429) <= 45
    assert 8 <= statuses.count(500) <= 35
    assert statuses.count(429) + statuses.count(500) + statuses.count(200) == 100


@pytest.mark.parametrize(
    ("fault", "params", "error"),
    [
        ("earthquake", {}, "earthquake"),
        ("throttle", {"colour": "red"}, "does not take 'colour'"),
        ("throttle", {"retry_after": "soon"}, "retry_after of fault throttle"),
        ("cut", {"share": 2}, "share of fault cut"),
        ("error", {"status": 200}, "status of fault error"),
        ("garbage", {"count": 0}, "count must be"),
    ],
)
def test_a_wrong_fault_is_refused(emulator: Emulator, fault: str, params: dict[str, Any], error: str) -> None:
    """The error names the parameter and the rule."""
    with pytest.raises(ValueError, match=error):
        emulator.inject(fault, **params)
